"""Streams under attack: threads, forks, signals, damaged shards, states that somebody changed."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import pytest
from streams import ROWS, flat, full_order, make_dataset, number

from ultar_dataloader import Dataset, LoadedRow, ReadError, Stream, UltarError, mix
from ultar_dataloader._stream import run

KINDS: dict[str, Callable[[Dataset], Stream]] = {
    "rows": lambda ds: ds.shuffle(1),
    "batches": lambda ds: ds.shuffle(1).batch(4),
    "functions": lambda ds: ds.shuffle(1).map(number).prefetch(2),
    "several": lambda ds: ds.shuffle(1).flat_map(lambda row: [number(row)] * 3),
    "refilled": lambda ds: ds.shuffle(1).map(number).filter(lambda n: n % 3 > 0).batch(4, refill=True),
    "fields": lambda ds: ds.shuffle(1).batch(4, collate={".bin": ("u1", (None,))}),
    "mixture": lambda ds: mix([ds.shuffle(1), ds[::2].shuffle(2)], [1, 2]).batch(4),
    "worker": lambda ds: ds.shuffle(1).batch(4).share(1, 3),
}


def shown(element: Any) -> str:
    """What can be compared."""
    if isinstance(element, LoadedRow):
        return repr(element.to_dict())
    if isinstance(element, dict):
        return repr({key: [bytes(part) for part in parts] for key, parts in element.items()})
    return repr(element)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_may_share_an_iterator(dataset: Dataset, kind: str) -> None:
    stream = KINDS[kind](dataset)
    expected = sorted(map(shown, stream))
    stream.set_epoch(0)
    shared, found = iter(stream), []
    threads = [threading.Thread(target=lambda: found.extend(map(shown, shared))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == expected
    assert stream.state_dict()["epoch"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_may_close_what_another_iterates(dataset: Dataset, kind: str) -> None:
    stream = KINDS[kind](dataset)
    second = [*map(shown, stream), *map(shown, stream)][len(list(KINDS[kind](dataset))) :]
    endless = stream.repeat()
    elements, caught = iter(endless), []

    def consume() -> None:
        with pytest.raises(UltarError) as error:
            list(elements)
        caught.append(str(error.value))

    thread = threading.Thread(target=consume)
    thread.start()
    time.sleep(0.01)
    elements.close()
    thread.join(30)
    for _ in range(2):
        with pytest.raises(UltarError, match="the iterator is closed"):
            next(elements)
    assert caught == ["the iterator is closed"]
    # To close is no failure: what comes next is the next epoch, from its beginning.
    stream.set_epoch(0)
    elements = iter(stream)
    next(elements)
    elements.close()
    with pytest.raises(UltarError, match="the iterator is closed"):
        next(elements)
    assert list(map(shown, stream)) == second


def test_a_fork_while_a_thread_waits_for_an_element(dataset: Dataset) -> None:
    underway, finish = threading.Event(), threading.Event()

    def slow(row: LoadedRow) -> int:
        underway.set()
        finish.wait(30)
        return number(row)

    elements = iter(dataset.map(slow, 1))
    thread = threading.Thread(target=lambda: next(elements))
    thread.start()
    underway.wait(30)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)  # Instead of waiting forever.
        try:
            next(elements)
        except UltarError as error:
            os._exit(0 if "before a fork" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    finish.set()
    thread.join(30)
    assert number(dataset[1]) == next(elements)


@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("depth", [0, 2])
def test_an_interrupt_ends_the_wait_and_loses_nothing(dataset: Dataset, parallel: int, depth: int) -> None:
    over = threading.Event()

    def stuck(batch: dict[str, Any]) -> list[int]:
        if flat([batch])[0] == 40:
            over.wait(30)
        return flat([batch])

    stream = dataset.batch(4).map(stuck, parallel).prefetch(depth)
    found: list[list[int]] = []

    def interrupt() -> None:
        while len(found) < 10:
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        found.extend(stream)
    sender.join()
    assert not over.is_set()
    over.set()
    assert stream.state_dict()["position"] == 40
    assert flat([*found, *stream]) == list(range(ROWS))


def test_nothing_is_left_behind(dataset: Dataset) -> None:
    def open_things() -> tuple[int, int]:
        gc.collect()
        deadline = time.monotonic() + 10
        while len(os.listdir("/proc/self/task")) > threads and time.monotonic() < deadline:
            time.sleep(0.01)
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    streams = [make(dataset) for make in KINDS.values()]
    for stream in streams:
        list(stream)
    threads = len(os.listdir("/proc/self/task"))
    before = open_things()
    for _ in range(60):
        for stream in streams:
            list(stream)
            next(iter(stream))
    after = open_things()
    assert after[0] <= before[0] and after[1] <= before[1]


@pytest.mark.parametrize("batch", [None, 7])
def test_what_never_gives_anything_is_not_looked_for_forever(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, batch: int | None
) -> None:
    monkeypatch.setattr(run, "_VAIN_ROWS", 500)

    def batched(stream: Stream) -> Stream:
        return stream if batch is None else stream.batch(batch)

    nothing = dataset.filter(lambda row: False)
    for endless in (batched(nothing).repeat(), batched(nothing).prefetch(2).repeat()):
        with pytest.raises(ValueError, match="without end of nothing: no element came of 5"):
            next(iter(endless))
    assert list(batched(nothing).repeat(3)) == []
    # Few are enough, also of a worker that has nothing in most epochs.
    few = iter(batched(dataset.map(number).filter(lambda n: n == 59)).repeat())
    assert list(islice(few, 20)) == [59 if batch is None else [59]] * 20
    assert len(list(islice(dataset[:2].stream().repeat().share(2, 9), 20))) == 20


def test_a_state_with_anything_changed_is_refused_or_fits(dataset: Dataset) -> None:
    wrong = [
        *(None, True, -1, 0, 1, 2**53, 2**64, -(10**40), math.nan, math.inf, 1.5, "1", [], [1], {}, b"x"),
        *([1, 2, 3], [0, 1, -1], [1, 3, -5], [1, 3, 10**40], [1, 3, 3], [1, 3, 2], [-1, 0, 1, 4], [0, 0, 1, 4]),
        *([10**30, 0, 1, 4], [1, 0, 1, 0], [1, 0, 1, 4], [math.nan] * 4, [math.nan] * 3, [[], [], []]),
    ]
    for kind, make in KINDS.items():
        first = iter(make(dataset))
        for _ in range(2):
            next(first)
        state = first.state_dict()
        changed = [{**state, name: value} for name in (*state, "within", "worker", "other") for value in wrong]
        changed += [{name: state[name] for name in state if name != left_out} for left_out in state]
        refused = 0
        for bad in changed:
            stream = make(dataset)
            try:
                stream.load_state_dict(bad)
            except (TypeError, ValueError):
                refused += 1
                assert stream.state_dict() == make(dataset).state_dict(), "what was refused changed nothing"
                continue
            for name in ("rows", "shards", "seed", "window", "fingerprint", "version"):
                assert bad[name] == state[name], (kind, bad)
            if bad["epoch"] < 2**53:
                sum(1 for _ in stream)
        assert refused > 0.9 * len(changed), kind


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("access", ["read", "direct"])
def test_shards_damaged_under_way(tmp_path: Path, io: Any, access: Any, skip: bool) -> None:
    """Each row is as it was, or an error, or skipped; and with batches ranks have equal steps."""
    pristine = tmp_path / "pristine"
    pristine.mkdir()
    contents = {number(row): row.to_dict() for row in make_dataset(pristine, cuts=(11, 12, 30, 47))}
    for seed in range(12):
        chance = random.Random(seed)
        folder = tmp_path / f"{seed}"
        shutil.copytree(pristine, folder)
        rows = Dataset(folder, io=io, access=access, on_error="skip" if skip else "raise", prefetch_rows=5)
        streams = [rows.shuffle(seed).shard(rank, 3).batch(2).prefetch(seed % 3) for rank in range(3)]
        elements = [iter(stream) for stream in streams]
        steps = [[next(one)] for one in elements]
        for shard in chance.sample(sorted(folder.glob("*.tar")), 2):
            if chance.random() < 0.4:
                shard.unlink()
            else:
                os.truncate(shard, chance.randrange(shard.stat().st_size))
        for one, got in zip(elements, steps, strict=True):
            with nullcontext() if skip else suppress(ReadError):
                got.extend(one)
                assert len(got) == 10
        if skip:
            assert {len(got) for got in steps} == {10}, "unequal steps"
        for batch in (batch for got in steps for batch in got if batch):
            for key in (".id", ".bin"):
                for name, payload in zip(flat([batch]), batch[key], strict=True):
                    assert bytes(payload) == contents[name][key]


def test_many_rows_that_cannot_be_read_take_few_pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_dataset(tmp_path, rows=300, cuts=(90, 180)).stream().options(on_error="skip")
    os.truncate(tmp_path / "train-000001.tar", 0)
    begun, begin = [], Dataset._pipeline
    monkeypatch.setattr(Dataset, "_pipeline", lambda *args, **options: begun.append(args) or begin(*args, **options))
    assert [number(row) for row in rows] == [*range(90), *range(180, 300)]
    assert len(begun) <= 3


def collect(stream: Stream, results: Any) -> None:
    results.put([flat([batch]) for batch in stream])


def test_shares_go_to_processes_that_are_spawned(dataset: Dataset) -> None:
    stream = dataset.shuffle(1).batch(4)
    first = iter(stream)
    for _ in range(3):
        next(first)
    resumed = dataset.shuffle(1).batch(4)
    resumed.load_state_dict(stream.state_dict())
    spawning = multiprocessing.get_context("spawn")
    results = [spawning.Queue() for _ in range(2)]
    workers = [spawning.Process(target=collect, args=(resumed.share(i, 2), results[i])) for i in range(2)]
    for worker in workers:
        worker.start()
    shares = [one.get(timeout=60) for one in results]
    for worker in workers:
        worker.join(60)
    turns = [batch for turn in zip_longest(*shares) for batch in turn if batch]
    assert [n for batch in turns for n in batch] == full_order(ROWS, 1, 0)[12:]
