"""`LoadIt` against the list that it stands for."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ultar_dataloader import CacheError, LoadIt
from ultar_dataloader.loadit import SequenceView, preload_next_shard


class Made:
    """A function that makes iterators, and counts what they have given."""

    def __init__(self, count: int | None = 1000) -> None:
        self.count = count
        self.runs = self.items = 0

    def __call__(self) -> Iterator[dict[str, Any]]:
        self.runs += 1
        for i in itertools.count() if self.count is None else range(self.count):
            self.items += 1
            yield {"i": i, "text": "x" * (i % 50)}


def numbers(items: Any) -> list[int]:
    return [item["i"] for item in items]


@pytest.fixture(scope="module", params=[37, 512, "64kb"], ids=lambda size: f"shards of {size}")
def loader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadIt]:
    # One for all who only read, from whatever state the one before has left it in.
    with LoadIt(Made(), tmp_path_factory.mktemp("list"), request.param) as loader:
        yield loader


def test_it_is_the_list(loader: LoadIt) -> None:
    assert list(loader) == list(Made()())
    assert len(loader) == 1000 and loader._core.options.create_it.runs == 1


def test_any_place_in_any_order(loader: LoadIt) -> None:
    draw = random.Random(7)
    for _ in range(300):
        i = draw.randrange(-1000, 1000)
        assert loader[i]["i"] == i % 1000
    assert loader[np.int64(3)]["i"] == 3


@pytest.mark.parametrize("index", [1000, -1001, 10**30])
def test_out_of_range(loader: LoadIt, index: int) -> None:
    with pytest.raises(IndexError, match="there are 1000"):
        loader[index]


@pytest.mark.parametrize(
    "index",
    [
        slice(None),
        slice(3, 20),
        slice(3, 20, 4),
        slice(990, 2000, 3),
        slice(1500, None),
        slice(20, 3),
        slice(None, None, -1),
        slice(700, 20, -111),
        slice(-5, None),
        slice(None, -990),
        slice(-3, -9, -2),
    ],
    ids=str,
)
def test_slices(loader: LoadIt, index: slice) -> None:
    wanted = list(range(1000))[index]
    assert numbers(loader[index]) == wanted
    view = loader[index]
    assert len(view) == len(wanted) and bool(view) == bool(wanted)
    assert numbers(view[::-1]) == wanted[::-1] and numbers(view[1:3]) == wanted[1:3]
    if wanted:
        assert view[-1]["i"] == wanted[-1] and view[len(wanted) - 1]["i"] == wanted[-1]
    for out in (len(wanted), -len(wanted) - 1):
        with pytest.raises(IndexError):
            view[out]


def test_lists_of_places(loader: LoadIt) -> None:
    assert numbers(loader[[5, 5, -1, 0]]) == [5, 5, 999, 0]
    assert numbers(loader[5, 6]) == [5, 6]
    assert numbers(loader[np.array([9, 3])][::-1]) == [3, 9]
    assert numbers(loader[range(10, 0, -3)][[0, -1]]) == [10, 1]
    assert numbers(loader[[]]) == []
    for wrong in ("abc", [True, False], [1.5], np.array([True]), 1.5, None):
        with pytest.raises(TypeError, match="items are named by"):
            loader[wrong]


def test_as_a_sequence(loader: LoadIt) -> None:
    assert loader[3] in loader and {"i": -1} not in loader
    assert loader.index(loader[30]) == 30 and loader.count(loader[30]) == 1
    assert numbers(itertools.islice(reversed(loader), 3)) == [999, 998, 997]
    more, before = [{"i": "more"}], [{"i": "before"}]
    assert numbers((loader + more)[999:]) == [999, "more"]
    assert numbers((before + loader)[:2]) == ["before", 0]
    assert bool(loader)


def test_an_item_in_memory_is_one_object(tmp_path: Path) -> None:
    kept = LoadIt(Made(20), tmp_path)
    assert kept[3] is kept[3]
    anew = LoadIt(Made(20), tmp_path, max_cache_size=0)
    assert anew[3] == anew[3] and anew[3] is not anew[3]


@pytest.mark.parametrize("count", [0, 1, 7, 14], ids="{} items".format)
def test_few_items(tmp_path: Path, count: int) -> None:
    loader = LoadIt(Made(count), tmp_path, 7)
    assert bool(loader) == (count > 0)
    assert numbers(loader) == list(range(count)) and len(loader) == count
    assert numbers(LoadIt(tmp_path)) == list(range(count)) and loader.all_cached_to_disk()
    with pytest.raises(IndexError):
        loader[count]


def test_no_more_is_made_than_needed(tmp_path: Path) -> None:
    made = Made(None)
    with LoadIt(made, tmp_path, 10, max_workers=1) as loader:
        assert loader[25]["i"] == 25
        view = loader[100:200:3]
        assert view is not None and numbers(loader[20:30]) == list(range(20, 30))
    # Whole shards are made.
    assert made.items == 30


def test_items_come_as_soon_as_they_are_there(tmp_path: Path) -> None:
    def stops_after_three() -> Iterator[int]:
        yield from range(3)
        raise ValueError("no more")

    assert LoadIt(stops_after_three, tmp_path)[2] == 2


def test_a_length_that_is_given(tmp_path: Path) -> None:
    made = Made(None)
    loader = LoadIt(made, tmp_path / "a", 10, max_workers=1, length=25)
    assert len(loader) == 25 and made.items == 0
    assert loader[-1]["i"] == 24 and numbers(loader) == list(range(25))
    with pytest.raises(IndexError):
        loader[25]
    loader.wait_until_all_cached()
    assert made.items == 25 and len(LoadIt(tmp_path / "a")) == 25
    with pytest.raises(ValueError, match="length is 26, but .* has 25"):
        LoadIt(made, tmp_path / "a", length=26)
    with pytest.raises(CacheError, match="length is 12, but create_it gave 8"):
        list(LoadIt(Made(8), tmp_path / "b", length=12))


@pytest.mark.parametrize(
    "source", [list(range(100)), range(100), "generator", "class"], ids=["list", "range", "generator", "class"]
)
def test_what_can_be_loaded(tmp_path: Path, source: Any) -> None:
    class Numbers:
        def __iter__(self) -> Iterator[int]:
            return iter(range(100))

    if source == "class":
        source = Numbers
    if source == "generator":
        source = (i for i in range(100))
    loader = LoadIt(source, tmp_path, 10)
    assert loader[50] == 50 and loader[7] == 7 and list(loader) == list(range(100))


def test_an_iterator_runs_once(tmp_path: Path) -> None:
    loader = LoadIt(iter(range(100)), tmp_path, 10, memory_limit=30_000, max_cache_size=1, preload_fn=None)
    assert loader[99] == 99
    with pytest.raises(CacheError, match="runs once only"):
        loader[0], loader[20], loader[0], loader[20]


class TestSignatures:
    def test_first(self, tmp_path: Path) -> None:
        loader = LoadIt(Made(30), tmp_path, 10, 5, 2, None, None)
        assert (loader.max_shard_length, loader.max_workers, loader.preload_fn) == (10, 2, None)
        assert LoadIt(create_it=Made(30), root_dir=str(tmp_path))[29]["i"] == 29
        assert LoadIt(None, tmp_path)[9]["i"] == 9

    def test_first_has_a_folder_by_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        loader = LoadIt(Made(30))
        monkeypatch.chdir("/")
        assert numbers(loader) == list(range(30))
        assert loader.root_dir == str(tmp_path / "cache") and loader.max_shard_length == 512

    def test_later(self, tmp_path: Path) -> None:
        loader = LoadIt(tmp_path, Made(30), "1mb", 5, 2, None, "gzip", None, length=30)
        assert (loader.max_shard_length, loader.max_workers, loader.preload_fn) == ("1mb", 2, None)
        assert LoadIt(root_dir=tmp_path, create_iter=Made(30))[29]["i"] == 29
        assert LoadIt(str(tmp_path)).preload_fn is preload_next_shard

    @pytest.mark.parametrize(
        ("args", "kwargs", "message"),
        [
            ((), {}, "missing 1 required positional argument: 'root_dir'"),
            ((3,), {}, "the first argument must be a function .* got int"),
            ((b"cache",), {}, "the first argument must be .* got bytes"),
            ((range(3), "a"), {"create_iter": range(3)}, "create_iter belongs to"),
            (("a",), {"create_it": range(3)}, "after a folder comes create_iter"),
            (("a", "b"), {}, "create_it must be a function .* got str"),
            ((range(3), range(3)), {}, "root_dir must be a path, got range"),
            ((), {"create_it": range(3), "create_iter": range(3)}, "give one of them"),
            ((), {"create_iter": range(3)}, "root_dir"),
            ((range(3), "a"), {"shard_length": 5}, "unexpected keyword argument 'shard_length'"),
            ((range(3), "a", 1, 1, 1, 1, None, None), {}, "positional arguments but 8 were given"),
            ((range(3), "a", 1.5), {}, "max_shard_length must be an int, got float"),
            (("a", range(3)), {"preload_fn": 3}, "preload_fn must be None or a function, got int"),
            (("a", range(3)), {"memory_limit": 1.5}, "memory_limit must be an int, got float"),
            (("a", range(3)), {"info": {1, 2}}, "info must be what JSON can hold"),
        ],
    )
    def test_neither(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: Any, kwargs: Any, message: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(TypeError, match=message):
            LoadIt(*args, **kwargs)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_shard_length", 0),
            ("max_shard_length", "64"),
            ("max_shard_length", "0mb"),
            ("max_cache_size", -1),
            ("max_workers", 0),
            ("memory_limit", -1),
            ("memory_limit", "much"),
            ("memory_limit", "1.5gb"),
            ("memory_limit", "-1gb"),
            ("max_shard_length", "9" * 5000 + "mb"),
            ("compression", "zip"),
            ("length", -1),
        ],
    )
    def test_out_of_range(self, tmp_path: Path, name: str, value: Any) -> None:
        with pytest.raises(ValueError, match=name):
            LoadIt(tmp_path / "never", range(3), **{name: value})
        assert not (tmp_path / "never").exists()


class TestFailures:
    """Of what the user gave."""

    @pytest.mark.parametrize("max_workers", [1, 3])
    @pytest.mark.parametrize(
        "error", [ValueError("bad pixel"), IndexError("bad place"), KeyError("k"), SystemExit(3)], ids=repr
    )
    def test_they_reach_who_asks(self, tmp_path: Path, error: BaseException, max_workers: int) -> None:
        def fails_at_57() -> Iterator[int]:
            yield from range(57)
            raise error

        loader = LoadIt(fails_at_57, tmp_path, 10, max_workers=max_workers)
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        for ask in (
            lambda: loader[57],
            lambda: loader[-1],
            lambda: list(loader),
            lambda: loader[99],
            lambda: len(loader),
        ):
            with pytest.raises(kind, match="item 57 of create_it") as caught:
                ask()
            assert error in (caught.value, caught.value.__cause__)
        assert [loader[i] for i in (3, 49, 56)] == [3, 49, 56]
        # Only the iteration stops there.
        seen = []
        with pytest.raises(kind):
            seen += [seen.append(item) for item in loader]
        assert seen == list(range(57))

    def test_they_pass(self, tmp_path: Path) -> None:
        failures = iter([True, True])

        def fails_at_first() -> Iterator[int]:
            yield from range(15)
            if next(failures, False):
                raise ConnectionError("lost")
            yield from range(15, 30)

        loader = LoadIt(fails_at_first, tmp_path, 10, preload_fn=None)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                loader[20]
        assert loader[20] == 20

    def test_when_it_starts(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError, match="item 0 of create_it"):
            LoadIt(lambda: 1 / 0, tmp_path)[5]  # type: ignore[arg-type,return-value]
        with pytest.raises(TypeError, match="not iterable"):
            LoadIt(lambda: 5, tmp_path)[5]  # type: ignore[arg-type,return-value]

    def test_what_cannot_be_pickled(self, tmp_path: Path) -> None:
        with pytest.raises(Exception, match=r"item 1 of create_it, of type function, cannot be pickled"):
            list(LoadIt([1, lambda: 2], tmp_path))

    def test_what_cannot_be_unpickled(self, tmp_path: Path) -> None:
        loader = LoadIt([1, Unruly()], tmp_path)
        assert loader[0] == 1
        with pytest.raises(CacheError, match="item 1 cannot be unpacked: ZeroDivisionError"):
            loader[1]


class Unruly:
    def __reduce__(self) -> Any:
        return divmod, (1, 0)


def test_views_are_lazy_and_compose(tmp_path: Path) -> None:
    made = Made(None)
    loader = LoadIt(made, tmp_path, 10, max_workers=1)
    view = SequenceView(loader[50:], [3, 1])[::-1]
    assert made.items == 0
    assert numbers(view) == [51, 53]
