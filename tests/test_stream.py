"""Streams: which rows come, in which order and shape."""

from __future__ import annotations

import gc
import itertools
import pickle
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from streams import ROWS, flat, full_order, ids, interleaved, make_dataset, number

import ultar_dataloader as ultar
from ultar_dataloader import Dataset, Stream, mix


def test_rows_as_they_lie_or_shuffled(dataset: Dataset, io: str) -> None:
    assert ids(dataset.stream().options(io=io)) == list(range(ROWS))
    shuffled = dataset.shuffle(seed=5).options(io=io)
    assert ids(shuffled) == full_order(ROWS, 5, 0)
    assert ids(shuffled) == full_order(ROWS, 5, 1), "the next iteration is the next epoch"
    assert ids(dataset.shuffle(seed=5, window=16)) == full_order(ROWS, 5, 0, 16)


def test_nothing_is_read_or_changed_before_it_is_iterated(dataset: Dataset) -> None:
    plain = dataset.stream()
    shuffled = plain.shuffle(1)
    batched = shuffled.batch(7)
    assert ids(plain) == list(range(ROWS))
    assert ids(shuffled) == flat(batched) == full_order(ROWS, 1, 0)


@pytest.mark.parametrize("view", ["slice", "backwards", "list", "where"])
def test_views_of_datasets(dataset: Dataset, view: str) -> None:
    views = {
        "slice": dataset[5:50:3],
        "backwards": dataset[::-1],
        "list": dataset[[7, 3, 3, 59]],
        "where": dataset.where('sizes[".bin"] > 200'),
    }
    ds = views[view]
    rows = ids(ds)
    assert len(rows) == len(ds) > 3
    assert ids(ds.stream()) == rows
    assert ids(ds.shuffle(2)) == [rows[i] for i in full_order(len(rows), 2, 0)]
    shares = [ids(ds.shuffle(2).shard(rank, 3)) for rank in range(3)]
    assert {row for share in shares for row in share} == set(rows)
    assert ids(ds.shuffle(2).skip([0], [(1, 3)])) == [rows[i] for i in full_order(len(rows), 2, 0) if i > 2]


def test_selected_keys_only(dataset: Dataset) -> None:
    assert all(row.keys() == (".id",) for row in dataset.select([".id"]).shuffle(1))


def test_batches_of_views(dataset: Dataset) -> None:
    batches = list(dataset.batch(25))
    assert [len(batch[".id"]) for batch in batches] == [25, 25, 10]
    assert flat(batches) == list(range(ROWS))
    assert all(isinstance(view, memoryview) for view in batches[0][".bin"])
    assert [len(batch[".id"]) for batch in dataset.batch(25, drop_last=True)] == [25, 25]
    assert len(dataset.batch(25)) == 3 and len(dataset.batch(25, drop_last=True)) == 2


def test_a_row_without_a_key_of_others_has_none_there(make_shard: Any) -> None:
    ds = Dataset(make_shard({"a": {".x": b"1"}, "b": {".y": b"2"}}))
    (batch,) = ds.batch(2)
    assert [view and bytes(view) for view in batch[".x"]] == [b"1", None]
    assert [view and bytes(view) for view in batch[".y"]] == [None, b"2"]


def test_collate_and_maps_of_batches(dataset: Dataset) -> None:
    sums = dataset.map(number).batch(20, collate=sum).map(lambda total: total * 2)
    assert list(sums) == [2 * sum(range(20)), 2 * sum(range(20, 40)), 2 * sum(range(40, 60))]
    assert list(dataset.map(number).batch(20).filter(lambda batch: 20 in batch)) == [list(range(20, 40))]
    assert list(dataset.map(number).batch(30).flat_map(lambda batch: batch[:2])) == [0, 1, 30, 31]
    dicts = dataset.map(lambda row: {"n": number(row)}).batch(50)
    assert next(iter(dicts)) == {"n": list(range(50))}


def test_filter_and_flat_map(dataset: Dataset) -> None:
    even = dataset.map(number).filter(lambda n: n % 2 == 0)
    assert list(even) == list(range(0, ROWS, 2))
    twice = dataset.map(number).flat_map(lambda n: [n] * (n % 3))
    assert list(twice) == [n for n in range(ROWS) for _ in range(n % 3)]
    # A step is as many places of the order, whatever becomes of their rows.
    assert [len(batch) for batch in even.batch(20)] == [10, 10, 10]
    assert [len(batch) for batch in twice.batch(30)] == [30, 30]
    assert [len(batch) for batch in even.batch(20, refill=True)] == [20, 10]
    assert [len(batch) for batch in even.batch(20, drop_last=True, refill=True)] == [20]
    assert list(dataset.map(number).filter(lambda n: n >= 40).batch(10)) == [list(range(40, 50)), list(range(50, 60))]
    for stream in (even, twice, even.batch(20, refill=True)):
        with pytest.raises(TypeError, match="not known"):
            len(stream)
    with pytest.raises(TypeError, match="not known"):
        len(even.batch(20))
    assert len(even.shard(0, 2).batch(20)) == 2, "with several ranks each step has its batch"


