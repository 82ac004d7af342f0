"""The iterator of a stream, and how far it has come."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

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

    __slots__ = ("ended", "reached", "start", "started")

    def __init__(self, start: Start) -> None:
        self.reset(start)

    def reset(self, start: Start) -> None:
        """Begin anew."""
        self.start = start
        self.reached = Reached(start.epoch, 0, start.within)
        self.started = False
        self.ended = False

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
        """Where the next iteration begins: there, or with the next epoch."""
        if not self.started:
            return self.start
        return Start(_next_pass(plan, self.start.epoch), phase=plan.worker[0])

    def state(self, plan: Plan, fingerprint: str) -> dict[str, Any]:
        """As `Stream.state_dict` gives it."""
        is_underway = not self.ended and (self.started or self.start.phase != plan.worker[0])
        return state.pack(plan, fingerprint, self.here(plan), plan.worker[1] > 1 and is_underway)

    def after(self, plan: Plan, fingerprint: str, steps: int) -> dict[str, Any]:
        """The state that many steps from here."""
        here = self.here(plan)
        split = plan.split(here.epoch, here.position)
        return state.pack(plan, fingerprint, Start(here.epoch, split.position(steps)), False)


def _next_pass(plan: Plan, epoch: int) -> int:
    return epoch + 1 if plan.repeat is None else (epoch // plan.repeat + 1) * plan.repeat


class StreamIterator(Iterator[Any]):
    """One iteration of a stream. Dropped or closed, it stops reading.

    Threads may share it. An error ends it: what comes then is an error too, and never the
    end of the data; the stream's state is that of what was delivered.
    """

    def __init__(self, plan: Plan, progress: Progress, fingerprint: Callable[[], str]) -> None:
        self._plan = plan
        self._fingerprint = fingerprint
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._begin(progress)

    def _begin(self, progress: Progress) -> None:
        self._progress = progress
        progress.started = True
        self._failure: BaseException | None = None
        elements = run.elements(self._plan, progress.start)
        if self._plan.depth != 0:
            elements = Ahead(elements, self._plan.depth, self._plan.source.bytes_ahead)
        self._elements: Iterator[tuple[Any, int, int, int]] | None = elements

    def __next__(self) -> Any:
        with self._lock:
            progress = self._progress
            elements = self._elements
            if elements is None or self._process != os.getpid():
                raise self._refusal()
            try:
                value, *reached = next(elements)
            except StopIteration:
                progress.ended = True
                raise
            except BaseException as error:
                self._failure = error
                self._stop()
                raise
            progress.reached = Reached._make(reached)
            return value

    def _refusal(self) -> UltarError:
        if self._process != os.getpid():
            return UltarError("this iterator was started before a fork: iterate the stream anew in the child")
        if self._failure is None:
            return UltarError("the iterator is closed")
        error = UltarError("this iterator ended with an error; load_state_dict goes on")
        error.__cause__ = self._failure
        return error

    def state_dict(self) -> dict[str, Any]:
        """As `Stream.state_dict`."""
        return self._progress.state(self._plan, self._fingerprint())

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the state was taken, instead of here.

        Raises:
            TypeError, ValueError: As `Stream.load_state_dict`.
        """
        start = state.unpack(self._plan, self._fingerprint(), state_dict)
        with self._lock:
            self._stop()
            self._progress.reset(start)
            self._begin(self._progress)

    def close(self) -> None:
        """Stop reading. Rows and batches stay valid."""
        self._stop()

    def _stop(self) -> None:
        elements, self._elements = self._elements, None
        if isinstance(elements, Ahead):
            elements.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
