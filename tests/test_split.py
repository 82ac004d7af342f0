"""How an epoch is split among ranks and steps: against lists, for random numbers and interrupts."""

from __future__ import annotations

import json
import pickle
from itertools import chain, cycle, islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ultar_dataloader import order
from ultar_dataloader._split import Delivery, Split, State, Tail, default_tail, skipped_places


def delivered(split: Split, step: int) -> list[list[int]]:
    """What each rank delivers, by rank."""
    return [list(chain(*split.which(step, rank))) for rank in range(split.world_size)]


def in_order(ranks: list[list[int]]) -> list[int]:
    """The global batch, dealt out like cards, put together again."""
    return [ranks[i % len(ranks)][i // len(ranks)] for i in range(sum(map(len, ranks)))]


def stream(split: Split, first: int = 0, stop: int | None = None) -> list[int]:
    steps = range(first, split.steps if stop is None else stop)
    return [place for step in steps for place in in_order(delivered(split, step))]


def expected(n: int, start: int, skipped: set[int], global_batch: int, tail: Tail) -> list[int]:
    kept = [place for place in range(n) if place not in skipped]
    rest = [place for place in kept if place >= start]
    if tail == "drop":
        return rest[: len(rest) // global_batch * global_batch]
    missing = -len(rest) % global_batch if tail == "repeat" and rest else 0
    return rest + list(islice(cycle(kept), missing))


@st.composite
def splits(draw: st.DrawFn) -> Split:
    n = draw(st.integers(0, 60))
    world_size = draw(st.integers(1, 9))
    return Split(
        n,
        batch_size=draw(st.integers(1, 12)),
        world_size=world_size,
        rank=draw(st.integers(0, world_size - 1)),
        tail=draw(st.sampled_from(["repeat", "drop", *(["short"] if world_size == 1 else [])])),
        start=draw(st.integers(0, n)),
        skipped=sorted(draw(st.sets(st.integers(0, n - 1), max_size=n))) if n and draw(st.booleans()) else (),
    )


@given(splits())
def test_the_ranks_together_deliver_the_epoch(split: Split) -> None:
    assert stream(split) == expected(split.n, split.start, set(split.skipped), split.global_batch, split.tail)


@given(splits())
def test_batches_are_full_and_steps_equal(split: Split) -> None:
    for rank in range(split.world_size):
        assert (
            Split(split.n, split.batch_size, rank, split.world_size, split.tail, split.start, split.skipped).steps
            == split.steps
        )
    for step in range(split.steps):
        sizes = {len(batch) for batch in delivered(split, step)}
        if split.tail == "short" and step == split.steps - 1:
            (size,) = sizes
            assert 1 <= size <= split.batch_size
        else:
            assert sizes == {split.batch_size}


@given(splits(), st.data())
def test_a_share_is_its_batches_end_to_end(split: Split, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, split.steps))
    batches = [list(chain(*split.places(step))) for step in range(first, split.steps)]
    assert list(chain(*split.share(first))) == list(chain(*batches))
    assert all(split.share(first))


@given(splits())
def test_when_inverts_which(split: Split) -> None:
    found: dict[int, list[Delivery]] = {place: [] for place in range(split.n)}
    for step in range(split.steps):
        for slot in range(split.batch_size):
            for rank, batch in enumerate(delivered(split, step)):
                if slot < len(batch):
                    found[batch[slot]].append(Delivery(step, rank, slot))
    for place, deliveries in found.items():
        assert list(split.when(place)) == deliveries
        assert split.step_of(place) == (deliveries[0].step if deliveries else None)


@given(splits(), st.data())
def test_after_a_resume_comes_exactly_the_rest(split: Split, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, split.steps))
    before = stream(split, 0, done)
    world_size = data.draw(st.integers(1, 9))
    tail: Tail = data.draw(st.sampled_from(["repeat", *(["short"] if world_size == 1 else [])]))
    changes: dict[str, Any] = {
        "world_size": world_size,
        "rank": 0,
        "tail": tail,
        "batch_size": data.draw(st.integers(1, 12)),
    }
    position = split.position(done)
    rest = split.resumed(position, **changes)
    all_kept = set(range(split.start, split.n)) - set(split.skipped)
    after = stream(rest)
    fresh = after[: rest._kept - rest._first]
    over = done > 0 and done == split.steps
    seen = set(before[: len(all_kept)])
    # Nothing comes twice but for what "repeat" adds at the end, and nothing is lost but for
    # what "drop" leaves out, once its last step is done.
    assert len(set(fresh)) == len(fresh)
    if over:
        assert position == split.n and after == []
        assert split.tail == "drop" or all_kept <= seen
    else:
        assert seen.isdisjoint(fresh) and seen | set(fresh) == all_kept


@given(splits(), st.data())
def test_a_resume_changes_nothing_where_nothing_changed(split: Split, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, split.steps))
    assert stream(split.resumed(split.position(done))) == stream(split, done)


