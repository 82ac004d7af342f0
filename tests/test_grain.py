"""`ultar_dataloader.grain`: rows as Grain's protocol has them; with Grain itself, where it is installed."""

from __future__ import annotations

import pickle
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import pytest

from ultar_dataloader import Dataset
from ultar_dataloader.grain import DataSource


@runtime_checkable
class RandomAccess(Protocol):
    """What Grain asks for."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: SupportsIndex, /) -> Any: ...


def test_elements_are_plain_values(numbered: Dataset) -> None:
    source = DataSource(numbered)
    assert isinstance(source, RandomAccess) and isinstance(numbered, RandomAccess)
    assert len(source) == 50 and source[7] == numbered[7].to_dict() and type(source[7]) is dict
    assert repr(source) == f"<DataSource of {numbered!r}>"
    copy = pickle.loads(pickle.dumps(DataSource(numbered, decode="auto")))
    assert copy[7] == {".cls": 7, ".json": {"i": 7}, ".bin": b"\7\7"}
    assert DataSource(numbered, len, decode={})[7] == 3
    with pytest.raises(IndexError, match="row 50 is out of range"):
        source[50]


def test_grain_reads_them(numbered: Dataset) -> None:
    grain = pytest.importorskip("grain.python", reason="Grain is tested by hand: it is no requirement of anything here")
    source = DataSource(numbered, decode={".cls": "cls"})
    assert isinstance(source, grain.RandomAccessDataSource)
    shuffled = grain.MapDataset.source(source).shuffle(seed=1).map(lambda row: row[".cls"])
    assert sorted(shuffled) == list(range(50)) and list(shuffled) != list(range(50))
    sampler = grain.IndexSampler(50, shard_options=grain.NoSharding(), shuffle=False, num_epochs=1)
    for workers in (0, 2):
        loader = grain.DataLoader(data_source=source, sampler=sampler, worker_count=workers)
        assert sorted(row[".cls"] for row in loader) == list(range(50))
