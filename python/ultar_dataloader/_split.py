"""Which rank delivers which place of an order at which step, and what a state is. Arithmetic only.

A *place* is a position in the order of an epoch, from 0 to below n. The global batch of a step
is the next ``batch_size * world_size`` places, and rank r takes places r, r + world_size, … of
it. So the union over the ranks is the same for every way to split the same global batch, and
how many places are behind us says all about how far an epoch has come.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from operator import index
from typing import Any, Literal, NamedTuple, Protocol, Self, SupportsIndex, get_args

Tail = Literal["repeat", "drop", "short"]

POSITION_MAX = 2**53
"""Rows that an order may have."""


class Indexed(Protocol):
    """An order, or for rows as they lie ``range(n)``."""

    def __len__(self) -> int: ...
    def index(self, row: int, /) -> int: ...


class Delivery(NamedTuple):
    """Where a place comes out."""

    step: int
    rank: int
    slot: int
    """Its place in the batch of the rank, from 0."""


def default_tail(world_size: int) -> Tail:
    """Every row once, where one rank may end when it likes; else equal steps and no row lost."""
    return "short" if world_size == 1 else "repeat"


@dataclass(frozen=True, slots=True)
class Split:
    """One rank's share of an epoch, from `start` on.

    All ranks have the same number of steps, whatever the numbers are.

    Args:
        n: Rows of the epoch; 0 to 2**53.
        batch_size: Rows of one batch of one rank; from 1.
        rank: 0 to ``world_size - 1``.
        world_size: Ranks that share each global batch; from 1.
        tail: What becomes of a last global batch that is not full: ``"repeat"`` fills it with
            places from the order's beginning, several times over if need be; ``"drop"`` leaves
            it out; ``"short"`` gives it as it is, for one rank.
        start: Places that are behind us, as a state has them; 0 to n. Steps count from here.
        skipped: Places that nobody delivers, ascending; see `skipped_places`.

    Raises:
        TypeError: An argument is no int.
        ValueError: One is out of range, or tail is ``"short"`` for several ranks.
    """

    n: int
    batch_size: int
    rank: int = 0
    world_size: int = 1
    tail: Tail = "short"
    start: int = 0
    skipped: Sequence[int] = field(default=(), repr=False, compare=False)
    # Kept places, which are those not skipped, have numbers without gaps: all below counts in
    # them. The number of a kept place is the place, less the skipped ones before it.
    _gaps: array[int] = field(init=False, repr=False, hash=False)
    """For each skipped place the number that a kept place there would have."""
    _kept: int = field(init=False, repr=False, compare=False)
    _first: int = field(init=False, repr=False, compare=False)
    """The number of the first kept place from `start` on."""
    steps: int = field(init=False, compare=False)
    """From `start` to the end; the same on every rank."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        n = whole("n", self.n, 0, POSITION_MAX)
        batch_size = whole("batch_size", self.batch_size, 1, POSITION_MAX)
        world_size = whole("world_size", self.world_size, 1, POSITION_MAX)
        put(self, "n", n)
        put(self, "batch_size", batch_size)
        put(self, "world_size", world_size)
        put(self, "rank", whole("rank", self.rank, 0, world_size - 1))
        put(self, "start", whole("start", self.start, 0, n))
        if self.tail not in get_args(Tail):
            raise ValueError(f'tail must be one of "repeat", "drop", "short", got {self.tail!r}')
        if self.tail == "short" and world_size > 1:
            raise ValueError(f'tail="short" is for one rank, not {world_size}: ranks would end at different steps')
        put(self, "_gaps", _gaps(self.skipped, n))
        put(self, "_kept", n - len(self._gaps))
        put(self, "_first", self._number(self.start))
        rest = self._kept - self._first
        put(self, "steps", rest // self.global_batch if self.tail == "drop" else -(-rest // self.global_batch))

    @property
    def global_batch(self) -> int:
        """Rows of one step on all ranks together."""
        return self.batch_size * self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch that begins at its beginning."""
        return replace(self, start=0).steps

    def places(self, step: int) -> tuple[range, ...]:
        """What this rank delivers at a step, as progressions, in order.

        One, but for what is skipped or repeated.

        Raises:
            IndexError: `step` is not from 0 to below `steps`.
        """
        return self.which(step, self.rank)

    def which(self, step: int, rank: int) -> tuple[range, ...]:
        """As `places`, of any rank.

        Raises:
            IndexError: `step` is not from 0 to below `steps`, or there is no such rank.
        """
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step}: there are {self.steps}")
        return self._progressions(step, step + 1, rank)

    def share(self, step: int = 0) -> tuple[range, ...]:
        """All that this rank delivers from a step on, to be walked without a list.

        One progression, but for what is skipped or repeated: batches are cut from it, each of
        `batch_size` but for a short last one.

        Raises:
            IndexError: `step` is not from 0 to `steps`.
        """
        if not 0 <= step <= self.steps:
            raise IndexError(f"step {step}: there are {self.steps}")
        return self._progressions(step, self.steps, self.rank)

    def when(self, place: int) -> tuple[Delivery, ...]:
        """When and where a place comes out, from `start` on.

        Nowhere when it is skipped, dropped or behind us; several times when it is repeated.

        Raises:
            IndexError: `place` is not from 0 to below n.
        """
        if not 0 <= place < self.n:
            raise IndexError(f"place {place}: there are {self.n}")
        number = self._number(place)
        if self._place(number) != place:
            return ()
        rounds = -(-max(0, self._first - number) // self._kept)
        first = number + rounds * self._kept - self._first
        delivered = range(first, self._delivered(), self._kept)
        return tuple(
            Delivery(at // self.global_batch, at % self.world_size, at % self.global_batch // self.world_size)
            for at in delivered
        )

    def step_of(self, place: int) -> int | None:
        """The first step at which a place comes out on some rank; None for never.

        Raises:
            IndexError: `place` is not from 0 to below n.
        """
        deliveries = self.when(place)
        return deliveries[0].step if deliveries else None

    def position(self, steps_done: int) -> int:
        """Places that are behind us after so many steps: what a state keeps.

        After the last step that is n: the epoch is over, with all that was to be dropped.

        Raises:
            IndexError: `steps_done` is not from 0 to `steps`.
        """
        if not 0 <= steps_done <= self.steps:
            raise IndexError(f"{steps_done} steps: there are {self.steps}")
        if steps_done == 0:
            return self.start
        if steps_done == self.steps:
            return self.n
        return self._place(self._first + steps_done * self.global_batch - 1) + 1

    def resumed(self, position: int, **changes: Any) -> Self:
        """The rest of the epoch, from a position on, with another `world_size` or the like.

        It has exactly the rows that were not delivered before the position, whatever the
        global batch was then and is now.
        """
        return replace(self, start=position, **changes)

    def _delivered(self) -> int:
        """Rows of all steps and ranks together, repeats counted."""
        count = self.steps * self.global_batch
        return min(count, self._kept - self._first) if self.tail == "short" else count

    def _progressions(self, step: int, stop: int, rank: int) -> tuple[range, ...]:
        if not 0 <= rank < self.world_size:
            raise IndexError(f"rank {rank}: there are {self.world_size}")
        at = self._first + step * self.global_batch + rank
        end = self._first + min(stop * self.global_batch, self._delivered())
        found: list[range] = []
        while at < end:
            before = at // self._kept * self._kept
            numbers = range(at - before, min(end - before, self._kept), self.world_size)
            at += len(numbers) * self.world_size
            self._add_places(numbers, found)
        return tuple(found)

    def _add_places(self, numbers: range, found: list[range]) -> None:
        at, skipped = numbers.start, 0
        while at < numbers.stop:
            skipped = bisect_right(self._gaps, at, skipped)
            stop = min(numbers.stop, self._gaps[skipped]) if skipped < len(self._gaps) else numbers.stop
            found.append(range(at + skipped, stop + skipped, numbers.step))
            at += len(found[-1]) * numbers.step

    def _number(self, place: int) -> int:
        """Kept places before a place."""
        return place - bisect_left(range(len(self._gaps)), place, key=lambda i: self._gaps[i] + i)

    def _place(self, number: int) -> int:
        """Of a kept place; n and more beyond the last."""
        return number + bisect_right(self._gaps, number)


def skipped_places(
    order: Indexed,
    skip_list: Iterable[SupportsIndex] = (),
    skip_ranges: Iterable[tuple[SupportsIndex, SupportsIndex]] = (),
) -> array[int]:
    """Where the rows to be skipped stand, for `Split`. Eight bytes a row.

    A row that is skipped from some step on, in the middle of an epoch, changes nothing of the
    order of the others, and nothing of what a position means.

    Args:
        order: What says where a row stands.
        skip_list: Row numbers.
        skip_ranges: Pairs of a row number and the one after the last.

    Raises:
        TypeError: A row number is no int.
        ValueError: There is no such row, or a range ends before it begins.
    """
    n = len(order)
    rows = {whole("a row of skip_list", row, 0, n - 1) for row in skip_list}
    for first, stop in skip_ranges:
        begin = whole("the first row of a range of skip_ranges", first, 0, n)
        rows.update(range(begin, whole("the end of a range of skip_ranges", stop, begin, n)))
    return array("Q", sorted(map(order.index, rows)))


@dataclass(frozen=True, slots=True)
class State:
    """How far training has come: enough to go on, with any number of ranks and any batch size.

    Raises:
        TypeError: A value is not of its type.
        ValueError: A number is not from 0 to 2**53, or window not from 1.
    """

    fingerprint: str
    """Of the dataset: what `position` counts in."""
    seed: int | None
    """Of the order; None for rows as they lie."""
    epoch: int
    position: int
    """Places of the epoch that are behind us."""
    window: int | None = None
    """Of the order."""

    def __post_init__(self) -> None:
        if not isinstance(self.fingerprint, str):
            raise TypeError(f"fingerprint must be a str, not {type(self.fingerprint).__name__}")
        for name, low in (("seed", 0), ("epoch", 0), ("position", 0), ("window", 1)):
            value = getattr(self, name)
            if value is not None or name in ("epoch", "position"):
                object.__setattr__(self, name, whole(name, value, low, POSITION_MAX))

    def to_dict(self) -> dict[str, str | int | None]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """What `to_dict` gave.

        Raises:
            TypeError: A value is not of its type, or `state` is no mapping.
            ValueError: A key is missing or unknown, or a value out of range.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"a state must be a mapping, not {type(state).__name__}")
        names = [one.name for one in fields(cls)]
        if missing := [name for name in names if name not in state]:
            raise ValueError(f"not a state: it lacks {', '.join(missing)}")
        if unknown := [str(name) for name in state if name not in names]:
            raise ValueError(f"not a state of this version: it has {', '.join(unknown)}")
        return cls(**state)


def whole(name: str, value: SupportsIndex, low: int, high: int) -> int:
    """An argument that must be an int of a range, checked."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {type(value).__name__}") from None
    if high < low:
        raise ValueError(f"{name} cannot be {number}: there are no rows")
    if not low <= number <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {number}")
    return number


def _gaps(skipped: Sequence[int], n: int) -> array[int]:
    before = -1
    gaps = array("Q")
    for i, place in enumerate(skipped):
        if whole("a skipped place", place, 0, n - 1) <= before:
            raise ValueError(f"skipped places must ascend, got {place} after {before}")
        before = place
        gaps.append(place - i)
    return gaps
