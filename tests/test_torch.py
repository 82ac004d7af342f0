"""`IterableDataset` of `ultar_dataloader.torch`: streams in PyTorch's loaders and torchdata's."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import pickle
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_tar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import ultar_dataloader as ultar
from ultar_dataloader import Dataset
from ultar_dataloader.torch import IterableDataset

ROWS = 50

# Workers by fork: what it is that Python 3.12 and later warn of, and PyTorch does.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    # Three workers on a machine with two cores.
    pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes:UserWarning"),
]


@pytest.fixture
def dataset(numbered: Dataset) -> Dataset:
    return numbered


def numbers(batches: Iterable[Any]) -> list[list[int]]:
    """The rows of each batch."""
    return [[int(cls) for cls in batch[".cls"]] for batch in batches]


def flat(batches: Iterable[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(batches))


def as_numbers(row: ultar.LoadedRow) -> int:
    return int(row["cls"])


def as_array(row: ultar.LoadedRow) -> dict[str, Any]:
    return {"row": int(row["cls"]), "bin": np.frombuffer(row.view("bin"), "u1")}


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_workers_give_what_the_stream_gives(dataset: Dataset, workers: int) -> None:
    stream = dataset.shuffle(seed=3).batch(4)
    expected = [numbers(stream) for _ in range(3)]
    assert sorted(flat(expected[1])) == list(range(ROWS)) and expected[0] != expected[1]
    loader = DataLoader(IterableDataset(dataset.shuffle(seed=3).batch(4)), batch_size=None, num_workers=workers)
    assert len(loader) == len(expected[0]) == 13
    for epoch in range(3):
        batches = list(loader)
        assert numbers(batches) == expected[epoch], f"epoch {epoch}"
        assert all(isinstance(payload, bytes) for batch in batches for payload in batch[".bin"])


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_may_be_started_in_any_way(dataset: Dataset, method: str) -> None:
    stream = dataset.shuffle(seed=3).shard(1, 2).map(as_array).batch(4)
    expected = [[batch["row"] for batch in stream] for _ in range(2)]
    loader = DataLoader(
        IterableDataset(dataset.shuffle(seed=3).shard(1, 2).map(as_array).batch(4)),
        batch_size=None,
        num_workers=2,
        multiprocessing_context=method,
        persistent_workers=method == "spawn",
    )
    for epoch in range(2):
        batches = list(loader)
        assert [batch["row"] for batch in batches] == expected[epoch]
        for batch in batches:
            for row, array in zip(batch["row"], batch["bin"], strict=True):
                assert isinstance(array, torch.Tensor) and array.tolist() == [row] * (row % 5)


@pytest.mark.parametrize("persistent", [False, True])
def test_an_epoch_can_be_set_in_workers_too(dataset: Dataset, persistent: bool) -> None:
    stream = dataset.shuffle(seed=1).batch(8)
    epochs = [numbers(stream) for _ in range(7)]
    adapted = IterableDataset(dataset.shuffle(seed=1).batch(8))
    loader = DataLoader(adapted, batch_size=None, num_workers=2, persistent_workers=persistent)
    assert numbers(loader) == epochs[0]
    adapted.set_epoch(5)
    assert [numbers(loader), numbers(loader)] == epochs[5:]
    adapted.set_epoch(2)
    next(iter(loader))
    # What was begun and left counts as an epoch.
    assert numbers(loader) == epochs[3]


@pytest.mark.parametrize("kind", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_reaches_workers_that_stay(dataset: Dataset, kind: Any, workers: int) -> None:
    stream = dataset.shuffle(seed=1).batch(8)
    epochs = [numbers(stream) for _ in range(6)]
    first = dataset.shuffle(seed=1).batch(8)
    list(itertools.islice(first, 3))
    state = first.state_dict()
    adapted = IterableDataset(dataset.shuffle(seed=1).batch(8))
    loader = kind(adapted, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    assert numbers(loader) == epochs[0]
    adapted.load_state_dict(state)
    assert [numbers(loader), numbers(loader)] == [epochs[0][3:], epochs[1]]
    adapted.set_epoch(5)
    assert numbers(loader) == epochs[5]
    adapted.load_state_dict(state)
    adapted.set_epoch(0)  # As trainers do: of the epoch of a state that was loaded, the rest.
    assert numbers(loader) == epochs[0][3:]
    adapted.set_epoch(0)
    assert numbers(loader) == epochs[0], "a state that was gone on with is done with"


@pytest.mark.parametrize("persistent", [False, True])
def test_the_state_of_a_loader_does_not_bring_its_later_epochs_again(dataset: Dataset, persistent: bool) -> None:
    stream = dataset.shuffle(seed=1).batch(8)
    epochs = [numbers(stream) for _ in range(3)]
    adapted = IterableDataset(dataset.shuffle(seed=1).batch(8))
    loader = StatefulDataLoader(adapted, batch_size=None, num_workers=2, persistent_workers=persistent)
    assert numbers(loader) == epochs[0]
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    assert numbers(iterator) == epochs[1][1:]
    loader.load_state_dict(state)  # With the seed of its workers.
    assert [numbers(loader), numbers(loader)] == [epochs[1][1:], epochs[2]]


def begin_late(_: int) -> None:
    time.sleep(0.3)


def test_an_epoch_that_is_set_while_workers_start_is_the_next_one(dataset: Dataset) -> None:
    stream = dataset.shuffle(seed=1).batch(8)
    epochs = [numbers(stream) for _ in range(5)]
    adapted = IterableDataset(dataset.shuffle(seed=1).batch(8))
    loader = DataLoader(adapted, batch_size=None, num_workers=2, worker_init_fn=begin_late)
    iterator = iter(loader)
    adapted.set_epoch(4)
    assert [numbers(iterator), numbers(loader)] == [epochs[0], epochs[4]]


def test_epochs_of_ranks_that_were_forked_are_their_own(dataset: Dataset) -> None:
    stream = dataset.shuffle(seed=1).batch(8)
    epochs = [numbers(stream) for _ in range(3)]
    adapted = IterableDataset(dataset.shuffle(seed=1).batch(8))

    def train() -> None:
        loader = DataLoader(adapted, batch_size=None, num_workers=1, persistent_workers=True)
        assert [numbers(loader), numbers(loader)] == epochs[:2]
        adapted.set_epoch(2)
        assert numbers(loader) == epochs[2]

    ranks = [multiprocessing.get_context("fork").Process(target=train) for _ in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0, 0]


def test_a_seed_of_torch_that_comes_again_brings_its_epoch_again(dataset: Dataset) -> None:
    adapted = IterableDataset(dataset.shuffle(seed=1).batch(8))
    loader = DataLoader(adapted, batch_size=None, num_workers=2)
    seen = []
    for epoch in (None, None, 4):
        torch.manual_seed(7)
        if epoch is not None:
            adapted.set_epoch(epoch)
        seen.append(numbers(loader))
    fresh = dataset.shuffle(seed=1).batch(8)
    assert seen[0] == seen[1] == numbers(fresh)
    fresh.set_epoch(4)
    assert seen[2] == numbers(fresh)


@pytest.mark.parametrize(("workers", "repeat"), [(0, 1), (1, 1), (2, 1), (3, 1), (0, 2), (2, 2)])
def test_a_stateful_loader_goes_on_exactly(dataset: Dataset, workers: int, repeat: int) -> None:
    def loader() -> StatefulDataLoader:
        stream = dataset.shuffle(seed=9).batch(4).repeat(repeat)
        return StatefulDataLoader(IterableDataset(stream), batch_size=None, num_workers=workers)

    stream = dataset.shuffle(seed=9).batch(4).repeat(repeat)
    passes = [numbers(stream) for _ in range(4)]
    for stop in (0, 5, 13 * repeat):
        first = loader()
        assert numbers(first) == passes[0]
        iterator = iter(first)
        assert numbers(next(iterator) for _ in range(stop)) == passes[1][:stop]
        state = pickle.loads(pickle.dumps(first.state_dict()))
        assert numbers(iterator) == passes[1][stop:]
        second = loader()
        second.load_state_dict(state)
        assert [numbers(second), numbers(second)] == [passes[1][stop:], passes[2]]
        ended = second.state_dict()
        third = loader()
        third.load_state_dict(ended)
        assert numbers(third) == passes[3], "the state of an epoch's end"


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_a_loaders_state_becomes_the_streams(dataset: Dataset, workers: int) -> None:
    stream = dataset.shuffle(seed=9).shard(0, 2).batch(4)
    epochs = [numbers(stream) for _ in range(3)]
    for stop in (0, 1, 4, 7):
        adapted = IterableDataset(dataset.shuffle(seed=9).shard(0, 2).batch(4))
        loader = StatefulDataLoader(adapted, batch_size=None, num_workers=workers)
        list(loader)
        iterator = iter(loader)
        for _ in range(stop):
            next(iterator)
        state = json.loads(json.dumps(adapted.stream_state(loader.state_dict())))
        stream.load_state_dict(state)
        assert numbers(stream) == epochs[1][stop:]
        resumed = IterableDataset(dataset.shuffle(seed=9).shard(0, 2).batch(4))
        resumed.load_state_dict(state)
        resumed.set_epoch(state["epoch"])  # As loops do that set it always; no harm.
        others = DataLoader(resumed, batch_size=None, num_workers=2)
        assert [numbers(others), numbers(others)] == [epochs[1][stop:], epochs[2]]
        list(iterator)
        assert adapted.stream_state(loader.state_dict())["epoch"] == 2


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_epoch_is_what_is_before_and_after(dataset: Dataset, data: st.DataObject) -> None:
    """Whatever the rows, ranks, batches and workers are before an interruption, and after it."""
    rows = dataset[: data.draw(st.integers(1, ROWS))]
    seed, workers = data.draw(st.integers(0, 2**53)), st.sampled_from([0, 2, 3])
    order = list(ultar.order(len(rows), seed))

    def share(rank: int, world_size: int, batch_size: int) -> IterableDataset:
        return IterableDataset(rows.shuffle(seed).shard(rank, world_size).batch(batch_size))

    def global_batches(ranks: list[list[list[int]]]) -> list[int]:
        assert len({len(steps) for steps in ranks}) == 1, "equal steps"
        return [row for step in zip(*ranks, strict=True) for slot in itertools.zip_longest(*step) for row in slot]

    world_size, batch_size = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    shares = [share(rank, world_size, batch_size) for rank in range(world_size)]
    stop = data.draw(st.integers(0, len(shares[0])))
    before, states = [], []
    for adapted in shares:
        loader = StatefulDataLoader(adapted, batch_size=None, num_workers=data.draw(workers))
        before.append(numbers(itertools.islice(loader, stop)))
        states.append(json.loads(json.dumps(adapted.stream_state(loader.state_dict()))))
    assert all(state == states[0] for state in states), "the same on all ranks"

    world_size, batch_size = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9))
    after = []
    for rank in range(world_size):
        adapted = share(rank, world_size, batch_size)
        adapted.load_state_dict(states[0])
        after.append(numbers(DataLoader(adapted, batch_size=None, num_workers=data.draw(workers))))
    delivered = global_batches(before)[: len(rows)]
    together = delivered + global_batches(after)
    assert together[: len(rows)] == order
    fill = len(together) - len(rows)
    assert fill < world_size * batch_size and together[len(rows) :] == (order * (1 + fill // len(rows)))[:fill]


def test_a_step_that_is_half_delivered_is_gone_on_with_by_one_worker(dataset: Dataset) -> None:
    def stream() -> ultar.Stream:
        return dataset.shuffle(seed=2).flat_map(lambda row: [(int(row["cls"]), part) for part in range(3)])

    expected = list(stream())
    first = stream()
    list(itertools.islice(first, 7))
    adapted = IterableDataset(stream())
    adapted.load_state_dict(first.state_dict())
    rest = list(DataLoader(adapted, batch_size=None, num_workers=2))
    assert sorted(map(tuple, rest)) == sorted(expected[7:])


def test_batches_of_the_loader_are_exact_for_as_many_workers(dataset: Dataset) -> None:
    def loader() -> StatefulDataLoader:
        stream = dataset.shuffle(seed=2).map(as_numbers)
        return StatefulDataLoader(IterableDataset(stream), batch_size=4, num_workers=2)

    first = loader()
    batches = [batch.tolist() for batch in first]
    assert sorted(flat(batches)) == list(range(ROWS))
    first = loader()
    iterator = iter(first)
    for _ in range(3):
        next(iterator)
    state = first.state_dict()
    with pytest.raises(ValueError, match="not made step after step in turn"):
        first.dataset.stream_state(state)
    second = loader()
    second.load_state_dict(state)
    assert [batch.tolist() for batch in second] == batches[3:]


def test_states_of_something_else_are_refused(dataset: Dataset) -> None:
    adapted = IterableDataset(dataset.shuffle(seed=2).batch(4))
    for state in (
        {},
        {"_snapshot": 3},
        *({"_snapshot": {"_worker_snapshots": wrong}} for wrong in ({"w": {"x": 1}}, [1])),
    ):
        with pytest.raises(ValueError, match="not the state of a StatefulDataLoader"):
            adapted.stream_state(state)
    with pytest.raises(TypeError, match="not list"):
        adapted.stream_state([])  # type: ignore[arg-type]
    loader = StatefulDataLoader(adapted, batch_size=None, num_workers=2, snapshot_every_n_steps=2)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(ValueError, match="the state is of 1 steps ago"):
        adapted.stream_state(loader.state_dict())
    next(iterator)
    state = loader.state_dict()
    assert adapted.stream_state(state)["position"] == 8
    for name, wrong in (("epoch", None), ("epoch", 2**53), ("position", "8"), ("position", 61), ("worker", [0, 0, 1])):
        changed = json.loads(json.dumps(state))
        changed["_snapshot"]["_worker_snapshots"]["worker_1"]["dataset_state"][name] = wrong
        with pytest.raises((ValueError, TypeError), match=f"{name} |worker|in turn"):
            adapted.stream_state(changed)
    # PyTorch would begin anew with a third worker, and go on with the others.
    third = dataset.shuffle(seed=2).batch(4).share(1, 3)
    with pytest.raises(ValueError, match="that of worker 1 of 2, and this is worker 1 of 3"):
        third.load_state_dict(state["_snapshot"]["_worker_snapshots"]["worker_1"]["dataset_state"])
    with pytest.raises(TypeError, match=r"stream must be a stream of ultar_dataloader, got list"):
        IterableDataset([1])  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_arrays_are_tensors(dataset: Dataset, workers: int) -> None:
    stream = dataset.shuffle(seed=3).batch(4, collate={".bin": ("u1", (None,))})
    loader = DataLoader(IterableDataset(stream), batch_size=None, num_workers=workers)
    for i, batch in enumerate(loader):
        rows = ultar.order(ROWS, 3)[4 * i : 4 * i + 4]
        values, offsets = batch[".bin"].values, batch[".bin"].offsets
        assert values.tolist() == [row for row in rows for _ in range(row % 5)] and values.dtype == torch.uint8
        assert offsets.diff().tolist() == [row % 5 for row in rows] and offsets.dtype == torch.int64
    assert i == 12


def test_rows_and_a_dataset_are_streams_too(dataset: Dataset) -> None:
    rows = list(DataLoader(IterableDataset(dataset), batch_size=None, num_workers=2))
    assert rows == [row.to_dict() for row in dataset]
    assert "IterableDataset of <Stream" in repr(IterableDataset(dataset))


def test_an_error_in_a_worker_is_that_of_the_stream(dataset: Dataset, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "bad.tar", {"a": {".json": b"{"}})
    loader = DataLoader(IterableDataset(Dataset(path).stream().decode().batch(1)), batch_size=None, num_workers=1)
    with pytest.raises(ultar.DecodeError, match=r"bad.tar: entry '.json', 1 bytes at offset 512: not json"):
        list(loader)
