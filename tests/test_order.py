"""`order`: a sequence that is a permutation, the same as Lua's, fast and without a list."""

from __future__ import annotations

import copy
import pickle
import signal
import threading
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ultar_dataloader as ultar
from ultar_dataloader import Order, order

NUMBERS = st.integers(0, 2**53)
WINDOWS = st.none() | st.integers(1, 400) | NUMBERS.filter(bool)
LUA = """
local loader, shuffle = require("ultar.loader"), require("ultar.shuffle")
return {
  init_ctx = function(_, _, config) return config end,
  row_generator = function(config)
    local p = shuffle.permutation(config.n, config.seed, config.epoch, config.window)
    for _, k in ipairs(config.places) do
      local number = p[k + 1]
      assert(p:place_of(number) == k + 1)
      loader:add_entry_bytes("row", ("%d"):format(number - 1))
      loader:finish_row()
    end
  end,
}
"""


@given(st.integers(0, 1500), NUMBERS, NUMBERS, WINDOWS)
def test_every_row_has_one_place(n: int, seed: int, epoch: int, window: int | None) -> None:
    rows = order(n, seed, epoch, window=window)
    assert len(rows) == n
    listed = list(rows)
    assert sorted(listed) == list(range(n))
    assert [rows.index(row) for row in listed] == list(range(n))
    assert listed == rows[:].tolist() == [rows[i] for i in range(n)]


@given(st.integers(1, 2**53), NUMBERS, NUMBERS, WINDOWS, st.data())
def test_places_and_rows_of_large_orders(
    n: int, seed: int, epoch: int, window: int | None, data: st.DataObject
) -> None:
    rows = order(n, seed, epoch, window=window)
    place = data.draw(st.integers(0, n - 1))
    row = rows[place]
    assert 0 <= row < n and row in rows and rows.count(row) == 1
    assert rows.index(row) == place and rows[rows.index(place)] == place
    assert rows[place - n] == row


@given(
    st.integers(0, 1000), WINDOWS, st.slices(1000) | st.builds(slice, *[st.none() | st.integers(-(2**70), 2**70)] * 2)
)
def test_slices_are_those_of_a_list(n: int, window: int | None, places: slice) -> None:
    rows = order(n, 3, 1, window=window)
    part = rows[places]
    assert isinstance(part, array) and part.typecode == "Q"
    assert part.tolist() == list(rows)[places]


def test_long_slices_and_strides_are_exact() -> None:
    for window in (None, 100, 70_000):
        rows = order(3_000_017, 5, window=window)
        whole = np.asarray(rows[:])
        assert np.array_equal(np.sort(whole), np.arange(len(rows)))
        assert np.array_equal(np.asarray(rows[5::7]), whole[5::7])
        assert np.array_equal(np.asarray(rows[::-3]), whole[::-3])
        assert whole[1_234_567] == rows[1_234_567]


