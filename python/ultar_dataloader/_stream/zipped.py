"""Several streams side by side: what comes first of each, then what comes second."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from .._dataset import Record
from .plan import Plan, Stage
from .run import through
from .source import Order, Request, Source


def zipped(plans: tuple[Plan, ...]) -> Plan:
    """The plan of streams whose elements are put together, as tuples.

    Raises:
        ValueError: One has more done to it than to be shuffled and mapped, or they are not
            equally long.
    """
    for plan in plans:
        usual = Plan(plan.source, stages=plan.stages, calls_max=plan.calls_max)
        if plan != usual or any(stage.kind != "map" for stage in plan.stages):
            raise ValueError("zip puts together streams that are shuffled and mapped: all else belongs behind it")
    lengths = [len(plan.source) for plan in plans]
    if len(set(lengths)) > 1:
        text = " and ".join(map(str, lengths))
        raise ValueError(f"zip wants streams of the same length, got {text} rows: cut them, as in ds[:{min(lengths)}]")
    source = ZipSource(tuple(plan.source for plan in plans))
    stages: tuple[Stage, ...] = ()
    if any(plan.stages for plan in plans):
        named = [plan.calls for plan in plans if isinstance(plan.calls, int)]
        stages = (Stage("map", _Each(tuple(plan.stages for plan in plans)), min(named, default="auto")),)
    return Plan(source, stages=stages)


@dataclass(frozen=True)
class _Each:
    """Of a tuple of rows, what each one's stages make of it."""

    stages: tuple[tuple[Stage, ...], ...]

    def __call__(self, rows: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(through(stages, row)[0] for stages, row in zip(self.stages, rows, strict=True))


@dataclass(frozen=True)
class ZipSource:
    """Places are those of all; an item is a tuple. Names of rows are those of the first."""

    children: tuple[Source, ...]

    seed = None
    window = None

    def __repr__(self) -> str:
        return f"zip of [{'; '.join(map(repr, self.children))}]"

    @property
    def shards(self) -> int:
        return sum(child.shards for child in self.children)

    @property
    def skips(self) -> bool:
        return any(child.skips for child in self.children)

    @property
    def bytes_ahead(self) -> int:
        return min(child.bytes_ahead for child in self.children)

    def __len__(self) -> int:
        return len(self.children[0])

    def order(self, epoch: int) -> Order:
        return range(len(self))

    def items(self, requests: Iterable[Request]) -> Iterator[Any]:
        each = itertools.tee(requests, len(self.children))
        readers = [child.items(own) for child, own in zip(self.children, each, strict=True)]
        for rows in zip(*readers, strict=True):
            # Where one cannot be read, the others have nothing to stand beside.
            yield None if any(row is None for row in rows) else rows

    def record(self, epoch: int, place: int) -> Record:
        return self.children[0].record(epoch, place)

    def places(self, epoch: int, stem: str) -> list[int]:
        return self.children[0].places(epoch, stem)

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(b"zip", digest_size=16)
        for child in self.children:
            digest.update(f"{child.fingerprint()} {child.seed} {child.window}\n".encode())
        return digest.hexdigest()

    def with_options(self, options: dict[str, Any]) -> Source:
        return replace(self, children=tuple(child.with_options(options) for child in self.children))
