"""The public names of ultar_dataloader, and nothing else."""

from ._dataset import Dataset, Record
from ._errors import IndexFormatError, ReadError, ScriptError, ShardFormatError, TarFormatError, UltarError, WriteError
from ._index import IndexProgress, IndexSummary, check, index
from ._loader import DataLoader
from ._native import LoadedRow, Order, __version__
from ._order import order

__all__ = [
    "DataLoader",
    "Dataset",
    "IndexFormatError",
    "IndexProgress",
    "IndexSummary",
    "LoadedRow",
    "Order",
    "ReadError",
    "Record",
    "ScriptError",
    "ShardFormatError",
    "TarFormatError",
    "UltarError",
    "WriteError",
    "__version__",
    "check",
    "index",
    "order",
]
