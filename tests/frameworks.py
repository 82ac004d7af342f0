"""JAX and TensorFlow: the same values, and no copies where there need be none. Run by `test_frameworks.py`."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
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
    from ultar_dataloader.jax import arrays

    for step, batch in enumerate(stream):
        found = arrays(batch)
        rows = list(range(step * 4, min(10, step * 4 + 4)))
        assert found[".f"].tolist() == [[i] * 3 for i in rows]
        assert found[".f"].unsafe_buffer_pointer() == np.asarray(batch[".f"]).ctypes.data
        assert found[".r"].values.tolist() == [i for i in rows for _ in range(i % 3)]
        assert found[".r"].offsets.tolist() == np.cumsum([0] + [i % 3 for i in rows]).tolist()


def test_jax_arrays_keep_their_memory(stream: Stream) -> None:
    from ultar_dataloader.jax import arrays

    held = [arrays({"nested": {"in": [batch]}}) for batch in stream]
    # Three epochs more, which would take the memory if it was free.
    for _ in range(3):
        assert len(list(stream)) == 3
    gc.collect()
    values = [one for found in held for one in found["nested"]["in"][0][".f"].tolist()]
    assert values == [[i] * 3 for i in range(10)]
    for found in held:
        assert found["nested"]["in"][0][".f"].unsafe_buffer_pointer() % 64 == 0


DEVICES = """
import sys
import jax
import numpy as np
from ultar_dataloader import Dataset
from ultar_dataloader.jax import arrays

first, second = jax.devices()
batch = next(iter(Dataset(sys.argv[1]).batch(4, collate={".f": ("<f4", (3,))})))
at = np.asarray(batch[".f"]).ctypes.data
assert arrays(batch)[".f"].unsafe_buffer_pointer() == at
assert arrays(batch, second)[".f"].devices() == {second}
with jax.default_device(second):
    assert arrays(batch)[".f"].devices() == {second}, "the default device, and not the one of DLPack"
mesh = jax.sharding.Mesh(np.array([first, second]), "data")
by_rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
shared = arrays({"x": batch, "n": np.arange(4)}, by_rows)
assert [part.data.tolist() for part in shared["x"][".f"].addressable_shards] == [[[0] * 3, [1] * 3], [[2] * 3, [3] * 3]]
assert shared["n"].sharding == by_rows and shared["n"].tolist() == [0, 1, 2, 3]
try:
    arrays(np.arange(3), by_rows)
except ValueError:
    print("done")
"""


def test_jax_arrays_go_where_they_are_wanted(stream: Stream, tmp_path: Path) -> None:
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", DEVICES, str(tmp_path / "shard-000000.tar")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr


def test_jax_takes_rows_and_leaves_what_it_does_not_know(dataset: Dataset) -> None:
    from ultar_dataloader.jax import arrays

    row = arrays(dataset[7])
    assert bytes(row[".id"].tolist()) == b"7"
    batch = arrays({"n": np.arange(3, dtype=">i2"), "s": "text", "t": np.array(["a"]), "l": [np.float32(1.5)]})
    assert batch["n"].tolist() == [0, 1, 2] and batch["s"] == "text" and batch["t"].tolist() == ["a"]


def test_tensorflow_datasets(stream: Stream, dataset: Dataset) -> None:
    import tensorflow as tf

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
    assert next(iter(face.dataset(dataset)))[".id"].numpy() == b"0", "rows as dicts"
    with pytest.raises(ValueError, match="no signature"):
        face.dataset(dataset[:0].stream())
    with pytest.raises(TypeError, match="got list"):
        face.dataset([1, 2])
    with pytest.raises(TypeError, match="no type for a set"):
        face.dataset(dataset.map(lambda row: {number(row)}))


def test_tensorflow_takes_no_more_than_it_gives(stream: Stream) -> None:
    from ultar_dataloader import tf as face

    positions = []
    for batch in face.dataset(stream):
        positions.append((int(batch[".f"][0, 0]), stream.state_dict()["position"]))
        if len(positions) == 2:
            break
    assert positions == [(0, 4), (4, 8)]
    stream.load_state_dict(stream.state_dict())
    assert [batch[".f"].numpy()[:, 0].tolist() for batch in face.dataset(stream)] == [[8, 9]]


def test_tensorflow_says_what_we_said(dataset: Dataset, make_shard: Callable[..., Path]) -> None:
    import tensorflow as tf

    from ultar_dataloader import tf as face

    def fail(rows: Any) -> list[int]:
        return [number(row) // (number(row) != 45) for row in rows]

    stream = dataset.batch(10, collate=fail)
    batches = iter(face.dataset(stream))
    assert [n for _ in range(4) for n in next(batches).numpy().tolist()] == list(range(40))
    with pytest.raises(tf.errors.OpError, match="(?s)ZeroDivisionError.*collating 10 rows, step 4 of epoch 0"):
        next(batches)
    assert stream.state_dict()["position"] == 40

    shard = make_shard({f"{i}": {".f": bytes(100)} for i in range(10)}, "short.tar")
    short = Dataset(shard)
    os.truncate(shard, 5000)
    with pytest.raises(tf.errors.OpError, match=r"(?s)ReadError: .*short\.tar.*wanted 100 bytes at offset"):
        list(face.dataset(short.batch(3, collate={".f": ("u1", (100,))})))
