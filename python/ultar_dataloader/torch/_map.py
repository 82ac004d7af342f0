"""`MapDataset`: rows by number, for PyTorch's `DataLoader` and its samplers."""

from __future__ import annotations

from typing import Any

from torch.utils import data

from .._mapped import Mapped
from ._convert import portable


class MapDataset(Mapped, data.Dataset[Any]):
    """The rows of a `Dataset` by number, as a map-style dataset of PyTorch.

    A batch is read at once (``__getitems__``). The dataset may go to worker processes, however
    they are started; each opens the shards for itself.

    Args:
        dataset: The rows, or a view of some.
        decode: As `Dataset.decode`; None for entries as they are.
        transform: What makes an element of a row: of the dict of decoded entries with
            `decode`, else of the `LoadedRow`.

    An element is what came out of that, with what no worker could hand on replaced: views by
    bytes, rows by dicts of bytes, arrays of this package by tensors.
    """

    def _finished(self, element: Any) -> Any:
        return portable(element)
