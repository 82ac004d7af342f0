"""A run of items: in memory, as pickled bytes, and as the bytes of a tar.

A shard on disk is a tar with one member an item, named by the item's number and the way
it is packed: `000000000513.pkl`, or `.pkl.gz`, `.pkl.xz`, `.pkl.zz`.
"""

from __future__ import annotations

import builtins
import contextlib
import gzip
import lzma
import os
import pickle
import threading
import time
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Self

from .._errors import ReadError

Blob = bytes | memoryview
KEYS = {None: ".pkl", "gzip": ".pkl.gz", "lzma": ".pkl.xz", "zlib": ".pkl.zz"}
"""The key of a member, by the name of the compression."""

_PACK: dict[str, Callable[[bytes], bytes]] = {
    ".pkl": lambda data: data,
    ".pkl.gz": lambda data: gzip.compress(data, 6, mtime=0),
    ".pkl.xz": lzma.compress,
    ".pkl.zz": zlib.compress,
}
_UNPACK: dict[str, Callable[[Blob], Blob]] = {
    ".pkl": lambda data: data,
    ".pkl.gz": gzip.decompress,
    ".pkl.xz": lzma.decompress,
    ".pkl.zz": zlib.decompress,
}
BLOCK = 512
_ZEROS = bytes(BLOCK)
_SIZE_MAX = 8**11 - 1
"""Of a payload, in octal digits; larger ones are written in binary, as GNU tar does."""


def pack(item: object, key: str) -> bytes:
    return _PACK[key](pickle.dumps(item, pickle.HIGHEST_PROTOCOL))


def unpack(blob: Blob, key: str) -> Any:
    return pickle.loads(_UNPACK[key](blob))


