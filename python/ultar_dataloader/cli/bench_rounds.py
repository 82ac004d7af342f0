"""How `bench` measures: every way of reading in turn, in short rounds, several times over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import Any

from .._loader import DataLoader
from .._native import LoadedRow, Pipeline
from .bench_plan import Plan

ROUNDS = 3
TITLES = {
    "storage": "storage limit: bare reads",
    "script": "script, nothing read",
    "engine": "engine, rows dropped",
    "views": "Python, views (ends touched)",
    "bytes": "Python, all as bytes",
}
"""What is measured, in the order in which it is shown."""
STEPS = ROUNDS * len(TITLES)
BATCH_ROWS = 256
BATCH_BYTES = 1024 * 1024
"""Of payload, or `BATCH_ROWS`, between two looks at the clock."""
WAITS = ("script_ns", "storage_ns", "consumer_ns", "stall_ns")


@dataclass(slots=True)
class Sample:
    """What one round, or a part of it, came to."""

    rows: int = 0
    payload_bytes: int = 0
    read_bytes: int = 0
    """Of bare reads only: with the gaps between entries."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of all threads of this process."""
    waits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WAITS, 0))

    def add(self, other: Sample) -> None:
        self.rows += other.rows
        self.payload_bytes += other.payload_bytes
        self.read_bytes += other.read_bytes
        self.seconds += other.seconds
        self.cpu_seconds += other.cpu_seconds
        for name in WAITS:
            self.waits[name] += other.waits[name]


@dataclass(slots=True)
class Measure:
    """One way of reading, and its rounds."""

    name: str
    title: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def total(self) -> Sample:
        total = Sample()
        for sample in self.samples:
            total.add(sample)
        return total

    @property
    def rates(self) -> list[float]:
        """Rows a second, by round."""
        return [sample.rows / max(sample.seconds, 1e-9) for sample in self.samples]

    @property
    def rows_per_s(self) -> float:
        """Of the round in the middle: others use the machine as well."""
        return median(self.rates)

    @property
    def bytes_per_s(self) -> float:
        """Of payload."""
        return self._scaled(self.total.payload_bytes)

    @property
    def read_bytes_per_s(self) -> float:
        return self._scaled(self.total.read_bytes)

    @property
    def cpu_s_per_1000_rows(self) -> float:
        total = self.total
        return 1000 * total.cpu_seconds / max(total.rows, 1)

    def ns_per_row(self, *waits: str) -> float:
        """Of these waits together."""
        total = self.total
        return sum(total.waits[name] for name in waits) / max(total.rows, 1)

    def _scaled(self, size: int) -> float:
        return self.rows_per_s * size / max(self.total.rows, 1)


def _drop(_: LoadedRow) -> None:
    pass


def _as_bytes(row: LoadedRow) -> None:
    row.values()


def _as_views(row: LoadedRow) -> None:
    for place in range(len(row)):
        view = row.view(place)
        if view.nbytes:
            view[0], view[-1]


USES: dict[str, Callable[[LoadedRow], None]] = {"engine": _drop, "views": _as_views, "bytes": _as_bytes}


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured, and how."""

    plan: Plan
    loader: DataLoader
    dry: DataLoader
    cold: bool

    def warm_up(self, seconds: float) -> None:
        """Read what is measured, so that it is cached, and leave out what there is no time for.

        By the loader, whose errors say what is wrong with a file.
        """
        taken = Sample()
        _take_epoch(self.loader, self.plan, None, seconds, taken)
        if not self.cold:
            self.plan.cut(taken.rows + 1)

    def run(self, seconds: float, show: Callable[[str], None]) -> dict[str, Measure]:
        """All measures, in about this time."""
        found = {name: Measure(name, title) for name, title in TITLES.items()}
        share = seconds / STEPS
        for number in range(ROUNDS):
            # There and back again, so that none has always the same one before it.
            for measure in list(found.values())[:: -1 if number % 2 else 1]:
                show(measure.title)
                if self.cold and measure.name != "script":
                    self.plan.drop()
                measure.samples.append(self._sample(measure.name, share))
        return found

    def _sample(self, name: str, seconds: float) -> Sample:
        sample = Sample()
        # Also of its own, as starts are not part of what is measured.
        deadline = time.perf_counter() + 2 * seconds
        while sample.seconds < seconds and time.perf_counter() < deadline:
            left = seconds - sample.seconds
            if name == "storage":
                _take_bare(self.plan, left, sample, cold=self.cold)
            elif name == "script":
                _take_epoch(self.dry, self.plan, None, left, sample)
            else:
                _take_epoch(self.loader, self.plan, USES[name], left, sample)
            if self.cold:
                break  # What was read once is not cold.
        return sample


def _take_bare(plan: Plan, seconds: float, sample: Sample, *, cold: bool) -> None:
    begin, cpu_begin = time.perf_counter(), time.process_time()
    bare = plan.read_bare(seconds, cold=cold)
    taken = Sample(bare.rows, bare.payload_bytes, bare.read_bytes)
    taken.seconds = time.perf_counter() - begin
    taken.cpu_seconds = time.process_time() - cpu_begin
    sample.add(taken)


def _take_epoch(
    loader: DataLoader, plan: Plan, use: Callable[[LoadedRow], None] | None, seconds: float, sample: Sample
) -> None:
    """Take rows until the time is up, or all of the plan. The clock starts with the first row.

    What comes before it, such as reading an index or shuffling, is done once an epoch, and
    would count for too much here. Of an epoch of one row all counts.
    """
    begin, cpu_begin, before = time.perf_counter(), time.process_time(), dict.fromkeys(WAITS, 0)
    epoch = iter(loader)
    try:
        first = next(epoch, None)
        if first is None:
            return
        if use is not None:
            use(first)
        skipped = 1 if plan.rows > 1 else 0
        if skipped:
            begin, cpu_begin, before = time.perf_counter(), time.process_time(), _waits(epoch)
        rows = 1 + _take_rows(epoch, plan, use, begin + seconds)
        taken = Sample(rows - skipped, plan.payload_bytes(rows) - plan.payload_bytes(skipped))
        taken.seconds = time.perf_counter() - begin
        taken.cpu_seconds = time.process_time() - cpu_begin
        after = _waits(epoch)
        taken.waits = {name: after[name] - before[name] for name in WAITS}
        sample.add(taken)
    finally:
        epoch.close()


def _take_rows(epoch: Pipeline, plan: Plan, use: Callable[[LoadedRow], None] | None, deadline: float) -> int:
    """Rows after the first."""
    left = plan.rows - 1
    batch = max(1, min(BATCH_ROWS, BATCH_BYTES * plan.rows // max(plan.payload_bytes(plan.rows), 1)))
    while left > 0:
        taken = 0
        if use is None or use is _drop:
            for _ in islice(epoch, min(batch, left)):
                taken += 1
        else:
            for row in islice(epoch, min(batch, left)):
                use(row)
                taken += 1
        left -= taken
        if taken == 0 or time.perf_counter() > deadline:
            break
    return plan.rows - 1 - left


def _waits(epoch: Pipeline) -> dict[str, int]:
    stats: dict[str, Any] = epoch.stats()
    return {name: int(stats[name]) for name in WAITS}
