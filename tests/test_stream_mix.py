"""Mixtures: drawn by weight, each row as often as it should, resumed like any stream."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from streams import full_order, ids, interleaved, make_dataset, number

from ultar_dataloader import Dataset, mix
from ultar_dataloader._stream.draws import BLOCK, Draws


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 4000), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.01, 100), min_size=4, max_size=4),
    seed=st.integers(0, 2**53),
)
# A source that is drawn less than once in a block.
@example([1970, 2, 1104], [46.0, 0.015625, 25.75, 1.0], 0)
@example([1969, 2, 1104], [46.0, 0.015625, 25.75, 1.0], 0)
def test_the_schedule(lengths: list[int], weights: list[float], seed: int) -> None:
    draws = Draws(lengths, weights[: len(lengths)], seed, "all")
    assert draws.count == sum(lengths)
    places = [draws.at(place) for place in range(draws.count)]
    for source, length in enumerate(lengths):
        assert [draw for one, draw in places if one == source] == list(range(length)), "each once, in order"
        for draw in {0, length // 2, length - 1}:
            found = draws.place(source, draw)
            assert found is not None and draws.at(found) == (source, draw)
        assert draws.place(source, length) is None
    first = Draws(lengths, weights[: len(lengths)], seed, "first")
    assert [first.at(place) for place in range(first.count)] == places[: first.count]
    counts = Counter(source for source, _ in places[: first.count])
    assert any(counts[source] == length for source, length in enumerate(lengths))
    assert first.place(*places[-1]) is None or first.count == draws.count


def test_shares_are_those_of_the_weights() -> None:
    draws = Draws([10**9] * 3, [5, 3, 2], 1, "first")
    assert 2 * 10**9 - BLOCK <= draws.count <= 2 * 10**9 + BLOCK
    for begin in (0, BLOCK * 1000, 10**9 // BLOCK * BLOCK):
        counts = Counter(draws.at(begin + i)[0] for i in range(BLOCK))
        assert [abs(counts[i] - BLOCK * share) <= 1 for i, share in enumerate((0.5, 0.3, 0.2))] == [True] * 3
    runs = [draws.at(i)[0] for i in range(5000)]
    assert max(Counter(pairwise(runs)).values()) < 1400, "25 in 100 pairs are of the first two"
    assert draws.at(10**9)[1] + 1 < 10**9


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("other"), rows=40, first=100)


def test_every_row_once(dataset: Dataset, other: Dataset, io: str) -> None:
    mixed = mix([dataset.shuffle(1), other], [2, 1], seed=3).options(io=io)
    rows = ids(mixed)
    assert [n for n in rows if n < 100] == full_order(60, 1, 0)
    assert [n for n in rows if n >= 100] == list(range(100, 140))
    assert len(mixed) == 100
    assert 55 < sum(n < 100 for n in rows[:90]) <= 60
    again = ids(mixed)
    assert [n for n in again if n < 100] == full_order(60, 1, 1), "an epoch of each"
    short = ids(mix([dataset.shuffle(1), other], [2, 1], seed=3, stop="first"))
    assert short == rows[: len(short)]
    assert ids(mix([dataset, other])) != ids(mix([dataset, other], seed=1))


def test_streams_keep_their_functions(dataset: Dataset, other: Dataset) -> None:
    mixed = mix([dataset.map(number).filter(lambda n: n % 2), other.map(lambda row: -number(row)).repeat(2)])
    found = list(mixed)
    assert [n for n in found if n > 0] == list(range(1, 60, 2))
    assert [n for n in found if n < 0] == [-n for n in range(100, 140)] * 2
    with pytest.raises(TypeError, match="not known"):
        len(mixed)
    assert len(mix([dataset.map(number), other.map(number)])) == 100


@settings(deadline=None, max_examples=25)
@given(
    world=st.integers(1, 3),
    batch=st.integers(1, 9),
    part=st.floats(0, 1),
    other_world=st.integers(1, 3),
    other_batch=st.integers(1, 9),
)
def test_a_mixture_is_resumed_with_other_ranks(
    dataset: Dataset, other: Dataset, world: int, batch: int, part: float, other_world: int, other_batch: int
) -> None:
    mixed = mix([dataset.shuffle(1).map(number, 1), other.shuffle(2).map(number, 1)], [1, 2], seed=5)
    whole = list(mixed)
    mixed.set_epoch(0)
    ranks = [mixed.shard(rank, world).batch(batch) for rank in range(world)]
    iterators = [iter(rank) for rank in ranks]
    steps = int(part * (len(whole) // (world * batch)))
    heads = [[next(it) for _ in range(steps)] for it in iterators]
    head = [row for step in interleaved(heads) for row in step]
    rests = []
    for rank in range(other_world):
        stream = pickle.loads(pickle.dumps(mixed_again(dataset, other).shard(rank, other_world).batch(other_batch)))
        stream.load_state_dict(ranks[0].state_dict())
        rests.append(list(stream))
    rest = [row for step in interleaved(rests) for row in step]
    assert (head + rest)[: len(whole)] == whole


def mixed_again(dataset: Dataset, other: Dataset) -> Any:
    return mix([dataset.shuffle(1).map(number, 1), other.shuffle(2).map(number, 1)], [1, 2], seed=5)


def test_which_and_when(dataset: Dataset, other: Dataset) -> None:
    mixed = mix([dataset.shuffle(1), other.repeat(2)], seed=5).shard(1, 2).batch(8)
    for stem in ("s000", "s041", "s139"):
        found = mixed.when(stem)
        assert len(found) >= (2 if stem == "s139" else 1)
        for step, rank, slot in found:
            assert mixed.which(step, rank)[slot] == stem


def test_an_error_names_the_row(dataset: Dataset, other: Dataset) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(mix([dataset, other.map(lambda row: 1 // 0)]))
    assert "'s100'" in "\n".join(caught.value.__notes__)


def test_what_cannot_be_mixed(dataset: Dataset, other: Dataset) -> None:
    wrong: list[tuple[Any, type[Exception], str]] = [
        (lambda: mix([]), ValueError, "at least one stream"),
        (lambda: mix([3]), TypeError, "mix wants streams, got int"),  # type: ignore[list-item]
        (lambda: mix([dataset.batch(2)]), ValueError, "behind mix"),
        (lambda: mix([dataset.shard(0, 2)]), ValueError, "behind mix"),
        (lambda: mix([dataset[:0]]), ValueError, "empty stream"),
        (lambda: mix([dataset.repeat()]), ValueError, "without end"),
        (lambda: mix([dataset, other], [1]), ValueError, "2 streams, 1 weights"),
        (lambda: mix([dataset, other], [1, 0]), ValueError, "above 0, got 0"),
        (lambda: mix([dataset, other], [1, float("nan")]), ValueError, "above 0, got nan"),
        (lambda: mix([dataset, other], [1, 1e-30]), ValueError, "too small"),
        (lambda: mix([dataset], stop="x"), ValueError, "stop must be"),  # type: ignore[arg-type]
        (lambda: mix([dataset]).shuffle(1), ValueError, "shuffle the streams"),
        (lambda: mix([dataset]).skip([1]), ValueError, "rows of one dataset"),
        (lambda: mix([dataset]).batch(2, collate={".id": ("u1", 1)}), ValueError, "not of a mixture"),
    ]
    for call, kind, message in wrong:
        with pytest.raises(kind, match=message):
            call()


def test_a_changed_mixture_is_refused(dataset: Dataset, other: Dataset, tmp_path: Path) -> None:
    state = mix([dataset, other], [1, 2], seed=3).state_dict()
    mix([dataset, other], [1, 2], seed=3).load_state_dict(state)
    for changed in (
        mix([dataset, other], [1, 3], seed=3),
        mix([other, dataset], [1, 2], seed=3),
        mix([dataset.shuffle(1), other], [1, 2], seed=3),
    ):
        with pytest.raises(ValueError, match="not the one of the state"):
            changed.load_state_dict(state)
