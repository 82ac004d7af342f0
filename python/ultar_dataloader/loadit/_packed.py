"""Items as bytes: pickled, and as the members of a tar.

A shard is a tar with one member an item, named by the item's number and the way it is packed:
`000000000513.pkl`, or `.pkl.gz`, `.pkl.xz`, `.pkl.zz`.
"""

from __future__ import annotations

import gzip
import lzma
import pickle
import time
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

Blob = bytes | memoryview
KEYS = {None: ".pkl", "gzip": ".pkl.gz", "lzma": ".pkl.xz", "zlib": ".pkl.zz"}
"""The key of a member, by the name of the compression."""

_PACK: dict[str, Callable[[bytes], bytes]] = {
    ".pkl": lambda data: data,
    ".pkl.gz": lambda data: gzip.compress(data, 6, mtime=0),
    ".pkl.xz": lzma.compress,
    ".pkl.zz": zlib.compress,
}
_INFLATE: dict[str, Callable[[Blob], bytes]] = {
    ".pkl.gz": gzip.decompress,
    ".pkl.xz": lzma.decompress,
    ".pkl.zz": zlib.decompress,
}
BLOCK = 512
SIZE_AT = 124
"""Where a header has the size of its payload."""
_ZEROS = bytes(BLOCK)
_SIZE_MAX = 8**11 - 1
"""Of a payload, in octal digits; larger ones are written in binary, as GNU tar does."""


def pack(item: object, key: str) -> bytes:
    return _PACK[key](pickle.dumps(item, pickle.HIGHEST_PROTOCOL))


def unpacker(key: str) -> Callable[[Blob], Any]:
    """What makes an item of its bytes."""
    if key == ".pkl":
        return pickle.loads
    inflate = _INFLATE[key]
    return lambda blob: pickle.loads(inflate(blob))


def places_of(sizes: Iterable[int]) -> array[int]:
    """Offset and size of each payload in a tar with payloads of these sizes; at last the size of the tar."""
    counts = array("Q", sizes)
    places = array("Q", bytes(counts.itemsize * (2 * len(counts) + 1)))
    places[1::2] = counts
    # A header, and the payload in whole blocks.
    blocks = [size + (2 * BLOCK - 1) & -BLOCK for size in counts]
    places[::2] = array("Q", accumulate(blocks, initial=BLOCK))
    places[-1] += BLOCK
    return places


def fit(places: array[int], count: int, size: int) -> bool:
    """Whether places can be those of a tar of so many items and bytes."""
    try:
        return len(places) == 2 * count + 1 and places[-1] == size and places == places_of(places[1::2])
    except OverflowError:
        return False


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


def size_in(data: bytes, at: int) -> int:
    """The size that the header at a place tells; -1 where it is no number."""
    digits = data[at + SIZE_AT : at + SIZE_AT + 11]
    if digits.startswith(b"\x80"):
        return int.from_bytes(data[at + SIZE_AT + 1 : at + SIZE_AT + 12], "big")
    try:
        return int(digits, 8) if digits.isdigit() else -1
    except ValueError:
        return -1


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
        count = size_in(data, at)
        if count < 0:
            break
        at += BLOCK
        blobs.append(view[at : at + count])
        at += count + -count % BLOCK
    if key not in KEYS.values() or at + 2 * BLOCK != len(data) or any(view[at:]):
        raise ValueError(f"at byte {min(at, len(data))} of {len(data)} should be item {start + len(blobs)}, or the end")
    return blobs, key
