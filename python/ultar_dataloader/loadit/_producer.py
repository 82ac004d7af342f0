"""A thread that runs the user's iterator, and makes shards of what it gives.

An iterator is made, advanced and closed in one thread, since some (of a database, say) insist
on that. It only goes forward: what it passes is skipped, unless somebody waits for it or it
was never seen before; for an item that lies behind, it is made anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from .._errors import CacheError
from ._packed import BLOCK, pack
from ._shard import Shard

if TYPE_CHECKING:
    from ._core import Core
    from ._crew import Request

logger = logging.getLogger("ultar_dataloader")

_POLL_S_MAX = 0.02
"""Between looks at what another process is making."""


class Stopped(Exception):  # noqa: N818
    """The loader is closed."""


class Producer:
    """One iterator, and its thread."""

    def __init__(self, core: Core) -> None:
        self.at = 0
        """The item that the iterator gives next."""
        self.shard: Shard | None = None
        """What is being made, once items of it may be had."""
        self.storing = False
        """Whether it writes a shard now, which takes as long as the disk takes."""
        self.request: Request | None = None
        """What it is at."""
        self.used = 0.0
        """When it was given something to do last."""
        self._core = core
        self._crew = core.crew
        self._disk = core.disk
        self._iterator: Iterator[Any] | None = None
        self._held: bytes | None = None
        """Item `at`, where it did not fit into the shard before."""
        self._pause_s = 0.0
        self.thread = threading.Thread(target=self._run, name="ultar-loadit", daemon=True)

    def _run(self) -> None:
        crew = self._crew
        try:
            while (request := crew.next_request(self)) is not None:
                try:
                    self._go_back_for(request)
                    while crew.wants(self, request):
                        self._step(request)
                except Stopped:
                    break
                except BaseException as error:  # Also SystemExit and the like: somebody waits.
                    crew.fail(request, self.at, error)
                    self._drop()
        finally:
            self._drop()
            crew.leave(self)

    def _go_back_for(self, request: Request) -> None:
        """For one who wants all shards: to the start, where one is missing that was passed already."""
        if request.fill and not request.begun:
            request.begun = True
            if not all(map(self._disk.there, range(self._disk.number(self.at - 1)))):
                self._drop()

    def _step(self, request: Request) -> None:
        """Deal with the shard that begins where the iterator is."""
        crew, disk = self._crew, self._disk
        disk.refresh()
        if self._comes_from_others(disk.number(request.index)):
            return
        if request.index < self.at:
            self._drop()
        number = disk.number(self.at)
        if number < len(disk.ends):
            start, end = disk.span(number)
            if start != self.at:
                # Somebody else has cut shards while this iterator was in the middle of one.
                self._skip(end)
            elif crew.wants_shard(number, start, end):
                self._make_known(number)
            else:
                self._skip(end)
        elif disk.ended is not None:
            crew.end(disk.end)
        else:
            self._explore(number)

    def _comes_from_others(self, number: int) -> bool:
        """Whether a shard is there by now, or somebody makes it: then it need not be run for."""
        lock = self._disk.try_lock(number, shared=True)
        if lock is None:
            self._wait()
            return True
        self._pause_s = 0
        with lock:
            return number < len(self._disk.ends) and self._core.load(number) is not None

    def _make_known(self, number: int) -> None:
        lock = self._disk.try_lock(number)
        if lock is not None:
            with lock:
                if not self._core.load(number):
                    self._make(number, self._disk.ends[number])
        elif not self._core.open(number):
            self._wait()

    def _explore(self, number: int) -> None:
        """Make a shard that nobody has seen yet, or wait for who is at it."""
        lock = self._disk.try_lock(number)
        if lock is None:
            self._wait()
            return
        with lock:
            self._disk.refresh()
            if number == len(self._disk.ends) and self._disk.ended is None:
                self._make(number, None)

    def _wait(self) -> None:
        self._check()
        self._pause_s = min(_POLL_S_MAX, 2 * self._pause_s or 0.001)
        time.sleep(self._pause_s)

    def _make(self, number: int, end: int | None) -> None:
        """The items to `end`, or as many as make a shard, into memory and onto the disk."""
        core, crew, disk = self._core, self._crew, self._disk
        blobs: list[bytes] = []
        shard = Shard(self.at, blobs, disk.key)
        # Whether the iterator gives more than it did is known only behind the last item.
        last = end is not None and number == len(disk.ends) - 1 and disk.ended == "end"
        if not last:
            self._show(number, shard)
        try:
            ended = self._fill(shard, blobs, end, last)
            if last:
                self._show(number, shard)
                crew.deliver(shard)
            self.storing = True
            if blobs:
                stored = disk.store(number, shard, blobs, evict=shard.asked)
                core.settle(number, shard, stored)
            else:
                core.memory.discard(number, shard)
            if ended:
                disk.finish(ended)
        finally:
            self.storing = False
            self.shard = None

    def _show(self, number: int, shard: Shard) -> None:
        self.shard = shard
        self._core.memory.add(number, shard)

    def _fill(self, shard: Shard, blobs: list[bytes], end: int | None, last: bool) -> str | None:
        """Pack items. Whether, and how, the iterator ended there."""
        core, crew = self._core, self._crew
        items_max, bytes_max = core.disk.metadata.shard_limits
        size = 0
        while end is None or self.at < end:
            if end is None and (self.at == core.length_given or len(blobs) == items_max):
                break
            blob = self._next_blob()
            if blob is None:
                if end is not None:
                    raise self._count_error(f"only {self.at}")
                if core.length_given is not None:
                    raise CacheError(f"length is {core.length_given}, but create_it gave {self.at} items")
                return "end"
            size += BLOCK + len(blob) + -len(blob) % BLOCK
            if end is None and bytes_max is not None and blobs and size > bytes_max:
                self._held = blob
                break
            blobs.append(blob)
            self.at += 1
            if crew.pending and not last:
                crew.deliver(shard)
        if last and self._next_blob() is not None:
            raise self._count_error(f"more than {self.at}")
        return "cut" if end is None and self.at == core.length_given else None

    def _count_error(self, count: str) -> CacheError:
        return CacheError(
            f"create_it gave {count} items this time, and the cache in {self._disk.root} knows of "
            f"{self._disk.end}: it must give the same each time, or have another root_dir"
        )

    def _next_blob(self) -> bytes | None:
        """Item `at`, packed; None where there is none."""
        if self._held is not None:
            blob, self._held = self._held, None
            return blob
        self._check()
        try:
            item = next(self._running())
        except StopIteration:
            return None
        try:
            return pack(item, self._disk.key)
        except Exception as error:
            error.add_note(f"item {self.at} of create_it, of type {type(item).__name__}, cannot be pickled")
            raise

    def _skip(self, end: int) -> None:
        """Go on to item `end`."""
        if self._held is not None:
            self._held = None
            self.at += 1
        for _ in islice(self._running(), max(0, end - self.at)):
            self.at += 1
            self._check()
        if self.at < end:
            raise self._count_error(f"only {self.at}")

    def _check(self) -> None:
        if self._crew.closed:
            raise Stopped

    def _running(self) -> Iterator[Any]:
        if self._iterator is None:
            self._iterator = self._core.new_iterator()
        return self._iterator

    def _drop(self) -> None:
        """Begin from the start, when there is something to do."""
        iterator, self._iterator = self._iterator, None
        self.at, self._held = 0, None
        close = getattr(iterator, "close", None)
        # An open file is an iterator too: what is not ours is not ours to close.
        if close is not None and iterator is not self._core.options.create_it:
            try:
                close()
            except Exception:
                logger.warning("closing the iterator of create_it failed", exc_info=True)