@given(st.integers(0, 200), st.integers(0, 2**53), st.sampled_from([1, 2, 3, 4, 6, 12]), st.data())
def test_the_global_batch_is_the_same_for_every_world_size(n: int, seed: int, ranks: int, data: st.DataObject) -> None:
    rows = order(n, seed, window=data.draw(st.none() | st.integers(1, 300)))
    one = Split(n, 12, tail="repeat")
    many = Split(n, 12 // ranks, world_size=ranks, tail="repeat")
    assert one.steps == many.steps == one.steps_per_epoch
    for step in range(one.steps):
        batch = [rows[place] for place in chain(*one.places(step))]
        assert batch == [rows[place] for place in in_order(delivered(many, step))]


@given(st.integers(1, 100), st.integers(0, 2**53), st.data())
def test_a_row_can_be_skipped_in_the_middle(n: int, seed: int, data: st.DataObject) -> None:
    rows = order(n, seed)
    split = Split(n, 3, world_size=2, tail="repeat")
    done = data.draw(st.integers(0, split.steps - 1))
    listed = data.draw(st.sets(st.integers(0, n - 1)))
    pairs = [(a, min(n, a + 4)) for a in data.draw(st.sets(st.integers(0, n), max_size=2))]
    gone = listed.union(*(range(*pair) for pair in pairs))
    rest = split.resumed(
        split.position(done), skipped=skipped_places(rows, listed, pairs), tail="drop", world_size=1, batch_size=1
    )
    before = {rows[place] for place in stream(split, 0, done)}
    after = [rows[place] for place in stream(rest)]
    assert len(after) == len(set(after)) and set(after) == set(range(n)) - before - gone


def test_numbers_may_be_large() -> None:
    split = Split(2**53, 2**20, rank=4095, world_size=4096, tail="repeat", skipped=[0, 2**52])
    assert split.steps == 2**21
    # The first kept place is 1, the second half begins one further on, and one row is repeated.
    assert split.share() == (range(4096, 2**52, 4096), range(2**52 + 1, 2**53, 4096), range(2, 3, 4096))
    assert sum(map(len, split.share())) == split.steps * 2**20
    assert split.when(2**53 - 1)[-1].step == split.steps - 1
    assert split.places(split.steps - 1)[-1].stop <= 2**53
    one = Split(1, 1000, tail="repeat")
    assert one.steps == 1 and sum(map(len, one.places(0))) == 1000
    assert len(one.when(0)) == 1000


def test_a_split_is_a_value() -> None:
    split = Split(10, 2, rank=1, world_size=2, tail="drop", skipped=[1, 4])
    same = pickle.loads(pickle.dumps(split))
    assert same == split == Split(10, 2, 1, 2, "drop", skipped=(1, 4)) and hash(same) == hash(split)
    assert split != Split(10, 2, 1, 2, "drop", skipped=[1, 5])
    assert same.share() == split.share()
    with pytest.raises(AttributeError):
        split.n = 3  # type: ignore[misc]


def test_an_epoch_of_nothing_has_no_steps() -> None:
    for tail in ("repeat", "drop"):
        split = Split(0, 4, world_size=3, tail=tail)
        assert (split.steps, split.share(), split.position(0)) == (0, (), 0)
        nothing = Split(3, 4, world_size=3, tail=tail, skipped=[0, 1, 2])
        assert (nothing.steps, nothing.share(), nothing.when(1)) == (0, (), ())
    assert default_tail(1) == "short" and default_tail(2) == "repeat"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": -1}, ValueError, "n must be from 0 to 9007199254740992, got -1"),
        ({"n": 2**53 + 1}, ValueError, "n must be from 0"),
        ({"n": 1.0}, TypeError, "n must be an int, not float"),
        ({"batch_size": 0}, ValueError, "batch_size must be from 1"),
        ({"batch_size": True}, TypeError, "batch_size must be an int, not bool"),
        ({"world_size": 0}, ValueError, "world_size must be from 1"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank must be from 0 to 1, got 2"),
        ({"start": 11}, ValueError, "start must be from 0 to 10, got 11"),
        ({"tail": "pad"}, ValueError, 'tail must be one of "repeat", "drop", "short"'),
        ({"tail": "short", "world_size": 2}, ValueError, 'tail="short" is for one rank, not 2'),
        ({"skipped": [3, 3]}, ValueError, "skipped places must ascend, got 3 after 3"),
        ({"skipped": [10]}, ValueError, "a skipped place must be from 0 to 9, got 10"),
    ],
)
def test_what_cannot_be_split_is_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.replace("[", r"\[")):
        Split(**{"n": 10, "batch_size": 1, "tail": "drop", **arguments})


