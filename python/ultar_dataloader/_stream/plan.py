"""What a stream is, before anything of it runs: plain values, and the arithmetic of its steps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from .._split import Split, Tail, default_tail, skipped_places
from . import ranks
from .collate import Fields
from .source import Source

Calls = int | Literal["auto"]
CALLS_MAX = 1024
REFILL = "refilled batches are for one rank: several would end at different steps"


class Stage(NamedTuple):
    """A function on its way."""

    kind: Literal["map", "filter", "flat_map"]
    function: Callable[[Any], Any]
    calls: Calls


@dataclass(frozen=True)
class Plan:
    """All that was said about a stream."""

    source: Source
    rank: int | None = 0
    """With `world_size`; None for both: of the process that iterates."""
    world_size: int | None = 1
    tail: Tail | None = None
    stages: tuple[Stage, ...] = ()
    batch_size: int | None = None
    collate: Callable[[list[Any]], Any] | Fields | None = None
    refill: bool = False
    after: tuple[Stage, ...] = ()
    """Of batches."""
    depth: int | Literal["auto"] = 0
    """Of prefetching."""
    repeat: int | None = 1
    skip_list: tuple[int, ...] = ()
    skip_ranges: tuple[tuple[int, int], ...] = ()
    rows_max: int | None = None
    """Places of an epoch that count: the first ones of its order. None for all."""
    calls_max: int | None = None
    """Calls of functions at once, where stages do not name a number."""
    worker: tuple[int, int] = (0, 1)
    """Takes every so-manieth step of the rank: its number, and that of all workers."""

    def __str__(self) -> str:
        """In the order in which it is done."""
        shown = [repr(self.source)]
        if self.rows_max is not None:
            shown.append(f"the first {self.rows_max} rows")
        shown += [stage.kind for stage in self.stages]
        if self.batch_size is not None:
            shown.append(f"batches of {self.batch_size}")
        shown += [stage.kind for stage in self.after]
        if self.repeat != 1:
            shown.append("repeated" if self.repeat is None else f"{self.repeat} times")
        if self.rank is None:
            shown.append("the rank that the process has")
        elif self.world_size != 1:
            shown.append(f"rank {self.rank} of {self.world_size}")
        return ", ".join(shown)

    @property
    def ranks(self) -> tuple[int, int]:
        """Rank and world size, checked."""
        if self.rank is None or self.world_size is None:
            return ranks.current()
        return self.rank, self.world_size

    def split(self, epoch: int, start: int = 0) -> Split:
        """The steps of an epoch from a place on."""
        rank, world_size = self.ranks
        if self.refill and world_size > 1:
            raise ValueError(REFILL)
        skipped: Sequence[int] = ()
        if self.skip_list or self.skip_ranges:
            skipped = skipped_places(self.source.order(epoch), self.skip_list, self.skip_ranges)
        rows = len(self.source)
        if self.rows_max is not None and self.rows_max < rows:
            rows = self.rows_max
            skipped = skipped[: bisect_left(skipped, rows)]
        tail = self.tail or default_tail(world_size)
        batch_size = 1 if self.batch_size is None or self.refill else self.batch_size
        return Split(rows, batch_size, rank, world_size, tail, min(start, rows), skipped)

    @property
    def calls(self) -> Calls:
        """How many calls of functions may be made at once: what the most careful stage says."""
        named = [stage.calls for stage in (*self.stages, *self.after) if isinstance(stage.calls, int)]
        return min(named, default=self.calls_max or "auto")
