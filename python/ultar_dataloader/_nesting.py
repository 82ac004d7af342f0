"""Batches of any nesting, gone through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._native import LoadedRow


def through(value: Any, convert: Callable[[Any], Any]) -> Any:
    """The same nesting of dicts, lists and tuples, with what `convert` makes of the rest. Rows become dicts."""
    kind = type(value)
    if kind is dict:
        return {key: through(one, convert) for key, one in value.items()}
    if kind is list:
        return [through(one, convert) for one in value]
    if isinstance(value, tuple):
        values = [through(one, convert) for one in value]
        return kind._make(values) if hasattr(kind, "_make") else kind(values)
    if isinstance(value, LoadedRow):
        return {key: convert(value.view(key)) for key in dict.fromkeys(value)}
    return convert(value)
