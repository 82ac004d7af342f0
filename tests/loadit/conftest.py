"""A cache that is complete."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ultar_dataloader import LoadIt

from .support import PER_SHARD, Made


@pytest.fixture(scope="session")
def full_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("loadit") / "full"
    with LoadIt(Made(), root, PER_SHARD) as loader:
        loader.wait_until_all_cached()
    return root


@pytest.fixture
def full(full_once: Path, tmp_path: Path) -> Path:
    """A cache with all items."""
    return Path(shutil.copytree(full_once, tmp_path / "full"))
