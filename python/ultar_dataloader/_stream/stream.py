"""`Stream`: rows or batches of an epoch, for one of several ranks, from any step on."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, Self, get_args

from .._split import Delivery, Split, Tail, whole
from . import ranks, state
from .collate import Fields
from .iterator import Progress, StreamIterator
from .plan import CALLS_MAX, REFILL, Plan, Stage
from .run import Start
from .source import DatasetSource, Source
from .streamable import Calls, Streamable
from .zipped import zipped

_OPTIONS = ("io", "access", "threads", "prefetch_rows", "prefetch_bytes", "on_error", "intra", "inter")


class Stream(Streamable):
    """Rows or batches, in an exact order that can be gone on with anywhere.

    Made by `Dataset.shuffle`, `Dataset.batch` and the like, or by `mix`. Each method gives a new
    stream, and nothing is read before one is iterated.

    ``iter(stream)`` begins the next epoch: the first one is epoch 0, or the one of a state that
    was loaded. All that is delivered follows from the dataset, the seed, the epoch and the
    position alone, not from threads, prefetching or the time.

    A stream can be pickled, and goes on where it stood.
    """

    def __init__(self, source: Source, plan: Plan | None = None) -> None:
        self._plan = Plan(source) if plan is None else plan
        self._progress = Progress(Start(0, phase=self._plan.worker[0]))
        self._print: str | None = None

    def stream(self) -> Self:
        return self

    @property
    def rank(self) -> int:
        """Of this process, as `shard` has it."""
        return self._plan.ranks[0]

    @property
    def world_size(self) -> int:
        """How many ranks share each epoch."""
        return self._plan.ranks[1]

    @property
    def steps_per_epoch(self) -> int:
        """Steps of a whole epoch: the same on every rank."""
        return self._plan.split(0).steps

    def __len__(self) -> int:
        """Elements of a whole iteration.

        Raises:
            TypeError: That is not known before: there is a filter or flat_map, or no end.
        """
        plan = self._plan
        # With several ranks each step has its batch, if it is empty.
        before = () if plan.batch_size is not None and plan.ranks[1] > 1 else plan.stages
        kinds = [stage.kind for stage in (*before, *plan.after)]
        if plan.repeat is None or any(kind != "map" for kind in kinds):
            raise TypeError("how many elements the stream has is not known before it is iterated; see steps_per_epoch")
        worker, workers = plan.worker
        steps = self.steps_per_epoch
        if plan.refill and plan.batch_size is not None:
            steps = steps // plan.batch_size if plan.tail == "drop" else -(-steps // plan.batch_size)
        return len(range(worker, steps * plan.repeat, workers))

    def __iter__(self) -> StreamIterator:
        begin = self._progress.next_start(self._plan)
        self._progress = Progress(begin)
        rank, world_size = self._plan.ranks
        plan = replace(self._plan, rank=rank, world_size=world_size)
        return StreamIterator(plan, self._progress, self._fingerprint)

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration begin this epoch, at its beginning."""
        self._progress = Progress(Start(whole("epoch", epoch, 0, 2**53), phase=self._plan.worker[0]))

    def state_dict(self) -> dict[str, Any]:
        """How far the latest iteration has come, exactly behind what it delivered.

        A few integers and a fingerprint, as JSON takes them. It is the same on every rank that
        has delivered as many steps, and can be loaded with another world size, batch size,
        number of threads, or depth of prefetching.
        """
        return self._progress.state(self._plan, self._fingerprint())

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Have the next iteration go on where the state was taken.

        Raises:
            TypeError: It is no mapping, or a value of it has not its type.
            ValueError: It is no state, or one of another dataset or order; says what changed.
        """
        self._progress = Progress(state.unpack(self._plan, self._fingerprint(), state_dict))

    def state_after(self, steps: int) -> dict[str, Any]:
        """The state after so many more steps of all workers together, computed and not run.

        For loops that read through worker processes: they know how many steps they have taken.

        Raises:
            IndexError: So many steps are not left in this epoch.
        """
        return self._progress.after(replace(self._plan, worker=(0, 1)), self._fingerprint(), steps)

    def which(self, step: int, rank: int | None = None, *, epoch: int | None = None) -> list[str]:
        """Stems of the rows that a rank gets at a step of an epoch. Nothing is read.

        Args:
            step: From the beginning of the epoch.
            rank: This one, when None.
            epoch: The one that `state_dict` has, when None.

        Raises:
            IndexError: There is no such step or rank.
        """
        split, epoch = self._whole_epoch(epoch)
        places = split.which(step, self.rank if rank is None else rank)
        return [self._plan.source.record(epoch, place).stem for piece in places for place in piece]

    def when(self, stem: str, *, epoch: int | None = None) -> list[Delivery]:
        """The steps of an epoch at which the rows with this stem come out, and on which rank.

        Nothing is read but indexes. Steps count from the beginning of the epoch.
        """
        split, epoch = self._whole_epoch(epoch)
        found = [place for place in self._plan.source.places(epoch, stem) if place < split.n]
        return sorted(delivery for place in found for delivery in split.when(place))

    def share(self, worker: int, workers: int) -> Stream:
        """Every so-manieth step, for one of several workers that take turns.

        Raises:
            ValueError: There is no such worker, or batches are refilled.
        """
        if not 0 <= operator.index(worker) < operator.index(workers):
            raise ValueError(f"there is no worker {worker} of {workers}")
        if self._plan.refill and workers > 1:
            raise ValueError("refilled batches depend on all rows before: they cannot be made by several workers")
        shared = self._with(worker=(worker, workers))
        shared._begin_share(self._progress.next_start(self._plan))
        return shared

    def _begin_share(self, start: Start) -> None:
        """Have the next iteration begin where that of the whole stream would."""
        worker, _ = self._plan.worker
        # Of the first step some elements may be delivered already: it is the first worker's.
        self._progress = Progress(start._replace(phase=worker, within=start.within if worker == 0 else 0))

    def _whole_epoch(self, epoch: int | None) -> tuple[Split, int]:
        epoch = self._progress.reached.epoch if epoch is None else whole("epoch", epoch, 0, 2**53)
        if self._plan.refill:
            raise ValueError("which step a row comes at is not known before, as batches are refilled")
        return self._plan.split(epoch), epoch

    def _fingerprint(self) -> str:
        if self._print is None:
            self._print = self._plan.source.fingerprint()
        return self._print

    def _with(self, **changes: Any) -> Stream:
        return Stream(self._plan.source, replace(self._plan, **changes))

    def _shuffled(self, seed: int, window: int | None) -> Stream:
        source = self._plan.source
        if not isinstance(source, DatasetSource):
            raise ValueError(
                "shuffle the streams that are mixed or zipped, with one seed to zip, and not what comes of them"
            )
        self._refuse_batches("shuffle")
        if self._plan.rows_max is not None:
            raise ValueError("shuffle before take; the first rows of a dataset, shuffled, are ds[:count].shuffle()")
        if any(stage.kind == "flat_map" for stage in self._plan.stages):
            raise ValueError("shuffle before flat_map: what it makes of a row stays together")
        shuffled = DatasetSource(source.dataset, whole("seed", seed, 0, 2**53), window)
        shuffled.order(0)  # Says what is wrong with the window.
        return self._with(source=shuffled)

    def _sharded(self, rank: int | None, world_size: int | None, tail: Tail | None) -> Stream:
        if (rank is None) != (world_size is None):
            raise ValueError(f"give both rank and world_size, or neither; got rank={rank}, world_size={world_size}")
        if tail is not None and tail not in get_args(Tail):
            raise ValueError(f'tail must be one of "repeat", "drop", "short", got {tail!r}')
        if rank is not None and world_size is not None:
            rank, world_size = ranks.check(operator.index(rank), operator.index(world_size))
            if tail == "short" and world_size > 1:
                raise ValueError(f'tail="short" is for one rank, not {world_size}: ranks would end at different steps')
            if self._plan.refill and world_size > 1:
                raise ValueError(REFILL)
        return self._with(rank=rank, world_size=world_size, tail=tail or self._plan.tail)

    def _staged(
        self, kind: Literal["map", "filter", "flat_map"], function: Callable[[Any], Any], calls: Calls
    ) -> Stream:
        if not callable(function):
            raise TypeError(f"{kind} takes a function, got {type(function).__name__}")
        if calls != "auto":
            calls = whole("num_parallel_calls", calls, 1, CALLS_MAX)
        stage = Stage(kind, function, calls)
        if self._plan.batch_size is None:
            return self._with(stages=(*self._plan.stages, stage))
        if kind == "flat_map" and self._plan.refill:
            raise ValueError("flat_map of batches that are refilled has no exact state: use it before batch")
        return self._with(after=(*self._plan.after, stage))

    def _batched(self, size: int, drop_last: bool, how: Any, refill: bool) -> Stream:
        self._refuse_batches("batch")
        plan = self._plan
        if isinstance(how, Mapping):
            if plan.stages:
                raise ValueError("fields are read without rows as objects: use where before, and map behind the batch")
            if not isinstance(plan.source, DatasetSource) or plan.source.skips:
                raise ValueError('fields are read of one dataset with on_error="raise", not of a mixture or zip')
            how = Fields.parse(how)
        elif how is not None and not callable(how):
            raise TypeError(f"collate must be a function, a mapping of fields, or None, got {type(how).__name__}")
        if refill and isinstance(how, Fields):
            raise ValueError("refill is for what comes behind filter and flat_map, and fields have neither before them")
        if refill and plan.world_size not in (None, 1):
            raise ValueError(REFILL)
        size = whole("batch_size", size, 1, 2**31)
        tail: Tail | None = "drop" if drop_last else plan.tail
        return self._with(batch_size=size, collate=how, refill=bool(refill), tail=tail)

    def _prefetched(self, depth: int | Literal["auto"]) -> Stream:
        return self._with(depth=depth if depth == "auto" else whole("depth", depth, 0, 2**20))

    def _repeated(self, epochs: int | None) -> Stream:
        return self._with(repeat=None if epochs is None else whole("epochs", epochs, 1, 2**53))

    def _skipped(self, skip_list: Iterable[int], skip_ranges: Iterable[tuple[int, int]]) -> Stream:
        plan = self._plan
        if not isinstance(plan.source, DatasetSource):
            raise ValueError(
                "skip counts in rows of one dataset: leave them out of those that are mixed or zipped, as in ds[rows]"
            )
        changed = self._with(
            skip_list=(*plan.skip_list, *skip_list),
            skip_ranges=(*plan.skip_ranges, *((first, stop) for first, stop in skip_ranges)),
        )
        changed._plan.split(0)  # Says what is wrong with them.
        return changed

    def _taken(self, count: int) -> Stream:
        self._refuse_batches("take")
        if any(stage.kind != "map" for stage in self._plan.stages):
            raise ValueError("take counts rows of the order: use it before filter and flat_map")
        count = whole("count", count, 0, 2**53)
        before = self._plan.rows_max
        return self._with(rows_max=count if before is None else min(before, count))

    def _zipped(self, others: Iterable[Streamable]) -> Stream:
        for other in others:
            if not isinstance(other, Streamable):
                raise TypeError(f"zip wants streams, got {type(other).__name__}")
        plan = zipped((self._plan, *(other.stream()._plan for other in others)))
        return Stream(plan.source, plan)

    def _with_options(self, options: dict[str, Any]) -> Stream:
        if unknown := [name for name in options if name not in _OPTIONS]:
            raise TypeError(f"there is no option {', '.join(unknown)}; there are {', '.join(_OPTIONS)}")
        if "intra" in options:
            if "threads" in options:
                raise TypeError("threads and intra are names of the same option: give one of them")
            options["threads"] = options.pop("intra")
        calls_max = self._plan.calls_max
        if "inter" in options:
            inter = options.pop("inter")
            calls_max = None if inter is None else whole("inter", inter, 1, CALLS_MAX)
        source = self._plan.source
        return self._with(source=source.with_options(options) if options else source, calls_max=calls_max)

    def _refuse_batches(self, what: str) -> None:
        if self._plan.batch_size is not None:
            raise ValueError(f"{what} works on rows: use it before batch")

    def __reduce__(self) -> tuple[Any, ...]:
        plan = self._plan
        if plan.rank is None:
            # Where it is unpickled nobody may know.
            rank, world_size = plan.ranks
            plan = replace(plan, rank=rank, world_size=world_size)
        return _unpickle, (plan, self._progress.here(plan))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._plan}>"


def _unpickle(plan: Plan, start: Start) -> Stream:
    stream = Stream(plan.source, plan)
    stream._progress = Progress(start)
    return stream
