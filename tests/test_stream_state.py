"""States of streams: every row once, equal steps, and the same tail from anywhere on."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import ROWS, flat, full_order, interleaved, make_dataset, number, payload_of

from ultar_dataloader import Dataset, LoadedRow, Stream

COUNTS = st.integers(1, 9)
READING = st.fixed_dictionaries(
    {
        "io": st.sampled_from(["uring", "threads"]),
        "access": st.sampled_from(["read", "mmap", "direct"]),
        "threads": st.integers(1, 3),
        "prefetch_rows": st.sampled_from([1, 5, 1000]),
    }
)
HOW = st.sampled_from(["function", "rows", "views", "arrays"])


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(state))
    return found


def take(stream: Stream, steps: int) -> list[Any]:
    it = iter(stream)
    return [next(it) for _ in range(steps)]


def as_told(stream: Stream, how: str, batch: int, parallel: int) -> Stream:
    """Batches of the same rows, made in one of several ways."""
    if how == "function":
        return stream.map(LoadedRow.to_dict, parallel).batch(batch)
    if how == "rows":
        return stream.batch(batch, collate=list)
    if how == "views":
        return stream.batch(batch)
    return stream.batch(batch, collate={".id": ("u1", (None,)), ".bin": ("u1", (None,))})


def exact(batch: Any) -> list[int]:
    """The rows of a batch, each with the bytes that it has to have."""
    if isinstance(batch, list):
        batch = {key: [row[key] for row in batch] for key in (".id", ".bin")}
    columns = [pieces(batch[key]) for key in (".id", ".bin")]
    for name, payload in zip(*columns, strict=True):
        assert payload == payload_of(int(name))
    return [int(name) for name in columns[0]]


def pieces(values: Any) -> list[bytes]:
    if isinstance(values, list):
        return [bytes(value) for value in values]
    data, offsets = bytes(values.values), list(memoryview(values.offsets))
    return [data[start:stop] for start, stop in pairwise(offsets)]


@settings(deadline=None, max_examples=80)
@given(
    n=st.integers(0, ROWS),
    seed=st.one_of(st.none(), st.integers(0, 5)),
    window=st.one_of(st.none(), st.integers(1, 80)),
    tail=st.sampled_from(["repeat", "drop"]),
    legs=st.lists(
        st.tuples(
            st.integers(1, 5),
            COUNTS,
            st.floats(0, 1),
            st.sampled_from([0, 1, 2, "auto"]),
            READING,
            HOW,
            st.integers(1, 3),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_any_way_through_an_epoch(
    dataset: Dataset, n: int, seed: int | None, window: int | None, tail: Any, legs: list[Any]
) -> None:
    """Legs with ranks, batches, ways to read and prefetching of their own, each from the state of the one before."""
    ds = dataset[:n]
    rows = ds.stream() if seed is None else ds.shuffle(seed, window=window)
    order = full_order(n, seed, 0, window if seed is not None else None)
    state: dict[str, Any] | None = None
    seen: list[int] = []
    for i, (world, batch, part, depth, reading, how, parallel) in enumerate(legs):
        last = i == len(legs) - 1
        kind: Any = "drop" if tail == "drop" and last else "repeat"
        told = [rows.options(**reading).shard(rank, world, tail=kind) for rank in range(world)]
        streams = [as_told(stream, how, batch, parallel).prefetch(depth) for stream in told]
        for stream in streams:
            if state is not None:
                stream.load_state_dict(state)
        if last:
            batches = interleaved([[exact(one) for one in stream] for stream in streams])
            rest = [row for step in batches for row in step]
            left = order[len(seen) :]
            if tail == "drop":
                assert rest == left[: len(left) // (world * batch) * world * batch]
            else:
                cycle = order[len(seen) :] + order * (len(rest) // max(1, n) + 1)
                assert rest == cycle[: len(rest)]
                assert len(rest) == -(-len(left) // (world * batch)) * world * batch
            continue
        # Whole steps, and no further than rows last without repeats.
        steps = int(part * ((n - len(seen)) // (world * batch)))
        heads = [list(map(exact, take(stream, steps))) for stream in streams]
        seen += [row for step in interleaved(heads) for row in step]
        states = [through_json(stream.state_dict()) for stream in streams]
        assert all(one == states[0] for one in states), "ranks disagree"
        state = states[0]
    assert seen == order[: len(seen)]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 3),
    batch=st.one_of(st.none(), st.tuples(COUNTS, st.booleans())),
    stages=st.lists(st.sampled_from(["filter", "flat_map"]), max_size=2),
    repeat=st.sampled_from([1, 2, 3]),
    part=st.floats(0, 1),
    parallel=st.sampled_from([1, 3]),
    depth=st.integers(0, 3),
    again=st.tuples(st.sampled_from([1, 2]), st.integers(0, 3)),
)
def test_the_tail_is_the_same_wherever_it_was_cut(
    dataset: Dataset,
    seed: int,
    batch: tuple[int, bool] | None,
    stages: list[str],
    repeat: int,
    part: float,
    parallel: int,
    depth: int,
    again: tuple[int, int],
) -> None:
    def build(parallel: int, depth: int) -> Stream:
        stream = dataset.shuffle(seed).map(number, parallel)
        for stage in stages:
            stream = (
                stream.filter(lambda n: n % 3 > 0) if stage == "filter" else stream.flat_map(lambda n: [n] * (n % 4))
            )
        if batch is not None:
            stream = stream.batch(batch[0], refill=batch[1])
        return stream.prefetch(depth).repeat(repeat)

    whole = list(build(parallel, depth))
    cut = int(part * len(whole))
    stream = build(parallel, depth)
    assert take(stream, cut) == whole[:cut]
    state = through_json(stream.state_dict())
    other = build(*again)
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert list(other) == whole[cut:]
    # The iterator itself can be set back, too.
    it = iter(stream)
    it.load_state_dict(state)
    assert list(it) == whole[cut:]


@settings(deadline=None, max_examples=40)
@given(workers=st.integers(1, 4), batch=COUNTS, repeat=st.sampled_from([1, 3]), cut=st.integers(0, 40), data=st.data())
def test_workers_take_turns(
    dataset: Dataset, workers: int, batch: int, repeat: int, cut: int, data: st.DataObject
) -> None:
    """As PyTorch's loader asks its workers: one after the other, leaving out those that have ended."""

    def turns(iterators: list[Any], first: int, most: int | None) -> tuple[list[Any], int]:
        found: list[Any] = []
        alive = dict(enumerate(iterators))
        turn = first
        while alive and (most is None or len(found) < most):
            if turn in alive:
                try:
                    found.append(next(alive[turn]))
                except StopIteration:
                    del alive[turn]
                    turn = (turn + 1) % workers
                    continue
            turn = (turn + 1) % workers
        return found, turn

    stream = dataset.shuffle(2).map(number, 1).batch(batch).repeat(repeat)
    whole = list(stream)
    stream.set_epoch(0)
    iterators = [iter(stream.share(i, workers)) for i in range(workers)]
    cut = min(cut, len(whole))
    head, turn = turns(iterators, 0, cut)
    assert head == whole[:cut]
    states = [through_json(it.state_dict()) for it in iterators]
    again = [stream.share(i, workers) for i in range(workers)]
    for one, state in zip(again, states, strict=True):
        one.load_state_dict(state)
    rest, _ = turns([iter(one) for one in again], turn, None)
    assert rest == whole[cut:]
    if repeat == 1:
        # What the loop knows is enough to go on with other workers, or none.
        state = stream.state_after(cut)
        stream.load_state_dict(state)
        assert list(stream) == whole[cut:]


