"""Batches of declared fields: the same rows at the same steps, as arrays."""

from __future__ import annotations

import io as bytesio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_tar
from streams import full_order

import ultar_dataloader as ultar
from ultar_dataloader import Dataset

ROWS = 50
FIELDS: dict[str, Any] = {".npy": ("<u2", (3, 4)), ".pos": (np.dtype("<f4"), (None,))}


def tokens(i: int) -> np.ndarray:
    return np.arange(12, dtype="<u2").reshape(3, 4) + i


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("fields")
    for shard in range(2):
        samples = {}
        for i in range(shard * 25, shard * 25 + 25):
            file = bytesio.BytesIO()
            np.save(file, tokens(i))
            samples[f"s{i:03}"] = {".npy": file.getvalue(), ".pos": np.full(i % 4, i, "<f4").tobytes()}
        write_tar(folder / f"train-{shard}.tar", samples)
    return Dataset(folder)


def rows_of(batches: Any) -> list[int]:
    found: list[int] = []
    for batch in batches:
        values, (positions, offsets) = np.asarray(batch[".npy"]), batch[".pos"]
        positions, offsets = np.asarray(positions), np.asarray(offsets)
        for k, row in enumerate(values):
            i = int(row[0, 0])
            assert (row == tokens(i)).all()
            assert positions[offsets[k] : offsets[k + 1]].tolist() == [i] * (i % 4)
            found.append(i)
    return found


@pytest.mark.parametrize("access", ["read", "mmap"])
@pytest.mark.parametrize("depth", [0, 3])
def test_rows_become_arrays(arrays: Dataset, access: Any, depth: int) -> None:
    stream = arrays.shuffle(3).options(access=access).batch(8, collate=FIELDS).prefetch(depth)
    batches = list(stream)
    assert [np.asarray(batch[".npy"]).shape for batch in batches] == [(8, 3, 4)] * 6 + [(2, 3, 4)]
    assert rows_of(batches) == full_order(ROWS, 3, 0)
    assert len(stream) == 7


def test_ranks_and_states(arrays: Dataset) -> None:
    whole = full_order(ROWS, 3, 0)
    first = arrays.shuffle(3).batch(8, collate=FIELDS)
    it = iter(first)
    head = rows_of(next(it) for _ in range(2))
    ranks = []
    for rank in range(3):
        stream = arrays.shuffle(3).shard(rank, 3).batch(4, collate=FIELDS)
        stream.load_state_dict(first.state_dict())
        ranks.append(rows_of(stream))
    rest = [row for rows in zip(*ranks, strict=True) for row in rows]
    assert (head + rest)[:ROWS] == whole


def test_views_and_functions_of_batches(arrays: Dataset) -> None:
    even = arrays.where('sizes[".pos"] == 0').batch(100, collate={".npy": ("<u2", (3, 4))})
    (batch,) = even.map(lambda batch: np.asarray(batch[".npy"])[:, 0, 0].tolist())
    assert batch == list(range(0, ROWS, 4))


def test_errors_name_the_row_and_end_the_iteration(arrays: Dataset) -> None:
    it = iter(arrays.batch(8, collate={".npy": ("<u4", (3, 4))}))
    with pytest.raises(ultar.FieldError, match="u4") as caught:
        next(it)
    assert "s000" in str(caught.value) and "train-0.tar" in str(caught.value)
    with pytest.raises(ultar.UltarError, match="ended with an error before"):
        next(it)
    for wrong, message in (({".npy": "u2"}, "dtype, shape"), ({}, "at least")):
        with pytest.raises((TypeError, ValueError), match=message):
            arrays.batch(8, collate=wrong)
    with pytest.raises(ValueError, match="without rows as objects"):
        arrays.map(len).batch(8, collate=FIELDS)
    with pytest.raises(ValueError, match="refill"):
        arrays.batch(8, collate=FIELDS, refill=True)
    with pytest.raises(ValueError, match="on_error"):
        arrays.stream().options(on_error="skip").batch(8, collate=FIELDS)


def test_a_shard_that_is_cut_is_a_read_error(tmp_path: Path) -> None:
    samples = {f"s{i}": {".bin": bytes([i]) * 3000} for i in range(40)}
    path = write_tar(tmp_path / "a.tar", samples)
    ds = Dataset(path, access="read")
    path.write_bytes(path.read_bytes()[: 30 * 3584])
    it = iter(ds.batch(10, collate={".bin": ("u1", (3000,))}))
    assert np.asarray(next(it)[".bin"])[:, 0].tolist() == list(range(10))
    next(it)
    with pytest.raises(ultar.ReadError, match="a.tar"):
        list(it)
