"""`MapDataset`: rows by number, for PyTorch's `DataLoader` and its samplers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, SupportsIndex

from torch.utils import data

from .._dataset import Dataset
from .._decode import decoder
from ._convert import portable


class MapDataset(data.Dataset[Any]):
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

    def __init__(
        self,
        dataset: Dataset,
        transform: Callable[[Any], Any] | None = None,
        *,
        decode: str | Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(dataset, Dataset):
            raise TypeError(f"dataset must be an ultar_dataloader.Dataset, got {type(dataset).__name__}")
        if transform is not None and not callable(transform):
            raise TypeError(f"transform must be a function, got {type(transform).__name__}")
        self.dataset = dataset
        self.transform = transform
        self._decode = None if decode is None else decoder(decode)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: SupportsIndex) -> Any:
        """The element of a row.

        Raises:
            IndexError: There is no such row.
            ReadError: It cannot be read.
        """
        return self._element(self.dataset[operator.index(index)])

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[Any]:
        """The elements of many rows, read at once: what PyTorch calls for a batch."""
        return [self._element(row) for row in self.dataset.read(indices)]

    def _element(self, element: Any) -> Any:
        if self._decode is not None:
            element = self._decode(element)
        if self.transform is not None:
            element = self.transform(element)
        return portable(element)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.dataset!r}>"
