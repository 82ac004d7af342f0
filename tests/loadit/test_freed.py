"""A loader that is let go, and not closed, ends at once: no cycle waits for the garbage collection."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ultar_dataloader import CacheError, LoadIt

from .support import COUNT, ITEMS, PER_SHARD, wait_for


def _fails_at_150() -> Iterator[bytes]:
    yield from ITEMS[:150]
    raise ValueError("no more")


def _failing(loader: LoadIt, index: int, kind: type[Exception]) -> None:
    with contextlib.suppress(kind):
        loader[index]


def _damaged(loader: LoadIt) -> None:
    assert loader[30] == ITEMS[30] and loader[0] == ITEMS[0]
    os.truncate(Path(loader.root_dir) / "shards/000000000000.tar", 100)
    assert loader[5] == ITEMS[5]


class TestFreed:
    """A loader that is let go, and not closed, ends at once: no cycle waits for the garbage collection."""

    @pytest.fixture
    def no_collection(self) -> Iterator[None]:
        gc.collect()
        gc.disable()
        try:
            yield
        finally:
            gc.enable()

    @pytest.mark.usefixtures("no_collection")
    @pytest.mark.parametrize(
        "use",
        [
            lambda loader: None,
            lambda loader: loader[35],
            lambda loader: list(loader[:120]),
            lambda loader: next(iter(loader)),
            lambda loader: list(loader[2:20:3][::-1] + loader[[3, 5]]),
            lambda loader: _failing(loader, 180, ValueError),
            lambda loader: _failing(loader, -1, ValueError),
            _damaged,
        ],
    )
    def test_with_its_threads_and_files(self, tmp_path: Path, use: Callable[[LoadIt], object]) -> None:
        threads = threading.active_count()
        loader = LoadIt(_fails_at_150, tmp_path, PER_SHARD)
        use(loader)
        freed = weakref.ref(loader)
        core = weakref.ref(loader._core)
        del loader
        assert freed() is None
        wait_for(lambda: core() is None and threading.active_count() <= threads)
        assert not _open_in(tmp_path)

    @pytest.mark.usefixtures("no_collection")
    def test_after_an_error_that_cannot_be_mended(self, full: Path) -> None:
        loader = LoadIt(full)
        assert loader[3] == ITEMS[3] and _open_in(full)
        os.truncate(full / "shards/000000000000.tar", 100)
        _failing(loader, 5, CacheError)
        _failing(loader, COUNT, IndexError)
        core = weakref.ref(loader._core)
        del loader
        assert core() is None and not _open_in(full)


def _open_in(folder: Path) -> list[str]:
    found = []
    for one in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{one}"))
    return [path for path in found if path.startswith(f"{folder}/")]
