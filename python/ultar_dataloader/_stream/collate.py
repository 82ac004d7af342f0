"""Rows to batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .. import _fields, _native

_RAGGED_BYTES = 1 << 16
"""What a row of a ragged field is taken to have, where only its order of magnitude matters."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Entries that are read straight into arrays, one a key."""

    fields: tuple[_fields.Field, ...]

    @classmethod
    def parse(cls, declaration: _fields.Declaration) -> Self:
        """As users declare them.

        Raises:
            TypeError, ValueError: As `_fields.parse`.
        """
        return cls(tuple(_fields.parse(declaration)))

    @property
    def row_bytes(self) -> int:
        """Of all fields together, about."""
        return sum(
            math.prod(_RAGGED_BYTES if size is None else size for size in field.shape)
            * int(field.dtype.lstrip("<>=|")[1:])
            for field in self.fields
        )

    def named(self, parts: tuple[Any, ...]) -> dict[str, Any]:
        """Arrays under their keys."""
        return {field.key: part for field, part in zip(self.fields, parts, strict=True)}


def lists(rows: list[Any]) -> Any:
    """A dict of lists of what dicts have, with views of entries for rows; else the list as it is.

    Where one has a key and another has not, there is None.
    """
    if not rows:
        return {}
    if all(isinstance(row, _native.LoadedRow) for row in rows):
        return {key: [row.view(key) if key in row else None for row in rows] for key in _keys(rows)}
    if all(isinstance(row, Mapping) for row in rows):
        return {key: [row.get(key) for row in rows] for key in _keys(rows)}
    return rows


def _keys(rows: list[Any]) -> dict[Any, None]:
    first = rows[0].keys()
    keys = dict.fromkeys(first)
    for row in rows:
        if row.keys() != first:
            keys.update(dict.fromkeys(row.keys()))
    return keys
