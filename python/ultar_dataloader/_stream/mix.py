"""`mix`: one stream of several, drawn by weight."""

from __future__ import annotations

import hashlib
import itertools
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .._dataset import Record
from .._split import whole
from .draws import Draws
from .plan import Plan, Stage
from .run import through
from .source import FEW_ROWS, Order, Request, Source, begun_early
from .stream import Stream


def mix(
    streams: Iterable[Stream],
    weights: Iterable[float] | None = None,
    seed: int = 0,
    *,
    stop: Literal["all", "first"] = "all",
) -> Stream:
    """Rows of several streams, drawn at random by weight.

    Which stream is drawn when follows from the seed, the weights and the lengths: so a mixture
    is sharded, batched and resumed like any other stream, to the row. Each epoch of it is an
    epoch of each of the streams, as often as those repeat.

    Args:
        streams: Of rows: not batched, sharded or prefetched; that is done to the mixture.
        weights: One a stream, above 0; None for the lengths, so that all end together.
        seed: Of the draws; 0 to 2**53.
        stop: When a stream ends, ``"all"`` goes on with the others until each row was there;
            ``"first"`` ends the epoch.

    Raises:
        TypeError: One of `streams` is no stream.
        ValueError: One is batched, sharded, empty or endless, or a weight is not above 0.
    """
    children = tuple(_child(stream) for stream in streams)
    if not children:
        raise ValueError("mix wants at least one stream")
    given = [_length(child) for child in children] if weights is None else [float(weight) for weight in weights]
    if len(given) != len(children):
        raise ValueError(f"mix wants a weight for each stream: {len(children)} streams, {len(given)} weights")
    if bad := [weight for weight in given if not (0 < weight < math.inf)]:
        raise ValueError(f"a weight must be above 0, got {bad[0]}")
    if stop not in ("all", "first"):
        raise ValueError(f'stop must be "all" or "first", got {stop!r}')
    source = MixSource(children, tuple(given), whole("seed", seed, 0, 2**53), stop)
    return Stream(source, Plan(source, stages=_stages(children)))


def _child(stream: Any) -> Plan:
    if not isinstance(stream, Stream):
        stream = stream.stream() if hasattr(stream, "stream") else stream
    if not isinstance(stream, Stream):
        raise TypeError(f"mix wants streams, got {type(stream).__name__}")
    plan = stream._plan
    usual = Plan(plan.source, stages=plan.stages, repeat=plan.repeat, calls_max=plan.calls_max)
    if plan != usual:
        raise ValueError("batch, shard and prefetch belong behind mix, and rows are left out of its datasets: ds[rows]")
    if plan.repeat is None:
        raise ValueError("a stream that repeats without end cannot be mixed: its length is not known")
    if len(plan.source) == 0:
        raise ValueError(f"an empty stream cannot be mixed: {stream!r}")
    return plan


def _length(child: Plan) -> int:
    return len(child.source) * (child.repeat or 1)


def _stages(children: tuple[Plan, ...]) -> tuple[Stage, ...]:
    """One stage that does with each row what its stream would."""
    if not any(child.stages for child in children):
        return ()
    kinds = {stage.kind for child in children for stage in child.stages}
    calls = [child.calls for child in children]
    named = [one for one in calls if isinstance(one, int)]
    function = _Own(tuple(child.stages for child in children))
    return (
        Stage(
            "map" if kinds == {"map"} else "flat_map",
            _First(function) if kinds == {"map"} else function,
            min(named, default="auto"),
        ),
    )


@dataclass(frozen=True)
class _Own:
    """Of a number of a stream and a row, what the stream makes of the row."""

    stages: tuple[tuple[Stage, ...], ...]

    def __call__(self, numbered: tuple[int, Any]) -> list[Any]:
        number, row = numbered
        return through(self.stages[number], row)


@dataclass(frozen=True)
class _First:
    """The one thing that comes of a row."""

    function: _Own

    def __call__(self, numbered: tuple[int, Any]) -> Any:
        return self.function(numbered)[0]


