"""The arrays of rows that come from NPZ archives, by the names they were saved under.

The archives are read by `Dataset`, `DataLoader` and scripts, by an index as of any shard: see
docs/formats.md. What is here needs NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._decode import decoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._native import LoadedRow

__all__ = ["array", "load"]

_SUFFIXES = (".npy", ".npy.deflate")
_decode = decoder()


def load(row: LoadedRow) -> dict[str, NDArray[Any]]:
    """All arrays of a row, by name: what `array` gives for each.

    Raises:
        DecodeError: A member is no array, or damaged, or holds Python objects.
        ImportError: NumPy is not installed.
    """
    arrays = {}
    for place, key in enumerate(row.keys()):
        suffix = next((suffix for suffix in _SUFFIXES if key.endswith(suffix)), None)
        if suffix is not None:
            arrays[key[1 : -len(suffix)]] = _decode.entry(row, place)
    return arrays


def array(row: LoadedRow, name: str) -> NDArray[Any]:
    """One array of a row.

    It is a read-only view of the row, without a copy, or if the archive is compressed it is
    inflated, with the GIL released.

    Args:
        row: Of an NPZ archive.
        name: As in ``numpy.savez(path, name=...)``.

    Raises:
        KeyError: The row has no such array.
        DecodeError: It is no array, or damaged, or holds Python objects.
        ImportError: NumPy is not installed.
    """
    keys = row.keys()
    for suffix in _SUFFIXES:
        if (key := f".{name}{suffix}") in keys:
            found: NDArray[Any] = _decode.entry(row, keys.index(key))
            return found
    raise KeyError(f"{name}: the row has {', '.join(map(repr, keys)) or 'no entry'}")
