"""The iterator of a stream, and how far it has come."""

from __future__ import annotations

import itertools
import operator
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any, NamedTuple, NoReturn, Self

from .._errors import UltarError
from . import run, state
from .calls import Ahead
from .plan import Plan
from .run import Start


class Reached(NamedTuple):
    """What was delivered last."""

    epoch: int
    steps: int
    within: int


class Progress:
    """How far an iteration has come. The stream and its latest iterator share it."""

    __slots__ = ("_counter", "_reached", "ended", "failed", "start", "started")

    def __init__(self, start: Start) -> None:
        self.reset(start)

    def reset(self, start: Start) -> None:
        """Begin anew."""
        self.start = start
        self._reached = Reached(start.epoch, 0, start.within)
        self._counter: Iterator[int] | None = None
        self.started = False
        self.ended = False
        self.failed = False

    def reach(self, reached: Reached) -> None:
        """What was delivered last."""
        self._reached = reached

    def count(self) -> Iterator[int]:
        """What counts steps from now on, as cheaply as can be."""
        self._counter = iter(range(sys.maxsize))
        return self._counter

    @property
    def reached(self) -> Reached:
        if self._counter is None:
            return self._reached
        # How many are left says where it stands, without going on.
        return Reached(self.start.epoch, sys.maxsize - operator.length_hint(self._counter), 0)

    def here(self, plan: Plan) -> Start:
        """Where one would go on that delivers the next element."""
        if self.ended:
            return Start(_next_pass(plan, self.start.epoch), phase=plan.worker[0])
        epoch, steps, within = self.reached
        start = self.start if epoch == self.start.epoch else Start(epoch)
        if steps == 0 and epoch == self.start.epoch:
            return start._replace(within=within)
        split = plan.split(epoch, start.position)
        # Between elements of a step it is this step that comes next, else this worker's next one.
        return Start(epoch, split.position(steps), within, 0 if within else plan.worker[1] - 1)

    def next_start(self, plan: Plan) -> Start:
        """Where the next iteration begins: there, where an error ended this one, or with the next epoch."""
        if not self.started:
            return self.start
        if self.failed:
            return self.here(plan)
        return Start(_next_pass(plan, self.start.epoch), phase=plan.worker[0])

    def state(self, plan: Plan, fingerprint: str) -> dict[str, Any]:
        """As `Stream.state_dict` gives it."""
        is_underway = not self.ended and (self.started or self.start.phase != plan.worker[0])
        return state.pack(plan, fingerprint, self.here(plan), plan.worker[1] > 1 and is_underway)

    def after(self, plan: Plan, fingerprint: str, steps: int) -> dict[str, Any]:
        """The state that many steps from here."""
        here = self.here(plan)
        if steps == 0:
            return state.pack(plan, fingerprint, here, False)
        split = plan.split(here.epoch, here.position)
        return state.pack(plan, fingerprint, Start(here.epoch, split.position(steps)), False)


def _next_pass(plan: Plan, epoch: int) -> int:
    return epoch + 1 if plan.repeat is None else (epoch // plan.repeat + 1) * plan.repeat


_iterators: weakref.WeakSet[StreamIterator] = weakref.WeakSet()


def _free_locks() -> None:
    # A thread that was in `next` is not in the child of a fork, and its lock stays as it was.
    for iterator in _iterators:
        iterator._lock = threading.Lock()


os.register_at_fork(after_in_child=_free_locks)


class StreamIterator(Iterator[Any]):
    """One iteration of a stream. Dropped or closed, it stops reading.

    Threads may share it. An error ends it: what comes then is an error too, and never the
    end of the data; the stream's state is that of what was delivered.
    """

    def __init__(self, plan: Plan, progress: Progress, fingerprint: Callable[[], str]) -> None:
        self._plan = plan
        self._progress = progress
        self._fingerprint = fingerprint
        self._process = os.getpid()
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        _iterators.add(self)
        self._begin()

    def _begin(self) -> None:
        """Set `_next`, which gives the next element or raises."""
        progress = self._progress
        rows = run.plain_rows(self._plan, progress.start)
        progress.started = True
        if rows is None:
            self._next = _Elements(self._plan, progress).next
            return
        # A step a row, and no Python between them.
        counted = zip(itertools.chain(rows, _end(progress)), progress.count(), strict=False)
        self._next = map(itemgetter(0), counted).__next__

    def __next__(self) -> Any:
        try:
            with self._lock:
                return self._next()
        except StopIteration:
            raise
        except BaseException as error:
            raise self._failed(error)  # noqa: B904

    def _failed(self, error: BaseException) -> BaseException:
        if self._process != os.getpid():
            return UltarError("this iterator was started before a fork: iterate the stream anew in the child")
        if self._failure is None:
            if self._next is _closed:
                return error  # By `close`, which is no failure.
            self._failure = error
            self._next = _closed
            self._progress.failed = True
            return error
        after = UltarError("this iterator ended with an error before; its stream can be iterated from where it was")
        after.__cause__ = self._failure
        return after

    def state_dict(self) -> dict[str, Any]:
        """As `Stream.state_dict`."""
        return self._progress.state(self._plan, self._fingerprint())

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the state was taken, instead of here.

        Raises:
            TypeError, ValueError: As `Stream.load_state_dict`.
        """
        start = state.unpack(self._plan, self._fingerprint(), state_dict)
        with self._lock:  # Else a thread in `next` would tell how far it came before.
            self.close()
            self._failure = None
            self._progress.reset(start)
            self._begin()

    def close(self) -> None:
        """Stop reading. Rows and batches stay valid."""
        self._next = _closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Elements:
    """Elements with their marks, and the marks kept."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self._progress = progress
        self._process = os.getpid()
        elements = run.elements(plan, progress.start)
        if plan.depth != 0:
            elements = Ahead(elements, plan.depth, plan.source.bytes_ahead)
        self._elements = elements

    def next(self) -> Any:
        if self._process != os.getpid():
            raise UltarError("started before a fork")
        try:
            value, *reached = next(self._elements)
        except StopIteration:
            self._progress.ended = True
            raise
        self._progress.reach(Reached._make(reached))
        return value


def _end(progress: Progress) -> Iterator[NoReturn]:
    progress.ended = True
    return
    yield


def _closed() -> NoReturn:
    raise UltarError("the iterator is closed")
