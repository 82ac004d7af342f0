"""What HDF5 files are read from: files of this machine, and objects in stores."""

from __future__ import annotations

import errno
import io
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ._stores import StoreError, Stores


class Source(Protocol):
    """Where the bytes of a file come from. Errors are `StoreError`."""

    version: object
    """Which equals that of the same file unchanged."""
    failure: StoreError | None
    """What became of a read by h5py, which says it in its own words."""

    def read(self, offset: int, size: int) -> Any: ...
    def check(self) -> None:
        """That it is what it was."""

    def check_path(self) -> None:
        """That another who opened it has the same."""

    def for_h5py(self) -> Any: ...
    @property
    def close(self) -> Callable[[], object]: ...


class Local:
    def __init__(self, path: str) -> None:
        self._path = path
        self.failure: StoreError | None = None
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.close = weakref.finalize(self, os.close, self._fd)
        self.version: object = self._version_of(self._fd)

    def _version_of(self, at: int | str) -> tuple[int, ...]:
        stat = os.stat(at)
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns

    def read(self, offset: int, size: int) -> bytes:
        pieces, end = [], offset + size
        while offset < end:
            piece = os.pread(self._fd, end - offset, offset)
            if not piece:
                raise StoreError(errno.EIO, f"the file ends at {offset}, before a chunk of {size} bytes does")
            pieces.append(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def check(self) -> None:
        self._compare(self._fd)

    def check_path(self) -> None:
        self._compare(self._path)

    def _compare(self, at: int | str) -> None:
        if self.version != self._version_of(at):
            raise StoreError(errno.ESTALE, "the file was changed while it was in use")

    def for_h5py(self) -> str:
        return self._path


class Object:
    def __init__(self, url: str, stores: Stores) -> None:
        self._url = url
        self._stores = stores
        self.failure: StoreError | None = None
        self.size = stores.size(url)
        self.version: object = None

    def read(self, offset: int, size: int) -> Any:
        return self._stores.insist(partial(self._stores.read, self._url, offset, size))[0]

    def check(self) -> None:
        pass  # All reads are of one version.

    check_path = close = check

    def for_h5py(self) -> Any:
        return _Reading(self)


class _Reading(io.RawIOBase):
    """An object as h5py reads files: headers are small and near one another, so blocks are kept."""

    _BLOCK = 64 * 1024
    _BLOCKS = 64

    def __init__(self, source: Object) -> None:
        self._source = source
        self._at = 0
        self._blocks: OrderedDict[int, memoryview] = OrderedDict()

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
        into = memoryview(target).cast("B")[: max(0, self._source.size - self._at)]
        try:
            if len(into) >= self._BLOCK:
                into[:] = memoryview(self._source.read(self._at, len(into)))
                self._at += len(into)
                return len(into)
            block = self._block(self._at // self._BLOCK) if into else memoryview(b"")
        except StoreError as failure:
            self._source.failure = failure
            raise OSError(failure.number, failure.text) from failure
        piece = block[self._at % self._BLOCK :][: len(into)]
        into[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _block(self, number: int) -> memoryview:
        if number not in self._blocks:
            begin = number * self._BLOCK
            self._blocks[number] = memoryview(self._source.read(begin, min(self._BLOCK, self._source.size - begin)))
            if len(self._blocks) > self._BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]
