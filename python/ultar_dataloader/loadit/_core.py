"""What a loader is besides its face: shards in memory and on disk, and the threads that preload."""

from __future__ import annotations

import contextlib
import logging
import os
import reprlib
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, SupportsIndex

from .._errors import CacheError, UltarError
from ._crew import Crew, Request, out_of_range
from ._disk import CacheFolder
from ._options import Options
from ._producer import Producer
from ._shard import Memory, Shard

logger = logging.getLogger("ultar_dataloader")

NEVER = sys.maxsize
"""A number that no item has: whoever waits for it waits for the end."""
_POLL_S = 0.005
"""Between looks at what another process is making."""
_STORE_S_MAX, _ITEM_S_MAX = 30.0, 0.2
"""How long a loader that is closed waits: for a shard to be written, and for an iterator to give an item."""


class Core:
    """The state that threads share."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.disk = CacheFolder(options)
        self.length_given = options.length
        known = self.disk.length
        if options.length is not None and (options.length < self.disk.end or known not in (None, options.length)):
            raise ValueError(f"length is {options.length}, but {self.disk.root} has {self.disk.end} items")
        self.memory = Memory(options.max_cache_size)
        self.disk.at_end = self.memory.cut
        self._used_up = False
        self._start_anew()
        _cores.add(self)

    def _start_anew(self) -> None:
        alone = not self.options.iterator_thread_safe or isinstance(self.options.create_it, Iterator)
        self.crew = Crew(self.disk, 1 if alone else self.options.max_workers)
        self._preloading: set[int] = set()

    def after_fork(self) -> None:
        """In the child, which has none of the threads. Iterators are left as they are: they are the parent's."""
        _left_behind.append(self.crew)
        closed = self.crew.closed
        self._start_anew()
        self.crew.closed = closed
        self.memory.after_fork()
        self.disk.after_fork()

    @property
    def length(self) -> int | None:
        known = self.disk.length
        return self.length_given if known is None else known

    def new_iterator(self) -> Iterator[Any]:
        source = self.options.create_it
        assert source is not None
        if isinstance(source, Iterator):
            if self._used_up:
                raise CacheError(
                    "create_it is an iterator, which runs once only, and an item that it has passed is not cached "
                    "any more: give a function that makes it anew"
                )
            self._used_up = True
            return source
        if isinstance(source, Iterable) and not isinstance(source, type):
            return iter(source)
        assert callable(source)
        return iter(source())

    def fetch(self, index: int, background: bool = False) -> Shard:
        """A shard that has an item. Waits for it.

        Raises:
            IndexError: There is no such item.
            CacheError: It is not cached, and cannot be made.
        """
        self.crew.check_open()
        shard = self._at_hand(index)
        if shard is not None:
            return shard
        if self.options.create_it is None:
            what = "the end of the items" if index == NEVER else f"item {index}"
            raise CacheError(f"{what} is not in the cache in {self.disk.root}, and there is no create_it to get there")
        return self._ask(Request(index, background, fill=False))

    def _ask(self, request: Request) -> Shard:
        # Not kept there: who knows each other is freed late.
        return self.crew.ask(request, lambda: Producer(self))

    def _at_hand(self, index: int) -> Shard | None:
        """From memory or disk."""
        disk = self.disk
        shard = self.memory.shards.get(disk.number(index))
        if shard is not None and shard.has(index):
            return shard
        if index >= disk.end:
            disk.refresh()
        if self.length is not None and index >= self.length:
            raise out_of_range(index, self.length)
        number = disk.number(index)
        if number == len(disk.ends):
            return None
        shard = self.open(number)
        return self._wait_for(number) if shard is None and self.options.create_it is None else shard

    def _wait_for(self, number: int) -> Shard | None:
        """A shard that somebody else may be making now; None where nobody does."""
        while (lock := self.disk.try_lock(number, shared=True)) is None:
            self.crew.check_open()
            time.sleep(_POLL_S)
        with lock:
            return self.load(number)

    def open(self, number: int) -> Shard | None:
        """A shard from disk into memory; None when it is not there, or somebody is at it."""
        return self._into_memory(self.disk.open, number)

    def load(self, number: int) -> Shard | None:
        """The same for who has the lock."""
        return self._into_memory(self.disk.load, number)

    def _into_memory(self, read: Callable[[int], Shard | None], number: int) -> Shard | None:
        try:
            shard = read(number)
        except CacheError as error:
            if self.options.create_it is None:
                raise
            logger.warning("making a shard anew: %s", error)
            return None
        if shard is not None:
            self.memory.add(number, shard)
            self.crew.deliver(shard)
        return shard

    def repair(self, shard: Shard, index: int) -> bool:
        """Delete a shard with an item that cannot be unpacked. Whether it can be made anew."""
        number = self.disk.number(shard.start)
        self.memory.discard(number, shard)
        self.disk.forget(number)
        if self.options.create_it is None or shard.path is None or number == len(self.disk.ends):
            return False
        while (lock := self.disk.try_lock(number)) is None:
            self.crew.check_open()
            time.sleep(_POLL_S)
        with lock:
            # Somebody else who found the same may have made it anew.
            if not self._gives(number, index):
                self.disk.drop(number)
        return True

    def _gives(self, number: int, index: int) -> bool:
        """Whether an item can be read from disk, and unpacked."""
        try:
            shard = self.disk.load(number)
            if shard is not None:
                shard.unpack(index, keep=False)
        except MemoryError:
            raise
        except Exception:
            return False
        return shard is not None

    def _ready(self, index: int, advise: bool) -> bool:
        """Whether preloading an item by a thread would bring nothing."""
        disk = self.disk
        number = disk.number(index)
        shard = self.memory.shards.get(number)
        if shard is not None and shard.has(index):
            if advise and shard.rows is not None:
                shard.rows.advise()
            return True
        if index < 0 or (self.length is not None and index >= self.length):
            return True
        if self.options.memory_limit is not None or number == len(disk.ends) or not disk.there(number):
            return False
        # Opening a shard that stays on disk costs less than a thread, and the kernel can read it by itself.
        return not advise or self._advised(number)

    def _advised(self, number: int) -> bool:
        """Whether a shard is open. Tells the kernel that all of it will be wanted."""
        rows = self.disk.rows.get(number)
        if rows is None:
            # What is wrong with it is told to who asks for an item of it.
            with contextlib.suppress(UltarError):
                shard = self.disk.open(number)
                rows = None if shard is None else shard.rows
        if rows is not None:
            rows.advise()
        return rows is not None

    def preload(self, lists: Iterable[Iterable[SupportsIndex]], advise: bool = True) -> None:
        """Bring items into memory, each list by a thread, as many as there may be at once.

        Args:
            lists: Of indices.
            advise: Also have the kernel read what is on disk.

        Raises:
            TypeError: They are something else.
        """
        for indices in lists:
            if len(self._preloading) >= max(1, self.options.max_workers - 1):
                return
            missing = [index for index in _indices(indices) if not self._ready(index, advise)]
            if missing and missing[0] not in self._preloading:
                self._preloading.add(missing[0])
                _start(self._preload, missing, self._preloading)

    def _preload(self, indices: list[int], running: set[int]) -> None:
        try:
            for index in indices:
                self.fetch(index, background=True)
        except IndexError:
            pass
        except Exception as error:  # Whoever asks for the item gets it as well.
            logger.debug("preloading ended: %s", error)
        finally:
            running.discard(indices[0])

    def cache_all(self, background: bool) -> None:
        """Bring all shards onto the disk for which there is room."""
        if self.options.create_it is not None and not self.disk.all_there():
            with contextlib.suppress(IndexError):
                self._ask(Request(NEVER, background, fill=True))

    def cache_all_async(self) -> None:
        def run() -> None:
            try:
                self.cache_all(background=True)
            except Exception as error:
                if not self.crew.closed:
                    logger.warning("caching everything in the background ended: %s", error)

        _start(run)

    def finalize(self) -> None:
        """Say that no item follows the cached ones."""
        disk = self.disk
        self.crew.pause(True)
        try:
            while True:
                disk.refresh()
                number = len(disk.ends)
                if disk.ended is not None:
                    return
                lock = disk.try_lock(number)
                if lock is None:
                    time.sleep(_POLL_S)
                    continue
                with lock:
                    disk.refresh()
                    if number == len(disk.ends) and disk.ended is None:
                        if number == 0:
                            raise CacheError(f"nothing is cached in {disk.root} yet")
                        disk.finish("cut")
                        return
        finally:
            self.crew.pause(False)

    def close(self, wait: bool = False) -> None:
        """End the threads. What is being written is finished; with `wait`, idle iterators are awaited, too."""
        self.crew.close()
        self.memory.shards.clear()
        self.disk.close()
        for producer in self.crew.producers.copy():
            if producer.thread is not threading.current_thread() and (wait or producer.request is not None):
                # Not forever: an iterator may wait for something that never comes.
                producer.thread.join(_ITEM_S_MAX)
                if producer.storing:
                    producer.thread.join(_STORE_S_MAX)

    def settle(self, number: int, shard: Shard, stored: bool) -> None:
        """A shard is complete. What stays on disk need not be in memory as well."""
        if stored and self.options.memory_limit is None and self.memory.shards.get(number) is shard:
            self.disk.forget(number)
            on_disk = self.disk.load(number)
            if on_disk is not None:
                shard.blobs, shard.rows, shard.path = on_disk.blobs, on_disk.rows, on_disk.path


def _indices(indices: Iterable[SupportsIndex]) -> list[int]:
    try:
        return [index.__index__() for index in indices]
    except (TypeError, AttributeError):
        raise TypeError(f"preload_fn must give lists of indices, and gave {reprlib.repr(indices)} as one") from None


def _start(run: Callable[..., None], *arguments: object) -> None:
    # A daemon, so that an iterator that hangs does not keep the process from ending.
    threading.Thread(target=run, args=arguments, name="ultar-loadit-preload", daemon=True).start()


_cores: weakref.WeakSet[Core] = weakref.WeakSet()
_left_behind: list[object] = []
"""In the child of a fork: iterators of its parent, which would be closed if they were freed."""


def _after_fork() -> None:
    for core in list(_cores):
        core.after_fork()


os.register_at_fork(after_in_child=_after_fork)
