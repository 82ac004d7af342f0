"""Caches that are damaged: what is made again, and what is an error that names the file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import ultar_dataloader as ultar
from ultar_dataloader import CacheError, LoadIt

from .support import ITEMS, PER_SHARD, Made

DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut in a header": lambda path: os.truncate(path, 700),
    "cut in a payload": lambda path: os.truncate(path, 8000),
    "cut before the end": lambda path: os.truncate(path, path.stat().st_size - 1024),
    "cut behind a name": lambda path: os.truncate(path, path.read_bytes().find(b"000000000055.pkl") + 50),
    "empty": lambda path: os.truncate(path, 0),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another one": lambda path: path.write_bytes(path.with_name("000000000100.tar").read_bytes()),
    "payload": lambda path: path.write_bytes(
        path.read_bytes().replace(b"0053" * 250, b"\xff" * 1000).replace(b"\x80\x05", b"\xff\xff")
    ),
}
READABLE: dict[str, Callable[[Path], object]] = {
    "places of another one": lambda path: Path(f"{path}.places").write_bytes(bytes(800)),
    "no places": lambda path: os.unlink(f"{path}.places"),
    "odd places": lambda path: os.truncate(f"{path}.places", 77),
    "empty index": lambda path: os.truncate(f"{path}.utix", 0),
}
GONE: dict[str, Callable[[Path], object]] = {
    "tar": os.unlink,
    "index": lambda path: os.unlink(f"{path}.utix"),
}


class TestDamage:
    @pytest.mark.parametrize("limit", [None, 10**9])
    @pytest.mark.parametrize("damage", [*DAMAGES, *GONE, *READABLE])
    def test_is_repaired(self, full: Path, damage: str, limit: int | None) -> None:
        {**DAMAGES, **GONE, **READABLE}[damage](full / "shards/000000000050.tar")
        made = Made()
        loader = LoadIt(made, full, memory_limit=limit)
        assert loader[53] == ITEMS[53] and made.runs == (damage not in READABLE)
        assert list(loader) == ITEMS
        loader.wait_until_all_cached()
        if limit is None:
            assert list(LoadIt(full)) == ITEMS

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_is_named_where_it_cannot_be(self, full: Path, damage: str) -> None:
        path = full / "shards/000000000050.tar"
        DAMAGES[damage](path)
        loader = LoadIt(full)
        assert loader[3] == ITEMS[3]
        with pytest.raises(CacheError, match=rf"{path}: ") as caught:
            loader[53]
        assert caught.value.filename == str(path)

    @pytest.mark.parametrize("gone", GONE)
    def test_what_is_gone_is_not_cached(self, full: Path, gone: str) -> None:
        GONE[gone](full / "shards/000000000050.tar")
        with pytest.raises(CacheError, match="item 53 is not in the cache"):
            LoadIt(full)[53]

    def test_a_shard_cut_short_while_it_is_open(self, full: Path) -> None:
        alone, both = LoadIt(full), LoadIt(Made(), full)
        assert alone[51] == both[51] == ITEMS[51]
        os.truncate(full / "shards/000000000050.tar", 3000)
        with pytest.raises(CacheError, match=r"000000000050\.tar: item 58 cannot be unpacked: ReadError"):
            alone[58]
        assert both[58] == ITEMS[58] and alone[58] == ITEMS[58]

    def test_a_line_that_was_not_finished(self, tmp_path: Path) -> None:
        with LoadIt(Made(), tmp_path, PER_SHARD, preload_fn=None) as loader:
            assert loader[15] == ITEMS[15]
        with open(tmp_path / "layout", "a") as file:
            file.write("3")
        assert LoadIt(tmp_path)[19] == ITEMS[19]
        assert list(LoadIt(Made(), tmp_path)) == ITEMS
        assert list(LoadIt(tmp_path)) == ITEMS

    @pytest.mark.parametrize("text", ["ten\n", "10\n5\n", "10\nend\n20\n", "-1\n", "\n"])
    def test_a_layout_that_is_none(self, full: Path, text: str) -> None:
        (full / "layout").write_text(text)
        with pytest.raises(CacheError, match=rf"{full}/layout: ") as caught:
            LoadIt(Made(), full)
        assert caught.value.filename == str(full / "layout")

    def test_deleted_while_in_use(self, full: Path) -> None:
        loader = LoadIt(Made(), full)
        shutil.rmtree(full)
        with pytest.raises((CacheError, ultar.WriteError), match=str(full)):
            list(loader)
