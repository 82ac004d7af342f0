"""Adapters for PyTorch: datasets, samplers and tensors. Nothing else imports torch."""

from ._convert import tensors
from ._iterable import IterableDataset
from ._map import MapDataset
from ._samplers import SequentialSampler, ShufflingSampler

__all__ = [
    "IterableDataset",
    "MapDataset",
    "SequentialSampler",
    "ShufflingSampler",
    "tensors",
]