class Blobs(Protocol):
    """Packed items, by their place in the shard."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> Blob: ...


class Rows:
    """The packed items of a shard on disk, each read when it is asked for. It has the file open."""

    def __init__(self, path: str, file: int, places: array[int], key: str) -> None:
        self.key = key
        self._path = path
        self._file = file
        self._places = places
        """Offset and size of each item, and the size of the tar."""

    @classmethod
    def open(cls, path: str, start: int) -> Self:
        """A shard that begins with an item.

        Raises:
            OSError: It cannot be read.
            ValueError: It is something else, or damaged.
        """
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            name = os.pread(file, 100, 0).rstrip(b"\0")
            known = {f"{start:012d}{key}".encode(): key for key in KEYS.values()}
            places: array[int] = array("Q")
            with contextlib.suppress(OSError, ValueError), builtins.open(f"{path}.places", "rb", buffering=0) as side:
                places.frombytes(side.read())
            if name not in known or len(places) < 3 or places[-1] != os.fstat(file).st_size:
                # It was copied without, perhaps. Or it is damaged, which this says.
                places = places_of(map(len, read_whole(path, start)[0]))
            return cls(path, file, places, known[name])
        except BaseException:
            os.close(file)
            raise

    def __len__(self) -> int:
        return len(self._places) // 2

    def __getitem__(self, place: int) -> Blob:
        offset, size = self._places[2 * place], self._places[2 * place + 1]
        # A copy, not a mapping: a file that is cut short meanwhile is an error then.
        data = os.pread(self._file, size, offset)
        return data if len(data) == size else self._rest(data, offset, size)

    def _rest(self, data: bytes, offset: int, size: int) -> bytes:
        """The kernel gives 2 GiB at once, at most."""
        pieces, got = [data], len(data)
        while data and got < size:
            data = os.pread(self._file, size - got, offset + got)
            pieces.append(data)
            got += len(data)
        if got < size:
            error = ReadError(None, f"{self._path}: wanted {size} bytes at offset {offset}, got {got}", self._path)
            error.offset, error.length = offset, size
            raise error
        return b"".join(pieces)

    def __del__(self) -> None:
        os.close(self._file)


class Shard:
    """Consecutive items in memory: packed, and unpacked once they were asked for.

    One that is being made grows at its end.
    """

    __slots__ = ("asked", "blobs", "items", "key", "path", "rows", "start")

    def __init__(self, start: int, blobs: Blobs, key: str, path: str | None = None) -> None:
        self.start = start
        self.blobs = blobs
        self.rows: Rows | None = blobs if isinstance(blobs, Rows) else None
        """Where it is read from, item by item, unless it is in memory as a whole."""
        self.key = key
        self.path = path
        """The file that it was read from; None for one that was made here."""
        self.items: dict[int, Any] = {}
        """The unpacked ones, by number of the item."""
        self.asked = False
        """Whether somebody waited for an item of it."""

    def has(self, index: int) -> bool:
        return 0 <= index - self.start < len(self.blobs)

    def unpack(self, index: int, keep: bool) -> Any:
        item = unpack(self.blobs[index - self.start], self.key)
        # Of two threads that unpack it at once, both get the same object.
        return self.items.setdefault(index, item) if keep else item

    def read_ahead(self) -> None:
        """Read all of it at once, for who goes through it in order: half the time of many reads."""
        if self.rows is not None and self.path is not None and len(self.items) < len(self.rows):
            with contextlib.suppress(OSError, ValueError):  # Then each item says by itself what is wrong.
                blobs, _ = read_whole(self.path, self.start)
                if len(blobs) == len(self.rows):
                    self.blobs = blobs

    def let_go(self) -> None:
        """Give back what `read_ahead` took."""
        if self.rows is not None:
            self.blobs = self.rows


class Memory:
    """The shards used most recently, by number, the last one last."""

    def __init__(self, count_max: int) -> None:
        self._count_max = max(1, count_max)
        self._lock = threading.Lock()
        self.shards: OrderedDict[int, Shard] = OrderedDict()

    def add(self, number: int, shard: Shard) -> None:
        with self._lock:
            self.shards[number] = shard
            self.shards.move_to_end(number)
            while len(self.shards) > self._count_max:
                self.shards.popitem(last=False)

    def touch(self, number: int) -> None:
        """Say that a shard is used now."""
        with contextlib.suppress(KeyError):
            self.shards.move_to_end(number)

    def discard(self, number: int, shard: Shard) -> None:
        with self._lock:
            if self.shards.get(number) is shard:
                del self.shards[number]


def places_of(sizes: Iterable[int]) -> array[int]:
    """Offset and size of each payload in a tar with payloads of these sizes; at last the size of the tar."""
    places: array[int] = array("Q")
    at = 0
    for size in sizes:
        places.append(at + BLOCK)
        places.append(size)
        at += BLOCK + size + -size % BLOCK
    places.append(at + 2 * BLOCK)
    return places


def tar_pieces(start: int, blobs: Sequence[Blob], key: str) -> Iterator[Blob]:
    """The bytes of the tar, in pieces."""
    before = b"0000644\0" + b"0000000\0" * 2
    after = f"{int(time.time()):011o}\0".encode()
    tail = b"0" + bytes(100) + b"ustar\x0000"
    # The sum of all bytes of a header, in which the sum itself counts as spaces.
    fixed = sum(before) + sum(after) + sum(tail) + 8 * ord(" ")
    for index, blob in enumerate(blobs, start):
        name = f"{index:012d}{key}".encode()
        count = len(blob)
        size = f"{count:011o}\0".encode() if count <= _SIZE_MAX else b"\x80" + count.to_bytes(11, "big")
        checksum = f"{fixed + sum(name) + sum(size):06o}\0 ".encode()
        yield (name.ljust(100, b"\0") + before + size + after + checksum + tail).ljust(BLOCK, b"\0")
        yield blob
        if padding := -count % BLOCK:
            yield _ZEROS[:padding]
    yield _ZEROS
    yield _ZEROS


def read_whole(path: str, start: int) -> tuple[list[Blob], str]:
    """The packed items of a tar that `tar_pieces` has made, and their key.

    Raises:
        OSError: It cannot be read.
        ValueError: It is another file.
    """
    with open(path, "rb") as file:
        data = file.read()
    view, at = memoryview(data), 0
    blobs: list[Blob] = []
    key = data[len(f"{start:012d}") : 100].rstrip(b"\0").decode(errors="replace")
    while True:
        name = b"%012d%s\0" % (start + len(blobs), key.encode())
        if not data.startswith(name, at):
            break
        if len(data) < at + BLOCK:
            break
        size = data[at + 124 : at + 135]
        count = int(size, 8) if size[0] < 0x80 else int.from_bytes(data[at + 125 : at + 136], "big")
        at += BLOCK
        blobs.append(view[at : at + count])
        at += count + -count % BLOCK
    if key not in KEYS.values() or at + 2 * BLOCK != len(data) or any(view[at:]):
        raise ValueError(f"at byte {min(at, len(data))} of {len(data)} should be item {start + len(blobs)}, or the end")
    return blobs, key
