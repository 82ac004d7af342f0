"""`LoadIt`: an iterable as a list that lives on the disk."""

from __future__ import annotations

import contextlib
import weakref
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Self, SupportsIndex, TypeVar, overload

from .._errors import CacheError
from ._core import NEVER, Core
from ._options import Options, Path, Preload, ShardLength, Source, options_of, preload_next_shard
from ._sequences import LazySequence, SequenceView
from ._shard import Shard

T = TypeVar("T")
_NOT_THERE = object()
_ATTEMPTS = 3
"""At a shard that somebody damages as often as we make it."""
_IN_A_ROW = 3
"""Shards that are entered in turn until all of them are taken to be wanted; by chance it is rarely more."""
_TRIES = 10
"""At having all shards on disk, while others find some of them damaged."""


class LoadIt(LazySequence[Any]):
    """Random access to what an iterator gives, as ``list(iterator)`` would have it.

    Items are pickled into shards in a folder, which other loaders and processes share: plain
    tars with an index, that `Dataset` reads as well. What is not there, or not any more, is
    made by running the iterator again, as far as it takes.

    It has two signatures: ``LoadIt(create_it, root_dir="cache/", …)`` and
    ``LoadIt(root_dir, create_iter, …)``, told apart by the first argument. They differ in
    defaults only: 512 items a shard in the first one, 64 MB in the second one. What only the
    second one lists is taken by name in both.

    Args:
        create_it: A function without arguments that makes an iterator (or iterable), or an
            iterable. The items and their order must be the same each time. None uses what is
            in the cache, alone.
        root_dir: The folder of the cache. It is made where there is none.
        max_shard_length: Items of a shard, or its size as in ``"64mb"``, at most, but for single
            items that are larger. A cache that exists keeps what it was made with.
        max_cache_size: Shards in memory, at most. An item there is the same object each time, as
            in a list; with 0 each access gives a new one.
        max_workers: Threads that preload, and this one. With `iterator_thread_safe` also how
            many iterators there may be, at different places.
        memory_limit: Bytes of all shards on disk, at most, or such a size as ``"10gb"``. The one
            that was not used for the longest time is deleted. None for no limit.
        preload_fn: Called with the loader and an index for each access; gives lists of indices,
            which threads bring into memory, one thread a list. None for no preloading.
        compression: ``"gzip"``, ``"lzma"``, ``"zlib"`` or None, for each item. A cache that
            exists keeps what it was made with.
        preload_all_async: Cache everything, from now on, in the background.
        info: What JSON can hold, to be kept with the cache; as `set_info`.
        iterator_thread_safe: Whether several iterators may run at once, each in a thread.
        length: How many items there are, if you know: ``len`` need not find out, and the
            iterator is asked for no more.
        mode: Permissions of the files.

    Raises:
        TypeError: The arguments fit neither signature.
        ValueError: One is out of range, or `length` is not that of the cache.
        CacheError: The folder is not a cache of this kind; or there is none, without `create_it`.

    Example:
        >>> loader = LoadIt(lambda: read_the_web(), "cache/")
        >>> loader[1000], loader[-1], len(loader)
    """

    @overload
    def __init__(
        self,
        create_it: Source | None,
        root_dir: Path = "cache/",
        max_shard_length: ShardLength = 512,
        max_cache_size: int = 128,
        max_workers: int = 3,
        memory_limit: int | str | None = None,
        preload_fn: Preload | None = preload_next_shard,
        *,
        compression: str | None = None,
        preload_all_async: bool = False,
        info: Any = None,
        iterator_thread_safe: bool = False,
        length: int | None = None,
        mode: int = 0o644,
    ) -> None: ...
    @overload
    def __init__(
        self,
        root_dir: Path,
        create_iter: Source | None = None,
        max_shard_length: ShardLength = "64mb",
        max_cache_size: int = 128,
        max_workers: int = 3,
        memory_limit: int | str | None = None,
        compression: str | None = None,
        preload_fn: Preload | None = preload_next_shard,
        preload_all_async: bool = False,
        info: Any = None,
        iterator_thread_safe: bool = False,
        length: int | None = None,
        mode: int = 0o644,
    ) -> None: ...
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._open(options_of(args, kwargs))

    def _open(self, options: Options) -> None:
        self._options = options
        self._core = core = Core(options)
        weakref.finalize(self, core.close)
        self._disk, self._memory = core.disk, core.memory
        # The shard used last, its items, and its number.
        self._last: Shard | None = None
        self._items: dict[int, Any] = {}
        self._number: int | None = None
        # From which one to the next it went, and how often the same way.
        self._direction, self._in_a_row = 1, 0
        self._keep = options.max_cache_size > 0
        self.preload_fn = options.preload_fn
        if options.info is not None:
            self.set_info(options.info)
        if options.preload_all_async:
            core.cache_all_async()

    def __reduce__(self) -> tuple[object, ...]:
        # Whoever unpickles it shares the cache, and what was done to it already.
        return _reopened, (replace(self._options, info=None, preload_all_async=False, preload_fn=self._preload_fn),)

    @property
    def root_dir(self) -> str:
        """Path of the cache."""
        return self._options.root_dir

    @property
    def max_workers(self) -> int:
        return self._options.max_workers

    @property
    def max_shard_length(self) -> int | str:
        """As the cache was made with."""
        return self._core.disk.metadata.max_shard_length

    @property
    def preload_fn(self) -> Preload | None:
        """As given. It may be changed at any time."""
        return self._preload_fn

    @preload_fn.setter
    def preload_fn(self, preload_fn: Preload | None) -> None:
        self._preload_fn = preload_fn
        # The usual one does nothing while accesses stay in a shard.
        self._calls_out = preload_fn is not None and preload_fn is not preload_next_shard

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Any: ...
    @overload
    def __getitem__(self, index: slice | Iterable[SupportsIndex], /) -> SequenceView[Any]: ...
    def __getitem__(self, index: Any, /) -> Any:
        # The way of most accesses, and the shortest one.
        if type(index) is int and index >= 0:
            return self._item(index)
        return super().__getitem__(index)

    def _item(self, index: int) -> Any:
        if self._calls_out:
            self._call_out(index)
        item = self._items.get(index, _NOT_THERE)
        return self._find(index) if item is _NOT_THERE else item

    def _call_out(self, index: int) -> None:
        assert self._preload_fn is not None
        try:
            lists = self._preload_fn(self, index)
            if not isinstance(lists, Iterable):
                raise TypeError(f"preload_fn must give lists of indices, and gave {type(lists).__name__}")
            self._core.preload(lists)
        except (LookupError, StopIteration) as error:
            # By itself it would be taken for the end of the items.
            raise RuntimeError(f"preload_fn({index}): {type(error).__name__}: {error}") from error

    def _find(self, index: int) -> Any:
        """An item that is not among those of the shard used last, or not unpacked yet."""
        ends = self._disk.ends
        number = bisect_right(ends, index)
        shard = self._memory.shards.get(number)
        # A known one that is on disk has all of its items.
        if shard is None or ((shard.rows is None or number == len(ends)) and not shard.has(index)):
            shard = self._core.fetch(index)
            number = self._disk.number(shard.start)
        if number != self._number:
            self._enter(number, index, shard)
        item = shard.items.get(index, _NOT_THERE)
        if item is not _NOT_THERE:
            return item
        try:
            return shard.unpack(index, self._keep)
        except MemoryError:
            raise
        except Exception as error:
            return self._mend(shard, index, error)

    def _enter(self, number: int, index: int, shard: Shard) -> None:
        left, before = self._last, self._number
        self._last, self._number, self._items = shard, number, shard.items
        if left is not None and left.blobs is not left.rows:
            left.let_go()
        self._memory.touch(number, shard)
        step = 1 if before is None else number - before
        if step != self._direction:
            self._direction, self._in_a_row = step, 0
        if step in (-1, 1):
            self._in_a_row += 1
            if self._in_a_row >= _IN_A_ROW and before is not None:
                shard.read_ahead()
            if self._preload_fn is preload_next_shard:
                # What is on disk is read ahead where it is gone through in order, and not by chance.
                self._core.preload(preload_next_shard(self, index), advise=self._in_a_row > 1)

    def _mend(self, shard: Shard, index: int, error: Exception) -> Any:
        """An item whose shard is damaged: of that shard made anew."""
        try:
            for _ in range(_ATTEMPTS):
                failure = _unpacking(shard, index, error)
                # What comes from the iterator itself, and still cannot be unpacked, will not get better.
                if not self._core.repair(shard, index) or isinstance(error, (ImportError, AttributeError)):
                    break
                shard = self._core.fetch(index)
                try:
                    return shard.unpack(index, self._keep)
                except MemoryError:
                    raise
                except Exception as again:
                    error = again
            raise failure from error
        finally:
            # Their tracebacks have this frame: they would keep each other, and the loader.
            del failure, error

    def _next_shards(self, index: int) -> list[int]:
        """An index of each shard that is to be preloaded."""
        count, disk = self._options.max_workers - 1, self._core.disk
        ends, number = disk.ends, disk.number(index)
        if self._direction == -1:
            return [disk.span(one)[0] for one in range(number - 1, max(-1, number - 1 - count), -1)]
        if self._direction != 1:
            return []
        # What is not known yet is taken to be as long as what was seen last.
        begin = ends[number - 1] if number else 0
        size = ends[-1] - (ends[-2] if len(ends) > 1 else 0) if ends else (self._disk.metadata.shard_limits[0] or 1)
        found = []
        for one in range(number, number + count):
            begin = ends[one] if one < len(ends) else begin + size
            found.append(begin)
        return found

    def get_start_idx(self, idx: SupportsIndex) -> int:
        """The first index of the shard that has an item, which is made if it must be."""
        self[idx]
        place = idx.__index__()
        number = self._core.disk.number(place if place >= 0 else place + len(self))
        return self._core.disk.ends[number - 1] if number else 0

    def __len__(self) -> int:
        """How many items there are. Runs the iterator to its end, once, unless that is known."""
        core = self._core
        if core.length is None:
            with contextlib.suppress(IndexError):
                core.fetch(NEVER)
        assert core.length is not None
        return core.length

    def __iter__(self) -> Iterator[Any]:
        return super().__iter__()

    def info(self) -> Any:
        """What `set_info` has stored; None where nothing is."""
        return self._core.disk.metadata.load().get("info")

    def set_info(self, info: Any) -> None:
        """Keep something with the cache.

        Raises:
            TypeError: JSON cannot hold it.
        """
        self._core.disk.set_info(info)

    def all_cached_to_disk(self) -> bool:
        """Whether the length is known, and all shards are on disk."""
        return self._core.disk.all_there()

    def wait_until_all_cached(self) -> None:
        """Bring everything onto the disk, and wait for it.

        Raises:
            CacheError: `memory_limit` has no room for it, or it cannot be made.
        """
        core, options = self._core, self._options
        for _ in range(_TRIES):
            core.cache_all(background=False)
            if core.disk.all_there():
                return
            if options.create_it is None or options.memory_limit is not None:
                break
            # A shard that was found damaged is made anew by another thread or process just now.
        if options.create_it is None:
            why = "there is no create_it to make what is missing"
        elif options.memory_limit is not None:
            why = f"memory_limit, {options.memory_limit} bytes, has no room for all shards"
        else:
            why = "shards are deleted as fast as they are made"
        raise CacheError(f"{self.root_dir}: {why}")

    def finalize(self) -> None:
        """Declare the cache complete as it is: its length is that of the shards that were made.

        A shard that is being made is waited for.
        """
        self._core.finalize()

    def close(self) -> None:
        """End threads and iterators, and give back memory. What is asked for later is a CacheError."""
        self._items, self._number, self._last = {}, None, None
        self._core.close(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        known = self._core.length
        count = f"{known:,} items" if known is not None else f"at least {self._core.disk.end:,} items"
        return f"<LoadIt {self.root_dir}, {count}>"


def _unpacking(shard: Shard, index: int, error: Exception) -> CacheError:
    where = shard.path or "what create_it gave"
    failure = CacheError(f"{where}: item {index} cannot be unpacked: {type(error).__name__}: {error}")
    failure.filename = shard.path
    return failure


def _reopened(options: Options) -> LoadIt:
    loader = object.__new__(LoadIt)
    loader._open(options)
    return loader
