"""The arrays of rows that come from NPZ archives: views where they are stored as they are.

The archives are read by `Dataset`, `DataLoader` and scripts, by an index as of any shard: see
docs/formats.md. What is here needs NumPy.
"""

from __future__ import annotations

import ast
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from . import _optional
from ._errors import ShardFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._native import LoadedRow

__all__ = ["array", "load"]

_SUFFIX = ".npy"
_DEFLATED = ".deflate"
_MAGIC = b"\x93NUMPY"


def load(row: LoadedRow) -> dict[str, NDArray[Any]]:
    """All arrays of a row, by name.

    Raises:
        ShardFormatError: A member is no array, or damaged, or holds Python objects.
        ImportError: NumPy is not installed.
    """
    return {name: _of(row, key) for key in row if (name := _name(key)) is not None}


def array(row: LoadedRow, name: str) -> NDArray[Any]:
    """One array of a row.

    It is a read-only view of the row, without a copy, or if the archive is compressed it is
    inflated, with the GIL released.

    Args:
        row: Of an NPZ archive.
        name: As in ``numpy.savez(path, name=...)``.

    Raises:
        KeyError: The row has no such array.
        ShardFormatError: It is no array, or damaged, or holds Python objects.
        ImportError: NumPy is not installed.
    """
    for key in (f".{name}{_SUFFIX}", f".{name}{_SUFFIX}{_DEFLATED}"):
        if key in row:
            return _of(row, key)
    raise KeyError(f"{name}: the row has {', '.join(map(repr, row)) or 'no entry'}")


def _name(key: str) -> str | None:
    """Of the array that an entry holds, if it holds one."""
    plain = key.removesuffix(_DEFLATED)
    return plain[1 : -len(_SUFFIX)] if plain.endswith(_SUFFIX) else None


def _of(row: LoadedRow, key: str) -> NDArray[Any]:
    payload: memoryview | bytes = row.view(key)
    try:
        if key.endswith(_DEFLATED):
            payload = zlib.decompress(payload, -zlib.MAX_WBITS)
        return _parse(payload)
    except (zlib.error, ValueError, TypeError, SyntaxError, RecursionError, OverflowError) as error:
        raise ShardFormatError(f"entry {key!r} is not an array that can be read: {error}") from error


def _parse(payload: memoryview | bytes) -> NDArray[Any]:
    np = _optional.need("numpy", "numpy", "npz")
    width = 2 if bytes(payload[6:7]) == b"\1" else 4  # Versions 2 and 3 have room for longer headers.
    at = len(_MAGIC) + 2 + width
    if bytes(payload[: len(_MAGIC)]) != _MAGIC or len(payload) < at:
        raise ValueError("it does not begin as one")
    begin = at + int.from_bytes(payload[at - width : at], "little")
    dtype, order, shape, count = _header(bytes(payload[at:begin]))
    if begin + count * dtype.itemsize > len(payload):
        raise ValueError(f"wanted {count * dtype.itemsize} bytes, got {max(0, len(payload) - begin)}")
    if count * dtype.itemsize == 0:
        empty: NDArray[Any] = np.empty(shape, dtype)
        return empty
    values: NDArray[Any] = np.frombuffer(payload, dtype, count, begin).reshape(shape, order=order)
    return values


@lru_cache(maxsize=256)
def _header(text: bytes) -> tuple[Any, str, tuple[int, ...], int]:
    """Type, order, shape and number of elements, as the header of an array has them."""
    np = _optional.need("numpy", "numpy", "npz")
    header = ast.literal_eval(text.decode())
    if not isinstance(header, Mapping) or not {"descr", "fortran_order", "shape"} <= header.keys():
        raise ValueError("its header lacks 'descr', 'fortran_order' or 'shape'")
    dtype = np.lib.format.descr_to_dtype(header["descr"])
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are pickled")
    shape, count = header["shape"], 1
    for length in shape:
        if not isinstance(length, int) or length < 0:
            raise ValueError(f"its shape is {shape}")
        count *= length
    return dtype, "F" if header["fortran_order"] else "C", shape, count