def test_repeat(dataset: Dataset) -> None:
    stream = dataset.shuffle(3).batch(25).repeat(2)
    assert len(stream) == 6
    assert flat(stream) == full_order(ROWS, 3, 0) + full_order(ROWS, 3, 1)
    assert flat(stream) == full_order(ROWS, 3, 2) + full_order(ROWS, 3, 3)
    endless = iter(dataset.shuffle(3).repeat())
    assert ids(next(endless) for _ in range(150)) == [n for e in range(3) for n in full_order(ROWS, 3, e)][:150]
    with pytest.raises(ValueError, match="of nothing"):
        next(iter(dataset[:0].repeat()))
    assert list(dataset[:0].shuffle(1).batch(3)) == []


@pytest.mark.parametrize("tail", ["repeat", "drop"])
def test_ranks_share_global_batches(dataset: Dataset, tail: Any) -> None:
    ranks = [[ids_of(b) for b in dataset.shuffle(8).shard(r, 4, tail=tail).batch(4)] for r in range(4)]
    order = full_order(ROWS, 8, 0)
    batches = interleaved(ranks)
    assert [n for batch in batches for n in batch] == (order + order[:4] if tail == "repeat" else order[:48])
    one = [ids_of(batch) for batch in dataset.shuffle(8).batch(16)]
    assert [sorted(batch) for batch in batches[:3]] == [sorted(batch) for batch in one[:3]]


def ids_of(batch: Any) -> list[int]:
    return flat([batch])


def test_the_environment_says_which_rank(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = dataset.shard()
    assert (stream.rank, stream.world_size) == (0, 1)
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ValueError, match="RANK but not WORLD_SIZE"):
        iter(stream)
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert ids(stream) == list(range(2, ROWS, 3))
    carried = pickle.dumps(stream)
    for value, message in (("x", "must be a number"), ("2", "rank must be from 0 to 1")):
        monkeypatch.setenv("WORLD_SIZE", value)
        with pytest.raises(ValueError, match=message):
            iter(stream)
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    assert pickle.loads(carried).rank == 2, "what was pickled stays of the rank that pickled it"
    assert ids(dataset.stream()) == list(range(ROWS)), "nobody asked for a share"


def test_which_and_when(dataset: Dataset) -> None:
    stream = dataset.shuffle(4).shard(1, 3).batch(6)
    steps = [[bytes(view).decode() for view in batch[".id"]] for batch in stream]
    for step, rows in enumerate(steps):
        assert [stem.removeprefix("s").lstrip("0") or "0" for stem in stream.which(step, epoch=0)] == rows
    for n in (0, 31, 59):
        found = stream.when(f"s{n:03}", epoch=0)
        assert found
        for step, rank, slot in found:
            assert stream.which(step, rank, epoch=0)[slot] == f"s{n:03}"
    assert stream.when("nobody") == []
    assert stream.when('quote"d\\ stem') == []
    with pytest.raises(IndexError, match="step 4: there are 4"):
        stream.which(4)


