"""Caches that are damaged: what is made again, and what is an error that names the file."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ultar_dataloader as ultar
from ultar_dataloader import CacheError, LoadIt
from ultar_dataloader._native import read_item
from ultar_dataloader.loadit._locks import LockFile

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

    def test_a_shard_that_another_one_makes_anew_while_it_is_open(self, full: Path) -> None:
        """Of other sizes, so that what was known of it is wrong once it is opened again."""
        alone = LoadIt(full, max_cache_size=0)
        assert alone[51] == ITEMS[51]
        (full / "shards/000000000050.tar.utix").unlink()
        longer = LoadIt(lambda: (one * 2 for one in ITEMS), full, PER_SHARD, preload_fn=None)
        assert longer[53] == ITEMS[53] * 2
        longer.close()
        assert alone[52] == ITEMS[52]
        for rows in alone._core.disk.rows.values():
            rows.close()
        assert alone[53] == ITEMS[53] * 2 and alone[50] == ITEMS[50] * 2

    def test_others_that_look_at_a_damaged_shard_are_waited_for(self, full: Path) -> None:
        DAMAGES["payload"](full / "shards/000000000050.tar")
        lock = LockFile(str(full / "lock"), 0o644).try_lock(1 + 5, shared=True)
        assert lock is not None
        end = threading.Timer(0.1, lock.close)
        end.start()
        try:
            assert LoadIt(Made(), full, preload_fn=None)[53] == ITEMS[53]
        finally:
            end.join()

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


def _put(place: int, value: int) -> Callable[[array[int]], object]:
    return lambda places: places.__setitem__(place, value)


def _swap(places: array[int], one: int, other: int) -> None:
    places[one], places[other] = places[other], places[one]


def _size_to(places: array[int], item: int, size: int) -> None:
    """Another size of an item, and places of the others that follow from it."""
    sizes = list(places[1::2])
    sizes[item] = size
    _in_order(places, sizes)


def _in_order(places: array[int], sizes: list[int]) -> None:
    at = 0
    for place, size in enumerate(sizes):
        places[2 * place], places[2 * place + 1] = at + 512, size
        at += 512 + (size + 511) // 512 * 512


WRONG_PLACES: dict[str, Callable[[array[int]], object]] = {
    "an offset beyond all files": _put(4, 2**63),
    "an offset beyond the tar": _put(4, 10**9),
    "an offset of zero": _put(4, 0),
    "a size beyond all memory": _put(5, 2**62),
    "the largest size": _put(5, 2**64 - 1),
    "a size that is too small by one": lambda places: places.__setitem__(5, places[5] - 1),
    "a size that is too large by one": lambda places: places.__setitem__(5, places[5] + 1),
    "swapped offsets": lambda places: _swap(places, 4, 6),
    "swapped sizes": lambda places: _swap(places, 5, 7),
    "items in another order": lambda places: _in_order(places, [*places[3::2], places[1]]),
    "a size that is too small": lambda places: _size_to(places, 2, 1),
    "one less": lambda places: (places.pop(0), places.pop(0)),
    "one more": lambda places: places.extend([1, 1]),
    "none": lambda places: places.__delitem__(slice(None)),
    "zeros": lambda places: places.__setitem__(slice(None), array("Q", bytes(8 * len(places)))),
    "many": lambda places: places.extend(array("Q", bytes(8_000_000))),
}


def growing() -> list[dict[str, Any]]:
    return [{"i": i, "more": bytes(500 * (i % 6) + 13)} for i in range(18)]


@pytest.fixture(scope="module")
def growing_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("places") / "cache"
    LoadIt(growing, root, 6).wait_until_all_cached()
    return root


FITTING = ("items in another order", "a size that is too small by one", "a size that is too large by one")
"""They could be those of the tar, so that only the items show that they are not."""


class TestPlaces:
    """The offsets beside a shard: whatever they say, an item is that item."""

    @pytest.mark.parametrize("limit", [None, 10**9])
    @pytest.mark.parametrize("wrong", WRONG_PLACES)
    def test_they_cannot_give_another_item(
        self, growing_cache: Path, tmp_path: Path, wrong: str, limit: int | None
    ) -> None:
        root = Path(shutil.copytree(growing_cache, tmp_path / "cache"))
        path = root / "shards/000000000006.tar.places"
        right = path.read_bytes()
        places = array("Q", right)
        WRONG_PLACES[wrong](places)
        damaged = places.tobytes()
        path.write_bytes(damaged)
        items = growing()
        alone, anew = LoadIt(root, memory_limit=limit), LoadIt(lambda: 1 / 0, root, memory_limit=limit)
        for loader in (alone, anew):
            assert path.read_bytes() == damaged
            for i in (8, 11, 6, 7, 10, 9, 3, 17):
                assert loader[i] == items[i]
            assert list(loader) == items
        # Whoever may write puts it right.
        assert limit or wrong in FITTING or path.read_bytes() == right

    def test_an_item_is_read_as_a_whole_or_not_at_all(self, growing_cache: Path) -> None:
        """The native part of it."""
        path = growing_cache / "shards/000000000006.tar"
        places = array("Q", Path(f"{path}.places").read_bytes())
        offset, size = places[4], places[5]
        with open(path, "rb") as file:
            fd = file.fileno()
            blob = read_item(fd, offset, size, 8, ".pkl")
            assert type(blob) is bytes and pickle.loads(blob) == growing()[8]
            for wrong in (
                (fd, offset + 512, size, 8, ".pkl"),
                (fd, offset, size + 1, 8, ".pkl"),
                (fd, offset, size, 9, ".pkl"),
                (fd, offset, size, 8, ".pkl.gz"),
                (fd, offset, size, 8, ".pkl" * 100),
                (fd, 511, size, 8, ".pkl"),
                (fd, 2**62, size, 8, ".pkl"),
                (10**9, offset, size, 8, ".pkl"),
                (-1, offset, size, 8, ".pkl"),
            ):
                assert read_item(*wrong) is None, wrong
            with pytest.raises(TypeError, match=r"read_item\(\) takes 5 arguments, got 2"):
                read_item(fd, offset)  # type: ignore[call-arg]
            for place, value in ((0, "x"), (1, 1.5), (2, -1), (3, 2**63), (4, 5)):
                with pytest.raises((TypeError, ValueError), match="must be"):
                    read_item(*[value if i == place else one for i, one in enumerate((fd, offset, size, 8, ".pkl"))])  # type: ignore[call-arg,arg-type]
            with pytest.raises((MemoryError, OverflowError)):
                read_item(fd, offset, 2**63 - 1, 8, ".pkl")

    def test_a_header_with_another_checksum_is_still_one(self, growing_cache: Path, tmp_path: Path) -> None:
        root = Path(shutil.copytree(growing_cache, tmp_path / "cache"))
        with open(root / "shards/000000000006.tar", "r+b") as file:
            file.seek(148)
            file.write(b"7777")
        assert list(LoadIt(root)) == growing()
