"""A run of items in memory, and the ones that are there."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from typing import Any, Protocol

from ._packed import Blob, read_whole, unpacker
from ._rows import Rows


class Blobs(Protocol):
    """Packed items, by their place in the shard."""

    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> Blob: ...


class Shard:
    """Consecutive items in memory: packed, and unpacked once they were asked for.

    One that is being made grows at its end.
    """

    __slots__ = ("_unpacked", "asked", "blobs", "items", "key", "path", "rows", "start")

    def __init__(self, start: int, blobs: Blobs, key: str, path: str | None = None) -> None:
        self.start = start
        self.blobs = blobs
        self.rows: Rows | None = blobs if isinstance(blobs, Rows) else None
        """Where it is read from, item by item, unless it is in memory as a whole."""
        self.key = key
        self._unpacked = unpacker(key)
        self.path = path
        """The file that it was read from; None for one that was made here."""
        self.items: dict[int, Any] = {}
        """The unpacked ones, by number of the item."""
        self.asked = False
        """Whether somebody waited for an item of it."""

    def has(self, index: int) -> bool:
        return 0 <= index - self.start < len(self.blobs)

    def unpack(self, index: int, keep: bool) -> Any:
        item = self._unpacked(self.blobs[index - self.start])
        # Of two threads that unpack it at once, both get the same object.
        return self.items.setdefault(index, item) if keep else item

    def cut(self, end: int) -> None:
        """Forget the items from `end` on: there are none."""
        if isinstance(self.blobs, list):
            del self.blobs[max(0, end - self.start) :]
        for index in [index for index in self.items if index >= end]:
            del self.items[index]

    def read_ahead(self) -> None:
        """Read all of it at once, for who goes through it in order: half the time of many reads."""
        if self.rows is not None and self.path is not None and len(self.items) < len(self.rows):
            with contextlib.suppress(OSError, ValueError):  # Then each item says by itself what is wrong.
                blobs, _ = read_whole(self.path, self.start)
                if len(blobs) == len(self.rows):
                    self.blobs = blobs

    def let_go(self) -> None:
        """Give back what `read_ahead` took."""
        rows = self.rows
        if rows is not None:
            self.blobs = rows


_READ_MAX = 128
"""Shards that are read item by item, and keep nothing, at most."""


class Memory:
    """The shards used most recently, by number, the last one last."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self.shards: OrderedDict[int, Shard] = OrderedDict()
        self.after_fork()

    def after_fork(self) -> None:
        """A new lock: a thread that is not there any more may have had the old one."""
        self._lock = threading.Lock()
        # And it may have been in the middle of a change.
        self.shards = self.shards.copy()

    def add(self, number: int, shard: Shard) -> None:
        with self._lock:
            self.shards[number] = shard
            self.shards.move_to_end(number)
            if not self._count_max:
                # Only what is in use now; one that is read item by item has nothing in memory.
                for other in [key for key, one in self.shards.items() if one.rows is None and one is not shard]:
                    del self.shards[other]
            while len(self.shards) > (self._count_max or _READ_MAX):
                self.shards.popitem(last=False)

    def touch(self, number: int, shard: Shard) -> None:
        """Say that a shard is used now."""
        try:
            self.shards.move_to_end(number)
            if shard.rows is not None:
                shard.rows.touch()
        except KeyError:  # Another one took its place meanwhile.
            return

    def cut(self, end: int) -> None:
        """Forget the items from `end` on: of a shard that was not finished when the end was declared."""
        with self._lock:
            for shard in self.shards.values():
                if shard.start + len(shard.blobs) > end:
                    shard.cut(end)

    def discard(self, number: int, shard: Shard) -> None:
        with self._lock:
            if self.shards.get(number) is shard:
                del self.shards[number]
