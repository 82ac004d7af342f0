"""Writes a `.utix` from records that were found in Python."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from . import _atomic


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
) -> None:
    """Write the index of a shard, in one of the two forms of docs/utix-format.md.

    Args:
        shard: The path of the shard.
        records: The stem and the members of each record. Members are put in their order in the shard.
        format: ``"msgpack"`` or ``"jsonl"``.
        metadata: That of each record: None, bool, int, float, str, and lists and dicts of these.

    Raises:
        WriteError: The index cannot be written.
    """
    pack = _msgpack if format == "msgpack" else _json
    with _atomic.replacing(shard + ".utix") as file:
        pieces: list[bytes] = []
        each = zip(records, repeat({}) if metadata is None else metadata, strict=metadata is not None)
        for number, ((stem, members), values) in enumerate(each):
            members = sorted(members, key=lambda member: member.offset)
            first = members[0].offset
            record: dict[str, Any] = {
                "iidx": number,
                "offset": first,
                "str_idx": stem,
                "keys": [member.key for member in members],
                "offsets": [member.offset - first for member in members],
                "sizes": [member.size for member in members],
            }
            if values:
                record["metadata"] = dict(values)
            pieces.append(pack(record))
            if len(pieces) == 4096:
                file.write(b"".join(pieces))
                pieces.clear()
        file.write(b"".join(pieces))


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _msgpack(value: Any) -> bytes:
    """The smallest form of a value."""
    # By type and not by `isinstance`, which is slower, and would take a bool for an int.
    kind = type(value)
    if kind is int:
        return _int(value)
    if kind is str:
        octets = os.fsencode(value)
        return _head(len(octets), 0xA0, 32, _STR) + octets
    if kind is list:
        return _head(len(value), 0x90, 16, _ARRAY) + b"".join(map(_msgpack, value))
    if kind is dict:
        octets = b"".join([_msgpack(part) for pair in value.items() for part in pair])
        return _head(len(value), 0x80, 16, _MAP) + octets
    if kind is float:
        return b"\xcb" + struct.pack(">d", value)
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


def _head(number: int, small: int, below: int, forms: Sequence[tuple[int, int]]) -> bytes:
    if number < below:
        return bytes((small | number,))
    tag, size = next(form for form in forms if number < 1 << (8 * form[1]))
    return bytes((tag,)) + number.to_bytes(size)
