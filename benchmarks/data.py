"""The data sets: what is in a row, where the files lie, and rows as opaque records for formats that want those."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

VERSION = 1  # of the contents: another number makes all data anew

ARRAY_SIZE = 2048
"""Elements of a row of the arrays, of type uint16."""
NPY_HEADER = b"\x93NUMPY\x01\0v\0%-117b\n" % b"{'descr': '<u2', 'fortran_order': False, 'shape': (2048,), }"

BATCH_ROWS = 256

Row = Sequence[bytes]


@dataclass(frozen=True)
class Kind:
    """A data set as it is at scale 1."""

    title: str
    keys: tuple[str, ...]
    rows: int
    shards: int = 4


KINDS = {
    "big": Kind("rows of 100 KB: an image, its JSON and its class", ("jpg", "json", "cls"), 10_000),
    "tiny": Kind("rows of 150 bytes: JSON and a class", ("json", "cls"), 300_000),
    "record": Kind("records of 4 KB", ("bin",), 200_000),
    "array": Kind("arrays of 2048 uint16, as .npy", ("npy",), 200_000),
    "store": Kind("rows of 100 KB for an object store", ("bin",), 2_000),
    "start": Kind("rows of 1 KB in 16 shards", ("bin", "cls"), 16_000, shards=16),
}


@dataclass(frozen=True)
class Data:
    """One data set in a folder: `tars`, and a folder for each peer with a format of its own."""

    name: str
    folder: Path
    scale: float = 1.0

    @property
    def keys(self) -> tuple[str, ...]:
        return KINDS[self.name].keys

    @cached_property
    def rows_per_shard(self) -> int:
        return max(1, round(KINDS[self.name].rows * self.scale / self.shards))

    @property
    def shards(self) -> int:
        return KINDS[self.name].shards

    @property
    def rows(self) -> int:
        return self.rows_per_shard * self.shards

    @property
    def members(self) -> int:
        return self.rows * len(self.keys)

    @cached_property
    def tars(self) -> list[Path]:
        return [self.folder / f"{self.name}-{shard}.tar" for shard in range(self.shards)]

    @cached_property
    def manifest(self) -> dict[str, object]:
        """What the files hold: equal manifests, equal files."""
        return {"version": VERSION, "data": self.name, "rows": self.rows, "shards": self.shards}

    def of_peer(self, peer: str) -> Path:
        """Where a peer keeps this data in its own format."""
        return self.folder / peer

    def files(self) -> list[Path]:
        """All files: what is dropped from the page cache before a cold run."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def shard_rows(self, shard: int) -> Iterator[Row]:
        """The payloads of a shard's rows, in the order of `keys`. The same ones each time."""
        random = Random(f"{self.name} {shard}")
        first = shard * self.rows_per_shard
        for number in range(first, first + self.rows_per_shard):
            yield _payloads(self.name, number, random)

    def all_rows(self) -> Iterator[Row]:
        for shard in range(self.shards):
            yield from self.shard_rows(shard)

    def picks(self, count: int) -> list[int]:
        """Numbers of rows at random, none twice. The same ones each time."""
        return Random(f"picks {self.name}").sample(range(self.rows), min(count, self.rows))

    @cached_property
    def payload_bytes(self) -> int:
        return int(json.loads((self.folder / "manifest.json").read_text())["payload_bytes"])


def stem(number: int) -> str:
    """The name of a row, without its keys."""
    return f"{number:08d}"


def _payloads(name: str, number: int, random: Random) -> Row:
    if name == "record":
        return (random.randbytes(4096),)
    if name == "store":
        return (random.randbytes(100_000),)
    if name == "array":
        return (NPY_HEADER + random.randbytes(4096),)
    label = b"%03d" % random.randrange(1000)
    if name == "tiny":
        return (_json(number, random, 150), label)
    if name == "start":
        return (random.randbytes(1024), label)
    image = random.randbytes(98_000 + random.randrange(2_000))
    return (image, _json(number, random, 200), label.lstrip(b"0") or b"0")


def _json(number: int, random: Random, size: int) -> bytes:
    start = b'{"id":%d,"caption":"' % number
    return start + random.randbytes(size).hex().encode()[: size - len(start) - 2] + b'"}'


def pack(row: Row) -> bytes:
    """A row as one record: the sizes of its payloads, then the payloads."""
    return struct.pack(f"<{len(row)}I", *map(len, row)) + b"".join(row)


def unpacker(count: int) -> Callable[[bytes], list[bytes]]:
    """A function that takes the record of a row with so many payloads apart."""
    head = struct.Struct(f"<{count}I")

    def unpack(record: bytes) -> list[bytes]:
        at = head.size
        row = []
        for size in head.unpack_from(record):
            row.append(record[at : at + size])
            at += size
        return row

    return unpack
