"""Who waits for which item, and which producer sees to it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._errors import CacheError, UltarError
from ._disk import CacheFolder
from ._shard import Shard

if TYPE_CHECKING:
    from ._producer import Producer

logger = logging.getLogger("ultar_dataloader")


class Request:
    """Somebody waits for an item."""

    __slots__ = ("background", "begun", "error", "fill", "index", "shard")

    def __init__(self, index: int, background: bool, fill: bool) -> None:
        self.index = index
        self.background = background
        """Whether those who wait for an item now go first."""
        self.fill = fill
        """Whether all shards on the way are wanted on disk, from the first one on."""
        self.begun = False
        """Of the latter: whether a producer has gone back to where the first one is missing."""
        self.shard: Shard | None = None
        """The answer."""
        self.error: BaseException | None = None
        """Or why there is none."""

    @property
    def done(self) -> bool:
        return self.shard is not None or self.error is not None


class Crew:
    """The requests and the producers. `condition` guards both, and is told of every change."""

    def __init__(self, disk: CacheFolder, count_max: int) -> None:
        self.condition = threading.Condition()
        self.pending: list[Request] = []
        self.paused = False
        """Whether producers are to stop where a shard ends."""
        self.closed = False
        self.producers: list[Producer] = []
        self._disk = disk
        self._count_max = count_max

    def ask(self, request: Request, make: Callable[[], Producer]) -> Shard:
        """Wait for a producer to answer. If there are too few of them, make one."""
        with self.condition:
            self.check_open()
            self.pending.append(request)
            try:
                for producer in self.producers:
                    shard = producer.shard
                    if shard is not None and shard.has(request.index):
                        shard.asked = True
                        return shard
                self._ensure_producer(request.index, make)
                self.condition.notify_all()
                while not request.done:
                    self.condition.wait()
            finally:
                self.pending.remove(request)
        if request.error is not None:
            error, request.error = request.error, None
            try:
                raise error
            finally:
                # Its traceback has this frame: they would keep each other, and the loader.
                del error
        assert request.shard is not None
        return request.shard

    def check_open(self) -> None:
        if self.closed:
            raise _closed()

    def pause(self, paused: bool) -> None:
        with self.condition:
            self.paused = paused
            self.condition.notify_all()

    def close(self) -> None:
        """End the producers, and whoever waits for them."""
        with self.condition:
            self.closed = True
            for request in self.pending:
                request.error = request.error or _closed()
            self.condition.notify_all()

    def _ensure_producer(self, index: int, make: Callable[[], Producer]) -> None:
        if len(self.producers) < self._count_max and all(one.at > index for one in self.producers):
            producer = make()
            self.producers.append(producer)
            producer.thread.start()

    def leave(self, producer: Producer) -> None:
        """It has ended."""
        with self.condition:
            self.producers.remove(producer)

    def next_request(self, producer: Producer) -> Request | None:
        """What a producer is to do next. Waits for it; None when it is to end."""
        with self.condition:
            producer.request = None
            producer.used = time.monotonic()
            # Another one may take what it has left.
            self.condition.notify_all()
            while not self.closed:
                if not self.paused:
                    producer.request = self._choose(producer)
                    if producer.request is not None:
                        return producer.request
                self.condition.wait()
            return None

    def _choose(self, producer: Producer) -> Request | None:
        idle = [one for one in self.producers if one.request is None]
        for request in sorted(self.pending, key=lambda one: one.background):
            if request.done or _is_ahead_of(self.producers, request):
                continue
            before = [one for one in idle if one.at <= request.index]
            best = max(before, key=lambda one: one.at) if before else min(idle, key=lambda one: one.used)
            if best is producer:
                return request
        return None

    def wants(self, producer: Producer, request: Request) -> bool:
        """Whether a producer should go on with what it does."""
        disk = self._disk
        with self.condition:
            if disk.ended is not None and request.index >= disk.end and not request.fill:
                self._end(disk.end)
            if self.closed or self.paused or request.done or request not in self.pending:
                return False
            if not request.background:
                return True
            others = [one for one in self.producers if one is not producer]
            return all(one.done or one.background or _is_ahead_of(others, one) for one in self.pending)

    def wants_shard(self, number: int, start: int, end: int) -> bool:
        """Whether somebody waits for an item of a shard, or for it to be on disk."""
        with self.condition:
            if any(not one.done and start <= one.index < end for one in self.pending):
                return True
            fill = any(one.fill for one in self.pending)
        return fill and not self._disk.there(number)

    def deliver(self, shard: Shard) -> None:
        """Hand out a shard that is there, or has grown."""
        if not self.pending:
            return
        with self.condition:
            for request in self.pending:
                if not request.done and shard.has(request.index):
                    request.shard = shard
                    shard.asked = True
                    self.condition.notify_all()

    def end(self, length: int) -> None:
        with self.condition:
            self._end(length)

    def _end(self, length: int) -> None:
        for request in self.pending:
            if not request.done and request.index >= length:
                request.error = out_of_range(request.index, length)
                self.condition.notify_all()

    def fail(self, served: Request, at: int, error: BaseException) -> None:
        """An item could not be made: whoever waits for it, or for one after it, is told."""
        told = False
        with self.condition:
            for request in self.pending:
                if not request.done and (request is served or request.index >= at):
                    request.error = named(error, at)
                    told = True
            self.condition.notify_all()
        if not told and not self.closed:
            logger.warning("item %d of create_it, which nobody waits for: %s: %s", at, type(error).__name__, error)


def _is_ahead_of(producers: list[Producer], request: Request) -> bool:
    """Whether one of them will come by."""
    return any(one.request is not None and one.at <= request.index <= one.request.index for one in producers)


def out_of_range(index: int, length: int) -> IndexError:
    return IndexError(f"item {index} is out of range: there are {length}")


def _closed() -> CacheError:
    return CacheError("the loader is closed")


def named(error: BaseException, at: int) -> BaseException:
    """The error that whoever waits for an item gets: it names the item, and is never taken for the end."""
    if isinstance(error, UltarError):
        return error
    where = f"item {at} of create_it"
    if isinstance(error, (LookupError, StopIteration, StopAsyncIteration)) or not isinstance(error, Exception):
        wrapped = RuntimeError(f"{where}: {type(error).__name__}: {error}")
        wrapped.__cause__ = error
        return wrapped
    if not any(where in note for note in getattr(error, "__notes__", ())):
        error.add_note(where)
    return error
