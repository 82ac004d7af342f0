"""JAX and TensorFlow, where they are installed: the same values, and no copies where there need be none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streams import number

from ultar_dataloader import Dataset, Stream

FIELDS: dict[str, Any] = {".f": ("<f4", (3,)), ".r": ("u1", (None,))}


@pytest.fixture
def stream(make_shard: Callable[..., Path]) -> Stream:
    samples = {
        f"s{i}": {".id": b"%d" % i, ".f": np.full(3, i, "<f4").tobytes(), ".r": bytes([i]) * (i % 3)} for i in range(10)
    }
    return Dataset(make_shard(samples)).batch(4, collate=FIELDS)


def test_jax_arrays_are_on_the_same_memory(stream: Stream) -> None:
    pytest.importorskip("jax")
    from ultar_dataloader.jax import arrays

    for step, batch in enumerate(stream):
        found = arrays(batch)
        rows = list(range(step * 4, min(10, step * 4 + 4)))
        assert found[".f"].tolist() == [[i] * 3 for i in rows]
        assert found[".f"].unsafe_buffer_pointer() == np.asarray(batch[".f"]).ctypes.data
        assert found[".r"].values.tolist() == [i for i in rows for _ in range(i % 3)]
        assert found[".r"].offsets.tolist() == np.cumsum([0] + [i % 3 for i in rows]).tolist()


def test_jax_takes_rows_and_leaves_what_it_does_not_know(dataset: Dataset) -> None:
    pytest.importorskip("jax")
    from ultar_dataloader.jax import arrays

    row = arrays(dataset[7])
    assert bytes(row[".id"].tolist()) == b"7"
    batch = arrays({"n": np.arange(3, dtype=">i2"), "s": "text", "t": np.array(["a"]), "l": [np.float32(1.5)]})
    assert batch["n"].tolist() == [0, 1, 2] and batch["s"] == "text" and batch["t"].tolist() == ["a"]


def test_tensorflow_datasets(stream: Stream, dataset: Dataset) -> None:
    tf = pytest.importorskip("tensorflow")
    from ultar_dataloader import tf as face

    batches = list(face.dataset(stream))
    assert [batch[".f"].shape for batch in batches] == [(4, 3), (4, 3), (2, 3)]
    assert batches[1][".r"].to_list() == [[i] * (i % 3) for i in range(4, 8)]
    assert len(list(face.dataset(stream))) == 3, "the next epoch"

    shuffled = dataset.shuffle(1).map(lambda row: {"n": number(row), "raw": row.view("id")}).batch(25)
    signature = {"n": tf.TensorSpec([None], tf.int32), "raw": tf.TensorSpec([None], tf.string)}
    found = list(face.dataset(shuffled, signature))
    assert [int(n) for batch in found for n in batch["n"]] == [number(row) for row in dataset.shuffle(1)]
    assert [int(raw.numpy()) for batch in found for raw in batch["raw"]] == [int(n) for b in found for n in b["n"]]
    assert [int(n) for n in face.dataset(dataset.map(number))] == list(range(60))
    with pytest.raises(ValueError, match="no signature"):
        face.dataset(dataset[:0].stream())
