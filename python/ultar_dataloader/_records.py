"""Writes a `.utix` from records that were found in Python."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from . import _atomic

DECODED_MIN = 1 << 52
"""From here on offsets are no places in a shard, but in what is decoded of it when it is asked
for, as `decoded_offset_min` of the engine."""


class Member(NamedTuple):
    """An entry of a record: its key, where it is in the shard, and its size, in bytes."""

    key: str
    offset: int
    size: int


def split(name: str) -> tuple[str, str]:
    """Stem and key of a member, by the naming rule of docs/utix-format.md."""
    dot = name.find(".", name.rfind("/") + 1)
    return (name, "") if dot < 0 else (name[:dot], name[dot:])


def write(
    shard: str,
    records: Iterable[tuple[str, Sequence[Member]]],
    format: str,
    metadata: Iterable[Mapping[str, Any]] | None = None,
    path: str | None = None,
) -> None:
    """Write the index of a shard, in one of the two forms of docs/utix-format.md.

    Args:
        shard: The path of the shard.
        records: The stem and the members of each record. Members are put in their order in the shard.
        format: ``"msgpack"`` or ``"jsonl"``.
        metadata: That of each record: None, bool, int, float, str, and lists and dicts of these.
        path: Of the index. None: beside the shard.

    Raises:
        WriteError: The index cannot be written.
    """
    pack = _msgpack if format == "msgpack" else _json
    with _atomic.replacing(path or shard + ".utix") as file:
        pieces: list[bytes] = []
        each = zip(records, repeat({}) if metadata is None else metadata, strict=metadata is not None)
        for number, ((stem, members), values) in enumerate(each):
            members = sorted(members, key=lambda member: member.offset)
            first = members[0].offset
            keys = [member.key for member in members]
            offsets = [member.offset - first for member in members]
            sizes = [member.size for member in members]
            pieces.append(pack(number, first, stem, keys, offsets, sizes, dict(values)))
            if len(pieces) == 4096:
                file.write(b"".join(pieces))
                pieces.clear()
        file.write(b"".join(pieces))


def _json(
    iidx: int,
    offset: int,
    stem: str,
    keys: list[str],
    offsets: list[int],
    sizes: list[int],
    metadata: dict[str, Any],
) -> bytes:
    record = {"iidx": iidx, "offset": offset, "str_idx": stem, "keys": keys, "offsets": offsets, "sizes": sizes}
    if metadata:
        record["metadata"] = metadata
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _msgpack(
    iidx: int,
    offset: int,
    stem: str,
    keys: list[str],
    offsets: list[int],
    sizes: list[int],
    metadata: dict[str, Any],
) -> bytes:
    return b"".join(
        (
            b"\x87\xa4iidx" if metadata else b"\x86\xa4iidx",
            _int(iidx),
            b"\xa6offset",
            _int(offset),
            b"\xa7str_idx",
            _str(stem),
            b"\xa4keys",
            _head(len(keys), 0x90, 16, _ARRAY),
            *map(_str, keys),
            b"\xa7offsets",
            _head(len(offsets), 0x90, 16, _ARRAY),
            *map(_int, offsets),
            b"\xa5sizes",
            _head(len(sizes), 0x90, 16, _ARRAY),
            *map(_int, sizes),
            *((b"\xa8metadata", _value(metadata)) if metadata else ()),
        )
    )


def _value(value: Any) -> bytes:
    # By type and not by `isinstance`, which is slower, and would take a bool for an int.
    kind = type(value)
    if kind is str:
        return _str(value)
    if kind is int:
        return _int(value)
    if kind is float:
        return b"\xcb" + struct.pack(">d", value)
    if kind is list:
        return _head(len(value), 0x90, 16, _ARRAY) + b"".join(map(_value, value))
    if kind is dict:
        octets = b"".join([part for name, item in value.items() for part in (_str(name), _value(item))])
        return _head(len(value), 0x80, 16, _MAP) + octets
    return _CONSTANTS[value]


_CONSTANTS = {None: b"\xc0", False: b"\xc2", True: b"\xc3"}
_UINT = ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8))
_INT = ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8))
_STR = ((0xD9, 1), (0xDA, 2), (0xDB, 4))
_ARRAY = ((0xDC, 2), (0xDD, 4))
_MAP = ((0xDE, 2), (0xDF, 4))


def _int(value: int) -> bytes:
    if value >= 0:
        return _head(value, 0, 0x80, _UINT)
    if value >= -32:
        return value.to_bytes(1, signed=True)
    tag, size = next(form for form in _INT if value >= -1 << (8 * form[1] - 1))
    return bytes((tag,)) + value.to_bytes(size, signed=True)


def _str(text: str) -> bytes:
    octets = os.fsencode(text)
    return _head(len(octets), 0xA0, 32, _STR) + octets


def _head(number: int, small: int, below: int, forms: Sequence[tuple[int, int]]) -> bytes:
    """The smallest form of an integer, or of what goes before that many bytes or items."""
    if number < below:
        return bytes((small | number,))
    for tag, size in forms:
        if number < 1 << (8 * size):
            return bytes((tag,)) + number.to_bytes(size)
    raise OverflowError(f"{number} is more than msgpack holds")
