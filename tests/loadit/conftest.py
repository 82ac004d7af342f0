"""A cache that is complete."""

from __future__ import annotations

from pathlib import Path

import pytest
from loadit_support import PER_SHARD, Made

from ultar_dataloader import LoadIt


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A cache with all items."""
    with LoadIt(Made(), tmp_path / "full", PER_SHARD) as loader:
        loader.wait_until_all_cached()
    return tmp_path / "full"
