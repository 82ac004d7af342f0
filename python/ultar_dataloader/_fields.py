"""Fields of batches: what users declare, checked, and as the native module takes it."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, SupportsIndex

from . import _native


class SupportsStr(Protocol):
    """What has a typestr, as ``numpy.dtype`` does."""

    @property
    def str(self) -> str: ...


Shape = SupportsIndex | None | Sequence[SupportsIndex | None]
Declaration = Mapping[str, tuple[str | SupportsStr, Shape]]

DTYPES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
"""Types of elements, without their byte order."""


class Ragged(NamedTuple):
    """Arrays of different lengths, one after the other: row i is ``values[offsets[i] : offsets[i + 1]]``."""

    values: _native.Array
    offsets: _native.Array
    """Of int64, one more than there are rows."""


class Field(NamedTuple):
    """What the native module is told of one field."""

    key: str
    dtype: str
    shape: tuple[int | None, ...]


def parse(declaration: Declaration) -> list[Field]:
    """The fields of a declaration such as ``{".npy": ("u2", (2048,)), ".cls": ("i8", ())}``.

    Raises:
        TypeError, ValueError: It is none; the text says which key, what was wanted and what was got.
    """
    if not isinstance(declaration, Mapping):
        raise TypeError(f"fields must be a mapping of key to (dtype, shape), got {type(declaration).__name__}")
    if not declaration:
        raise ValueError('fields must have a key at least, as in {".npy": ("u2", (2048,))}')
    fields = []
    for key, given in declaration.items():
        if not isinstance(key, str):
            raise TypeError(f"the key of a field must be str, got {type(key).__name__}: {key!r}")
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise TypeError(f'field {key!r}: wanted (dtype, shape), as in ("u2", (2048,)), got {given!r}')
        fields.append(Field(key, _dtype(key, given[0]), _shape(key, given[1])))
    return fields


def _dtype(key: str, given: object) -> str:
    typestr = given if isinstance(given, str) else getattr(given, "str", None)
    if not isinstance(typestr, str):
        raise TypeError(f"field {key!r}: wanted a dtype such as 'u2' or numpy.dtype('uint16'), got {given!r}")
    if typestr.lstrip("<>=|") not in DTYPES or len(typestr) - len(typestr.lstrip("<>=|")) > 1:
        raise ValueError(f"field {key!r}: wanted one of the dtypes {', '.join(DTYPES)}, got {typestr!r}")
    return typestr


def _shape(key: str, given: Shape) -> tuple[int | None, ...]:
    """A shape may be a number, and its first size None, where it differs from row to row."""
    sizes: Sequence[SupportsIndex | None]
    if given is None or hasattr(given, "__index__"):
        sizes = (given,)
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        sizes = given
    else:
        raise TypeError(f"field {key!r}: wanted a shape such as (2048,), got {given!r}")
    shape: list[int | None] = []
    for size in sizes:
        if size is None:
            if shape:
                raise ValueError(f"field {key!r}: only the first size may be None, got {given!r}")
            shape.append(None)
            continue
        try:
            if isinstance(size, bool):
                raise TypeError
            number = operator.index(size)
        except TypeError:
            raise TypeError(f"field {key!r}: a size must be an int, or None in the first place, got {size!r}") from None
        if number < 0:
            raise ValueError(f"field {key!r}: a size must not be negative, got {number}")
        shape.append(number)
    return tuple(shape)
