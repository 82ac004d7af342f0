"""Views, chains, mixes and repetitions, against the lists that they stand for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ultar_dataloader as ultar
from ultar_dataloader import LoadIt
from ultar_dataloader.loadit import (
    ConcatableSequence,
    InterleaveSequences,
    RepeatSequence,
    SequenceView,
    chunk_shuffle,
)

A, B, C = list("abcd"), list("xy"), list("123456789")
PARTS = st.lists(st.lists(st.integers(), max_size=6), max_size=5)


def interleaved(parts: list[list[Any]]) -> list[Any]:
    missing = object()
    return [one for turn in itertools.zip_longest(*parts, fillvalue=missing) for one in turn if one is not missing]


def is_list(seq: Sequence[Any], wanted: list[Any]) -> None:
    assert list(seq) == wanted and len(seq) == len(wanted) and bool(seq) == bool(wanted)
    assert [seq[i] for i in range(len(wanted))] == wanted
    assert [seq[i] for i in range(-len(wanted), 0)] == wanted
    assert list(seq[::-1]) == wanted[::-1] and list(seq[1:-1]) == wanted[1:-1] and list(seq[:3]) == wanted[:3]
    for out in (len(wanted), -len(wanted) - 1):
        with pytest.raises(IndexError):
            seq[out]


@given(PARTS)
def test_chains(parts: list[list[int]]) -> None:
    is_list(ConcatableSequence(*parts), [one for part in parts for one in part])


@given(PARTS)
def test_interleaved(parts: list[list[int]]) -> None:
    is_list(InterleaveSequences(*parts), interleaved(parts))


@given(st.lists(st.integers(), max_size=5), st.integers(0, 4))
def test_repeated(seq: list[int], repeats: int) -> None:
    is_list(RepeatSequence(seq, repeats), seq * repeats)


@given(st.data(), st.lists(st.integers(), min_size=1, max_size=9))
def test_views_of_views(data: st.DataObject, seq: list[int]) -> None:
    view: Sequence[int] = SequenceView(seq)
    wanted = seq
    for _ in range(3):
        if wanted and data.draw(st.booleans()):
            places = data.draw(st.lists(st.integers(-len(wanted), len(wanted) - 1), max_size=6))
            view, wanted = view[places], [wanted[place] for place in places]
        else:
            step = data.draw(st.integers(-3, 3).filter(bool))
            bound = st.none() | st.integers(-10, 10)
            part = slice(data.draw(bound), data.draw(bound), step)
            view, wanted = view[part], wanted[part]
    is_list(view, wanted)


def test_views() -> None:
    view = SequenceView(C, [2, 3, 1, 2, -1])
    assert view[1] == C[3] and view[4] == C[-1]
    other = SequenceView(view, lambda idx: 2 * idx, length=len(view) // 2)
    is_list(other, [C[2], C[1]])
    is_list(view[0, 3, 4], [C[2], C[2], C[8]])
    is_list(SequenceView(C, np.array([5, 0])), [C[5], C[0]])
    is_list(SequenceView(C, SequenceView([7, 8], [1, 0])), [C[8], C[7]])
    with pytest.raises(TypeError, match="say the length"):
        SequenceView(C, lambda idx: idx)
    with pytest.raises(TypeError, match="indices must be a sequence or a function, got int"):
        SequenceView(C, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step"):
        view[::0]


def test_plus() -> None:
    chain = ConcatableSequence(A, B) + ConcatableSequence(B)
    is_list(chain, A + B + B)
    is_list(A + chain + C, A + A + B + B + C)
    assert len((chain + C)._seqs) == 4, "it nests"
    with pytest.raises(TypeError):
        chain + 3  # type: ignore[operator]


def test_without_end() -> None:
    endless = RepeatSequence(A)
    assert endless[4_000_003] == "d" and list(endless[2:7]) == list("cdabc")
    assert list(itertools.islice(endless, 6)) == list("abcdab") and bool(endless)
    assert list((endless + B)[9:11]) == list("bc")
    with pytest.raises(OverflowError, match="repeats without end"):
        len(endless)
    with pytest.raises(OverflowError):
        endless[-1]
    assert list(RepeatSequence([])) == []
    with pytest.raises(ValueError, match="repeats must be at least 0"):
        RepeatSequence(A, -1)


class TestChunkShuffle:
    def test_stays_in_its_chunk(self) -> None:
        view = chunk_shuffle(range(1000), 128, seed=5)
        assert len(view) == 1000 and sorted(view) == list(range(1000))
        assert all(i // 128 == one // 128 for i, one in enumerate(view))
        assert list(view[:128]) != list(range(128))
        moves = [[one % 128 for one in view[first : first + 128]] for first in (0, 128)]
        assert moves[0] != moves[1], "chunks are shuffled alike"

    def test_seeds(self) -> None:
        assert list(chunk_shuffle(C, 4, seed=1)) == list(chunk_shuffle(C, 4, seed=1))
        assert list(chunk_shuffle(range(99), seed=1)) != list(chunk_shuffle(range(99), seed=2))
        assert list(chunk_shuffle(range(99))) != list(chunk_shuffle(range(99)))
        assert sorted(chunk_shuffle(range(99), None, 10)) == list(range(10))

    @pytest.mark.parametrize("wrong", [{"chunk_size": 0}, {"length": -1}, {"seed": -1}, {"seed": 2**53 + 1}])
    def test_out_of_range(self, wrong: dict[str, int]) -> None:
        with pytest.raises(ValueError):  # noqa: PT011
            chunk_shuffle(C, **wrong)

    def test_of_a_slice_runs_nothing(self, tmp_path: Path) -> None:
        loader = LoadIt(lambda: itertools.count(), tmp_path, 50)
        view = chunk_shuffle(loader, 10, 40, seed=3)
        assert loader.root_dir and not list((tmp_path / "shards").iterdir())
        assert sorted(view) == list(range(40))


def test_what_may_be_in_them(tmp_path: Path, make_shard: Any) -> None:
    ds = ultar.Dataset(make_shard({f"{i:02}": {".txt": b"%d" % i} for i in range(5)}))
    loader = LoadIt(lambda: map(dict, ds), tmp_path / "cache", 2)
    both = InterleaveSequences(ds, loader)
    assert [int(row[".txt"]) for row in both] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [int(row[".txt"]) for row in (loader + ds)[[-1, 0]]] == [4, 0]


def test_an_error_is_not_the_end(tmp_path: Path) -> None:
    def fails() -> Any:
        yield from range(3)
        raise IndexError("not the end")

    loader = LoadIt(fails, tmp_path)
    chain = ConcatableSequence([7], loader)
    for seq in (loader[:], loader + chain, RepeatSequence(loader, 2), SequenceView(loader), chain):
        with pytest.raises(RuntimeError, match="item 3 of create_it: IndexError: not the end"):
            list(seq)
