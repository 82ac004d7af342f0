"""NPZ archives, as NumPy writes them: each is a row, and its arrays are entries."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ultar_dataloader as ultar
from ultar_dataloader import npz

ARRAYS = {
    "x": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "labels": np.array([1, -2, 3], dtype=">i8"),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
    "scalar": np.float64(0.5),
    "empty": np.zeros((0, 5), np.int16),
    "words": np.array(["a", "bcd"]),
    "parts": np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8")]),
    "dir/y": np.ones(3, bool),
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "part-0.v1.npz"
    np.savez(path, **ARRAYS)
    return path


def test_rows_are_archives_and_entries_arrays(tmp_path: Path, archive: Path) -> None:
    np.savez(tmp_path / "part-1.npz", np.arange(5))
    np.savez_compressed(tmp_path / "part-2.npz", **ARRAYS)
    dataset = ultar.Dataset(tmp_path)
    assert len(dataset) == 3
    assert dataset.record(0).stem == "part-0" and dataset.record(0).keys == tuple(f".{name}.npy" for name in ARRAYS)
    assert dataset.record(2).keys[0] == ".x.npy.deflate"
    with zipfile.ZipFile(archive) as plain:
        assert all(dataset[0][f"{name}.npy"] == plain.read(f"{name}.npy") for name in ARRAYS)
    for row in (dataset[0], *list(dataset)[2:]):
        loaded = npz.load(row)
        assert list(loaded) == list(ARRAYS)
        for name, wanted in ARRAYS.items():
            for got in (loaded[name], npz.array(row, name)):
                np.testing.assert_array_equal(got, wanted)
                assert got.dtype == wanted.dtype and got.shape == wanted.shape
        assert loaded["fortran"].flags.f_contiguous
    np.testing.assert_array_equal(npz.array(dataset[1], "arr_0"), np.arange(5))
    for stream in (dataset.decode(), dataset.decode(num_parallel_calls=2)):
        rows = list(stream)
        assert list(rows[0]) == [f".{name}.npy" for name in ARRAYS]
        for key, got in rows[2].items():  # Inflated by the threads that decode.
            np.testing.assert_array_equal(got, ARRAYS[key[1:].removesuffix(".npy.deflate")])
    with pytest.raises(KeyError, match="other: the row has '.arr_0.npy'"):
        npz.array(dataset[1], "other")


def test_nothing_is_copied(archive: Path) -> None:
    row = ultar.Dataset(archive)[0]
    entry = np.frombuffer(row.view("x.npy"), np.uint8)
    assert np.shares_memory(npz.array(row, "x"), entry) and not npz.array(row, "x").flags.writeable


def test_scripts_read_them(archive: Path, script: str, config_of: Callable[[Path], dict[str, object]]) -> None:
    ultar.index(archive)
    (row,) = ultar.DataLoader(script, config_of(archive))  # type: ignore[arg-type]
    np.testing.assert_array_equal(npz.array(row, "x"), ARRAYS["x"])


def test_archives_of_other_writers(tmp_path: Path) -> None:
    """With a comment, folders, members out of order, and sizes behind payloads or in 64 bits."""
    path = tmp_path / "a.npz"
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"PK\x05\x06 a comment" * 100
        archive.mkdir("folder")
        for name in ("b.npy", "a.npy"):
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(buffer.getvalue())
        archive.filelist.reverse()
    (row,) = ultar.Dataset(path)
    assert list(npz.load(row)) == ["b", "a"]
    np.testing.assert_array_equal(npz.array(row, "a"), np.arange(3))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for method, text in ((zipfile.ZIP_BZIP2, "compressed by method 12"), (None, "no array")):
        with zipfile.ZipFile(path, "w", method or 0) as archive:
            if method:
                archive.writestr("x.npy", b"x")
        with pytest.raises(ultar.ShardFormatError, match=text) as caught:
            ultar.index(path)
        assert caught.value.filename == str(path)
    path.write_bytes(b"PK\x03\x04 and no more" * 10)
    with pytest.raises(ultar.ShardFormatError, match="there is no end of an archive"):
        ultar.index(path)


@pytest.mark.parametrize(
    ("member", "text"),
    [
        (b"text", "does not begin as such a file does"),
        (b"\x93NUMPY\1\0\x02\0{}", "must have descr"),
        (b"\x93NUMPY\1\0\x3f\0" + b"{'descr':'<i4','fortran_order':False,'shape':(1<<9,)}".ljust(63), "."),
        (
            b"\x93NUMPY\1\0\x3f\0" + b"{'descr':'<i4','fortran_order':False,'shape':(9,)}".ljust(63),
            "wants 36 bytes, got 0",
        ),
        (
            b"\x93NUMPY\1\0\x3f\0" + b"{'descr':'<i4','fortran_order':False,'shape':(-1,)}".ljust(63),
            "its shape must be",
        ),
        (b"\x93NUMPY\1\0\x3f\0" + b"{'descr':'|O','fortran_order':False,'shape':()}".ljust(63), "holds Python objects"),
    ],
)
def test_members_that_are_no_arrays(tmp_path: Path, member: bytes, text: str) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
    with pytest.raises(
        ultar.DecodeError, match=rf"a\.npz: entry '\.x\.npy', \d+ bytes at offset \d+: not npy: .*{text}"
    ):
        npz.load(ultar.Dataset(path)[0])


def test_a_damaged_payload_that_is_compressed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.arange(1000))
    content = bytearray(path.read_bytes())
    content[100:140] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(ultar.DecodeError, match=r"entry '\.x\.npy\.deflate', .*: not npy\.deflate: "):
        npz.load(ultar.Dataset(path)[0])


def test_sizes_beyond_the_file_are_refused(archive: Path) -> None:
    """Whatever the last headers say, an index has nothing that is not in the file."""
    whole = archive.read_bytes()
    end = whole.rindex(b"PK\x05\x06")
    begin = struct.unpack_from("<I", whole, end + 16)[0]
    rng = random.Random(7)
    for _ in range(30):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(begin, len(damaged))] = rng.choice((0, 0xFF, rng.randrange(256)))
        archive.write_bytes(damaged)
        try:
            ultar.index(archive, force=True)
        except ultar.ShardFormatError:
            continue
        (row,) = ultar.Dataset(archive, index="require")
        assert row.nbytes <= len(whole)
