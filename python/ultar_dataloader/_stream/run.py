"""One iteration of a stream: what it gives, each with how far that is."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from .._errors import UltarError
from .._split import Split
from . import calls, collate
from .collate import Fields
from .plan import Plan, Stage
from .source import DatasetSource, requests

_GROUP = 32
"""Rows that one call works on, where there are no batches."""

_VAIN_ROWS = 100_000
"""Of whole epochs without any element: so many, and there will hardly be one."""


class Start(NamedTuple):
    """Where an iteration begins."""

    epoch: int
    position: int = 0
    within: int = 0
    """Elements of the first step that were delivered before."""
    phase: int = 0
    """The first step of this worker."""


class Element(NamedTuple):
    """What is delivered, and how far that is."""

    value: Any
    epoch: int
    steps: int
    """Whole ones that are delivered, from the place on at which the epoch was begun."""
    within: int
    """Elements that are delivered of the next step, which has several."""


@dataclass(slots=True)
class _Unit:
    """Rows for one call."""

    epoch: int
    split: Split
    steps: list[int]
    sizes: list[int]
    """Rows of each."""
    rows: list[Any]


def elements(plan: Plan, start: Start) -> Iterator[tuple[Any, int, int, int]]:
    """What comes from there on: tuples like `Element`."""
    return itertools.chain.from_iterable(_epochs(plan, start))


def plain_rows(plan: Plan, start: Start) -> Iterator[Any] | None:
    """The rows alone, where each of them is a step of one epoch, and nothing is done with them."""
    if plan.stages or plan.batch_size is not None or plan.depth != 0 or plan.repeat != 1:
        return None
    if plan.worker[1] > 1 or plan.source.skips:
        return None
    split = plan.split(start.epoch, start.position)
    return plan.source.items(requests(start.epoch, split.share()))


def _epochs(plan: Plan, start: Start) -> Iterator[Iterator[tuple[Any, int, int, int]]]:
    last = None if plan.repeat is None else (start.epoch // plan.repeat + 1) * plan.repeat
    first, within = start.phase, start.within
    in_vain = 0
    for epoch in itertools.count(start.epoch):
        if epoch == last:
            return
        split = plan.split(epoch, start.position if epoch == start.epoch else 0)
        steps = range(first, split.steps, plan.worker[1])
        elements = _epoch(plan, epoch, split, steps, within)
        if plan.repeat is not None:
            yield elements
        elif some := list(itertools.islice(elements, 1)):
            in_vain = 0
            yield itertools.chain(some, elements)
        elif split.start == 0:
            # It would be looked for forever.
            in_vain += len(steps) * split.batch_size
            if split.steps == 0 or in_vain >= _VAIN_ROWS:
                raise ValueError(
                    f"repeat() without end of nothing: no element came of {in_vain} rows of {plan.source!r}"
                )
        first, within = (steps[-1] + plan.worker[1] if steps else first) - split.steps, 0


def _epoch(plan: Plan, epoch: int, split: Split, steps: range, within: int) -> Iterator[tuple[Any, int, int, int]]:
    """Without the first few elements, which were delivered before."""
    bytes_max = plan.source.bytes_ahead
    if isinstance(plan.collate, Fields):
        batches = _arrays(plan, plan.collate, epoch, split, steps, bytes_max)
    else:
        make = _each if plan.batch_size is None or plan.refill else _batch
        units = _units(plan, epoch, split, steps)
        how_many = plan.calls if plan.stages or plan.after else 1
        found = _flat(calls.ordered(lambda unit: make(plan, unit), units, how_many, bytes_max, _unit_bytes))
        if not plan.refill:
            return itertools.islice(found, within, None)
        batches = _refilled(plan, itertools.islice(found, within, None))
    if not plan.after:
        return batches
    found = _flat(calls.ordered(lambda one: _staged_batch(plan, *one), batches, plan.calls, bytes_max, _batch_bytes))
    return found if plan.refill else itertools.islice(found, within, None)


def _flat(results: Iterable[list[tuple[Any, int, int, int]]]) -> Iterator[tuple[Any, int, int, int]]:
    return itertools.chain.from_iterable(results)


def _unit_bytes(unit: _Unit) -> int:
    return calls.size_of(unit.rows)


def _batch_bytes(element: tuple[Any, int, int, int]) -> int:
    return calls.size_of(element[0])


def _units(plan: Plan, epoch: int, split: Split, steps: range) -> Iterator[_Unit]:
    batch_size = split.batch_size
    if steps.step == 1:
        progressions: Iterable[range] = split.share(min(steps.start, split.steps))
    else:
        progressions = itertools.chain.from_iterable(map(split.places, steps))
    items = plan.source.items(requests(epoch, progressions))
    group = 1 if plan.batch_size is not None and not plan.refill else _GROUP
    for i in range(0, len(steps), group):
        these = list(steps[i : i + group])
        sizes = [batch_size] * len(these)
        if these[-1] == split.steps - 1:
            sizes[-1] = sum(map(len, split.places(these[-1])))
        rows = list(itertools.islice(items, sum(sizes)))
        if len(rows) != sum(sizes):
            raise UltarError(f"step {these[0]}: {sum(sizes)} rows were wanted, got {len(rows)}")
        yield _Unit(epoch, split, these, sizes, rows)


def _each(plan: Plan, unit: _Unit) -> list[tuple[Any, int, int, int]]:
    """What the stages make of single rows."""
    found: list[tuple[Any, int, int, int]] = []
    for i, row in enumerate(unit.rows):
        if row is None:
            continue
        _number(_through(plan, row, unit, i), unit.epoch, unit.steps[i], found)
    return found


def _batch(plan: Plan, unit: _Unit) -> list[tuple[Any, int, int, int]]:
    """What the stages make of the rows of a step."""
    rows: list[Any] = []
    for i, row in enumerate(unit.rows):
        if row is not None:
            rows += _through(plan, row, unit, i) if plan.stages else (row,)
    if not rows and unit.rows and unit.split.world_size == 1:
        return []
    batch = _collated(plan, rows, unit.epoch, unit.steps[0])
    return _staged_batch(plan, batch, unit.epoch, unit.steps[0] + 1, 0)


def _collated(plan: Plan, rows: list[Any], epoch: int, step: int) -> Any:
    if plan.collate is None:
        return collate.lists(rows)
    assert not isinstance(plan.collate, Fields)
    try:
        return plan.collate(rows)
    except StopIteration as error:
        # It would look like the end of the data.
        raise RuntimeError(f"collate raised StopIteration, step {step} of epoch {epoch}") from error
    except Exception as error:
        error.add_note(f"while collating {len(rows)} rows, step {step} of epoch {epoch}")
        raise


def _staged_batch(plan: Plan, batch: Any, epoch: int, steps: int, within: int) -> list[tuple[Any, int, int, int]]:
    if not plan.after:
        return [(batch, epoch, steps, within)]
    values = [batch]
    for stage in plan.after:
        try:
            values = _apply(stage, values)
        except Exception as error:
            error.add_note(f"in {stage.kind} of batches by {_name(stage)}: step {steps - 1} of epoch {epoch}")
            raise
    if plan.refill:
        return [(value, epoch, steps, within) for value in values]
    found: list[tuple[Any, int, int, int]] = []
    _number(values, epoch, steps - 1, found)
    return found


def _number(values: list[Any], epoch: int, step: int, found: list[tuple[Any, int, int, int]]) -> None:
    for j, value in enumerate(values, 1):
        found.append((value, epoch, step + 1, 0) if j == len(values) else (value, epoch, step, j))


def _refilled(plan: Plan, found: Iterator[tuple[Any, int, int, int]]) -> Iterator[tuple[Any, int, int, int]]:
    """Full batches of whatever comes."""
    batch_size = plan.batch_size or 1
    while some := list(itertools.islice(found, batch_size)):
        if len(some) < batch_size and plan.tail == "drop":
            return
        _, epoch, steps, within = some[-1]
        yield _collated(plan, [one[0] for one in some], epoch, steps), epoch, steps, within


def _through(plan: Plan, row: Any, unit: _Unit, i: int) -> list[Any]:
    try:
        return through(plan.stages, row)
    except Exception as error:
        error.add_note(_whose(plan, unit, i))
        raise


def through(stages: Iterable[Stage], row: Any) -> list[Any]:
    """What stages make of a row."""
    values = [row]
    for stage in stages:
        try:
            values = _apply(stage, values)
        except Exception as error:
            error.add_note(f"in {stage.kind} by {_name(stage)}")
            raise
    return values


def _apply(stage: Stage, values: list[Any]) -> list[Any]:
    function = stage.function
    try:
        if stage.kind == "map":
            return [function(value) for value in values]
        if stage.kind == "filter":
            return [value for value in values if function(value)]
        return [one for value in values for one in function(value)]
    except StopIteration as error:
        # It would look like the end of the data.
        raise RuntimeError("the function raised StopIteration") from error


def _name(stage: Stage) -> str:
    return getattr(stage.function, "__qualname__", None) or repr(stage.function)


def _whose(plan: Plan, unit: _Unit, i: int) -> str:
    """Which row it was, for an error."""
    j = 0
    while i >= unit.sizes[j]:
        i, j = i - unit.sizes[j], j + 1
    step = unit.steps[j]
    place = next(itertools.islice(itertools.chain.from_iterable(unit.split.places(step)), i, None))
    record = plan.source.record(unit.epoch, place)
    return f"step {step} of epoch {unit.epoch}, row {record.stem!r} of {record.shard}"


def _arrays(
    plan: Plan, fields: Fields, epoch: int, split: Split, steps: range, bytes_max: int
) -> Iterator[tuple[Any, int, int, int]]:
    """Batches that are read into arrays."""
    source = plan.source
    assert isinstance(source, DatasetSource)
    gatherer = source.gatherer(fields)
    ahead = max(2, min(64, bytes_max // max(1, fields.row_bytes * split.batch_size)))
    waiting: deque[int] = deque()
    rest = iter(steps)
    try:
        while True:
            for step in itertools.islice(rest, ahead - len(waiting)):
                gatherer.submit(source.numbers(epoch, split.places(step)))
                waiting.append(step)
            if not waiting:
                return
            step = waiting.popleft()
            yield fields.named(gatherer.take()), epoch, step + 1, 0
    finally:
        gatherer.close()
