"""`MapDataset`, samplers and tensors of `ultar_dataloader.torch`."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import ultar_dataloader as ultar
from ultar_dataloader import Dataset
from ultar_dataloader.torch import MapDataset, SequentialSampler, ShufflingSampler, tensors

ROWS = 50

# Workers by fork: what it is that Python 3.12 and later warn of, and PyTorch does.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def dataset(numbered: Dataset) -> Dataset:
    return numbered


def numbers(batches: Iterable[Any]) -> list[list[int]]:
    """The rows of each batch."""
    return [[int(cls) for cls in batch[".cls"]] for batch in batches]


def as_array(row: ultar.LoadedRow) -> dict[str, Any]:
    return {"row": int(row["cls"]), "bin": np.frombuffer(row.view("bin"), "u1")}


# --- MapDataset and samplers


@pytest.mark.parametrize("method", [None, "fork", "spawn", "forkserver"])
def test_rows_by_number_in_workers(dataset: Dataset, method: str | None) -> None:
    adapted = MapDataset(dataset, as_array)
    loader = DataLoader(
        adapted,
        batch_size=5,
        sampler=ShufflingSampler(adapted, seed=4),
        num_workers=1 if method else 0,
        multiprocessing_context=method,
        persistent_workers=method is not None,
        collate_fn=list,
    )
    assert len(loader) == 10 and len(adapted) == ROWS
    for epoch in range(2):
        rows = [element["row"] for batch in loader for element in batch]
        assert rows == list(ultar.order(ROWS, 4, epoch))


def test_elements_are_plain_values(dataset: Dataset) -> None:
    assert MapDataset(dataset)[-1] == dataset[-1].to_dict()
    assert MapDataset(dataset).__getitems__([3, 3]) == [dataset[3].to_dict()] * 2
    decoded = MapDataset(dataset.select([".json", ".bin"]), lambda row: {**row, "more": 1}, decode="auto")[7]
    assert decoded == {".json": {"i": 7}, ".bin": b"\7\7", "more": 1}
    assert repr(MapDataset(dataset)) == f"<MapDataset of {dataset!r}>"
    (batch,) = DataLoader(MapDataset(dataset.select([".cls"]), decode="auto"), batch_size=ROWS)
    assert batch[".cls"].tolist() == list(range(ROWS))
    with pytest.raises(IndexError, match="row 50 is out of range"):
        MapDataset(dataset)[ROWS]
    with pytest.raises(TypeError, match=r"must be an ultar_dataloader.Dataset, got list"):
        MapDataset([])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="transform must be a function, got str"):
        MapDataset(dataset, "auto")  # type: ignore[arg-type]


@pytest.mark.parametrize("tail", [None, "repeat", "drop"])
@pytest.mark.parametrize("world_size", [1, 2, 3, 60])
def test_ranks_share_an_epoch_evenly(dataset: Dataset, world_size: int, tail: Any) -> None:
    for make in (
        lambda **ranks: ShufflingSampler(dataset, 5, window=9, **ranks),
        lambda **ranks: SequentialSampler(ROWS, **ranks),
    ):
        samplers = [make(rank=rank, world_size=world_size, tail=tail) for rank in range(world_size)]
        for epoch in range(2):
            shares = [list(sampler) for sampler in samplers]
            assert {len(share) for share in shares} == {len(samplers[0])}
            together = [row for step in zip(*shares, strict=True) for row in step]
            rows = list(ultar.order(ROWS, 5, epoch, window=9))
            if isinstance(samplers[0], SequentialSampler):
                rows = list(range(ROWS))
            if tail == "drop":
                assert together == rows[: ROWS // world_size * world_size]
            else:
                assert together[:ROWS] == rows and len(together) - ROWS < world_size


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_goes_on_with_a_sampler(dataset: Dataset, workers: int) -> None:
    adapted = MapDataset(dataset.select([".cls"]), decode="auto")

    def loader(**options: Any) -> StatefulDataLoader:
        sampler = ShufflingSampler(adapted, seed=4, rank=1, world_size=2)
        return StatefulDataLoader(adapted, batch_size=4, sampler=sampler, num_workers=workers, **options)

    sampler = ShufflingSampler(adapted, seed=4, rank=1, world_size=2)
    epochs = [list(BatchSampler(sampler, 4, False)) for _ in range(4)]
    for stop in (0, 1, 7):
        first = loader()
        assert numbers(first) == epochs[0]
        iterator = iter(first)
        assert numbers(next(iterator) for _ in range(stop)) == epochs[1][:stop]
        state = pickle.loads(pickle.dumps(first.state_dict()))
        second = loader()
        second.load_state_dict(state)
        assert [numbers(second), numbers(second)] == [epochs[1][stop:], epochs[2]]
        third = loader()
        third.load_state_dict(second.state_dict())
        assert numbers(third) == epochs[3], "the state of an epoch's end"


def test_a_samplers_state_is_for_any_ranks(dataset: Dataset) -> None:
    order = list(ultar.order(ROWS, 4, 2))
    samplers = [ShufflingSampler(dataset, 4, epoch=2, rank=rank, world_size=2) for rank in range(2)]
    walks = [iter(sampler) for sampler in samplers]
    given = [next(walk) for _ in range(8) for walk in walks]
    assert given == order[:16]
    state = json.loads(json.dumps(samplers[0].state_dict()))
    assert state == samplers[1].state_dict() and (state["epoch"], state["position"]) == (2, 16)
    resumed = [ShufflingSampler(dataset, 4, rank=rank, world_size=3, state=state) for rank in range(3)]
    for sampler in resumed:
        sampler.set_epoch(2)  # As trainers do before each epoch: no harm.
    assert [row for step in zip(*resumed, strict=True) for row in step][: ROWS - 16] == order[16:]
    # It is the next epoch that comes behind the end, and an epoch that is set begins at its beginning.
    assert (resumed[0].state_dict()["epoch"], resumed[0].state_dict()["position"]) == (3, 0)
    resumed[0].set_epoch(2)
    assert next(iter(resumed[0])) == order[0]


def test_states_of_other_rows_or_orders_are_refused(dataset: Dataset) -> None:
    state = ShufflingSampler(dataset, 4).state_dict()
    for other, says in (
        (ShufflingSampler(dataset, 5), "seed=4, the sampler has seed=5"),
        (ShufflingSampler(dataset, 4, window=9), "window=None, the sampler has window=9"),
        (ShufflingSampler(dataset[:-1], 4), "fingerprint="),
        (ShufflingSampler(ROWS, 4), "the sampler has fingerprint='50 rows'"),
    ):
        with pytest.raises(ValueError, match=says):
            other.load_state_dict(state)
    with pytest.raises(ValueError, match="position must be from 0 to 50, got 51"):
        ShufflingSampler(dataset, 4, state={**state, "position": 51})
    for wrong in ({"rank": 2, "world_size": 2}, {"rank": 0}, {"rank": 0, "world_size": 2, "tail": "short"}):
        with pytest.raises(ValueError, match="rank"):
            ShufflingSampler(dataset, 4, **wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="rows must be an int"):
        SequentialSampler("rows")  # type: ignore[arg-type]


def test_ranks_are_those_of_the_environment(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = ShufflingSampler(dataset, 4)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert list(sampler) == list(ultar.order(ROWS, 4))[1::2] and len(sampler) == 25


# --- tensors


def address(buffer: Any) -> int:
    return int(np.asarray(buffer).__array_interface__["data"][0])


@pytest.mark.parametrize("access", ["read", "mmap"])
def test_tensors_are_on_the_memory_of_rows(dataset: Dataset, access: Any) -> None:
    dataset = Dataset(dataset.shards, access=access)
    row = dataset[9]
    view = row.view("bin")
    tensor = tensors({"x": [view, 1]})["x"][0]
    assert (tensor.data_ptr(), tensor.dtype, tensor.tolist()) == (address(view), torch.uint8, [9] * 4)
    assert tensors(row)[".cls"].data_ptr() == address(row.view("cls"))
    assert tensors(dataset[0])[".bin"].shape == (0,)
    del row, view
    assert tensor.tolist() == [9] * 4
    (batch,) = dataset[5:8].stream().batch(3)
    made = tensors(batch)[".bin"]
    assert [one.data_ptr() for one in made[1:]] == [address(view) for view in batch[".bin"][1:]]


def test_tensors_of_batches_are_on_their_memory(dataset: Dataset) -> None:
    (batch,) = dataset[4:5].stream().batch(1, collate={".bin": ("u1", (4,))})
    made = tensors(batch)[".bin"]
    assert made.data_ptr() == address(batch[".bin"]) and made.tolist() == [[4] * 4]
    made[0, 0] = 7
    assert np.asarray(batch[".bin"])[0, 0] == 7
    (batch,) = dataset[4:5].stream().batch(1, collate={".bin": (">u2", (2,))})
    assert tensors(batch)[".bin"].tolist() == [[0x0404] * 2]


def test_tensors_of_arrays_share_their_memory() -> None:
    array = np.arange(6, dtype="f4").reshape(2, 3)
    frozen = np.arange(5, dtype="u2")
    frozen.flags.writeable = False
    made = tensors({"a": array, "b": (frozen, [array[:, 1]]), "c": memoryview(array), "d": "text", "e": None})
    assert made["a"].data_ptr() == address(array) and made["a"].shape == (2, 3)
    assert made["b"][0].data_ptr() == address(frozen) and made["b"][0].dtype == torch.uint16
    assert made["b"][1][0].tolist() == [1, 4] and made["b"][1][0].data_ptr() == address(array) + 4
    assert made["c"].data_ptr() == address(array) and made["c"].shape == (2, 3)
    assert (made["d"], made["e"]) == ("text", None)
    # What PyTorch has no way to say is copied, or stays.
    assert tensors(np.array([1, 2], ">i4")).tolist() == [1, 2]
    assert tensors(array[::-1]).tolist() == [[3, 4, 5], [0, 1, 2]]
    for stays in (np.array(["a"]), np.array([None]), np.array(["2020-01-01"], "M8[D]")):
        assert tensors(stays) is stays
    # Without CUDA there is nothing to copy.
    pinned = tensors(array, pin=True)
    assert pinned.is_pinned() if torch.cuda.is_available() else pinned.data_ptr() == address(array)


def test_torch_is_imported_by_its_adapters_only() -> None:
    code = "import sys, ultar_dataloader as u; u.Dataset; sys.exit(bool({'torch', 'numpy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
