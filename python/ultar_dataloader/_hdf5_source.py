"""What HDF5 files are read from: files of this machine, and objects in stores.

h5py reads them through here, too. Its own way to files would share what it knows of a file with
all who have it open, also when the file has changed since, and keep others from writing to it.
"""

from __future__ import annotations

import errno
import io
import os
import weakref
from collections import OrderedDict
from functools import partial
from typing import Any

from ._stores import StoreError, Stores


class Local:
    """A file. Errors of reads are `StoreError`."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._closing = weakref.finalize(self, os.close, self._fd)
        self.version: object = self._version()
        self.size = os.fstat(self._fd).st_size

    def _version(self) -> tuple[int, ...]:
        stat = os.fstat(self._fd)
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns

    def read(self, offset: int, size: int) -> bytes:
        pieces, end = [], offset + size
        while offset < end:
            piece = os.pread(self._fd, end - offset, offset)
            if not piece:
                raise StoreError(errno.EIO, f"the file ends at {offset}, and {end - offset} bytes more were wanted")
            pieces.append(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    read_small = read

    def check(self) -> None:
        """That it is what it was."""
        if self.version != self._version():
            raise StoreError(errno.ESTALE, "the file was changed while it was in use")

    def close(self) -> None:
        self._closing()


class Object:
    """An object. All reads are of one version of it, or `StoreError`."""

    _BLOCK = 64 * 1024
    _BLOCKS = 16

    def __init__(self, url: str, stores: Stores) -> None:
        self._url = url
        self._stores = stores
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self.version: object = None
        self.size = stores.size(url)

    def read(self, offset: int, size: int) -> Any:
        return self._stores.insist(partial(self._stores.read, self._url, offset, size))[0]

    def read_small(self, offset: int, size: int) -> Any:
        """For h5py, under its lock: headers are small and near one another, so blocks are kept."""
        if size >= self._BLOCK:
            return self.read(offset, size)
        pieces, end = [], offset + size
        while offset < end:
            number, begin = divmod(offset, self._BLOCK)
            pieces.append(self._block(number)[begin : begin + end - offset])
            offset += len(pieces[-1])
        return b"".join(pieces)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            begin = number * self._BLOCK
            self._blocks[number] = bytes(self.read(begin, min(self._BLOCK, self.size - begin)))
            if len(self._blocks) > self._BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def check(self) -> None:
        pass

    def close(self) -> None:
        self._blocks.clear()


Source = Local | Object


class Reading(io.RawIOBase):
    """A source as h5py takes files."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._at = 0
        self.failure: StoreError | None = None
        """Why a read failed, which h5py says in its own words."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._source.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, target: Any) -> int:
        """All of the target, up to the end: h5py does not ask again."""
        into = memoryview(target).cast("B")[: max(0, self._source.size - self._at)]
        try:
            into[:] = memoryview(self._source.read_small(self._at, len(into)))
        except StoreError as failure:
            self.failure = failure
            raise OSError(failure.number, failure.text) from failure
        self._at += len(into)
        return len(into)
