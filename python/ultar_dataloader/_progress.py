"""A bar on the terminal, and sizes as people read them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._index import IndexProgress


@contextmanager
def bar(title: str) -> Iterator[Callable[[IndexProgress], None]]:
    """A function to report progress to. It draws only where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(desc=title, unit="B", unit_scale=True, unit_divisor=1024, leave=False, file=sys.stderr) as drawn:

        def show(now: IndexProgress) -> None:
            drawn.total = now.bytes_total
            drawn.set_postfix_str(f"{now.shards_done}/{now.shards_total} shards", refresh=False)
            drawn.update(now.bytes_done - drawn.n)

        yield show


@contextmanager
def steps(title: str, count: int) -> Iterator[Callable[[str], None]]:
    """A function to call before each of `count` steps, with its name. Draws where `bar` does."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(desc=title, total=count, unit="step", leave=False, file=sys.stderr) as drawn:
        begun = 0

        def show(name: str) -> None:
            nonlocal begun
            drawn.set_postfix_str(name, refresh=False)
            drawn.update(begun - drawn.n)
            drawn.refresh()
            begun += 1

        yield show


def bytes_text(size: float) -> str:
    """`1536` as `1.5 KiB`."""
    if size < 1024:
        return f"{size:.0f} B"
    units = iter(("KiB", "MiB", "GiB"))
    unit, size = next(units), size / 1024
    while size >= 1023.95 and (larger := next(units, None)):
        unit, size = larger, size / 1024
    return f"{size:,.1f} {unit}"


def count_text(count: int, noun: str) -> str:
    """`1` as `1 shard`, `1200` as `1,200 shards`."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"
