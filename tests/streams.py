"""Datasets for the tests of streams, and what they should give."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from conftest import write_tar

import ultar_dataloader as ultar
from ultar_dataloader import Dataset, LoadedRow

ROWS = 60


def make_dataset(folder: Path, rows: int = ROWS, first: int = 0, cuts: Sequence[int] = (17, 18)) -> Dataset:
    """Rows with their number under `.id`, in several shards."""
    edges = [0, *cuts, rows]
    for number, (start, stop) in enumerate(pairwise(edges)):
        samples = {f"s{i:03}": {".id": b"%d" % i, ".bin": payload_of(i)} for i in range(first + start, first + stop)}
        write_tar(folder / f"train-{number:06}.tar", samples)
    return Dataset(folder)


def payload_of(i: int) -> bytes:
    """What row `i` has under `.bin`."""
    return bytes([i % 256]) * (i * 37 % 400)


def number(row: LoadedRow) -> int:
    return int(row["id"])


def ids(rows: Iterable[Any]) -> list[int]:
    return [number(row) for row in rows]


def flat(batches: Iterable[Any]) -> list[int]:
    """Of batches of views, or of numbers."""
    found: list[int] = []
    for batch in batches:
        found += [int(bytes(view)) for view in batch[".id"]] if isinstance(batch, dict) else batch
    return found


def interleaved(ranks: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """Global batches, in order of places, of what each rank has at each step."""
    assert len({len(steps) for steps in ranks}) == 1, "ranks with unequal steps"
    batches = []
    for step in zip(*ranks, strict=True):
        most = max(map(len, step))
        batches.append([rank[slot] for slot in range(most) for rank in step if slot < len(rank)])
    return batches


def full_order(n: int, seed: int | None, epoch: int, window: int | None = None) -> list[int]:
    return list(range(n)) if seed is None else list(ultar.order(n, seed, epoch, window=window))
