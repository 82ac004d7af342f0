"""Batches in native memory: fields against what NumPy makes of the same payloads."""

from __future__ import annotations

import gc
import io as bytesio
import os
import shutil
import signal
import threading
import time
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ultar_dataloader as ultar
from ultar_dataloader import Dataset, FieldError, ReadError, UltarError, _fields, _native

ROWS = 60
DTYPES = [order + name for order in "<>" for name in _fields.DTYPES]


@pytest.fixture(params=["read", "mmap"])
def access(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def npy(value: np.ndarray[Any, Any], version: tuple[int, int] = (1, 0)) -> bytes:
    file = bytesio.BytesIO()
    np.lib.format.write_array(file, value, version=version, allow_pickle=False)
    return file.getvalue()


def values(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Of any type, without NaN."""
    numbers = np.random.default_rng(seed).integers(0, 100, shape)
    return numbers.astype(name)


def gatherer(dataset: Dataset, declaration: Any, access: str = "auto", threads: int = 2) -> _native.Gatherer:
    return dataset._store.native().gatherer(_fields.parse(declaration), access=access, threads=threads, stores=None)


def rows_of(rows: Iterable[int]) -> array[int]:
    return array("Q", rows)


def one(dataset: Dataset, declaration: Any, rows: Iterable[int], access: str = "auto") -> Any:
    batches = gatherer(dataset, declaration, access)
    batches.submit(rows_of(rows))
    return batches.take()


IMAGES = [values("<u2", (3, 5), i) for i in range(ROWS)]
BOXES = [values("<f4", (i * 7 % 5, 4), i) for i in range(ROWS)]
TOKENS = [values("<i4", (i % 7,), i) for i in range(ROWS)]
PLAIN = {".npy": ("u2", (3, 5)), ".cls": ("i8", ()), ".box.npy": ("f4", (None, 4)), ".ids": ("i4", (None,))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from conftest import write_tar

    folder = tmp_path_factory.mktemp("fields")
    rows = {
        f"s{i:03}": {
            ".npy": npy(IMAGES[i]),
            ".cls": np.int64(i).tobytes(),
            ".box.npy": npy(BOXES[i]),
            ".ids": TOKENS[i].tobytes(),
        }
        for i in range(ROWS)
    }
    for number, (start, stop) in enumerate([(0, 17), (17, 18), (18, ROWS)]):
        write_tar(folder / f"train-{number:06}.tar", dict(list(rows.items())[start:stop]))
    ultar.index(folder)
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return Dataset(folder)


def check(batch: Any, rows: list[int]) -> None:
    image, label, boxes, tokens = batch
    assert np.asarray(image).tolist() == [IMAGES[i].tolist() for i in rows]
    assert np.asarray(label).tolist() == rows
    for part, expected in ((boxes, BOXES), (tokens, TOKENS)):
        flat, offsets = np.asarray(part.values), np.asarray(part.offsets)
        assert offsets.dtype == np.int64 and len(offsets) == len(rows) + 1
        assert [flat[offsets[i] : offsets[i + 1]].tolist() for i in range(len(rows))] == [
            expected[i].tolist() for i in rows
        ]


@pytest.mark.parametrize("threads", [1, 3])
@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, ROWS - 1), max_size=90), max_size=12))
def test_any_rows_in_any_order(dataset: Dataset, threads: int, batches: list[list[int]]) -> None:
    for access in ("read", "mmap", "auto", "direct"):
        native = gatherer(dataset, PLAIN, access, threads)
        for rows in batches:
            native.submit(rows_of(rows))
        for left, rows in enumerate(batches):
            assert native.pending == len(batches) - left
            check(native.take(), rows)
        assert native.pending == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(make_shard: Callable[..., Path], access: str, dtype: str) -> None:
    fixed = [values(dtype, (2, 3), i) for i in range(4)]
    ragged = [values(dtype, (i, 2), i) for i in range(4)]
    rows = zip(fixed, ragged, strict=True)
    shard = make_shard(
        {
            f"r{i}": {".npy": npy(a, ((1, 0), (2, 0), (3, 0))[i % 3]), ".raw": a.tobytes(), ".l.npy": npy(b)}
            for i, (a, b) in enumerate(rows)
        }
    )
    declared = {"npy": (np.dtype(dtype), (2, 3)), "raw": (dtype, [2, 3]), "l.npy": (dtype, (None, 2))}
    files, raw, lists = one(Dataset(shard), declared, [3, 0, 1, 2, 2], access)
    for made, expected in (
        (files, np.stack([fixed[i] for i in (3, 0, 1, 2, 2)])),
        (raw, np.stack([fixed[i] for i in (3, 0, 1, 2, 2)])),
        (lists.values, np.concatenate([ragged[i] for i in (3, 0, 1, 2, 2)])),
    ):
        seen = np.asarray(made)
        assert seen.dtype == np.dtype(dtype)  # NumPy's own functions change the order.
        assert seen.tolist() == expected.tolist()
        assert made.dtype == np.dtype(dtype).str
        assert (made.shape, made.nbytes, len(made)) == (expected.shape, expected.nbytes, len(expected))
        assert seen.ctypes.data % 64 == 0 and seen.flags.writeable and seen.flags.c_contiguous
    assert np.asarray(lists.offsets).tolist() == [0, 3, 3, 4, 6, 8]
    assert repr(files) == f"<Array {np.dtype(dtype).str} (5, 2, 3), {files.nbytes} bytes>"


def test_shapes_of_all_kinds(make_shard: Callable[..., Path], access: str) -> None:
    odd = {
        ".zero.npy": np.zeros((0, 4), "u1"),
        ".scalar.npy": np.float64(2.5),
        ".deep.npy": values("u1", (1, 2, 1, 3, 1), 3),
        ".flat.npy": values("i2", (7,), 4),
        ".fortran.npy": np.asfortranarray(values("i2", (9,), 5)),
        ".empty": np.zeros((0,), "f4"),
    }
    shard = make_shard({"a": {k: npy(np.asarray(v)) if k.endswith("npy") else v.tobytes() for k, v in odd.items()}})
    declared = {key: (np.asarray(value).dtype, np.asarray(value).shape) for key, value in odd.items()}
    for made, expected in zip(one(Dataset(shard), declared, [0, 0], access), odd.values(), strict=True):
        assert np.array_equal(np.asarray(made), np.stack([expected, expected]))
    for made in one(Dataset(shard), declared, [], access):
        assert len(made) == 0 and np.asarray(made).size == 0
    (nothing,) = one(Dataset(shard), {".zero.npy": ("u1", (None, 4))}, [0, 0], access)
    assert nothing.values.shape == (0, 4) and np.asarray(nothing.offsets).tolist() == [0, 0, 0]


HEADERS = {
    "dtype": (npy(np.zeros((3, 5), "<f4")), r"wanted <u2 \(3, 5\), got <f4 \(3, 5\)"),
    "order": (npy(np.zeros((3, 5), ">u2")), r"wanted <u2 \(3, 5\), got >u2 \(3, 5\)"),
    "shape": (npy(np.zeros((5, 3), "<u2")), r"wanted <u2 \(3, 5\), got <u2 \(5, 3\)"),
    "dimensions": (npy(np.zeros((15,), "<u2")), r"wanted <u2 \(3, 5\), got <u2 \(15,\)"),
    "fortran": (npy(np.asfortranarray(values("<u2", (3, 5), 1))), r"\(3, 5\) in Fortran order"),
    "structure": (npy(np.zeros((3, 5), [("a", "<u2")])), r"got \[\('a', '<u2'\)\] \(3, 5\)"),
    "magic": (b"PK\x03\x04" + bytes(200), r"no \.npy file: wanted \\x93NUMPY .* got 504b03040000"),
    "version": (b"\x93NUMPY\x09\x00" + bytes(200), "got 9.0"),
    "header": (npy(IMAGES[0]).replace(b"shape", b"shave"), "'descr', 'fortran_order' or 'shape' before here"),
    "short": (npy(IMAGES[0])[:-1], "wanted 30 bytes for <u2 .* behind its header, got 29"),
    "long": (npy(IMAGES[0]) + b"x", "wanted 30 bytes for <u2 .* behind its header, got 31"),
    "cut": (npy(IMAGES[0])[:50], "claims 128 bytes, and 50 are there"),
    "tiny": (b"\x93NU", "got 934e55"),
    "empty": (b"", "no .npy file"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_payload_that_does_not_fit(make_shard: Callable[..., Path], access: str, name: str) -> None:
    payload, message = HEADERS[name]
    good = {".npy": npy(IMAGES[0])}
    shard = make_shard({"a": good, "bad": {".npy": payload}, "c": good})
    native = gatherer(Dataset(shard), {".npy": ("u2", (3, 5))}, access)
    for rows in ([0, 2], [2, 1, 0], [2]):
        native.submit(rows_of(rows))
    assert len(native.take()[0]) == 2
    with pytest.raises(FieldError, match=message) as caught:
        native.take()
    assert str(caught.value).startswith(f'{shard}: row 1 ("bad"), key ".npy": wanted <u2 (3, 5), got') or name in (
        "short",
        "long",
    )
    record = Dataset(shard).record(1)
    assert (caught.value.filename, caught.value.offset, caught.value.length) == (
        str(shard),
        record.offsets[0],
        len(payload),
    )
    assert isinstance(caught.value, ValueError)
    assert np.asarray(native.take()[0]).tolist() == [IMAGES[0].tolist()]
    if name not in ("fortran", "shape"):
        with pytest.raises(FieldError, match=r"\(None, 5\)|behind its header"):
            one(Dataset(shard), {".npy": ("u2", (None, 5))}, [0, 1], access)


def test_what_a_row_has_not(dataset: Dataset, access: str) -> None:
    cases = {
        ".txt": (
            "u1",
            r'row 3 \("s003"\), key ".txt": the row has no such key, it has ".npy" ".cls" ".box.npy" ".ids"',
        ),
        ".cls": ("i4", r'key ".cls": wanted 4 bytes for <i4 \(\), got 8'),
    }
    for key, (dtype, message) in cases.items():
        with pytest.raises(FieldError, match=message):
            one(dataset, {key: (dtype, ())}, [3], access)
    with pytest.raises(FieldError, match=r'key ".ids": wanted a multiple of 12 bytes for <i4 \(None, 3\), got 4'):
        one(dataset, {".ids": ("i4", (None, 3))}, [0, 1], access)
    with pytest.raises(FieldError, match=r"wanted <f4 \(None, 3\), got <f4 \(2, 4\)"):
        one(dataset, {".box.npy": ("f4", (None, 3))}, [1], access)


def test_a_shard_that_became_shorter(tmp_path: Path, folder: Path, access: str) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    last = tmp_path / "copy/train-000002.tar"
    dataset = Dataset(tmp_path / "copy", index="require")
    native = gatherer(dataset, PLAIN, access)
    native.submit(rows_of(range(ROWS)))
    check(native.take(), list(range(ROWS)))
    # Open and mapped by now; in the middle of a page, of a member, or both.
    size = last.stat().st_size
    for cut in (size // 2, size // 2 - 513, size // 2 - 5000):
        os.truncate(last, cut)
        signal.signal(signal.SIGBUS, signal.SIG_DFL)  # As others do who want it for themselves.
        native.submit(rows_of(range(ROWS)))
        native.submit(rows_of([3, 18]))
        with pytest.raises(ReadError, match=rf'{last}: row \d+ \("s\d+"\), key .* wanted .* got \d+ \(end of file\)'):
            native.take()
        check(native.take(), [3, 18])
    other = Dataset(tmp_path / "copy", index="require")
    last.unlink()
    again = gatherer(other, PLAIN, access)
    again.submit(rows_of([0, 40]))
    again.submit(rows_of([17, 0]))
    with pytest.raises(ReadError, match="train-000002.tar: No such file"):
        again.take()
    check(again.take(), [17, 0])


def test_arrays_outlive_everything(folder: Path) -> None:
    dataset = Dataset(folder)
    native = gatherer(dataset, PLAIN)
    for _ in range(3):
        native.submit(rows_of(range(ROWS)))
    first, second = native.take(), native.take()
    views = [np.asarray(second[0]), np.from_dlpack(second[0]), memoryview(second[0])]
    boxes = np.asarray(second[2].values)
    native.close()
    dataset.close()
    del second, native, dataset
    gc.collect()
    check(first, list(range(ROWS)))
    np.asarray(first[0])[:] = 0
    for view in views:
        assert np.asarray(view).tolist() == [image.tolist() for image in IMAGES]
    assert boxes.tolist() == np.concatenate(BOXES).tolist()


def test_closing_with_batches_under_way(dataset: Dataset, access: str) -> None:
    before = threading.active_count(), len(os.listdir("/proc/self/task"))
    for how in ("close", "drop"):
        native = gatherer(dataset, PLAIN, access, 4)
        for _ in range(50):
            native.submit(rows_of(range(ROWS)))
        native.take()
        if how == "close":
            native.close()
            native.close()
            assert native.pending == 0
            with pytest.raises(UltarError, match="closed"):
                native.take()
            with pytest.raises(UltarError, match="closed"):
                native.submit(rows_of([0]))
        del native
        assert (threading.active_count(), len(os.listdir("/proc/self/task"))) == before
    files = len(os.listdir("/proc/self/fd"))  # Of the dataset, for as long as it is open.
    for _ in range(5):
        one(dataset, PLAIN, [1, 20], access)
    assert len(os.listdir("/proc/self/fd")) == files


def test_wrong_calls(dataset: Dataset) -> None:
    native = gatherer(dataset, PLAIN)
    with pytest.raises(UltarError, match="submit comes first"):
        native.take()
    with pytest.raises(IndexError, match="row 60 is out of range: the dataset has 60"):
        native.submit(rows_of([3, 60]))
    with pytest.raises(ValueError, match="64 bits"):
        native.submit(array("B", b"abc"))
    assert native.pending == 0
    with pytest.raises(MemoryError):
        one(dataset, {".npy": ("u1", (1 << 45,))}, [0] * 60)


def test_threads_share_a_gatherer(dataset: Dataset) -> None:
    native = gatherer(dataset, {".cls": ("i8", ())})
    for i in range(40):
        native.submit(rows_of([i]))
    seen: list[int] = []
    takers = [
        threading.Thread(target=lambda: seen.extend(np.asarray(native.take()[0])[0] for _ in range(10)))
        for _ in range(4)
    ]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert sorted(seen) == list(range(40))


def test_a_fork_is_noticed(dataset: Dataset) -> None:
    native = gatherer(dataset, PLAIN)
    native.submit(rows_of([1, 2]))
    (held,) = one(dataset, {".cls": ("i8", ())}, [5])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with pytest.raises(UltarError, match="before a fork"):
                native.take()
            assert np.asarray(held).tolist() == [5]
            del native, held
            check(one(dataset, PLAIN, [7, 3]), [7, 3])
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    check(native.take(), [1, 2])


def test_ctrl_c_is_answered(make_shard: Callable[..., Path]) -> None:
    # Enough work for a while: one row many times, in more batches than are done at once.
    shard = make_shard({"a": {".npy": npy(np.zeros(1 << 20, "u1"))}})
    native = gatherer(Dataset(shard), {".npy": ("u1", (1 << 20,))}, "read", 1)
    for _ in range(40):
        native.submit(rows_of([0] * 64))
    threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for _ in range(40):
            native.take()
        time.sleep(5)
    native.close()


@pytest.mark.parametrize(
    ("declaration", "error", "message"),
    [
        ([], TypeError, "a mapping of key"),
        ({}, ValueError, "a key at least"),
        ({3: ("u2", ())}, TypeError, "must be str, got int: 3"),
        ({".npy": "u2"}, TypeError, "wanted \\(dtype, shape\\)"),
        ({".npy": ("u2",)}, TypeError, "wanted \\(dtype, shape\\)"),
        ({".npy": (np.uint16, 3)}, TypeError, "field '.npy': wanted a dtype such as 'u2' or numpy.dtype"),
        ({".npy": ("O", 3)}, ValueError, "wanted one of the dtypes b1, i1, .* got 'O'"),
        ({".npy": ("<<u2", 3)}, ValueError, "got '<<u2'"),
        ({".npy": ("u2", "3")}, TypeError, "wanted a shape such as"),
        ({".npy": ("u2", (3, None))}, ValueError, "only the first size may be None"),
        ({".npy": ("u2", (3, -1))}, ValueError, "must not be negative, got -1"),
        ({".npy": ("u2", (3, 1.5))}, TypeError, "must be an int, or None in the first place, got 1.5"),
        ({".npy": ("u2", (True,))}, TypeError, "got True"),
        ({".npy": ("u2", (1 << 40, 1 << 40))}, ValueError, "more than 2\\^46 bytes"),
        ({".npy": ("u2", (1,) * 64)}, ValueError, "too many dimensions: 64 of at most 63"),
        ({".npy": ("u2", 1 << 64)}, ValueError, "a size in a shape must be from 0"),
    ],
)
def test_a_declaration_that_is_wrong(dataset: Dataset, declaration: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gatherer(dataset, declaration)


def test_a_declaration_in_its_forms() -> None:
    declared = {"a": ("u2", 3), "b": (np.dtype(">f4"), None), "c": ["b1", [None, np.int64(4)]], "d": ("=c16", ())}
    assert [tuple(field) for field in _fields.parse(declared)] == [  # type: ignore[arg-type]
        ("a", "u2", (3,)),
        ("b", ">f4", (None,)),
        ("c", "b1", (None, 4)),
        ("d", "=c16", ()),
    ]
