"""Sequences made of others: views, chains, mixes and repetitions. They hold no items, and read nothing by themselves.

Whatever has ``len`` and ``[i]`` can be in them: a `LoadIt`, a list, a `Dataset`. Lengths are
asked for as late as possible, since finding one may mean to run an iterator to its end.
"""

from __future__ import annotations

import operator
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, SupportsIndex, TypeVar, cast, overload

from .. import _native

T = TypeVar("T")


class LazySequence(Sequence[T]):
    """What has views (``s[2:9:-1]``, ``s[[3, 1]]``), and ``+``."""

    def _item(self, index: int) -> T:
        """The item at a place from 0 on. IndexError where there is none."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> T: ...
    @overload
    def __getitem__(self, index: slice | Iterable[SupportsIndex], /) -> SequenceView[T]: ...
    def __getitem__(self, index: Any, /) -> Any:
        if isinstance(index, slice):
            return SequenceView(self, _sliced(self, index))
        # An array has `__index__` as well, for the case that it is of one number.
        if hasattr(index, "__index__") and not getattr(index, "ndim", 0):
            place = operator.index(index)
            return self._item(place if place >= 0 else self._from_end(place))
        return SequenceView(self, _places(index))

    def _from_end(self, place: int) -> int:
        count = len(self)
        if place + count < 0:
            raise IndexError(f"index {place} is out of range: there are {count}")
        return place + count

    def __iter__(self) -> Iterator[T]:
        place = 0
        while True:
            try:
                item = self._item(place)
            except IndexError:
                return
            yield item
            place += 1

    def __bool__(self) -> bool:
        for _ in self:
            return True
        return False

    def __add__(self, other: Sequence[T]) -> ConcatableSequence[T]:
        joined: ConcatableSequence[T] = _joined(self, other)
        return joined

    def __radd__(self, other: Sequence[T]) -> ConcatableSequence[T]:
        joined: ConcatableSequence[T] = _joined(other, self)
        return joined

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class SequenceView(LazySequence[T]):
    """Items of a sequence, in an order of their own: ``view[i]`` is ``seq[indices[i]]``.

    Args:
        seq: Where the items are.
        indices: Places in it, or a function from places of the view to places in it; None
            for all as they are.
        length: Of the view; needed with a function.

    Raises:
        TypeError: `indices` is neither, or a function without `length`.

    Example:
        >>> view = SequenceView("abcdef", [2, 3, 1])
        >>> view[1], list(view[::-1])
        ('d', ['b', 'd', 'c'])
    """

    def __init__(
        self,
        seq: Sequence[T],
        indices: Sequence[SupportsIndex] | Callable[[int], SupportsIndex] | None = None,
        length: int | None = None,
    ) -> None:
        self._seq = seq
        self._length = length
        self._indices: Sequence[Any] | None = None
        self._at: Callable[[int], Any]
        if indices is None:
            self._at = _same
        elif hasattr(indices, "__getitem__") and hasattr(indices, "__len__"):
            self._indices = cast(Sequence[Any], indices)
            self._at = self._indices.__getitem__
        elif callable(indices):
            if length is None:
                raise TypeError("with a function for indices, say the length")
            self._at = cast(Callable[[int], Any], indices)
        else:
            raise TypeError(f"indices must be a sequence or a function, got {type(indices).__name__}")

    def _item(self, index: int) -> T:
        if self._length is not None and index >= self._length:
            raise IndexError(f"index {index} is out of range: there are {self._length}")
        item: T = self._seq[self._at(index)]
        return item

    def __len__(self) -> int:
        if self._length is not None:
            return self._length
        return len(self._seq) if self._indices is None else len(self._indices)


class ConcatableSequence(LazySequence[T]):
    """Sequences one after the other; ``+`` makes one of them."""

    def __init__(self, *seqs: Sequence[T]) -> None:
        self._seqs = seqs
        self._ends: list[int] = []
        """Of the first sequences: where each ends. As many as were needed so far."""

    def _item(self, index: int) -> T:
        ends = self._ends
        while not ends or index >= ends[-1]:
            part = len(ends)
            if part == len(self._seqs):
                raise IndexError(f"index {index} is out of range: there are {ends[-1] if ends else 0}")
            seq, begin = self._seqs[part], ends[-1] if ends else 0
            try:
                # Perhaps its length need not be known.
                return seq[index - begin]
            except IndexError:
                self._ends = ends = [*ends, begin + len(seq)]
                if index < ends[-1]:
                    raise
        part = bisect_right(ends, index)
        return self._seqs[part][index - (ends[part - 1] if part else 0)]

    def __len__(self) -> int:
        return sum(map(len, self._seqs))


class InterleaveSequences(LazySequence[T]):
    """The first of each, then the second of each, and so on; those that have ended are left out."""

    def __init__(self, *seqs: Sequence[T]) -> None:
        self._seqs = seqs
        lengths = sorted({len(seq) for seq in seqs} - {0})
        # In rounds from one length to the next larger one, the same sequences take part.
        self._rounds = [0, *lengths]
        self._members = [[seq for seq in seqs if len(seq) >= length] for length in lengths]
        counts = zip(self._rounds, lengths, self._members, strict=False)
        self._begins = [0, *accumulate((last - first) * len(members) for first, last, members in counts)]

    def _item(self, index: int) -> T:
        if index >= self._begins[-1]:
            raise IndexError(f"index {index} is out of range: there are {self._begins[-1]}")
        stage = bisect_right(self._begins, index) - 1
        turn, member = divmod(index - self._begins[stage], len(self._members[stage]))
        return self._members[stage][member][self._rounds[stage] + turn]

    def __len__(self) -> int:
        return self._begins[-1]


class RepeatSequence(LazySequence[T]):
    """A sequence several times over; without end where `repeats` is None, and then without ``len``."""

    def __init__(self, seq: Sequence[T], repeats: int | None = None) -> None:
        if repeats is not None and repeats < 0:
            raise ValueError(f"repeats must be at least 0, got {repeats}")
        self._seq = seq
        self._repeats = repeats

    def _item(self, index: int) -> T:
        if self._repeats == 0:
            raise IndexError(f"index {index} is out of range: there are 0")
        try:
            # Perhaps the length need not be known.
            return self._seq[index]
        except IndexError:
            count = len(self._seq)
            if index < count:
                raise
        if count == 0 or (self._repeats is not None and index >= count * self._repeats):
            total = 0 if count == 0 else count * (self._repeats or 0)
            raise IndexError(f"index {index} is out of range: there are {total}")
        return self._seq[index % count]

    def __len__(self) -> int:
        if not self._seq:
            return 0
        if self._repeats is None:
            raise OverflowError("it repeats without end, and has no length: say how many repeats")
        return len(self._seq) * self._repeats


class _ChunkOrder(Sequence[int]):
    """The numbers from 0, shuffled within chunks. Constant memory: an order is computed, not stored."""

    def __init__(self, count: int, size: int, seed: int) -> None:
        self._count, self._size, self._seed = count, size, seed
        self._last: tuple[int, _native.Order] | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        place = range(self._count)[operator.index(index)]
        chunk, within = divmod(place, self._size)
        last = self._last
        if last is None or last[0] != chunk:
            count = min(self._size, self._count - chunk * self._size)
            last = self._last = chunk, _native.Order(count, self._seed, chunk)
        return chunk * self._size + last[1][within]


def chunk_shuffle(
    seq: Sequence[T], chunk_size: int | None = None, length: int | None = None, seed: int | None = None
) -> SequenceView[T]:
    """A view of the first `length` items, shuffled within chunks of `chunk_size`.

    Items stay near where they were, so that reading them in order goes shard by shard.

    Args:
        seq: The items.
        chunk_size: Items in a chunk; None for all of them.
        length: Of the view; None for the length of `seq`.
        seed: From 0 to 2**53; the same seed gives the same order on every machine. None draws one.

    Raises:
        ValueError: A number is out of range.
    """
    count = len(seq) if length is None else length
    size = max(1, count) if chunk_size is None else chunk_size
    if count < 0 or size < 1:
        raise ValueError(f"length must be at least 0 and chunk_size at least 1, got {count} and {size}")
    if seed is None:
        seed = random.SystemRandom().randrange(2**53)
    _native.Order(0, seed)  # A seed that is out of range is told now.
    return SequenceView(seq, _ChunkOrder(count, size, seed))


class _OpenSlice(Sequence[int]):
    """The places of a slice that goes forward, of a sequence whose length is not known yet."""

    def __init__(self, seq: LazySequence[Any], start: int, stop: int | None, step: int) -> None:
        self._seq, self._start, self._stop, self._step = seq, start, stop, step

    def __getitem__(self, index: Any) -> Any:
        place = self._start + index * self._step
        if index < 0 or (self._stop is not None and place >= self._stop):
            raise IndexError(f"index {index} of a slice is out of range")
        return place

    def __len__(self) -> int:
        stop = self._stop
        if stop is not None and stop > self._start:
            try:
                # If there is such an item, the length need not be known.
                self._seq._item(stop - 1)
                return len(range(self._start, stop, self._step))
            except IndexError:
                pass
        elif stop is not None:
            return 0
        count = len(self._seq)
        return len(range(self._start, count if stop is None else min(stop, count), self._step))


def _same(index: int) -> int:
    return index


def _sliced(seq: LazySequence[Any], index: slice) -> Sequence[int]:
    start, stop, step = index.start, index.stop, 1 if index.step is None else operator.index(index.step)
    start = 0 if start is None and step > 0 else start
    if step > 0 and operator.index(start) >= 0 and (stop is None or operator.index(stop) >= 0):
        return _OpenSlice(seq, operator.index(start), None if stop is None else operator.index(stop), step)
    return range(*index.indices(len(seq)))


def _places(indices: Any) -> Sequence[int]:
    if isinstance(indices, SequenceView | range):
        return indices
    try:
        if isinstance(indices, (str, bytes, bytearray)):
            raise TypeError
        places = list(indices)
        # A mask, as NumPy has them, would name the items 0 and 1 many times.
        if any(isinstance(place, bool) or type(place).__name__ in ("bool_", "bool") for place in places):
            raise TypeError
        return [operator.index(place) for place in places]
    except TypeError:
        raise TypeError(f"items are named by an int, a slice or several ints, got {type(indices).__name__}") from None


def _joined(*seqs: Sequence[T]) -> Any:
    for seq in seqs:
        if not (hasattr(seq, "__getitem__") and hasattr(seq, "__len__")):
            return NotImplemented
    parts = (seq._seqs if isinstance(seq, ConcatableSequence) else (seq,) for seq in seqs)
    return ConcatableSequence(*(part for several in parts for part in several))
