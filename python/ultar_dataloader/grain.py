"""An adapter for Grain. Grain itself is not imported."""

from __future__ import annotations

from ._mapped import Mapped


class DataSource(Mapped):
    """The rows of a `Dataset` by number: Grain's ``RandomAccessDataSource``.

    For ``grain.MapDataset.source`` and ``grain.DataLoader``. It may go to worker processes; each opens the
    shards for itself.

    Args:
        dataset: The rows, or a view of some.
        decode: As `Dataset.decode`; None for entries as they are.
        transform: What makes an element of a row: of the dict of decoded entries with
            `decode`, else of the `LoadedRow`.

    An element is what came out of that, with rows as dicts of bytes and views as bytes: Grain
    takes mappings apart and puts them together again, and hands them to other processes.

    Example:
        >>> source = DataSource(Dataset("shards"), decode="auto")
        >>> grain.MapDataset.source(source).shuffle(seed=0).batch(32)
    """