def test_rows_that_cannot_be_read(tmp_path: Path) -> None:
    ds = make_dataset(tmp_path)
    second = Path(ds.shards[2])
    whole = second.read_bytes()
    second.write_bytes(whole[: len(whole) // 2])
    it = iter(ds.shuffle(1).batch(4))
    with pytest.raises(ultar.ReadError, match="train-000002"):
        for _ in it:
            pass
    with pytest.raises(ultar.UltarError, match="ended with an error before"):
        next(it)
    got = flat(ds.shuffle(1).options(on_error="skip").batch(4))
    lost = set(range(ROWS)) - set(got)
    assert lost and min(lost) >= 18
    assert got == [n for n in full_order(ROWS, 1, 0) if n not in lost]
    assert ids(ds.shuffle(1).options(on_error="skip")) == got
    # Places stay what they are: a batch that lost rows is shorter.
    assert [ids_of(b) for b in ds.shuffle(1).options(on_error="skip").batch(4) if b] == [
        kept for i in range(0, ROWS, 4) if (kept := [n for n in full_order(ROWS, 1, 0)[i : i + 4] if n not in lost])
    ]


def test_pickled_streams_go_on(dataset: Dataset) -> None:
    stream = dataset.shuffle(6).map(number).batch(7)
    it = iter(stream)
    head = [next(it) for _ in range(3)]
    stream.load_state_dict(stream.state_dict())
    again: Stream = pickle.loads(pickle.dumps(stream))
    assert [n for batch in head + list(again) for n in batch] == full_order(ROWS, 6, 0)


def test_an_iterator_that_is_dropped_takes_its_threads_along(dataset: Dataset) -> None:
    before = threading.active_count()
    for _ in range(3):
        it = iter(dataset.map(number, num_parallel_calls=3).batch(2).prefetch(4).repeat())
        next(it)
        del it
    gc.collect()
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_closing(dataset: Dataset) -> None:
    for stream in (dataset.stream(), dataset.batch(2), dataset.batch(2).prefetch(2)):
        with iter(stream) as it:
            next(it)
        with pytest.raises(ultar.UltarError, match="closed"):
            next(it)


@pytest.mark.parametrize("prefetch", [0, 3])
def test_threads_share_an_iterator(dataset: Dataset, prefetch: int) -> None:
    it = iter(dataset.map(number).repeat(20).prefetch(prefetch))
    found: list[list[int]] = [[] for _ in range(4)]

    def take(mine: list[int]) -> None:
        mine.extend(it)

    threads = [threading.Thread(target=take, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert Counter(n for mine in found for n in mine) == Counter(dict.fromkeys(range(ROWS), 20))


@pytest.mark.parametrize("kind", ["rows", "mixture", "chained"])
def test_threads_share_an_iterator_of_plain_rows(dataset: Dataset, kind: str) -> None:
    """Without a pause between the end that one thread sees and what another one waits for."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(20):
            stream = dataset.stream() if kind == "rows" else ultar.mix([dataset.shuffle(1), dataset[::2]])
            it = iter(stream) if kind != "chained" else itertools.chain(dataset, dataset)
            counts: list[int] = []
            threads = [threading.Thread(target=lambda: counts.append(sum(1 for _ in it))) for _ in range(4)]  # noqa: B023
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            if kind != "chained":
                assert sum(counts) == len(stream)
    finally:
        sys.setswitchinterval(interval)


def test_refilling_is_for_one_rank_of_the_environment_too(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for stream in (dataset.shard().batch(3, refill=True), dataset.batch(3, refill=True).shard()):
        with pytest.raises(ValueError, match="for one rank"):
            list(stream)


def test_arguments_are_checked(dataset: Dataset) -> None:
    stream = dataset.stream()
    batched = stream.batch(4)
    wrong: list[tuple[Any, type[Exception], str]] = [
        (lambda: stream.batch(0), ValueError, "batch_size must be from 1"),
        (lambda: stream.batch(2.5), TypeError, "batch_size must be an int"),  # type: ignore[arg-type]
        (lambda: stream.batch(2, collate=3), TypeError, "collate must be"),  # type: ignore[call-overload]
        (lambda: batched.batch(2), ValueError, "before batch"),
        (lambda: batched.shuffle(2), ValueError, "before batch"),
        (lambda: stream.flat_map(list).shuffle(2), ValueError, "before flat_map"),
        (lambda: stream.shuffle(-1), ValueError, "seed must be from 0"),
        (lambda: stream.shuffle(1, window=0), ValueError, "window"),
        (lambda: stream.map(3), TypeError, "map takes a function"),  # type: ignore[arg-type]
        (lambda: stream.map(len, 0), ValueError, "num_parallel_calls must be from 1"),
        (lambda: stream.shard(1), ValueError, "both rank and world_size"),
        (lambda: stream.shard(2, 2), ValueError, "rank must be from 0 to 1"),
        (lambda: stream.shard(0, 2, tail="short"), ValueError, "for one rank, not 2"),
        (lambda: stream.shard(0, 2, tail="x"), ValueError, "tail must be one of"),  # type: ignore[arg-type]
        (lambda: stream.shard(0, 2).batch(3, refill=True), ValueError, "for one rank"),
        (lambda: stream.batch(3, refill=True).shard(0, 2), ValueError, "for one rank"),
        (lambda: stream.repeat(0), ValueError, "epochs must be from 1"),
        (lambda: stream.prefetch(-1), ValueError, "depth must be from 0"),
        (lambda: stream.skip([ROWS]), ValueError, "a row of skip_list"),
        (lambda: stream.options(depth=3), TypeError, "no option depth"),
        (lambda: stream.options(access="x"), ValueError, "access must be one of"),
        (lambda: stream.share(2, 2), ValueError, "no worker 2 of 2"),
        (lambda: stream.set_epoch(-1), ValueError, "epoch must be from 0"),
    ]
    for call, kind, message in wrong:
        with pytest.raises(kind, match=message):
            call()


def test_repr_says_what_it_is(dataset: Dataset) -> None:
    shown = repr(dataset.shuffle(3, window=9).shard(1, 2).map(number).batch(5).filter(bool).repeat(2))
    rows = repr(dataset)
    assert "60 rows of 3 shards" in rows
    assert shown == (
        f"<Stream {rows}, shuffled with seed 3 in windows of 9, map, batches of 5, filter, 2 times, rank 1 of 2>"
    )
    mixed = repr(mix([dataset.shuffle(1), dataset[:9].stream().map(number)], weights=[1, 2.5], seed=4).shard())
    assert mixed == (
        f"<Stream mix of [{rows}, shuffled with seed 1; {dataset[:9]!r}, map] "
        "by weights 1, 2.5, with seed 4, map, the rank that the process has>"
    )
