"""What tests of `LoadIt` share: items, a function that makes them, and looks into the folder."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

COUNT, PER_SHARD = 200, 10


class Made:
    """A function that makes iterators of 1 KB items, and counts what they have given."""

    def __init__(self, count: int = COUNT) -> None:
        self.count = count
        self.runs = self.items = 0

    def __call__(self) -> Iterator[bytes]:
        self.runs += 1
        for i in range(self.count):
            self.items += 1
            yield item(i)


def item(i: int) -> bytes:
    return b"%04d" % i * 250


ITEMS = [item(i) for i in range(COUNT)]


def size_of(root: Path) -> int:
    total = 0
    for path in (root / "shards").iterdir():
        with contextlib.suppress(FileNotFoundError):  # Somebody renames or deletes it.
            total += path.stat().st_size
    return total


def shards_of(root: Path) -> list[int]:
    return sorted(int(path.name.split(".")[0]) for path in root.glob("shards/*.tar.utix"))


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.002)


def run_all(functions: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=one) for one in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
