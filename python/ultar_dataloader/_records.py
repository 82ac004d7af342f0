"""Writes a `.utix` from records that were found in Python."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from . import _atomic

DECODED_MIN = 1 << 52
"""From here on offsets are no places in a shard, but in what is decoded of it when it is asked
for, as `decoded_offset_min` of the engine."""


class Member(NamedTuple):
    """An entry of a record: its key, where it is in the shard, and its size, in bytes."""

    key: str
    offset: int
    size: int


def write(shard: str, records: Iterable[tuple[str, Sequence[Member]]], format: str, path: str | None = None) -> None:
    """Write the index of a shard, in one of the two forms of docs/utix-format.md.

    Args:
        shard: The path of the shard.
        records: The stem and the members of each record. Members are put in their order in the shard.
        format: ``"msgpack"`` or ``"jsonl"``.
        path: Of the index. None: beside the shard.

    Raises:
        WriteError: The index cannot be written.
    """
    pack = _msgpack if format == "msgpack" else _json
    with _atomic.replacing(path or shard + ".utix") as file:
        pieces: list[bytes] = []
        for number, (stem, members) in enumerate(records):
            members = sorted(members, key=lambda member: member.offset)
            first = members[0].offset
            keys = [member.key for member in members]
            offsets = [member.offset - first for member in members]
            pieces.append(pack(number, first, stem, keys, offsets, [member.size for member in members]))
            if len(pieces) == 4096:
                file.write(b"".join(pieces))
                pieces.clear()
        file.write(b"".join(pieces))


def _json(iidx: int, offset: int, stem: str, keys: list[str], offsets: list[int], sizes: list[int]) -> bytes:
    record = {"iidx": iidx, "offset": offset, "str_idx": stem, "keys": keys, "offsets": offsets, "sizes": sizes}
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _msgpack(iidx: int, offset: int, stem: str, keys: list[str], offsets: list[int], sizes: list[int]) -> bytes:
    return b"".join(
        (
            b"\x86\xa4iidx",
            _uint(iidx),
            b"\xa6offset",
            _uint(offset),
            b"\xa7str_idx",
            _str(stem),
            b"\xa4keys",
            _array(keys),
            *map(_str, keys),
            b"\xa7offsets",
            _array(offsets),
            *map(_uint, offsets),
            b"\xa5sizes",
            _array(sizes),
            *map(_uint, sizes),
        )
    )


def _uint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    for tag, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4)):
        if value < 1 << (8 * size):
            return bytes((tag,)) + value.to_bytes(size)
    return b"\xcf" + value.to_bytes(8)


def _str(text: str) -> bytes:
    octets = os.fsencode(text)
    if len(octets) < 32:
        return bytes((0xA0 | len(octets),)) + octets
    return _header(len(octets), ((0xD9, 1), (0xDA, 2), (0xDB, 4))) + octets


def _array(values: Sequence[object]) -> bytes:
    if len(values) < 16:
        return bytes((0x90 | len(values),))
    return _header(len(values), ((0xDC, 2), (0xDD, 4)))


def _header(count: int, forms: Sequence[tuple[int, int]]) -> bytes:
    tag, size = next(form for form in forms if count < 1 << (8 * form[1]) or form is forms[-1])
    return bytes((tag,)) + count.to_bytes(size)