def test_skipped_rows_change_nothing_of_the_rest(dataset: Dataset) -> None:
    stream = dataset.shuffle(3).map(number, 1).batch(7)
    take(stream, 3)
    state = stream.state_dict()
    order = full_order(ROWS, 3, 0)
    resumed = dataset.shuffle(3).skip([order[25]], [(4, 9)]).map(number, 1).batch(5)
    resumed.load_state_dict(state)
    wanted = [row for row in order[21:] if row != order[25] and row not in range(4, 9)]
    assert [row for batch in resumed for row in batch] == wanted


def test_epochs_go_on_where_a_state_was(dataset: Dataset) -> None:
    stream = dataset.shuffle(1).batch(25)
    assert [flat(stream) for _ in range(2)] == [full_order(ROWS, 1, 0), full_order(ROWS, 1, 1)]
    assert stream.state_dict() | {"fingerprint": ""} == {
        "version": 1,
        "fingerprint": "",
        "rows": ROWS,
        "shards": 3,
        "seed": 1,
        "window": None,
        "epoch": 2,
        "position": 0,
    }
    other = dataset.shuffle(1).batch(25)
    other.load_state_dict(stream.state_dict())
    assert flat(other) == full_order(ROWS, 1, 2)
    other.set_epoch(7)
    assert flat(other) == full_order(ROWS, 1, 7)
    # All batches of an epoch delivered, its end not yet seen: nothing is left of it.
    take(other, 3)
    stream.load_state_dict(other.state_dict())
    assert flat(stream) == []
    assert flat(stream) == full_order(ROWS, 1, 9)


