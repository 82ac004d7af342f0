"""Rows by number as plain values, for loaders of others that take them to other processes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, SupportsIndex

from ._dataset import Dataset
from ._decode import decoder
from ._nesting import through


class Mapped:
    """What map-style adapters have in common."""

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
        """The elements of many rows, which are read at once."""
        return [self._element(row) for row in self.dataset.read(indices)]

    def _element(self, element: Any) -> Any:
        if self._decode is not None:
            element = self._decode(element)
        if self.transform is not None:
            element = self.transform(element)
        return self._finished(element)

    def _finished(self, element: Any) -> Any:
        return through(element, plain)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.dataset!r}>"


def plain(value: Any) -> Any:
    """A memoryview as bytes, as it cannot be pickled; all else as it is."""
    return bytes(value) if isinstance(value, memoryview) else value
