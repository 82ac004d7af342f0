"""`Dataset`: the rows of many shards as one sequence, against lists that say the same."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import threading
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ultar_dataloader as ultar
from ultar_dataloader import Dataset

ROWS = 60


def samples() -> dict[str, dict[str, bytes]]:
    """Of several sizes, some without a caption."""
    made = {}
    for i in range(ROWS):
        made[f"s{i:03}"] = {
            ".id": b"%d" % i,
            ".json": b'{"width": %d}' % (i * 10),
            ".bin": bytes([i]) * (i * 331 % 5000),
        }
        if i % 3 == 0:
            made[f"s{i:03}"][".txt"] = b"caption %d" % i
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import write_tar

    folder = tmp_path_factory.mktemp("dataset")
    every = list(samples().items())
    for number, (start, stop) in enumerate([(0, 17), (17, 18), (18, 60)]):
        write_tar(folder / f"train-{number:06}.tar", dict(every[start:stop]))
    ultar.index(folder, metadata_rules=[".json:.width"])
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return Dataset(folder)


def ids(rows: Any) -> list[int]:
    return [int(row["id"]) for row in rows]


def test_all_rows_with_all_bytes(folder: Path, io: str) -> None:
    dataset = Dataset(folder, io=io, prefetch_bytes=10_000)  # type: ignore[arg-type]
    assert len(dataset) == ROWS
    expected = list(samples().values())
    assert [row.to_dict() for row in dataset] == expected
    assert [dataset[i].to_dict() for i in range(ROWS)] == expected
    assert dataset[-1].to_dict() == expected[-1]
    assert [row.to_dict() for row in dataset.read([5, 5, 59, -60])] == [expected[i] for i in (5, 5, 59, 0)]
    many = [i * 7 % ROWS for i in range(500)]
    assert ids(dataset.read(many)) == many
    assert ids(dataset.__getitems__(many[:20])) == many[:20]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_views_are_what_lists_are(dataset: Dataset, data: st.DataObject) -> None:
    view, expected = dataset, list(range(ROWS))
    place = st.integers(-ROWS - 3, ROWS + 3) | st.none()
    for _ in range(data.draw(st.integers(0, 4))):
        if expected and data.draw(st.booleans()):
            chosen = data.draw(st.lists(st.integers(-len(expected), len(expected) - 1), max_size=20))
            view, expected = view[chosen], [expected[i] for i in chosen]
        else:
            step = data.draw(st.integers(-4, 4).filter(bool) | st.none())
            part = slice(data.draw(place), data.draw(place), step)
            view, expected = view[part], expected[part]
    assert len(view) == len(expected)
    assert ids(view) == expected
    if expected:
        assert ids([view[0], view[-1]]) == [expected[0], expected[-1]]
        assert view.record(0).stem == f"s{expected[0]:03}"
    assert list(reversed(ids(view))) == ids(reversed(view))


def test_a_place_that_is_not_there(dataset: Dataset) -> None:
    for bad in (lambda: dataset[ROWS], lambda: dataset[-ROWS - 1], lambda: dataset.read([0, ROWS])):
        with pytest.raises(IndexError, match="is out of range: there are 60"):
            bad()
    with pytest.raises(IndexError, match="row 2 is out of range: there are 2"):
        dataset[3:5].record(2)
    with pytest.raises(TypeError):
        dataset["0"]  # type: ignore[call-overload]


def test_select_reads_those_entries_only(dataset: Dataset) -> None:
    chosen = dataset.select([".txt", ".id"])
    assert [row.keys() for row in chosen[:2]] == [(".id", ".txt"), (".id",)]
    assert chosen[3].to_dict() == {".id": b"3", ".txt": b"caption 3"}
    assert chosen.select([".id", ".bin"])[6].to_dict() == {".id": b"6"}
    assert ids(chosen.read(range(30))) == list(range(30))
    with pytest.raises(TypeError, match=r"several, as in \['.jpg'\]"):
        dataset.select(".jpg")


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ('metadata[".width"] >= 300', lambda i: i >= 30),
        ('keys[".txt"]', lambda i: i % 3 == 0),
        ('not keys[".txt"] and sizes[".bin"] > 2000', lambda i: i % 3 and i * 331 % 5000 > 2000),
        ('stem:match("^s00")', lambda i: i < 10),
        ("math.floor(tonumber(stem:sub(2)) / 7) % 2 == 1", lambda i: i // 7 % 2 == 1),
        ('sizes[".none"]', lambda i: False),
        ("true", lambda i: True),
    ],
)
def test_where_finds_the_rows_for_which_it_is_true(
    dataset: Dataset, expression: str, wanted: Callable[[int], bool]
) -> None:
    found = dataset.where(expression)
    expected = [i for i in range(ROWS) if wanted(i)]
    assert len(found) == len(expected)
    assert ids(found) == expected
    backwards = dataset[::-2]
    assert ids(backwards.where(expression)) == [i for i in range(ROWS - 1, -1, -2) if wanted(i)]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("sizes[", "expression:1"),
        ("sizes.x < 3", r"compare nil with number[\s\S]*row \"s000\""),
        ("nothing.at.all", "nil"),
    ],
)
def test_an_expression_that_fails_says_where(dataset: Dataset, expression: str, message: str) -> None:
    with pytest.raises(ultar.ScriptError, match=message):
        dataset.where(expression)


def test_a_record_is_known_without_reading(folder: Path, dataset: Dataset) -> None:
    record = dataset.record(18)
    assert record.shard == str(folder / "train-000002.tar")
    assert (record.stem, record.keys) == ("s018", (".id", ".json", ".bin", ".txt"))
    assert record.sizes == (2, 14, 18 * 331 % 5000, 10)
    assert record.metadata == {".width": 180}
    content = Path(record.shard).read_bytes()
    assert content[record.offsets[3] :][: record.sizes[3]] == b"caption 18"


def test_indexes_are_built_when_they_are_missing(tmp_path: Path, folder: Path) -> None:
    for shard in folder.glob("*.tar"):
        shutil.copy(shard, tmp_path)
    with pytest.raises(ultar.ReadError, match=r"train-000000.tar.utix"):
        Dataset(tmp_path, index="require")
    assert ids(Dataset(tmp_path)[::20]) == [0, 20, 40]
    before = (tmp_path / "train-000000.tar.utix").stat().st_mtime_ns
    Dataset(tmp_path, index="rebuild")
    assert (tmp_path / "train-000000.tar.utix").stat().st_mtime_ns > before
    with pytest.raises(ValueError, match="'auto', 'require' or 'rebuild', got 'maybe'"):
        Dataset(tmp_path, index="maybe")  # type: ignore[arg-type]


def test_the_fingerprint_is_of_shards_and_not_of_their_place(tmp_path: Path, folder: Path, dataset: Dataset) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert Dataset(tmp_path / "copy").fingerprint == dataset.fingerprint == dataset[3:].fingerprint
    assert Dataset(tmp_path / "copy/train-00000[01].tar").fingerprint != dataset.fingerprint


def test_what_goes_wrong_is_named(tmp_path: Path, folder: Path, io: str) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    last = tmp_path / "copy/train-000002.tar"
    dataset = Dataset(tmp_path / "copy", index="require", io=io)  # type: ignore[arg-type]
    os.truncate(last, last.stat().st_size // 2)
    rows = iter(dataset)
    assert ids([next(rows) for _ in range(19)]) == list(range(19))
    with pytest.raises(ultar.ReadError, match="train-000002.tar: entry .* wanted"):
        list(rows)
    with pytest.raises(ultar.ReadError, match="end of file"):
        dataset[-1]
    again = Dataset(tmp_path / "copy", index="require", io=io)  # type: ignore[arg-type]
    last.unlink()
    assert ids(again[:18]) == list(range(18))
    for bad in (lambda: again[18], lambda: again.read(range(10, 30)), lambda: list(again)):
        with pytest.raises(ultar.ReadError, match="train-000002.tar: No such file"):
            bad()
    assert len(list(Dataset(folder, on_error="skip"))) == ROWS


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_thousands_of_rows_are_read_by_threads(folder: Path, tmp_path: Path, io: str, threads: int | None) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    options: dict[str, Any] = {"io": io, "threads": threads, "index": "require"}
    many = [i * 7 % ROWS for i in range(5000)]
    assert ids(Dataset(tmp_path / "copy", **options).read(many)) == many

    last = tmp_path / "copy/train-000002.tar"
    os.truncate(last, last.stat().st_size // 2)
    broken = [0] * 4999 + [ROWS - 1]
    with pytest.raises(ultar.ReadError, match="train-000002.tar: entry .* wanted .* .end of file"):
        Dataset(tmp_path / "copy", **options).read(broken)
    assert ids(Dataset(tmp_path / "copy", on_error="skip", **options).read(broken)) == broken[:-1]


def test_rows_outlive_everything(folder: Path) -> None:
    with Dataset(folder) as dataset:
        row, rows = dataset[41], dataset.read(range(20, 40))
    assert int(row["id"]) == 41
    assert ids(rows) == list(range(20, 40))
    assert ids([dataset[7]]) == [7], "opened again"


def test_rows_that_are_held_one_by_one_share_mappings(dataset: Dataset) -> None:
    """A process may have 65,530 of them, and who gives up every other row must not make more."""

    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count("\n")

    count = len(dataset)
    rows = [dataset[i % count] for i in range(4000)]
    before = mappings()
    del rows[::2]
    rows += [dataset[i % count] for i in range(100)]
    assert mappings() < before + 100
    assert [row.values() for row in rows[:5]] == [dataset[i].values() for i in (1, 3, 5, 7, 9)]


def test_threads_share_a_dataset(dataset: Dataset) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in range(300):
            place = (i * 7919 + seed * 31) % ROWS
            if int(dataset[place]["id"]) != place:
                wrong.append(place)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_after_a_row_that_cannot_be_read_others_can(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    dataset = Dataset(tmp_path, index="require")
    bad = 40
    os.truncate(dataset.record(bad).shard, dataset.record(bad).offsets[0])
    found: list[int] = []

    def read() -> None:
        for _ in range(3):
            with pytest.raises(ultar.ReadError, match="train-000002.tar"):
                dataset[bad]
            found.append(int(dataset[20]["id"]))
            with pytest.raises(ultar.ReadError, match="train-000002.tar"):
                dataset.read([20, bad])
            found.append(int(dataset[3]["id"]))

    # In a thread, as the second read once waited for ever.
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(60)
    assert found == [20, 3] * 3


def test_an_index_is_built_again_when_its_shard_is_newer(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    tars = sorted(tmp_path.glob("*.tar"))
    for tar in tars:
        os.utime(tar, ns=(10**18, 10**18))
        os.utime(f"{tar}.utix", ns=(10**18, 10**18))
    os.utime(f"{tars[0]}.utix", ns=(10**18 - 1, 10**18 - 1))
    Path(f"{tars[1]}.utix").write_bytes(b"")
    assert ids(Dataset(tmp_path)) == list(range(ROWS))
    assert [os.stat(f"{tar}.utix").st_mtime_ns == 10**18 for tar in tars] == [False, False, True]


def ids_elsewhere(dataset: Dataset, queue: Any) -> None:
    queue.put((ids(dataset), int(dataset[3]["id"])))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_other_processes_may_have_it(dataset: Dataset, method: str) -> None:
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    assert int(dataset[1]["id"]) == 1
    process = context.Process(target=ids_elsewhere, args=(dataset[::5].select([".id"]), queue))
    process.start()
    found = queue.get(timeout=60)
    process.join(timeout=60)
    assert found == (list(range(0, ROWS, 5)), 15)
    assert process.exitcode == 0


def test_it_shows_and_pickles(dataset: Dataset) -> None:
    assert repr(dataset) == "<Dataset 60 rows of 3 shards, train-000000.tar …>"
    assert repr(dataset[[1, 2]].select([".id"])) == "<Dataset 2 rows of 3 shards, train-000000.tar …, only .id>"
    again = pickle.loads(pickle.dumps(dataset[array("Q", [9, 4])].select([".id"])))
    assert [row.to_dict() for row in again] == [{".id": b"9"}, {".id": b"4"}]
    assert isinstance(dataset, ultar.Dataset)
