"""The folder of a `LoadIt`: what is in it, what is made again, and what it says when it is damaged."""

from __future__ import annotations

import json
import os
import pickle
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ultar_dataloader as ultar
from ultar_dataloader import CacheError, LoadIt, loadit
from ultar_dataloader.loadit import preload_next_shard

from .support import COUNT, ITEMS, PER_SHARD, Made, run_all, shards_of, size_of, wait_for


class TestFolder:
    def test_is_plain_tars(self, full: Path) -> None:
        assert shards_of(full) == list(range(0, COUNT, PER_SHARD))
        assert (full / "layout").read_text().split() == [*map(str, range(10, COUNT + 1, 10)), "end"]
        ds = ultar.Dataset(full / "shards", index="require")
        assert len(ds) == COUNT and ds.record(57).stem == "000000000057"
        assert [pickle.loads(row.view(".pkl")) for row in ds] == ITEMS
        assert ultar.check(full / "shards").samples == COUNT

    def test_is_shared(self, full: Path) -> None:
        made = Made()
        assert list(LoadIt(made, full)) == ITEMS and made.runs == 0
        alone = LoadIt(None, full)
        assert alone[-1] == ITEMS[-1] and len(alone) == COUNT

    def test_what_others_add_is_seen(self, tmp_path: Path) -> None:
        first = LoadIt(Made(), tmp_path, PER_SHARD, preload_fn=None)
        made = Made()
        second = LoadIt(made, tmp_path, PER_SHARD, preload_fn=None)
        alone = None
        for i in range(0, COUNT, 7):
            assert first[i] == ITEMS[i]
            alone = alone or LoadIt(tmp_path)
            wait_for(lambda i=i: (tmp_path / f"shards/{i // 10 * 10:012d}.tar.utix").exists())
            assert second[i] == ITEMS[i] and alone[i] == ITEMS[i]
        assert made.runs == 0
        with pytest.raises(CacheError, match="the end of the items is not in the cache"):
            len(alone)
        len(first)
        assert len(alone) == len(second) == COUNT and made.runs == 0

    def test_incomplete_without_create_it(self, tmp_path: Path) -> None:
        with pytest.raises(CacheError, match="there is no cache here, and no create_it"):
            LoadIt(tmp_path / "none")
        assert not (tmp_path / "none").exists()
        with LoadIt(Made(), tmp_path, PER_SHARD, preload_fn=None) as loader:
            assert loader[15] == ITEMS[15]
        alone = LoadIt(tmp_path)
        seen = []
        with pytest.raises(CacheError, match=f"item 20 is not in the cache in {tmp_path}"):
            seen += [seen.append(one) for one in alone]
        assert seen == ITEMS[:20]
        with pytest.raises(CacheError, match="no create_it"):
            alone.wait_until_all_cached()

    def test_keeps_what_it_was_made_with(self, full: Path) -> None:
        loader = LoadIt(full, Made(), "1mb", compression="gzip")
        assert loader.max_shard_length == PER_SHARD
        (full / "shards/000000000050.tar.utix").unlink()
        assert loader[53] == ITEMS[53] and list(loader) == ITEMS

    def test_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "metadata.json").write_text('{"version": 0, "length": 3}')
        with pytest.raises(CacheError, match=r"metadata\.json: this folder is the cache of something else"):
            LoadIt(Made(), tmp_path)
        (tmp_path / "metadata.json").write_text("{")
        with pytest.raises(CacheError, match=r"metadata\.json: cannot be read"):
            LoadIt(Made(), tmp_path)

    def test_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ultar.WriteError, match="cannot be written: ") as caught:
            LoadIt(Made(), tmp_path / "file/cache")
        assert caught.value.errno
        # A folder takes the place of the file that is to be written.
        loader = LoadIt(Made(), tmp_path / "cache", PER_SHARD, preload_fn=None)
        (tmp_path / "cache/shards/000000000000.tar.tmp").mkdir(parents=True)
        with pytest.raises(ultar.WriteError, match=r"000000000000\.tar: cannot be written"):
            list(loader)

    @pytest.mark.parametrize("compression", ["gzip", "lzma", "zlib"])
    def test_compressed(self, tmp_path: Path, full: Path, compression: str) -> None:
        made = Made()
        with LoadIt(tmp_path / "c", made, PER_SHARD, compression=compression) as loader:
            assert list(loader) == ITEMS
        assert list(LoadIt(tmp_path / "c")) == ITEMS and LoadIt(None, tmp_path / "c")[77] == ITEMS[77]
        assert size_of(tmp_path / "c") < size_of(full) * 3 / 4

    def test_sizes_in_bytes(self, tmp_path: Path) -> None:
        sizes = [10, 50_000, 20_000, 300_000, 5, 5, 90_000, 90_000]
        loader = LoadIt(tmp_path, lambda: (bytes(size) for size in sizes), "100kb")
        assert list(map(len, loader)) == sizes
        assert shards_of(tmp_path) == [0, 3, 4, 7]

    def test_mode(self, tmp_path: Path) -> None:
        LoadIt(Made(), tmp_path, mode=0o600).wait_until_all_cached()
        for name in ("metadata.json", "layout", "lock", "shards/000000000000.tar", "shards/000000000000.tar.utix"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name

    def test_info(self, tmp_path: Path) -> None:
        loader = LoadIt(tmp_path, Made(), info={"url": "a"})
        assert loader.info() == {"url": "a"} and LoadIt(tmp_path).info() == {"url": "a"}
        loader.set_info([1, None])
        assert LoadIt(tmp_path).info() == [1, None] and loader[3] == ITEMS[3]
        with pytest.raises(TypeError, match="info must be what JSON can hold"):
            loader.set_info({"a": object()})
        assert json.loads((tmp_path / "metadata.json").read_text())["info"] == [1, None]


class TestLimit:
    @pytest.fixture
    def shard_bytes(self, full: Path) -> int:
        return size_of(full) // 20

    def test_holds_and_all_is_made_again(self, tmp_path: Path, shard_bytes: int) -> None:
        made = Made()
        loader = LoadIt(made, tmp_path / "l", PER_SHARD, memory_limit=5 * shard_bytes + 3000, max_cache_size=2)
        for _ in range(2):
            seen = []
            for one in loader:
                seen.append(one)
                assert size_of(tmp_path / "l") <= 5 * shard_bytes + 3000
            assert seen == ITEMS
        wait_for(lambda: len(shards_of(tmp_path / "l")) == 5)
        # Once for each pass, unless a thread that preloads was so late that its shard was made, and deleted, meanwhile.
        assert 2 <= made.runs <= 4
        for i in range(0, COUNT, 23):
            assert loader[i] == ITEMS[i]
        assert not loader.all_cached_to_disk()
        with pytest.raises(CacheError, match=r"memory_limit, \d+ bytes, has no room"):
            loader.wait_until_all_cached()

    @pytest.mark.parametrize("limit", ["10kb", "10 KB", 10 * 1024])
    def test_as_a_size(self, tmp_path: Path, limit: Any) -> None:
        loader = LoadIt(Made(), tmp_path, 2, memory_limit=limit, max_cache_size=1)
        assert list(loader) == ITEMS
        assert 8 * 1024 < size_of(tmp_path) <= 10 * 1024

    def test_the_one_used_least_recently_goes(self, tmp_path: Path, shard_bytes: int) -> None:
        root = tmp_path / "l"
        options: dict[str, Any] = {"memory_limit": 3 * shard_bytes + 3000, "max_cache_size": 1, "preload_fn": None}
        with LoadIt(Made(), root, PER_SHARD, **options) as loader:
            for i in (0, 10, 20, 0, 30):
                assert loader[i] == ITEMS[i]
                wait_for(lambda i=i: i in shards_of(root))
        assert shards_of(root) == [0, 20, 30]

    def test_going_to_the_end_evicts_nothing(self, tmp_path: Path, shard_bytes: int) -> None:
        loader = LoadIt(Made(), tmp_path / "l", PER_SHARD, memory_limit=3 * shard_bytes + 3000, preload_fn=None)
        assert len(loader) == COUNT and shards_of(tmp_path / "l") == [0, 10, 20]

    @pytest.mark.parametrize("limit", [0, 1000])
    def test_less_than_a_shard(self, tmp_path: Path, limit: int) -> None:
        loader = LoadIt(Made(), tmp_path, PER_SHARD, memory_limit=limit, max_cache_size=1)
        assert list(loader) == ITEMS and loader[3] == ITEMS[3] and size_of(tmp_path) == 0

    def test_another_count_is_an_error(self, tmp_path: Path) -> None:
        made = Made()
        loader = LoadIt(made, tmp_path, PER_SHARD, memory_limit=0, max_cache_size=1, preload_fn=None)
        assert list(loader) == ITEMS
        for count, asked in ((150, 195), (195, 192), (201, 192), (300, 199)):
            made.count = count
            _ = loader[50]
            with pytest.raises(
                CacheError, match=rf"create_it gave (only|more than) \d+ items this time, .* of {COUNT}"
            ):
                loader[asked]
        made.count = COUNT
        assert loader[195] == ITEMS[195]

    def test_threads_that_read_here_and_there(self, tmp_path: Path, shard_bytes: int) -> None:
        options: dict[str, Any] = {"memory_limit": 4 * shard_bytes, "max_cache_size": 2, "iterator_thread_safe": True}
        loader = LoadIt(Made(), tmp_path / "l", PER_SHARD, **options)
        wrong: list[object] = []

        def read(first: int) -> None:
            try:
                wrong.extend(i for i in range(first, COUNT, 13) if loader[i] != ITEMS[i])
            except BaseException as error:
                wrong.append(error)

        run_all([lambda k=k: read(k * 5) for k in range(6)])
        assert not wrong


class TestAhead:
    def test_the_next_shards_are_preloaded(self, tmp_path: Path) -> None:
        made = Made()
        loader = LoadIt(made, tmp_path, PER_SHARD, max_workers=3)
        _ = loader[0]
        wait_for(lambda: made.items == 30)
        time.sleep(0.05)
        assert made.items == 30
        _ = loader[150]  # A jump: nothing more is read ahead.
        wait_for(lambda: made.items == 160)
        time.sleep(0.05)
        assert made.items == 160

    @pytest.mark.parametrize("max_workers", [1, 3])
    def test_preload_fn(self, tmp_path: Path, max_workers: int) -> None:
        calls = []
        threads = set()

        def preload(loader: LoadIt, idx: int) -> list[list[int]]:
            calls.append(idx)
            return [[20, 30], [100]] if idx == 0 else []

        def make() -> Iterator[bytes]:
            for one in ITEMS:
                threads.add(threading.current_thread())
                yield one

        loader = LoadIt(make, tmp_path, PER_SHARD, max_workers=max_workers, preload_fn=preload)
        assert loader[0] == ITEMS[0] and loader[1] == ITEMS[1]
        wait_for(lambda: {0, 20, 30} | ({100} if max_workers > 1 else set()) <= set(shards_of(tmp_path)))
        assert calls == [0, 1] and len(threads) == 1

    def test_preload_next_shard_in_one_of_yours(self, tmp_path: Path) -> None:
        loader = LoadIt(Made(), tmp_path, PER_SHARD, preload_fn=lambda loader, idx: preload_next_shard(loader, idx))
        assert list(loader) == ITEMS
        assert preload_next_shard(loader, 35) == [[40], [50]] and loader.get_start_idx(35) == 30
        assert loader.get_start_idx(-1) == 190

    def test_what_is_on_disk_is_read_by_the_kernel(self, full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        advised: list[int] = []

        def advise(descriptor: int, offset: int, length: int, how: int) -> None:
            assert (offset, length, how) == (0, 0, os.POSIX_FADV_WILLNEED)
            advised.append(int(Path(os.readlink(f"/proc/self/fd/{descriptor}")).stem))

        monkeypatch.setattr(os, "posix_fadvise", advise)
        loader = LoadIt(Made(), full, max_workers=3)
        for i in (100, 20, 30, 150, 140, 60):
            assert loader[i] == ITEMS[i]
        assert advised == []  # One step may be chance.
        for i in (5, 15, 25, 35):
            assert loader[i] == ITEMS[i]
        assert advised == [30, 40, 50]
        loader.preload_fn = lambda loader, index: [[170, 171], [180], [30]]
        assert loader[36] == ITEMS[36] and loader[37] == ITEMS[37]
        assert advised == [30, 40, 50, 170, 180]

    def test_a_preload_fn_that_gives_something_else(self, full: Path) -> None:
        loader = LoadIt(full)
        for given, named in ((None, "NoneType"), (5, "int"), ([5], "5"), (["ab"], "'ab'"), ([[1.5]], r"\[1.5\]")):
            loader.preload_fn = lambda loader, index, given=given: given
            with pytest.raises(TypeError, match=f"preload_fn must give lists of indices, and gave {named}"):
                loader[5]
        loader.preload_fn = lambda loader, index: iter([iter([np.int64(3)]), (-1, 10**9)])
        assert loader[5] == ITEMS[5]

    def test_everything_in_the_background(self, tmp_path: Path) -> None:
        loader = LoadIt(tmp_path, Made(), PER_SHARD, preload_all_async=True)
        wait_for(loader.all_cached_to_disk)
        assert list(LoadIt(tmp_path)) == ITEMS
        loader.wait_until_all_cached()

    def test_who_asks_goes_first(self, tmp_path: Path) -> None:
        def endless() -> Iterator[int]:
            i = 0
            while True:
                yield i
                i += 1

        with LoadIt(tmp_path, endless, 100, memory_limit=0, max_cache_size=1, preload_all_async=True) as loader:
            for i in (5000, 10, 3000, 7):
                assert loader[i] == i

    def test_finalize(self, tmp_path: Path) -> None:
        def endless() -> Iterator[int]:
            i = 0
            while True:
                yield i
                i += 1

        loader = LoadIt(tmp_path, endless, 100, preload_fn=None)
        with pytest.raises(CacheError, match="nothing is cached"):
            loader.finalize()
        assert loader[250] == 250
        loader.finalize()
        loader.finalize()
        assert len(loader) == 300 and list(LoadIt(tmp_path)) == list(range(300))
        with pytest.raises(IndexError, match="there are 300"):
            loader[300]
        # It may give more: it was cut.
        (tmp_path / "shards/000000000200.tar.utix").unlink()
        assert LoadIt(tmp_path, endless)[299] == 299

    def test_finalize_after_a_failure(self, tmp_path: Path) -> None:
        """What was made of a shard that was not finished is not there any more."""

        def fails_at_25() -> Iterator[int]:
            yield from range(25)
            raise ConnectionError("lost")

        loader, other = (LoadIt(tmp_path, fails_at_25, 10, preload_fn=None) for _ in range(2))
        for one in (loader, other):
            with pytest.raises(ConnectionError):
                one[30]
            assert [one[i] for i in (19, 22, 24)] == [19, 22, 24]
        view = loader[15:]
        loader.finalize()
        for one in (loader, other, LoadIt(tmp_path)):
            assert len(one) == 20 and one[-1] == 19
            assert list(one) == list(range(20)) and list(one[::-1]) == list(range(19, -1, -1))
            for i in (20, 22, 24, 25):
                with pytest.raises(IndexError, match="there are 20"):
                    one[i]
        assert list(view) == [15, 16, 17, 18, 19] and len(view) == 5

    def test_finalize_says_more_than_length(self, tmp_path: Path) -> None:
        loader = LoadIt(tmp_path, range(100), 10, length=50, preload_fn=None)
        assert loader[25] == 25 and len(loader) == 50
        loader.finalize()
        assert len(loader) == 30 and list(loader) == list(range(30))


class TestThreads:
    @pytest.mark.parametrize("safe", [False, True])
    def test_one_iterator_and_one_thread_unless_told_otherwise(self, tmp_path: Path, safe: bool) -> None:
        alive: list[int] = []
        counts: list[int] = []
        threads: set[int] = set()

        def make() -> Iterator[bytes]:
            alive.append(1)
            counts.append(len(alive))
            try:
                for one in ITEMS:
                    threads.add(threading.get_ident())
                    yield one
            finally:
                alive.pop()

        options: dict[str, Any] = {"memory_limit": 0, "max_cache_size": 1, "iterator_thread_safe": safe}
        with LoadIt(make, tmp_path, PER_SHARD, **options) as loader:
            for i in (150, 100, 160, 50, 110, 170, 60):
                assert loader[i] == ITEMS[i]
        assert max(counts) == len(threads) == (3 if safe else 1)

    def test_closing(self, tmp_path: Path) -> None:
        closed = []

        def make() -> Iterator[bytes]:
            try:
                yield from ITEMS
            finally:
                closed.append(threading.current_thread())

        with LoadIt(make, tmp_path, PER_SHARD) as loader:
            assert loader[0] == ITEMS[0]
        assert closed and closed != [threading.main_thread()]
        with pytest.raises(CacheError, match="closed"):
            loader[100]
        loader = LoadIt(make, tmp_path / "2", PER_SHARD, preload_fn=None)
        assert loader[0] == ITEMS[0]
        thread = loader._core.crew.producers[0].thread
        del loader
        thread.join(5)
        assert not thread.is_alive() and len(closed) == 2


def test_names() -> None:
    assert loadit.LoadIt is LoadIt and sorted(loadit.__all__) == loadit.__all__
    with pytest.raises(AttributeError, match="no attribute 'LoadThat'"):
        ultar.LoadThat  # type: ignore[attr-defined]  # noqa: B018