def test_what_there_is_not_is_an_index_error() -> None:
    split = Split(10, 3, world_size=2, tail="drop")
    calls = [
        lambda: split.places(1), lambda: split.places(-1), lambda: split.which(0, 2), lambda: split.which(0, -1),
        lambda: split.share(2), lambda: split.when(10), lambda: split.when(-1), lambda: split.position(2),
        lambda: split.position(-1),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(IndexError):
            call()


def test_rows_to_skip_are_checked() -> None:
    rows = order(10, 1)
    assert skipped_places(range(10), [5, 1], [(4, 6), (9, 10), (3, 3)]).tolist() == [1, 4, 5, 9]
    assert sorted(rows[place] for place in skipped_places(rows, [7], [(0, 2)])) == [0, 1, 7]
    for listed, ranges in (([10], []), ([-1], []), ([], [(0, 11)]), ([], [(5, 4)])):
        with pytest.raises(ValueError, match="must be from"):
            skipped_places(rows, listed, ranges)
    with pytest.raises(ValueError, match="a row of skip_list cannot be 3: there are no rows"):
        skipped_places(order(0, 1), [3])
    with pytest.raises(TypeError, match="must be an int, not float"):
        skipped_places(rows, [1.0])  # type: ignore[list-item]


@given(
    st.text(),
    st.none() | st.integers(0, 2**53),
    st.integers(0, 2**53),
    st.integers(0, 2**53),
    st.none() | st.integers(1, 99),
)
def test_a_state_goes_through_json(name: str, seed: int | None, epoch: int, position: int, window: int | None) -> None:
    state = State(name, seed, epoch, position, window)
    assert State.from_dict(json.loads(json.dumps(state.to_dict()))) == state


def test_what_is_no_state_is_refused() -> None:
    good = State("f", 1, 2, 3).to_dict()
    for change, error, message in (
        ({"position": -1}, ValueError, "position must be from 0 to"),
        ({"position": None}, TypeError, "position must be an int, not NoneType"),
        ({"epoch": 1.5}, TypeError, "epoch must be an int, not float"),
        ({"seed": True}, TypeError, "seed must be an int, not bool"),
        ({"window": 0}, ValueError, "window must be from 1"),
        ({"fingerprint": 1}, TypeError, "fingerprint must be a str, not int"),
        ({"more": 1}, ValueError, "it has more"),
    ):
        with pytest.raises(error, match=message):
            State.from_dict({**good, **change})
    with pytest.raises(ValueError, match="it lacks seed, position"):
        State.from_dict({"fingerprint": "f", "epoch": 0, "window": None})
    with pytest.raises(TypeError, match="a state must be a mapping, not list"):
        State.from_dict([])  # type: ignore[arg-type]
