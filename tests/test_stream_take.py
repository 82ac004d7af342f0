"""`take`, and options by the names that others have for them."""

from __future__ import annotations

import json
import pickle
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import ROWS, flat, full_order, ids, interleaved, number

from ultar_dataloader import Dataset, Stream, mix


def test_take_is_the_beginning_of_an_order(dataset: Dataset) -> None:
    assert ids(dataset.take(5)) == [0, 1, 2, 3, 4]
    stream = dataset.shuffle(2).take(7)
    assert [ids(stream) for _ in range(2)] == [full_order(ROWS, 2, epoch)[:7] for epoch in range(2)], "of each epoch"
    assert len(stream) == 7 and len(stream.batch(2)) == 4 and stream.steps_per_epoch == 7
    assert ids(dataset.take(9).take(4).take(6)) == [0, 1, 2, 3]
    assert ids(dataset.take(1000)) == list(range(ROWS)) and ids(dataset.take(0)) == []
    assert list(dataset.map(number).take(3).repeat(2)) == [0, 1, 2] * 2
    assert flat(dataset.take(7).shard(1, 2).batch(2)) == [1, 3, 5, 0], "the tail is filled from the rows that are taken"
    assert ids(mix([dataset[:3].stream(), dataset[5:]]).take(50)) == ids(mix([dataset[:3].stream(), dataset[5:]]))[:50]
    assert ids(pickle.loads(pickle.dumps(stream))) == full_order(ROWS, 2, 2)[:7]
    assert "the first 7 rows" in repr(stream)


def test_take_says_what_it_cannot_do(dataset: Dataset) -> None:
    for stream, message in (
        (dataset.batch(2), "before batch"),
        (dataset.filter(number), "before filter"),
        (dataset.flat_map(bytes), "before filter"),
    ):
        with pytest.raises(ValueError, match=message):
            stream.take(1)
    with pytest.raises(ValueError, match="count must be from 0"):
        dataset.take(-1)
    with pytest.raises(TypeError, match="count must be an int, not float"):
        dataset.take(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shuffle before take"):
        dataset.take(1).shuffle()
    with pytest.raises(ValueError, match="belong behind mix"):
        mix([dataset.take(3), dataset.stream()])


def test_which_and_when_know_what_is_taken(dataset: Dataset) -> None:
    stream = dataset.shuffle(4).take(20).batch(6)
    order = full_order(ROWS, 4, 0)
    assert stream.which(3) == [f"s{n:03}" for n in order[18:20]]
    assert [one.step for one in stream.when(f"s{order[13]:03}")] == [2]
    assert stream.when(f"s{order[20]:03}") == []
    with pytest.raises(IndexError):
        stream.which(4)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.one_of(st.none(), st.integers(0, 3)),
    count=st.integers(0, ROWS + 5),
    skipped=st.sets(st.integers(0, ROWS - 1), max_size=8),
    before=st.tuples(st.integers(1, 4), st.integers(1, 6)),
    after=st.tuples(st.integers(1, 4), st.integers(1, 6)),
    part=st.floats(0, 1),
    tail=st.sampled_from(["repeat", "drop"]),
)
def test_what_is_taken_is_resumed_with_other_ranks(
    dataset: Dataset,
    seed: int | None,
    count: int,
    skipped: set[int],
    before: tuple[int, int],
    after: tuple[int, int],
    part: float,
    tail: Any,
) -> None:
    """Every row that is taken once, with any number of ranks before and after."""

    def ranks(world: int, batch: int) -> list[Stream]:
        rows = dataset.stream() if seed is None else dataset.shuffle(seed)
        rows = rows.skip(skipped).take(count)
        return [rows.shard(rank, world, tail=tail).map(number, 1).batch(batch) for rank in range(world)]

    wanted = [n for n in full_order(ROWS, seed, 0)[:count] if n not in skipped]
    streams = ranks(*before)
    steps = int(part * (len(wanted) // (before[0] * before[1])))
    heads = []
    for stream in streams:
        batches = iter(stream)
        heads.append([next(batches) for _ in range(steps)])
    seen = [n for step in interleaved(heads) for n in step]
    states = [json.dumps(stream.state_dict()) for stream in streams]
    assert len(set(states)) == 1, "ranks disagree"
    resumed = ranks(*after)
    for stream in resumed:
        stream.load_state_dict(json.loads(states[0]))
    rest = [n for step in interleaved([list(stream) for stream in resumed]) for n in step]
    left = wanted[len(seen) :]
    assert seen == wanted[: len(seen)]
    if tail == "drop":
        assert rest == left[: len(left) // (after[0] * after[1]) * after[0] * after[1]]
    else:
        assert rest[: len(left)] == left and len(rest) - len(left) < after[0] * after[1]
        assert set(rest) <= set(wanted)


def test_a_state_fits_where_more_or_less_is_taken(dataset: Dataset) -> None:
    order = full_order(ROWS, 1, 0)
    few = dataset.shuffle(1).take(20)
    rows = iter(few)
    for _ in range(12):
        next(rows)
    state = few.state_dict()
    for count, left in ((20, order[12:20]), (30, order[12:30]), (12, []), (5, [])):
        stream = dataset.shuffle(1).take(count)
        stream.load_state_dict(state)
        assert ids(stream) == left
        assert ids(stream) == full_order(ROWS, 1, 1)[:count], "then the next epoch"


def test_inter_is_how_many_calls_are_made_at_once(dataset: Dataset) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def watched(batch: Any) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.003)
        with lock:
            running -= 1
        return len(batch)

    batches = dataset.map(number).batch(2).map(watched)
    for stream, bound in ((batches.options(inter=1), 1), (batches.options(inter=2), 2), (batches.options(inter=6), 6)):
        most = 0
        assert list(stream) == [2] * 30
        assert most <= bound
        # That there are several at once is what the threads are for, however slow the machine is.
        assert most > 1 or bound == 1
    most = 0
    assert list(dataset.map(number).batch(2).map(watched, num_parallel_calls=1).options(inter=6)) == [2] * 30
    assert most == 1, "who says a number means it"
    assert list(mix([dataset.map(number).options(inter=1)])) == list(mix([dataset.map(number)]))


def test_intra_is_threads(dataset: Dataset) -> None:
    stream = dataset.shuffle(1).options(intra=2, inter=3, prefetch_rows=4)
    assert ids(stream) == full_order(ROWS, 1, 0)
    assert stream._plan.source.dataset._options["threads"] == 2  # type: ignore[attr-defined]
    assert stream.options(inter=None)._plan.calls == "auto" and stream._plan.calls == 3
    for options, message in (
        ({"intra": 2, "threads": 2}, "names of the same"),
        ({"extra": 1}, "no option extra; there are .*intra, inter"),
    ):
        with pytest.raises(TypeError, match=message):
            dataset.options(**options)
    for options in ({"intra": 0}, {"inter": 0}, {"inter": 2000}):
        with pytest.raises(ValueError, match="must be from 1 to"):
            dataset.options(**options)
