"""`zip`: rows side by side, in the order of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import ROWS, full_order, interleaved, make_dataset, number

from ultar_dataloader import Dataset, Stream, mix


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """As many rows as `dataset`, from 100 on, in other shards."""
    return make_dataset(tmp_path_factory.mktemp("other"), first=100, cuts=(5,), rows=ROWS)


def numbers(rows: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(map(number, rows))


def test_rows_stay_side_by_side(dataset: Dataset, other: Dataset) -> None:
    assert [numbers(rows) for rows in dataset.zip(other)] == [(n, n + 100) for n in range(ROWS)]
    both = dataset.shuffle(3).zip(other.shuffle(3), dataset.shuffle(4).map(number))
    for epoch in range(2):
        same, own = full_order(ROWS, 3, epoch), full_order(ROWS, 4, epoch)
        assert [(number(a), number(b), c) for a, b, c in both] == [
            (n, n + 100, m) for n, m in zip(same, own, strict=True)
        ]
    batches = list(dataset.zip(other).batch(25, collate=lambda rows: [numbers(row) for row in rows]))
    assert list(map(len, batches)) == [25, 25, 10] and batches[1][0] == (25, 125)
    assert list(dataset.zip().map(numbers))[:2] == [(0,), (1,)]
    assert "<Stream zip of [<Dataset 60 rows" in repr(both) and "shuffled with seed 4]" in repr(both)
    # Each child's functions are its own, and the mixture's draws are those of any stream.
    pairs = dataset.map(number).zip(other.map(number))
    assert sorted(mix([pairs, pairs]), key=str) == sorted([*pairs, *pairs], key=str)
    assert pairs.which(0) == ["s000"] and [one.step for one in pairs.when("s007")] == [7]


def test_what_does_not_fit_is_refused(dataset: Dataset, other: Dataset) -> None:
    with pytest.raises(ValueError, match=r"same length, got 60 and 50 rows: cut them, as in ds\[:50\]"):
        dataset.zip(other[:50])
    for stream in (other.batch(2), other.filter(number), other.repeat(2), other.take(3), other.shard(0, 2)):
        with pytest.raises(ValueError, match="belongs behind it"):
            dataset.zip(stream)
    with pytest.raises(TypeError, match="got list"):
        dataset.zip([1])  # type: ignore[arg-type]
    pairs = dataset.zip(other)
    with pytest.raises(ValueError, match="with one seed to zip"):
        pairs.shuffle()
    with pytest.raises(ValueError, match="mixture or zip"):
        pairs.batch(2, collate={".bin": ("u1", (None,))})
    with pytest.raises(ValueError, match="mixed or zipped"):
        pairs.skip([1])


def test_a_row_that_cannot_be_read_takes_its_neighbour_with_it(
    dataset: Dataset, make_shard: Callable[..., Path]
) -> None:
    shard = make_shard({f"{i}": {".f": bytes(600)} for i in range(4)}, "short.tar")
    short = Dataset(shard)
    with open(shard, "r+b") as file:
        file.truncate(4 * 512)
    pairs = dataset[:4].zip(short)
    assert [number(row) for row, _ in pairs.options(on_error="skip")] == [0]
    with pytest.raises(OSError, match="wanted 600 bytes"):
        list(pairs)

    def fail(row: Any) -> None:
        raise KeyError("what a row")

    with pytest.raises(KeyError) as caught:
        next(iter(dataset.map(number).zip(dataset.map(fail, 1))))
    assert any("step 0 of epoch 0, row 's000'" in note for note in caught.value.__notes__)


@settings(deadline=None, max_examples=40)
@given(
    seeds=st.tuples(st.one_of(st.none(), st.integers(0, 3)), st.integers(0, 3)),
    before=st.tuples(st.integers(1, 4), st.integers(1, 6)),
    after=st.tuples(st.integers(1, 4), st.integers(1, 6)),
    part=st.floats(0, 1),
    count=st.integers(0, ROWS),
    depth=st.integers(0, 2),
)
def test_pairs_are_resumed_with_other_ranks(
    dataset: Dataset,
    other: Dataset,
    seeds: tuple[int | None, int],
    before: tuple[int, int],
    after: tuple[int, int],
    part: float,
    count: int,
    depth: int,
) -> None:
    def ranks(world: int, batch: int) -> list[Stream]:
        first = dataset.stream() if seeds[0] is None else dataset.shuffle(seeds[0])
        pairs = first.map(number, 1).zip(other.shuffle(seeds[1])).take(count)
        pairs = pairs.map(lambda pair: (pair[0], number(pair[1])), 1)
        return [pairs.shard(rank, world).batch(batch).prefetch(depth) for rank in range(world)]

    orders = full_order(ROWS, seeds[0], 0), full_order(ROWS, seeds[1], 0)
    wanted = [(n, m + 100) for n, m in zip(*orders, strict=True)][:count]
    steps = int(part * (count // (before[0] * before[1])))
    streams, heads = ranks(*before), []
    for stream in streams:
        batches = iter(stream)
        heads.append([next(batches) for _ in range(steps)])
    seen = [pair for step in interleaved(heads) for pair in step]
    states = [json.dumps(stream.state_dict()) for stream in streams]
    assert len(set(states)) == 1 and seen == wanted[: len(seen)]
    resumed = ranks(*after)
    for stream in resumed:
        stream.load_state_dict(json.loads(states[0]))
    rest = [pair for step in interleaved([list(stream) for stream in resumed]) for pair in step]
    left = wanted[len(seen) :]
    assert rest[: len(left)] == left and len(rest) - len(left) < after[0] * after[1] and set(rest) <= set(wanted)


def test_a_state_of_other_pairs_is_refused(dataset: Dataset, other: Dataset) -> None:
    state = dataset.zip(other.shuffle(1)).state_dict()
    dataset.zip(other.shuffle(1)).load_state_dict(state)
    for stream in (dataset.zip(other.shuffle(2)), other.zip(dataset.shuffle(1)), dataset.zip(other), dataset.stream()):
        with pytest.raises(ValueError, match="the dataset is not the one of the state"):
            stream.load_state_dict(state)