def test_a_state_is_that_of_what_was_delivered(dataset: Dataset) -> None:
    stream = dataset.shuffle(1).map(number).batch(4).prefetch(8)
    it = iter(stream)
    for step in range(1, 6):
        next(it)
        assert it.state_dict()["position"] == stream.state_dict()["position"] == 4 * step


def test_an_error_leaves_the_state_of_what_came_before(dataset: Dataset) -> None:
    broken = True

    def fails(row: Any) -> int:
        if broken and number(row) == 30:
            raise ValueError("bad row")
        return number(row)

    stream = dataset.map(fails).batch(7)
    batches: list[list[int]] = []
    with pytest.raises(ValueError, match="bad row"):
        batches.extend(stream)
    got = [n for batch in batches for n in batch]
    assert stream.state_dict()["position"] == len(got)
    broken = False
    assert got + [n for batch in stream for n in batch] == list(range(ROWS))


def test_another_dataset_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    state = dataset.shuffle(1).state_dict()
    (tmp_path / "more").mkdir()
    more = make_dataset(tmp_path / "more", rows=61)
    with pytest.raises(ValueError, match="it had 60 rows, now 61$"):
        more.shuffle(1).load_state_dict(state)
    with pytest.raises(ValueError, match="it had 60 rows, now 50$"):
        dataset[:50].shuffle(1).load_state_dict(state)
    (tmp_path / "other").mkdir()
    other = make_dataset(tmp_path / "other", cuts=(17, 19))
    with pytest.raises(ValueError, match="as many shards and rows, but other ones"):
        other.shuffle(1).load_state_dict(state)
    with pytest.raises(ValueError, match="as many shards and rows, but other ones"):
        dataset[::-1].shuffle(1).load_state_dict(state)
    (tmp_path / "same").mkdir()
    same = make_dataset(tmp_path / "same")
    same.shuffle(1).load_state_dict(state)  # Moved to another folder.
    with pytest.raises(ValueError, match="seed=1, the stream has seed=2"):
        dataset.shuffle(2).load_state_dict(state)
    with pytest.raises(ValueError, match="window=None, the stream has window=8"):
        dataset.shuffle(1, window=8).load_state_dict(state)


def test_what_is_no_state_is_refused(dataset: Dataset) -> None:
    stream = dataset.shuffle(1)
    state = stream.state_dict()
    wrong: list[tuple[Any, type[Exception], str]] = [
        (None, TypeError, "must be a mapping"),
        ({}, ValueError, "lacks version"),
        ({**state, "more": 1}, ValueError, "it has more"),
        ({**state, "version": 9}, ValueError, "version 9"),
        ({**state, "position": 61}, ValueError, "position must be from 0 to 60"),
        ({**state, "position": "7"}, TypeError, "position must be an int"),
        ({**state, "epoch": -1}, ValueError, "epoch must be from 0"),
        ({**state, "within": 3}, TypeError, "within of a state must be 4 ints"),
        ({**state, "within": [1, 1, 2, 0]}, ValueError, "rank 1 of 2"),
        ({**state, "within": [1, 0, 1, 4]}, ValueError, "batches of 4"),
        ({**state, "worker": [0, 2, 1]}, ValueError, "worker 0 of 2"),
    ]
    for bad, kind, message in wrong:
        with pytest.raises(kind, match=message):
            stream.load_state_dict(bad)
    assert stream.state_dict() == state, "what was refused changed nothing"
