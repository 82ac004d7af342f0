"""Shards that are read item by item, from files that stay open: so many in a process, whichever loaders it has.

Each read takes the header of its member with it. That says which item it is, so a file or a list
of places that is not what it was cannot give another one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
from array import array
from collections import OrderedDict

from .._errors import ReadError
from .._native import read_item
from ._packed import BLOCK, KEYS, Blob, fit, places_of, read_whole, size_in

logger = logging.getLogger("ultar_dataloader")

_OPEN_MAX, _OPEN_MIN = 1024, 16
"""Files that a process keeps open: a quarter of those that it may have, but no more and no fewer than this."""


class _File:
    """An open file. It is closed once nobody reads it any more."""

    __slots__ = ("descriptor",)

    def __init__(self, path: str) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class Rows:
    """The packed items of a shard on disk, each read when it is asked for.

    Raises:
        OSError: It cannot be read.
        ValueError: It is something else, or damaged.
    """

    def __init__(self, path: str, start: int, count: int) -> None:
        self.path = path
        self.start = start
        self._count = count
        self._advised = False
        file = _File(path)
        self._file: _File | None = file
        name = os.pread(file.descriptor, 100, 0).rstrip(b"\0")
        known = {f"{start:012d}{key}".encode(): key for key in KEYS.values()}
        self.key = known.get(name, "")
        self._name = b"%012d" + self.key.encode() + b"\0"
        places = self._noted() if name in known else None
        self.noted = places is not None
        """Whether the file beside the tar has the places."""
        self.places = self._found() if places is None else places
        """Offset and size of each item, and the size of the tar."""
        _keep(self)

    def _noted(self) -> array[int] | None:
        """The places as the file beside the tar has them; None where it is missing, or is of another tar."""
        places: array[int] = array("Q")
        try:
            with open(f"{self.path}.places", "rb", buffering=0) as side:
                # A file that is far too long is not worth its memory.
                places.frombytes(side.read((2 * self._count + 1) * places.itemsize + 1))
        except FileNotFoundError:
            return None  # It was copied without.
        except (OSError, ValueError):
            places = array("Q")
        assert self._file is not None
        if fit(places, self._count, os.fstat(self._file.descriptor).st_size):
            return places
        logger.warning("%s.places does not fit its tar, and is not used", self.path)
        return None

    def _found(self) -> array[int]:
        """The places as the tar itself has them."""
        blobs, self.key = read_whole(self.path, self.start)
        if len(blobs) != self._count:
            raise ValueError(f"it has {len(blobs)} items, not {self._count}")
        self._name = b"%012d" + self.key.encode() + b"\0"
        return places_of(map(len, blobs))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> Blob:
        at, places, file = 2 * place, self.places, self._file or self._open()
        # A copy, not a mapping: a file that is cut short meanwhile is an error then.
        blob = read_item(file.descriptor, places[at], places[at + 1], self.start + place, self.key)
        return self._read(place, again=True) if blob is None else blob

    def _read(self, place: int, again: bool) -> Blob:
        """The same for what is not as usual: much at once, or another file than it was."""
        offset, size = self.places[2 * place : 2 * place + 2]
        file, pieces, left = self._file or self._open(), [], BLOCK + size
        # The kernel gives 2 GiB at once, at most.
        while left and (data := os.pread(file.descriptor, left, offset + size - left)):
            pieces.append(data)
            left -= len(data)
        data = b"".join(pieces)
        if not left and data.startswith(self._name % (self.start + place)) and size_in(data, 0) == size:
            return memoryview(data)[BLOCK:]
        if again:
            with contextlib.suppress(ValueError):
                # It was made anew while it was closed here, or the noted places are of another tar.
                self.places = self._found()
                self._file = None
                return self._read(place, again=False)
        raise self._not_there(place, left)

    def _not_there(self, place: int, missing: int) -> ReadError:
        offset, size = self.places[2 * place], self.places[2 * place + 1]
        why = f"should have item {self.start + place} at offset {offset}, and has something else there"
        if missing:
            why = f"wanted {size} bytes at offset {offset}, got {max(0, size - missing)}"
        error = ReadError(None, f"{self.path}: {why}", self.path)
        error.offset, error.length = offset, size
        return error

    def _open(self) -> _File:
        """It was closed, for others to be open."""
        file = self._file = _File(self.path)
        _keep(self)
        return file

    def advise(self) -> None:
        """Have the kernel read all of it, once."""
        file = self._file
        if file is not None and not self._advised:
            self._advised = True
            with contextlib.suppress(OSError):  # It is advice, and not every file system takes it.
                os.posix_fadvise(file.descriptor, 0, 0, os.POSIX_FADV_WILLNEED)

    def touch(self) -> None:
        """Say that it is used now.

        Raises:
            KeyError: Its file is not open.
        """
        _opened.move_to_end(self)

    def close(self) -> None:
        _opened.pop(self, None)
        self._file = None


_opened: OrderedDict[Rows, None] = OrderedDict()
"""Those whose file is open, the one used last comes last."""


def _keep(rows: Rows) -> None:
    _opened[rows] = None
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = _OPEN_MAX if allowed == resource.RLIM_INFINITY else min(_OPEN_MAX, max(_OPEN_MIN, allowed // 4))
    with contextlib.suppress(KeyError):  # Another thread was faster.
        while len(_opened) > most:
            _opened.popitem(last=False)[0].close()
