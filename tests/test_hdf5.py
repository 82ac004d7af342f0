"""HDF5 files, as h5py writes them: row i has the i-th element of each dataset."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import ultar_dataloader as ultar
from ultar_dataloader import hdf5

IMAGES = np.arange(7 * 2 * 3, dtype=np.int16).reshape(7, 2, 3)
LABELS = np.arange(7, dtype=">f8") / 3
PARTS = np.array([(i, i / 2) for i in range(7)], dtype=[("a", "<i2"), ("b", "<f4")])


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["images"] = IMAGES
        file["group/labels"] = LABELS
        file.create_dataset("chunked", data=IMAGES, chunks=(3, 2, 3), maxshape=(None, 2, 3))
        file["parts"] = PARTS
        file["scalar"] = 3  # Has no axis, and is left out.
    return path


@pytest.mark.parametrize("userblock", [0, 1024])
def test_rows_are_those_of_the_datasets(
    shard: Path, script: str, config_of: Callable[[Path], dict[str, object]], userblock: int
) -> None:
    with h5py.File(shard) as old, h5py.File(shard.with_name("b.hdf5"), "w", userblock_size=userblock) as file:
        for name in old:
            old.copy(name, file)
    shard.unlink()
    shard = shard.with_name("b.hdf5")
    dataset = ultar.Dataset(shard.parent)
    assert len(dataset) == 7
    assert dataset.record(3).stem == "3"
    assert set(dataset.record(3).keys) == {".images", ".group/labels", ".chunked", ".parts"}
    decode = pickle.loads(pickle.dumps(hdf5.Decoder(shard)))
    rows = list(ultar.DataLoader(script, config_of(shard)))  # type: ignore[arg-type]
    for i in range(7):
        for row in (dataset[i], rows[i]):
            arrays = decode(row)
            np.testing.assert_array_equal(arrays["images"], IMAGES[i])
            np.testing.assert_array_equal(arrays["chunked"], IMAGES[i])
            np.testing.assert_array_equal(arrays["group/labels"], LABELS[i])
            np.testing.assert_array_equal(arrays["parts"], PARTS[i])
            assert arrays["images"].dtype == np.int16 and arrays["images"].shape == (2, 3)
    assert np.shares_memory(decode(rows[2])["images"], np.frombuffer(rows[2].view("images"), np.uint8))


def test_some_datasets(shard: Path) -> None:
    counts = hdf5.index(shard, ["images", "group/labels"])
    assert counts == {"samples": 7, "entries": 14, "bytes": IMAGES.nbytes + LABELS.nbytes, "warnings": []}
    assert set(ultar.Dataset(shard)[0]) == {".images", ".group/labels"}  # The index is up to date.
    assert ultar.check(shard).samples == 7
    with pytest.raises(ultar.ShardFormatError, match=r"a\.h5: there is no dataset 'none' with an axis"):
        hdf5.index(shard, ["none"])
    assert ultar.index(shard, force=True, format="jsonl", metadata_rules=[".json:.a"]).warnings


def test_check_compares(shard: Path) -> None:
    ultar.index(shard)
    assert ultar.check(shard).entries == 28
    with h5py.File(shard, "a") as file:
        file.move("images", "were")
        file["images"] = IMAGES
    with pytest.raises(ultar.IndexFormatError, match=r"a\.h5\.utix: differs from the shard: record 0"):
        ultar.check(shard)


def make_strings(file: h5py.File) -> None:
    file["x"] = ["a", "bc"]


def make_lengths(file: h5py.File) -> None:
    file["x"], file["y"] = np.zeros(3), np.zeros(4)


def make_nothing(file: h5py.File) -> None:
    file["x"] = 3


def make_no_rows(file: h5py.File) -> None:
    file.create_dataset("x", (0, 3), "f4")


def make_unknown_filter(file: h5py.File) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((3,))
    plist.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, (1,))
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple((3,)), plist)


def make_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "i4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    file.create_virtual_dataset("x", layout)


def make_external(file: h5py.File) -> None:
    file.create_dataset("x", (3,), "i4", external=[("other.bin", 0, 12)])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (make_strings, "dataset x: elements of object have no fixed size"),
        (make_unknown_filter, r"dataset x: h5py does not have filter .*\(32099\) that it is written through"),
        (make_virtual, "dataset x: its rows are in other files"),
        (make_external, "dataset x: its rows are in other files"),
        (make_lengths, r"datasets differ in length \(x 3, y 4\)"),
        (make_nothing, "there is no dataset with an axis"),
        (make_no_rows, "the datasets have no rows"),
    ],
)
def test_what_has_no_rows_is_refused(tmp_path: Path, make: Callable[[h5py.File], None], text: str) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        make(file)
    with pytest.raises(ultar.ShardFormatError, match=rf"a\.h5: {text}") as caught:
        ultar.index(path)
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == ["a.h5"]


def test_malformed_files_are_named(shard: Path) -> None:
    whole = shard.read_bytes()
    for content in (b"", b"no HDF5", whole[: len(whole) // 2]):
        shard.write_bytes(content)
        with pytest.raises(ultar.ShardFormatError, match=r"a\.h5: not an HDF5 file that can be read"):
            ultar.index(shard)
    shard.unlink()
    with pytest.raises(ultar.ReadError, match="cannot open: No such file"):
        hdf5.index(shard)


def test_without_h5py_its_extra_is_named(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unnamed = shard.rename(shard.with_name("shard"))  # Its first bytes tell.
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"shard: reading HDF5 needs h5py: pip install 'ultar-dataloader\[hdf5\]'"):
        ultar.index(unnamed)
