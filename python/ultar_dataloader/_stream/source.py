"""Where the rows of a stream come from: places of an epoch's order, read by native pipelines."""

from __future__ import annotations

import itertools
import logging
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .. import _native
from .._dataset import Dataset, Record
from .._errors import ReadError
from .._split import Indexed
from .collate import Fields

Pieces = Sequence["range | array[int]"]
"""Places, a few at a time."""
Request = tuple[int, Pieces]
"""An epoch, and places of it that are read by one native pipeline."""

FEW_ROWS = 16384
"""Rows that are read as one list rather than as a progression of their own; the next such list
is begun while one is read."""

_ALONE = 64
"""Rows behind one that cannot be read which are read by themselves."""

_log = logging.getLogger("ultar_dataloader")


class Order(Indexed, Protocol):
    """Which row is at which place of an epoch."""

    def __getitem__(self, place: int, /) -> int: ...


class Source(Protocol):
    """What a stream reads. Places count from 0 to ``len(source) - 1`` in every epoch."""

    @property
    def seed(self) -> int | None: ...
    @property
    def window(self) -> int | None: ...
    @property
    def shards(self) -> int:
        """How many there are, for messages."""

    @property
    def skips(self) -> bool:
        """Whether `items` may have None."""

    @property
    def bytes_ahead(self) -> int:
        """That may be held ahead of the consumer, at each stage."""

    def __len__(self) -> int: ...
    def order(self, epoch: int) -> Order: ...
    def items(self, requests: Iterable[Request]) -> Iterator[Any]:
        """What is at the places, in order; None for a row that is skipped as it cannot be read."""

    def record(self, epoch: int, place: int) -> Record: ...
    def places(self, epoch: int, stem: str) -> list[int]:
        """Where the rows with this stem are."""

    def fingerprint(self) -> str: ...
    def with_options(self, options: dict[str, Any]) -> Source: ...


def requests(epoch: int, progressions: Iterable[range]) -> Iterator[Request]:
    """Long progressions by themselves, short ones together."""
    few: list[range | array[int]] = []
    count = 0
    for progression in progressions:
        if len(progression) >= FEW_ROWS:
            if few:
                yield epoch, few
                few, count = [], 0
            yield epoch, (progression,)
            continue
        few.append(progression)
        count += len(progression)
        if count >= FEW_ROWS:
            yield epoch, few
            few, count = [], 0
    if few:
        yield epoch, few


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """The rows of a dataset, as they lie or shuffled."""

    dataset: Dataset
    seed: int | None = None
    window: int | None = None

    def __repr__(self) -> str:
        within = f" in windows of {self.window}" if self.window is not None else ""
        return repr(self.dataset) + (f", shuffled with seed {self.seed}{within}" if self.seed is not None else "")

    @property
    def shards(self) -> int:
        return len(self.dataset.shards)

    @property
    def skips(self) -> bool:
        return bool(self.dataset._options["on_error"] == "skip")

    @property
    def bytes_ahead(self) -> int:
        return int(self.dataset._options["prefetch_bytes"])

    def __len__(self) -> int:
        return len(self.dataset)

    def order(self, epoch: int) -> Order:
        if self.seed is None:
            return range(len(self.dataset))
        return _native.Order(len(self.dataset), self.seed, epoch, window=self.window)

    def items(self, requests: Iterable[Request]) -> Iterator[_native.LoadedRow | None]:
        return itertools.chain.from_iterable(begun_early((len_of(p), self._read(e, p)) for e, p in requests))

    def numbers(self, epoch: int, pieces: Pieces) -> array[int]:
        """The dataset's rows at these places, as its native side counts them."""
        return self.dataset._numbers(pieces, self._native_order(epoch))

    def gatherer(self, fields: Fields) -> _native.Gatherer:
        """Reads the fields of rows into arrays."""
        return self.dataset._gatherer(fields.fields)

    def record(self, epoch: int, place: int) -> Record:
        return self.dataset.record(self.order(epoch)[place])

    def places(self, epoch: int, stem: str) -> list[int]:
        order = self.order(epoch)
        found = self.dataset._places_with_stem(stem)
        return sorted(order.index(row) for row in found)

    def fingerprint(self) -> str:
        return self.dataset._view_fingerprint()

    def with_options(self, options: dict[str, Any]) -> DatasetSource:
        return DatasetSource(self.dataset._with_options(options), self.seed, self.window)

    def _native_order(self, epoch: int) -> _native.Order | None:
        order = self.order(epoch)
        return order if isinstance(order, _native.Order) else None

    def _read(self, epoch: int, pieces: Pieces) -> Iterator[_native.LoadedRow | None]:
        order = self._native_order(epoch)
        if self.skips:
            return _skipping(self.dataset, self.numbers(epoch, pieces))
        if order is not None and len(pieces) == 1 and isinstance(pieces[0], range):
            pipeline = self.dataset._pipeline(pieces[0], order)
        else:
            pipeline = self.dataset._pipeline(self._rows(epoch, pieces))
        pipeline.start()
        return pipeline

    def _rows(self, epoch: int, pieces: Pieces) -> range | array[int]:
        rows = self.dataset._rows
        if self.seed is None and isinstance(rows, range) and len(pieces) == 1 and isinstance(pieces[0], range):
            places = pieces[0]
            return rows[places.start : places.stop : places.step]
        return self.numbers(epoch, pieces)


def len_of(pieces: Pieces) -> int:
    """How many places."""
    return sum(map(len, pieces))


def begun_early(readings: Iterable[tuple[int, Iterator[Any]]]) -> Iterator[Iterator[Any]]:
    """The first is begun now; short ones while the one before is read, so that nothing waits between them."""
    rest = iter(readings)
    waiting = list(itertools.islice(rest, 1))
    return _one_ahead(waiting, rest)


def _one_ahead(
    waiting: list[tuple[int, Iterator[Any]]], rest: Iterator[tuple[int, Iterator[Any]]]
) -> Iterator[Iterator[Any]]:
    while waiting:
        if waiting[0][0] <= FEW_ROWS:
            waiting += itertools.islice(rest, 1)
        yield waiting.pop(0)[1]
        waiting = waiting or list(itertools.islice(rest, 1))


def _skipping(dataset: Dataset, numbers: array[int]) -> Iterator[_native.LoadedRow | None]:
    """Rows, with None for each that cannot be read, so that places stay what they are."""
    strict = dataset._with_options({"on_error": "raise"})
    # A store is better asked for many.
    alone = 0 if dataset._store.has_urls else _ALONE
    at = 0
    while at < len(numbers):
        try:
            for row in strict._pipeline(numbers[at:]):
                at += 1
                yield row
        except ReadError:
            pass
        else:
            return
        # A pipeline ends with an error. Which row it is about is known when this one is read, and
        # others of its shard are likely as bad: to begin a pipeline for each would take long.
        bad = at
        while at < len(numbers) and at <= bad + alone:
            number, at = numbers[at], at + 1
            try:
                row = strict._few(array("Q", [number]))[0]
            except ReadError as error:
                _log.warning("row skipped: %s", error)
                bad = at - 1
                yield None
            else:
                yield row
