"""Rows to batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import _native


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
