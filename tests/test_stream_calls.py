"""Functions on threads, and elements ahead: in order, bounded, and with their errors."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from streams import ROWS, ids, number

from ultar_dataloader import Dataset, LoadedRow, UltarError
from ultar_dataloader._stream import calls


@pytest.mark.parametrize("parallel", [1, 3, "auto"])
@pytest.mark.parametrize("depth", [0, 1, "auto"])
def test_results_come_in_order(dataset: Dataset, parallel: Any, depth: Any) -> None:
    def slow(row: LoadedRow) -> int:
        time.sleep(number(row) * 31 % 7 / 2000)
        return number(row)

    assert list(dataset.map(slow, parallel).prefetch(depth)) == list(range(ROWS))
    assert list(dataset.map(slow, parallel).batch(7).prefetch(depth))[1] == list(range(7, 14))


def test_so_many_calls_at_once_and_no_more() -> None:
    now, most = 0, 0
    lock = threading.Lock()

    def work(unit: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.002)
        with lock:
            now -= 1
        return unit

    assert list(calls.ordered(work, iter(range(60)), 3, 1 << 20, lambda _: 1)) == list(range(60))
    assert 1 < most <= 3
    here = {threading.get_ident()}
    assert set(calls.ordered(lambda _: threading.get_ident(), iter(range(5)), 1, 1, lambda _: 1)) == here


@pytest.mark.parametrize("how_many", [2, "auto"])
def test_units_that_wait_are_bounded_in_bytes(how_many: Any) -> None:
    taken = 0

    def units() -> Iterator[int]:
        nonlocal taken
        for i in range(50):
            taken += 1
            yield i

    results = calls.ordered(lambda unit: unit, units(), how_many, 100, lambda _: 60)
    for i, result in enumerate(results):
        assert result == i
        assert taken <= i + 3, "two units of 60 bytes are all that 100 bytes let begin"


def test_what_is_ahead_is_bounded() -> None:
    made = 0

    def elements() -> Iterator[tuple[bytes]]:
        nonlocal made
        for _ in range(40):
            made += 1
            yield (memoryview(bytes(10)),)  # type: ignore[misc]

    ahead = calls.Ahead(elements(), 4, 1 << 20)
    next(ahead)
    time.sleep(0.1)
    assert made <= 6
    few = calls.Ahead(elements(), 30, 25)
    made = 0
    next(few)
    time.sleep(0.1)
    assert made <= 5, "three of ten bytes are over 25"
    ahead.close()
    few.close()


def test_an_error_of_a_function_names_its_row(dataset: Dataset) -> None:
    def fails(row: LoadedRow) -> int:
        if number(row) == 41:
            raise KeyError("no such thing")
        return number(row)

    for stream in (dataset.map(fails), dataset.map(fails, 1), dataset.map(fails).prefetch(2)):
        got: list[int] = []
        it = iter(stream)
        with pytest.raises(KeyError) as caught:
            got.extend(it)
        assert len(got) <= 41 and got == list(range(len(got)))
        notes = "\n".join(caught.value.__notes__)
        assert "fails" in notes and "step 41 of epoch 0" in notes and "'s041'" in notes and "train-000002.tar" in notes
        with pytest.raises(UltarError, match="ended with an error before"):
            next(it)
    with pytest.raises(KeyError) as caught:
        list(dataset.map(fails).batch(5))
    assert "step 8 of epoch 0" in "\n".join(caught.value.__notes__)
    with pytest.raises(ZeroDivisionError) as division:
        list(dataset.batch(5, collate=lambda rows: 1 // 0))
    assert "while collating 5 rows, step 0" in "\n".join(division.value.__notes__)
    with pytest.raises(ZeroDivisionError) as division:
        list(dataset.batch(5).map(lambda rows: 1 // 0))
    assert "step 0 of epoch 0" in "\n".join(division.value.__notes__)


def test_a_function_cannot_end_the_data(dataset: Dataset) -> None:
    def stops(row: Any) -> int:
        raise StopIteration

    for stream in (
        dataset.batch(3, collate=stops),
        dataset.batch(3, collate=stops).prefetch(2),
        dataset.map(stops),
        dataset.map(stops, 1),
        dataset.filter(stops).batch(3),
        dataset.batch(3).map(stops),
    ):
        with pytest.raises(RuntimeError, match="StopIteration"):
            list(stream)


def test_an_iterator_does_not_go_over_a_fork(dataset: Dataset) -> None:
    for stream in (dataset.stream(), dataset.map(number), dataset.batch(3).prefetch(2)):
        it = iter(stream)
        next(it)
        child = os.fork()
        if child == 0:
            try:
                next(it)
            except UltarError as error:
                os._exit(0 if "before a fork" in str(error) else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert len(list(it)) > 10


def test_a_stream_that_was_not_iterated_goes_over_a_fork(dataset: Dataset) -> None:
    ids(dataset.stream())
    child = os.fork()
    if child == 0:
        same = list(dataset.shuffle(1).map(number).prefetch(2)) == ids(dataset.shuffle(1))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
