"""TFRecord files: written, their `.idx` side files, and the features of `tf.train.Example`.

They are read by `Dataset`, `DataLoader` and scripts, by an index as of any shard; TensorFlow
is not needed for any of it. See docs/formats.md.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from . import _atomic, _index, _native, _records
from ._errors import IndexFormatError, ReadError

__all__ = [
    "index_from_idx",
    "make_example",
    "parse_example",
    "parse_sequence_example",
    "read_idx",
    "write",
    "write_idx",
]

Feature: TypeAlias = "list[bytes] | list[memoryview] | array[float] | array[int]"
"""The values of a feature: a list of bytes (or views), `array("f")` or `array("q")`."""

_HEADER_BYTES = 12
_FRAME_BYTES = 16
"""What a record has beside its payload: length, checksum, and a checksum behind it."""

_LENGTH = 2
"""The wire type of what has a length."""


def write(path: str | os.PathLike[str], records: Iterable[bytes | bytearray | memoryview]) -> None:
    """Write a file, which takes its place when it is whole.

    Args:
        path: Where to.
        records: The payload of each, such as `make_example` gives.

    Raises:
        TypeError: A record is no bytes.
        WriteError: The file cannot be written.
    """
    with _atomic.replacing(os.fspath(path)) as file:
        for record in records:
            payload = bytes(memoryview(record))
            length = struct.pack("<Q", len(payload))
            head = length + struct.pack("<I", _native.crc32c(length))
            file.write(b"".join((head, payload, struct.pack("<I", _native.crc32c(payload)))))


def write_idx(path: str | os.PathLike[str], idx_path: str | os.PathLike[str] | None = None) -> None:
    """Write the side file of a TFRecord file that other loaders want: ``offset size`` a line, in bytes.

    They are those of whole records, with lengths and checksums.

    Args:
        path: The TFRecord file, which is indexed if it is not yet.
        idx_path: Where to. None: the same path with ``.idx`` behind it.

    Raises:
        ShardFormatError: The file is malformed.
        ReadError: It cannot be read.
        WriteError: A side file cannot be written.
    """
    path = os.fspath(path)
    _index.index(path)
    index = _native.Index(_index.index_path(path))
    with _atomic.replacing(_idx_path(path, idx_path)) as file:
        for i in range(len(index)):
            record = index[i]
            file.write(b"%d %d\n" % (record["offset"] - _HEADER_BYTES, record["sizes"][0] + _FRAME_BYTES))


def read_idx(idx_path: str | os.PathLike[str]) -> list[tuple[int, int]]:
    """Offset and size of each record, in bytes, with lengths and checksums, as a side file has them.

    Raises:
        ReadError: The side file cannot be read.
        IndexFormatError: A line of it is no pair of numbers.
    """
    idx_path = os.fspath(idx_path)
    try:
        with open(idx_path, "rb") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise ReadError(error.errno, f"{idx_path}: cannot read: {error.strerror}", idx_path) from error
    places = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if len(fields) != 2 or not all(field.isdigit() and len(field) < 20 for field in fields):
            raise _bad_idx(idx_path, number, f"wanted an offset and a size, got {line[:80]!r}")
        places.append((int(fields[0]), int(fields[1])))
    return places


def index_from_idx(path: str | os.PathLike[str], idx_path: str | os.PathLike[str] | None = None) -> None:
    """Write the index of a TFRecord file from its side file; of the file itself nothing is read.

    The records must follow one on the other and fill the file.

    Args:
        path: The TFRecord file.
        idx_path: Its side file. None: the same path with ``.idx`` behind it.

    Raises:
        ReadError: A file cannot be read.
        IndexFormatError: The side file is malformed, or another file's.
        WriteError: The index cannot be written.
    """
    path, side = os.fspath(path), _idx_path(os.fspath(path), idx_path)
    places = read_idx(side)
    try:
        file_size = os.path.getsize(path)
    except OSError as error:
        raise ReadError(error.errno, f"{path}: {error.strerror}", path) from error
    end = 0
    for number, (offset, size) in enumerate(places, 1):
        if offset != end or size < _FRAME_BYTES:
            raise _bad_idx(side, number, f"wanted a record at {end}, got {size} bytes at {offset}")
        end += size
    if end != file_size or not places:
        raise _bad_idx(side, len(places), f"the records end at {end}, and {path} at {file_size}")
    records = (
        (str(number), [_records.Member(".bin", offset + _HEADER_BYTES, size - _FRAME_BYTES)])
        for number, (offset, size) in enumerate(places)
    )
    _records.write(path, records, "msgpack")


def _idx_path(path: str, idx_path: str | os.PathLike[str] | None) -> str:
    return path + ".idx" if idx_path is None else os.fspath(idx_path)


def _bad_idx(path: str, line: int, text: str) -> IndexFormatError:
    error = IndexFormatError(f"{path}: line {line}: {text}")
    error.filename = path
    return error


def parse_example(data: bytes | memoryview) -> dict[str, Feature]:
    """The features of a serialized `tf.train.Example`, by name.

    Args:
        data: The message, such as ``row["bin"]``, or ``row.view("bin")`` whose byte features are
            views as well, without a copy.

    Returns:
        For each feature a list of bytes, an `array("f")` or an `array("q")`, which
        ``numpy.asarray`` takes without a copy.

    Raises:
        ShardFormatError: The message is malformed; says at which byte of it.
    """
    return _native.parse_example(data)[0]


def parse_sequence_example(data: bytes | memoryview) -> tuple[dict[str, Feature], dict[str, list[Feature]]]:
    """The context of a serialized `tf.train.SequenceExample`, and its lists of features, by name.

    Raises:
        ShardFormatError: The message is malformed; says at which byte of it.
    """
    return _native.parse_example(data)


def make_example(features: Mapping[str, Any]) -> bytes:
    """A serialized `tf.train.Example`.

    Args:
        features: By name: bytes, str, int or float, or several of one of these, as a list, an
            `array` or a NumPy array of any shape. Numbers become 64-bit integers or 32-bit floats.

    Raises:
        TypeError: A value is none of these.
        ValueError: An integer needs more than 64 bits.
    """
    entries = []
    for name, values in features.items():
        entry = _field(1, name.encode()) + _field(2, _packed(name, values))
        entries.append(_field(1, entry))
    return _field(1, b"".join(entries))


def _packed(name: str, values: Any) -> bytes:
    """A `Feature`."""
    if hasattr(values, "ravel"):
        values = values.ravel().tolist()
    if isinstance(values, (bytes, bytearray, memoryview, str, int, float)):
        values = [values]
    if not isinstance(values, (Sequence, array)):
        raise TypeError(
            f"feature {name!r}: wanted bytes, str, int, float or several of one, got {type(values).__name__}"
        )
    values = list(values)
    if not values:
        return b""
    if all(isinstance(value, (bytes, bytearray, memoryview, str)) for value in values):
        octets = (value.encode() if isinstance(value, str) else bytes(value) for value in values)
        return _field(1, b"".join(_field(1, value) for value in octets))
    if all(isinstance(value, int) for value in values):
        for value in values:
            if not -(1 << 63) <= value < 1 << 63:
                raise ValueError(f"feature {name!r}: {value} needs more than 64 bits")
        return _field(3, _field(1, b"".join(map(_number, values))))
    if all(isinstance(value, (int, float)) for value in values):
        return _field(2, _field(1, array("f", values).tobytes()))
    kinds = sorted({type(value).__name__ for value in values})
    raise TypeError(f"feature {name!r}: wanted bytes, str, int, float or several of one, got {' and '.join(kinds)}")


def _field(number: int, value: bytes) -> bytes:
    return _number(number << 3 | _LENGTH) + _number(len(value)) + value


def _number(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