@dataclass(frozen=True)
class MixSource:
    """Places are draws; an item is a row, with its stream's number where streams have stages."""

    children: tuple[Plan, ...]
    weights: tuple[float, ...]
    seed: int
    stop: str

    window = None

    _draws: Draws = field(init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        children = "; ".join(str(child) for child in self.children)
        return f"mix of [{children}] by weights {', '.join(map('{:g}'.format, self.weights))}, with seed {self.seed}"

    def __post_init__(self) -> None:
        lengths = [_length(child) for child in self.children]
        object.__setattr__(self, "_draws", Draws(lengths, self.weights, self.seed, self.stop))

    @property
    def shards(self) -> int:
        return sum(child.source.shards for child in self.children)

    @property
    def skips(self) -> bool:
        return any(child.source.skips for child in self.children)

    @property
    def bytes_ahead(self) -> int:
        return min(child.source.bytes_ahead for child in self.children)

    def __len__(self) -> int:
        return self._draws.count

    def order(self, epoch: int) -> Order:
        return range(len(self))

    def items(self, requests: Iterable[Request]) -> Iterator[Any]:
        chunks = ((len(chunk), self._begin(epoch, chunk)) for epoch, pieces in requests for chunk in _chunks(pieces))
        return itertools.chain.from_iterable(begun_early(chunks))

    def record(self, epoch: int, place: int) -> Record:
        number, draw = self._draws.at(place)
        child, child_epoch, child_place = self._at(number, epoch, draw)
        return child.source.record(child_epoch, child_place)

    def places(self, epoch: int, stem: str) -> list[int]:
        found = []
        for number, child in enumerate(self.children):
            for turn in range(child.repeat or 1):
                places = child.source.places(epoch * (child.repeat or 1) + turn, stem)
                found += [self._draws.place(number, turn * len(child.source) + place) for place in places]
        return sorted(place for place in found if place is not None)

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(repr((self.weights, self.seed, self.stop)).encode(), digest_size=16)
        for child in self.children:
            source = child.source
            digest.update(f"{source.fingerprint()} {source.seed} {source.window} {child.repeat}\n".encode())
        return digest.hexdigest()

    def with_options(self, options: dict[str, Any]) -> Source:
        changed = (replace(child, source=child.source.with_options(options)) for child in self.children)
        return MixSource(tuple(changed), self.weights, self.seed, self.stop)

    def _at(self, number: int, epoch: int, draw: int) -> tuple[Plan, int, int]:
        child = self.children[number]
        turn, place = divmod(draw, len(child.source))
        return child, epoch * (child.repeat or 1) + turn, place

    def _begin(self, epoch: int, chunk: Sequence[int]) -> Iterator[Any]:
        """Rows of these draws; their reads are begun at once."""
        numbers = array("Q")
        wanted: list[dict[int, array[int]]] = [{} for _ in self.children]
        for place in chunk:
            number, draw = self._draws.at(place)
            _, child_epoch, child_place = self._at(number, epoch, draw)
            wanted[number].setdefault(child_epoch, array("Q")).append(child_place)
            numbers.append(number)
        readers = [
            child.source.items([(e, (_as_range(places),)) for e, places in epochs.items()])
            for child, epochs in zip(self.children, wanted, strict=True)
        ]
        return self._drawn(numbers, readers)

    def _drawn(self, numbers: array[int], readers: list[Iterator[Any]]) -> Iterator[Any]:
        if not any(child.stages for child in self.children):
            for number in numbers:
                yield next(readers[number])
            return
        for number in numbers:
            row = next(readers[number])
            yield None if row is None else (number, row)


def _chunks(pieces: Sequence[range | array[int]]) -> Iterator[Sequence[int]]:
    for piece in pieces:
        for first in range(0, len(piece), FEW_ROWS):
            yield piece[first : first + FEW_ROWS]


def _as_range(places: array[int]) -> range | array[int]:
    first, last = places[0], places[-1]
    if last - first + 1 == len(places) and places == array("Q", range(first, last + 1)):
        return range(first, last + 1)
    return places
