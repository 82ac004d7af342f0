"""A row from the user's side: a mapping of keys to bytes, with views that outlive everything."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from ultar_dataloader import DataLoader, LoadedRow

CAT = {".jpg": b"\xff" * 1000, ".json": b'{"label": 3}', ".cls": b"3", ".empty": b""}


@pytest.fixture
def shard(make_shard: Callable[..., Path]) -> Path:
    return make_shard({"cat": CAT, "dog": {".jpg": b"dog", ".json": b"{}"}})


@pytest.fixture
def rows(shard: Path, script: str, config_of: Callable[[Path], dict[str, object]], io: str) -> list[LoadedRow]:
    return list(DataLoader(script, config_of(shard), io=io))  # type: ignore[arg-type]


@pytest.fixture
def row(rows: list[LoadedRow]) -> LoadedRow:
    return rows[0]


def made(*lines: str) -> LoadedRow:
    """The one row of a script that makes it in these lines."""
    body = "\n".join(lines)
    (row,) = DataLoader(f"""
        local loader = require("ultar.loader")
        return {{
          init_ctx = function() return {{}} end,
          row_generator = function()
            {body}
            loader:finish_row()
          end,
        }}""")
    return row


def test_it_is_the_mapping_that_went_in(row: LoadedRow) -> None:
    assert isinstance(row, Mapping)
    assert len(row) == 4
    assert list(row) == list(row.keys()) == list(CAT)
    assert list(row.values()) == list(CAT.values())
    assert list(row.items()) == list(CAT.items())
    assert row.to_dict() == dict(row) == CAT
    assert row.nbytes == sum(map(len, CAT.values()))


def test_entries_by_key_and_by_place(row: LoadedRow) -> None:
    assert row[".json"] == row["json"] == row[1] == row[-3] == CAT[".json"]
    assert row[-1] == row[".empty"] == b""
    assert row[True] == row[1]
    assert row[np.int64(2)] == b"3"  # type: ignore[index]
    assert isinstance(row[".cls"], bytes)


def test_a_dot_in_front_is_only_added_where_the_key_is_not_there() -> None:
    row = made('loader:add_entry_bytes(".a", "dot")', 'loader:add_entry_bytes("a", "plain")')
    assert row["a"] == b"plain"
    assert row[".a"] == b"dot"
    assert "..a" not in row


def test_what_is_missing(row: LoadedRow) -> None:
    with pytest.raises(KeyError) as missing:
        row["png"]
    assert missing.value.args == ("png",)
    for place in (4, -5, 2**70, -(2**70)):
        with pytest.raises(IndexError, match="the row has 4 entries"):
            row[place]
    wrong: list[object] = [None, 1.5, b".jpg", [], slice(1)]
    for key in wrong:
        with pytest.raises(TypeError, match=f"not {type(key).__name__}"):
            row[key]  # type: ignore[index]
    with pytest.raises(KeyError):
        row["\ud800"]


def test_get(row: LoadedRow) -> None:
    assert row.get("cls") == row.get(2) == b"3"
    assert row.get("png") is None
    assert row.get("png", "nothing") == row.get(9, "nothing") == "nothing"
    assert row.get(None, 1) == 1  # type: ignore[call-overload]


def test_in_is_about_keys(row: LoadedRow) -> None:
    assert ".jpg" in row
    assert "jpg" in row
    assert "png" not in row
    assert 0 not in row  # type: ignore[comparison-overlap]
    assert b"3" not in row  # type: ignore[comparison-overlap]
    assert "\ud800" not in row


def test_a_key_given_twice() -> None:
    row = made('loader:add_entry_bytes("k", "1")', 'loader:add_entry_bytes("k", "2")')
    assert row["k"] == b"1"
    assert row[1] == b"2"
    assert list(row.items()) == [("k", b"1"), ("k", b"2")]
    assert row.to_dict() == {"k": b"1"} == row
    assert row.nbytes == 2


def test_keys_need_not_be_text() -> None:
    row = made(r'loader:add_entry_bytes("\255\254", "x")', r'loader:add_entry_bytes("é", "y")')
    assert list(row) == ["\udcff\udcfe", "é"]
    assert row["\udcff\udcfe"] == b"x"
    assert row["é"] == b"y"


def test_a_row_may_be_empty() -> None:
    row = made()
    assert len(row) == row.nbytes == 0
    assert row == {} == row.to_dict()
    assert repr(row) == "<LoadedRow 0 entries, 0 bytes>"
    with pytest.raises(IndexError, match="0 entries"):
        row[0]


def test_repr_is_short(row: LoadedRow) -> None:
    assert repr(row) == "<LoadedRow 4 entries, 1013 bytes: .jpg .json .cls .empty>"
    assert repr(made('loader:add_entry_bytes("k", "1")')) == "<LoadedRow 1 entry, 1 byte: k>"
    many = made('for i = 1, 5000 do loader:add_entry_bytes(("k"):rep(5000) .. i, "") end')
    assert len(many) == 5000
    assert len(repr(many)) < 600


def test_equal_to_mappings(rows: list[LoadedRow]) -> None:
    row, other = rows
    assert row == CAT
    assert CAT == row  # noqa: SIM300
    assert row == MappingProxyType(CAT)
    assert row != other
    assert row == row
    assert row != {**CAT, ".cls": b"4"}
    assert row != list(CAT.items())
    with pytest.raises(TypeError):
        row < other  # type: ignore[operator]  # noqa: B015
    with pytest.raises(TypeError, match="unhashable"):
        hash(row)


def test_match(row: LoadedRow) -> None:
    match row:
        case {".png": _}:
            pytest.fail("there is no such key")
        case {"json": text, ".cls": number}:
            assert (text, number) == (CAT[".json"], b"3")
        case _:
            pytest.fail("a row is a mapping")


def test_it_cannot_be_made_changed_or_pickled(row: LoadedRow) -> None:
    with pytest.raises(TypeError, match="rows come from iterating a DataLoader"):
        LoadedRow()
    with pytest.raises(TypeError):
        row["a"] = b""  # type: ignore[index]
    with pytest.raises(AttributeError):
        row.nbytes = 1  # type: ignore[misc]
    for action in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"to_dict\(\)"):
            action(row)


def test_sources(row: LoadedRow, shard: Path) -> None:
    whole = shard.read_bytes()
    for (path, offset, size), payload in zip(row.sources(), CAT.values(), strict=True):
        assert path == str(shard)
        assert whole[offset : offset + size] == payload
    assert made('loader:add_entry_bytes("k", "abc")').sources() == (("", 0, 3),)


def test_a_view_is_read_only_and_no_copy(row: LoadedRow) -> None:
    view = row.view("jpg")
    assert view.readonly
    assert (view.format, view.ndim, view.nbytes) == ("B", 1, 1000)
    assert view == CAT[".jpg"] == row.view(0)
    assert row.view(-1).nbytes == 0
    address = np.frombuffer(view, np.uint8).ctypes.data
    assert np.frombuffer(row.view(0), np.uint8).ctypes.data == address
    with pytest.raises(TypeError):
        view[0] = 1
    with pytest.raises(KeyError):
        row.view("png")
    with pytest.raises(IndexError):
        row.view(4)
    with pytest.raises(TypeError):
        type(view.obj)()


def test_a_view_outlives_row_and_loader(
    shard: Path, script: str, config_of: Callable[[Path], dict[str, object]], io: str
) -> None:
    loader = DataLoader(script, config_of(shard), io=io)  # type: ignore[arg-type]
    iterator = iter(loader)
    row = next(iterator)
    view = row.view("json")[2:7]
    array = np.frombuffer(row.view("jpg"), np.uint8)
    del row, iterator, loader
    gc.collect()
    again = list(DataLoader(script, config_of(shard), io=io))  # type: ignore[arg-type]
    assert bytes(view) == b"label"
    assert (array == 255).all()
    assert again[0] == CAT


def test_rows_may_all_be_kept(
    make_shard: Callable[..., Path], script: str, config_of: Callable[[Path], dict[str, object]]
) -> None:
    samples = {f"{i:05}": {".txt": str(i).encode() * 50} for i in range(3000)}
    shard = make_shard(samples)
    rows = list(DataLoader(script, config_of(shard), prefetch_rows=4, prefetch_bytes=4096))
    assert [row[".txt"] for row in rows] == [sample[".txt"] for sample in samples.values()]


def test_rows_may_be_dropped_by_another_thread(rows: list[LoadedRow]) -> None:
    views = [row.view(0) for row in rows]
    rows.clear()
    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()


def test_no_reference_is_lost_or_kept(row: LoadedRow) -> None:
    def use() -> None:
        row["jpg"], row[-1], row.view("cls"), row.get("x"), row.get(0, None)
        row.keys(), row.values(), row.items(), row.to_dict(), row.sources(), row.nbytes
        repr(row), len(row), list(row), "jpg" in row, row == CAT, row != {}, row == 3
        for wrong in ("png", 9, None):
            with pytest.raises((KeyError, IndexError, TypeError)):
                row[wrong]  # type: ignore[index]
            with pytest.raises((KeyError, IndexError, TypeError)):
                row.view(wrong)  # type: ignore[arg-type]

    def count() -> list[int]:
        gc.collect()
        return [sys.getrefcount(one) for one in (row, LoadedRow, None, NotImplemented)] + [sys.getallocatedblocks()]

    for _ in range(50):
        use()
    before = count()
    for _ in range(1000):
        use()
    assert all(abs(now - then) < 500 for now, then in zip(count(), before, strict=True)), (before, count())