def test_lua_has_the_same_order() -> None:
    for n, seed, epoch, window in (
        (10, 1, 2, None), (1000, 1, 2, None), (1000, 1, 2, 90), (10, 0, 0, 3), (1000, 1, 2, 1000), (1, 5, 5, 1),
        (2**53, 2**53, 2**53, None), (2**53, 2**53, 2**53, 2**40 + 1), (2**53 - 1, 7, 0, 1000),
    ):  # fmt: skip
        rows = order(n, seed, epoch, window=window)
        places = [*range(min(n, 200)), n // 2, n - 1]
        config: dict[str, Any] = {"n": n, "seed": seed, "epoch": epoch, "places": places}
        if window is not None:
            config["window"] = window
        assert [int(row["row"]) for row in ultar.DataLoader(LUA, config)] == [rows[i] for i in places]


def test_an_order_is_the_same_in_every_version() -> None:
    golden = {
        order(10, 0): [7, 9, 5, 8, 2, 0],
        order(1000, 0): [168, 782, 40, 499, 947, 331],
        order(1_000_000_007, 42, 3): [921402582, 314623132, 755838260, 472012026, 585455584, 660707177],
        order(10, 0, window=4): [5, 8, 4, 9, 7, 6],
        order(1000, 0, window=100): [737, 995, 362, 733, 90, 97],
        order(1_000_000_007, 42, 3, window=65_536): [326951873, 195152577, 534413617, 110222763, 377077274, 216633815],
    }
    for rows, first in golden.items():
        assert rows[:6].tolist() == first, rows


def test_every_order_of_few_rows_is_equally_likely() -> None:
    counts = Counter(tuple(order(4, seed, epoch)) for seed in range(400) for epoch in range(60))
    chi_square = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    assert len(counts) == 24 and chi_square < 23 + 6 * (2 * 23) ** 0.5


def test_orders_of_other_seeds_epochs_and_windows_are_unrelated() -> None:
    n = 10_000
    orders = [order(n, s, e, window=w) for s in (0, 1, 2**52) for e in (0, 1, 2**52) for w in (None, 1, 64, 65)]
    listed = [np.asarray(rows[:]) for rows in orders]
    for i, a in enumerate(listed):
        for b in listed[:i]:
            assert (a == b).sum() < 14  # One is expected.
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.1  # Blocks of 8: some 1250 of them are independent.


@pytest.mark.parametrize("window", [64, 1000, 4096])
def test_a_window_has_whole_blocks_from_anywhere(window: int) -> None:
    n = 100_003
    rows = order(n, 1, window=window)
    block = rows.block
    assert block == int(window**0.5)
    listed = np.asarray(rows[:]).astype(np.int64)
    places = np.empty(n, np.int64)
    places[listed] = np.arange(n)
    # Neighbours of a block share a window, unless an edge between two windows cuts it.
    together = places[:-1] // window == places[1:] // window
    inside = np.arange(n - 1) // block == np.arange(1, n) // block
    assert (~together & inside).sum() <= n // window
    # And a window's rows are from everywhere: as many blocks as fit, and their order is lost.
    first = listed[:window]
    assert window // block <= len(np.unique(first // block)) <= window // block + 2
    assert first.std() > n / 6 and (np.diff(first) == 1).mean() < 0.1


def test_it_is_a_value() -> None:
    rows = order(100, 1, 2, window=9)
    assert repr(rows) == "order(100, 1, 2, window=9)" and repr(order(5, 1)) == "order(5, 1)"
    assert eval(repr(rows)) == rows and hash(eval(repr(rows))) == hash(rows)
    assert (rows.seed, rows.epoch, rows.window, rows.block) == (1, 2, 9, 3)
    others = [order(99, 1, 2, window=9), order(100, 2, 2, window=9), order(100, 1, 3, window=9), order(100, 1, 2)]
    assert all(rows != other for other in [*others, list(rows), None, 1])
    # A window of everything is none.
    assert order(100, 1, window=100) == order(100, 1) == order(100, 1, window=2**53)
    assert order(100, 1, window=100).window is None and order(100, 1).block is None
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(rows, protocol)) == rows
    assert copy.deepcopy(rows) == copy.copy(rows) == rows and len(pickle.dumps(order(2**53, 1))) < 200
    with pytest.raises(TypeError):
        sorted([rows, order(1, 1)])  # type: ignore[type-var]
    with pytest.raises(AttributeError):
        rows.seed = 3  # type: ignore[misc]


def test_it_is_a_sequence() -> None:
    rows = order(300, 1)
    assert isinstance(rows, Sequence) and isinstance(rows, Order)
    assert list(reversed(rows)) == list(rows)[::-1]
    assert rows[np.int64(3)] == rows[3]
    half = iter(rows)
    assert [next(half) for _ in range(150)] == list(rows)[:150] and half.__length_hint__() == 150
    del rows
    assert len(list(half)) == 150 and list(half) == []
    match order(2, 0):
        case [a, b]:
            assert {a, b} == {0, 1}
    for value in (-1, 300, 2**64, 1.0, "1", None):
        assert value not in order(300, 1) and order(300, 1).count(value) == 0


@pytest.mark.parametrize("value", [-1, 2**53 + 1, 2**63, 2**64, 10**40])
def test_a_number_out_of_range_is_a_value_error(value: int) -> None:
    for make in (lambda: order(value, 0), lambda: order(1, value), lambda: order(1, 0, value)):
        with pytest.raises(ValueError, match="must be from 0 to 9007199254740992"):
            make()
    for window in (0, value):
        with pytest.raises(ValueError, match="window must be from 1 to 9007199254740992"):
            order(1, 0, window=window)


@pytest.mark.parametrize("value", [1.0, True, "1", float("nan"), [1], b"1"])
def test_what_is_no_int_is_a_type_error(value: Any) -> None:
    for make in (
        lambda: order(value, 0),
        lambda: order(1, value),
        lambda: order(1, 0, value),
        lambda: order(1, 0, window=value),
    ):
        with pytest.raises(TypeError, match="must be an int, not"):
            make()


def test_what_is_not_there_is_said() -> None:
    for rows in (order(0, 1), order(10, 1), order(2**53, 1, window=7)):
        for place in (len(rows), -len(rows) - 1, 2**63, -(2**63) - 1, 10**40):
            with pytest.raises(IndexError, match=f"the order has {len(rows)}"):
                rows[place]
        for row in (-1, len(rows), 10**40, "a", 1.5):
            with pytest.raises(ValueError, match=f"from 0 to below {len(rows)}"):
                rows.index(row)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="indexed by int or slice, not str"):
        order(3, 1)["a"]  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="zero"):
        order(3, 1)[::0]
    with pytest.raises(MemoryError):
        order(2**53, 1)[:]


def test_threads_run_while_a_slice_is_computed() -> None:
    done = threading.Event()
    worker = threading.Thread(target=lambda: (order(10**9, 1)[:20_000_000], done.set()))
    worker.start()
    turns = 0
    while not done.wait(0.001):
        turns += 1
    worker.join()
    assert turns > 10


def test_ctrl_c_ends_a_long_slice() -> None:
    threading.Timer(0.2, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        order(10**9, 1, window=1000)[:40_000_000]
    assert time.monotonic() - began < 2
