"""RAW: folders whose files are the entries of rows."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

import ultar_dataloader as ultar
from ultar_dataloader import raw

ROOT = Path(__file__).parents[1]
FILES = {
    "a.jpg": b"image a",
    "a.txt": b"text a",
    "a": b"no key",
    "a-b.jpg": b"image a-b",
    "deep/er/c.jpg": b"",
    "deep/er/c.seg.png": b"x" * 100_000,
    "z": b"z",
}
ROWS = [
    ("a", {"": b"no key", ".jpg": b"image a", ".txt": b"text a"}),
    ("a-b", {".jpg": b"image a-b"}),
    ("deep/er/c", {".jpg": b"", ".seg.png": b"x" * 100_000}),
    ("z", {"": b"z"}),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name, content in {**FILES, ".hidden": b"", "deep/.git/x": b""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_row_a_stem(folder: Path) -> None:
    counts = raw.index(folder)
    assert counts == {"samples": 4, "entries": 7, "bytes": sum(map(len, FILES.values())), "warnings": []}
    dataset = ultar.Dataset(folder)
    assert dataset.shards == (f"{folder}/",) and len(dataset) == 4
    assert [row.to_dict() for row in dataset] == [row for _, row in ROWS]
    assert [dataset[i].to_dict() for i in (3, 0, -2)] == [ROWS[i][1] for i in (3, 0, 2)]
    assert [dataset.record(i).stem for i in range(4)] == [stem for stem, _ in ROWS]
    copy = pickle.loads(pickle.dumps(dataset))
    assert [row.to_dict() for row in copy.select([".jpg"])] == [
        {key: data for key, data in row.items() if key == ".jpg"} for _, row in ROWS
    ]
    assert copy.fingerprint == dataset.fingerprint
    stems = [
        stem for batch in dataset.shuffle(seed=1).map(lambda row: {"n": row.nbytes}).batch(2) for stem in batch["n"]
    ]
    with pytest.raises(ultar.ReadError, match="photos/: rows of a folder cannot be read into declared arrays"):
        list(dataset.batch(2, collate={".jpg": ("u1", (None,))}))
    assert sorted(stems) == sorted(sum(map(len, row.values())) for _, row in ROWS)


def test_a_row_a_file(folder: Path) -> None:
    assert raw.index(f"{folder}/", "file")["samples"] == 7
    assert sorted(bytes(row.view(0)) for row in ultar.Dataset(folder)) == sorted(FILES.values())
    with pytest.raises(ValueError, match="rows must be 'stem' or 'file', got 'dir'"):
        raw.index(folder, "dir")  # type: ignore[arg-type]


def test_scripts_read_them(folder: Path) -> None:
    raw.index(folder)
    rows = [
        row.to_dict()
        for rank in range(2)
        for row in ultar.DataLoader.from_file(ROOT / "lua/recipes/raw.lua", {"folder": str(folder)}, rank, 2)
    ]
    assert rows == [ROWS[i][1] for i in (0, 2, 1, 3)]


@pytest.mark.parametrize("rows", ["stem", "file"])
def test_an_index_that_is_old_is_made_anew(folder: Path, rows: str) -> None:
    raw.index(folder, rows)  # type: ignore[arg-type]
    before = len(ultar.Dataset(folder))
    os.utime(f"{folder}.utix", ns=(0, 0))
    (folder / "new.jpg").write_bytes(b"new")
    (folder / "new.txt").write_bytes(b"new")
    assert len(ultar.Dataset(folder)) == before + {"stem": 1, "file": 2}[rows]
    assert ultar.check(folder).entries == 9
    (folder / "new.txt").write_bytes(b"longer")
    with pytest.raises(ultar.IndexFormatError, match=r"photos\.utix: differs from the folder: record \d+: wanted"):
        ultar.check(folder)


def test_a_file_that_changed_is_an_error(folder: Path) -> None:
    raw.index(folder)
    (folder / "a.jpg").write_bytes(b"longer than before")
    dataset = ultar.Dataset(folder, "require")
    for read in (lambda: dataset[0], lambda: list(dataset)):
        with pytest.raises(ultar.ReadError, match=r"photos/a\.jpg: the file has 18 bytes, and had 7 when") as caught:
            read()
        assert caught.value.filename == f"{folder}/a.jpg"
    (folder / "a.jpg").unlink()
    with pytest.raises(
        ultar.ReadError, match=r"cannot open .*photos/a\.jpg: No such file|photos/a\.jpg: .*No such file"
    ):
        dataset[0]
    assert dataset[1][".jpg"] == b"image a-b"


def test_many_files(tmp_path: Path) -> None:
    """More than are open at once, and than one group has."""
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(3000):
        (folder / f"{i:04}.txt").write_bytes(b"%d" % i)
    raw.index(folder)
    assert [int(row["txt"]) for row in ultar.Dataset(folder, prefetch_rows=2000)] == list(range(3000))


def test_what_is_no_folder_of_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ultar.ShardFormatError, match="empty: there is no file in this folder"):
        raw.index(tmp_path / "empty")
    with pytest.raises(ultar.ReadError, match="none/?: cannot read: No such file"):
        raw.index(tmp_path / "none")
    with pytest.raises(ultar.ReadError, match=r"no \*\.tar in this folder"):
        ultar.Dataset(tmp_path / "empty")


def test_an_index_cannot_lead_out_of_its_folder(folder: Path) -> None:
    (folder.parent / "secret.txt").write_bytes(b"secret")
    raw.index(folder, format="jsonl")
    index = Path(f"{folder}.utix")
    index.write_text(
        '{"iidx":0,"offset":0,"str_idx":"../secret","keys":[".txt"],"offsets":[0],"sizes":[6]}\n', encoding="utf-8"
    )
    ds = ultar.Dataset(folder, index="require")
    with pytest.raises(ultar.IndexFormatError, match="outside"):
        ds[0]
    with pytest.raises(ultar.IndexFormatError, match="outside"):
        list(ds)
    recipe = ROOT / "lua/recipes/raw.lua"
    with pytest.raises(ultar.ScriptError, match="outside"):
        list(ultar.DataLoader.from_file(recipe, {"folder": folder}))
