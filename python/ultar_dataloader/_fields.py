"""Placeholder while the real one is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Fields:
    row_bytes: int = 0

    def __init__(self, declared: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def named(self, parts: Any) -> dict[str, Any]:
        raise NotImplementedError
