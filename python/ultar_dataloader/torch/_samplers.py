"""Samplers: row numbers in the order of `order`, split among ranks, with exact states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, SupportsIndex

from torch.utils import data

from .._dataset import Dataset
from .._order import order
from .._split import POSITION_MAX, Split, State, Tail, default_tail, whole
from .._stream import ranks
from ._map import MapDataset

_CHUNK = 4096
"""Row numbers that are computed at once."""

Rows = Dataset | MapDataset | SupportsIndex


class _Sampler(data.Sampler[int]):
    """One rank's row numbers, epoch after epoch."""

    def __init__(
        self,
        rows: Rows,
        seed: int | None,
        epoch: int,
        window: int | None,
        rank: int | None,
        world_size: int | None,
        tail: Tail | None,
    ) -> None:
        dataset = rows.dataset if isinstance(rows, MapDataset) else rows
        self._dataset = dataset if isinstance(dataset, Dataset) else None
        self._count = len(dataset) if isinstance(dataset, Dataset) else whole("rows", dataset, 0, POSITION_MAX)
        self._seed = seed
        self._window = window
        if (rank is None) != (world_size is None):
            raise ValueError(f"give both rank and world_size, or neither; got rank={rank}, world_size={world_size}")
        self._ranks = None if rank is None or world_size is None else ranks.check(rank, world_size)
        self._tail = tail
        self._print: str | None = None
        self._walk: Walk | None = None
        self._upcoming = (whole("epoch", epoch, 0, POSITION_MAX), 0)
        self._order(epoch)  # Says what is wrong with seed and window.
        if self._ranks is not None:
            self._split(0)

    def __iter__(self) -> Walk:
        # Not an epoch on before something is taken: loaders make iterators that they leave untouched.
        self._walk = Walk(self, *self._upcoming)
        return self._walk

    def __len__(self) -> int:
        """Row numbers of a whole epoch: the same on every rank."""
        return self._split(0).steps

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration begin this epoch; if a state of it was loaded, where that was taken."""
        epoch = whole("epoch", epoch, 0, POSITION_MAX)
        if epoch != self._upcoming[0]:
            self._upcoming = (epoch, 0)
            self._walk = None

    def state_dict(self) -> dict[str, Any]:
        """How far the latest iteration has come: a few integers and a fingerprint, as JSON takes them.

        It counts what the sampler gave. A loader with workers takes that ahead of what it
        gives; ``StatefulDataLoader`` knows how far, and has that in its own state.
        """
        if self._walk is None:
            return self._state(*self._upcoming)
        state = self._walk.state_dict()
        return self._state(*self._upcoming) if self._walk.has_ended else state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Have the next iteration go on where the state was taken, also with other ranks.

        Raises:
            TypeError: It is no mapping, or a value is not of its type.
            ValueError: It is no state, or one of other rows or another order.
        """
        self._upcoming = self._checked(state_dict)
        self._walk = None

    def _checked(self, state_dict: Mapping[str, Any]) -> tuple[int, int]:
        state = State.from_dict(state_dict)
        for name, mine in (("seed", self._seed), ("window", self._window), ("fingerprint", self._fingerprint())):
            if getattr(state, name) != mine:
                raise ValueError(f"the state has {name}={getattr(state, name)!r}, the sampler has {name}={mine!r}")
        return state.epoch, whole("position", state.position, 0, self._count)

    def _state(self, epoch: int, position: int) -> dict[str, Any]:
        return State(self._fingerprint(), self._seed, epoch, position, self._window).to_dict()

    def _fingerprint(self) -> str:
        if self._print is None:
            self._print = f"{self._count} rows" if self._dataset is None else self._dataset._view_fingerprint()
        return self._print

    def _order(self, epoch: int) -> Sequence[int]:
        if self._seed is None:
            return range(self._count)
        return order(self._count, self._seed, epoch, window=self._window)

    def _split(self, start: int) -> Split:
        rank, world_size = self._ranks or ranks.current()
        return Split(self._count, 1, rank, world_size, self._tail or default_tail(world_size), start)


class Walk(Iterator[int]):
    """One iteration of a sampler. Has a state, for ``StatefulDataLoader``."""

    def __init__(self, sampler: _Sampler, epoch: int, position: int) -> None:
        self._sampler = sampler
        self._begin(epoch, position)

    def _begin(self, epoch: int, position: int) -> None:
        self._epoch = epoch
        self._split = self._sampler._split(position)
        self._given = 0
        self._rows = _in_order(self._sampler._order(epoch), self._split.share())
        self.has_ended = False

    def __next__(self) -> int:
        if self._given == 0:
            self._sampler._upcoming = (self._epoch + 1, 0)
        try:
            row = next(self._rows)
        except StopIteration:
            self.has_ended = True
            raise
        self._given += 1
        return row

    def state_dict(self) -> dict[str, Any]:
        """As the sampler's, but the end of an epoch is not yet the beginning of the next one.

        For a loader whose epoch had ended makes an iterator with this state, and then the one
        of the next epoch.
        """
        return self._sampler._state(self._epoch, self._split.position(self._given))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the state was taken, instead of here.

        Raises:
            TypeError, ValueError: As the sampler's.
        """
        epoch, position = self._sampler._checked(state_dict)
        self._begin(epoch, position)
        self._sampler._upcoming = (epoch, position) if self._split.steps else (epoch + 1, 0)


def _in_order(rows: Sequence[int], places: tuple[range, ...]) -> Iterator[int]:
    for progression in places:
        for first in range(0, len(progression), _CHUNK):
            some = progression[first : first + _CHUNK]
            yield from rows[some.start : some.stop : some.step]


class SequentialSampler(_Sampler):
    """Row numbers as they lie, this rank's share of them.

    Args:
        rows: A `Dataset`, a `MapDataset`, or a number of rows.
        rank, world_size: Both, or neither: as for `Dataset.shard`.
        tail: As for `Dataset.shard`: all ranks get equally many.

    Raises:
        TypeError: An argument is not of its type.
        ValueError: One is out of range, or tail is ``"short"`` for several ranks.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        tail: Tail | None = None,
    ) -> None:
        super().__init__(rows, None, 0, None, rank, world_size, tail)


class ShufflingSampler(_Sampler):
    """Row numbers in the order of `ultar_dataloader.order`, this rank's share of them.

    Each iteration is the next epoch, in an order of its own. The union of the ranks is the
    epoch, and all of them get equally many row numbers.

    Args:
        rows: A `Dataset`, a `MapDataset`, or a number of rows.
        seed, window: As for `order`.
        epoch: Of the first iteration.
        rank, world_size: Both, or neither: as for `Dataset.shard`.
        tail: As for `Dataset.shard`.
        state: Of `state_dict`, to go on with.

    Raises:
        TypeError: An argument is not of its type.
        ValueError: One is out of range, tail is ``"short"`` for several ranks, or the state is of
            other rows or another order.
    """

    def __init__(
        self,
        rows: Rows,
        seed: int = 0,
        *,
        epoch: int = 0,
        window: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        tail: Tail | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(rows, whole("seed", seed, 0, POSITION_MAX), epoch, window, rank, world_size, tail)
        if state is not None:
            self.load_state_dict(state)
