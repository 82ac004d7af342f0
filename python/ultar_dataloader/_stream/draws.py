"""Which of several sources is drawn at which place: at random by weight, and known without running.

Draws come in blocks of 1024. In each block every source has its exact share, up to rounding that
never adds up, and which draw is whose is a keyed permutation of the block. So how often a source
was drawn before any place takes a few steps to say. When a source ends, the others go on with
their weights: that begins a new *stretch*.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .._native import Order

BLOCK = 1024
_BLOCKS_KEPT = 64
_ONE = 2**40
"""What all weights of a stretch add up to: whole numbers are the same everywhere."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Draws between two ends of sources."""

    first: int
    """The place of its first draw."""
    count: int
    sources: tuple[int, ...]
    bounds: tuple[int, ...]
    """Cumulative weights, from 0 to `_ONE`."""
    before: tuple[int, ...]
    """How often each of `sources` was drawn before."""
    seed: int
    number: int

    def drawn(self, blocks: int) -> list[int]:
        """How often each was drawn in so many whole blocks."""
        counts: list[int] = []
        _divide(blocks * BLOCK, self.bounds, 0, len(self.sources), counts)
        return counts

    def block(self, number: int) -> list[int]:
        """Whose each draw of a block is: places in `sources`."""
        bounds, total = [], 0
        for before, after in zip(self.drawn(number), self.drawn(number + 1), strict=True):
            total += after - before
            bounds.append(total)
        shuffled = Order(BLOCK, self.seed, (self.number << 40) + number)[:]
        return [bisect_right(bounds, draw) for draw in shuffled]


class Draws:
    """A schedule of draws from sources of known lengths.

    Args:
        lengths: Of the sources, each at least 1.
        weights: Each above 0; only their proportions count.
        seed: 0 to 2**53.
        stop: ``"all"`` goes on until all have ended, each element drawn once; ``"first"`` ends
            when one has.

    Raises:
        ValueError: A weight is far too small beside the others.
    """

    def __init__(self, lengths: Sequence[int], weights: Sequence[float], seed: int, stop: str) -> None:
        self._stretches: list[_Stretch] = []
        self._arguments = (tuple(lengths), tuple(weights), seed, stop)
        self._blocks: dict[tuple[int, int], tuple[array[int], array[int]]] = {}
        left, first = dict(enumerate(lengths)), 0
        while left:
            sources = tuple(left)
            before = tuple(lengths[source] - left[source] for source in sources)
            bounds = _bounds([weights[source] for source in sources])
            endless = _Stretch(first, 0, sources, bounds, before, seed, len(self._stretches))
            count, drawn = _until_one_ends(endless, [left[source] for source in sources])
            self._stretches.append(_Stretch(first, count, sources, bounds, before, seed, len(self._stretches)))
            first += count
            left = {s: left[s] - n for s, n in zip(sources, drawn, strict=True) if left[s] > n}
            if stop == "first":
                break
        self._firsts = [stretch.first for stretch in self._stretches]
        self.count = first

    def at(self, place: int) -> tuple[int, int]:
        """The source that is drawn at a place, and how often it was drawn before."""
        stretch = bisect_right(self._firsts, place) - 1
        number, i = divmod(place - self._firsts[stretch], BLOCK)
        sources, draws = self._block(stretch, number)
        return sources[i], draws[i]

    def place(self, source: int, draw: int) -> int | None:
        """Where a source is drawn after so many draws of it; None for never."""
        for s, stretch in enumerate(self._stretches):
            if source not in stretch.sources:
                continue
            mine = stretch.sources.index(source)
            wanted = draw - stretch.before[mine]
            low, high = 0, -(-stretch.count // BLOCK)
            while low + 1 < high:
                middle = (low + high) // 2
                low, high = (middle, high) if stretch.drawn(middle)[mine] <= wanted else (low, middle)
            sources, draws = self._block(s, low)
            for i, (one, number) in enumerate(zip(sources, draws, strict=True)):
                if one == source and number == draw and low * BLOCK + i < stretch.count:
                    return stretch.first + low * BLOCK + i
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def _block(self, stretch: int, number: int) -> tuple[array[int], array[int]]:
        found = self._blocks.get((stretch, number))
        if found is None:
            if len(self._blocks) >= _BLOCKS_KEPT:
                self._blocks = {}
            found = self._blocks[stretch, number] = self._counted_block(stretch, number)
        return found

    def _counted_block(self, stretch_number: int, number: int) -> tuple[array[int], array[int]]:
        stretch = self._stretches[stretch_number]
        counts = [before + drawn for before, drawn in zip(stretch.before, stretch.drawn(number), strict=True)]
        sources, draws = array("Q"), array("Q")
        for mine in stretch.block(number):
            sources.append(stretch.sources[mine])
            draws.append(counts[mine])
            counts[mine] += 1
        return sources, draws


def _divide(count: int, bounds: Sequence[int], first: int, stop: int, counts: list[int]) -> None:
    """Divide draws among sources by their weights: between the two halves of them, and so on.

    One draw more is one more for one of them and changes nothing for the others, which rounding
    each of many shares by itself would not give.
    """
    if stop - first == 1:
        counts.append(count)
        return
    middle = (first + stop) // 2
    left = count * (bounds[middle] - bounds[first]) // (bounds[stop] - bounds[first])
    _divide(left, bounds, first, middle, counts)
    _divide(count - left, bounds, middle, stop, counts)


def _bounds(weights: Sequence[float]) -> tuple[int, ...]:
    total, sum_, bounds = sum(weights), 0.0, [0]
    for weight in weights:
        sum_ += weight
        bounds.append(round(sum_ / total * _ONE))
        if bounds[-1] == bounds[-2]:
            raise ValueError(f"weight {weight} is too small beside a total of {total}")
    bounds[-1] = _ONE
    return tuple(bounds)


def _until_one_ends(stretch: _Stretch, left: Sequence[int]) -> tuple[int, list[int]]:
    """How many draws there are until the first source has no more, and how many are whose."""

    def has_ended(blocks: int) -> bool:
        return any(drawn >= most for drawn, most in zip(stretch.drawn(blocks), left, strict=True))

    low, high = 0, 1
    while not has_ended(high):
        low, high = high, high * 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if has_ended(middle) else (middle, high)
    drawn = stretch.drawn(low)
    for i, mine in enumerate(stretch.block(low)):
        drawn[mine] += 1
        if drawn[mine] == left[mine]:
            return low * BLOCK + i + 1, drawn
    raise AssertionError("a source ends in this block")
