"""The public names of ultar_dataloader, and nothing else."""

from ._dataset import Dataset, Record
from ._errors import (
    DecodeError,
    FieldError,
    IndexFormatError,
    ReadError,
    ScriptError,
    ShardFormatError,
    TarFormatError,
    UltarError,
    WriteError,
)
from ._index import IndexProgress, IndexSummary, check, index
from ._loader import DataLoader
from ._native import LoadedRow, Order, __version__
from ._order import order
from ._split import Delivery
from ._stream.mix import mix
from ._stream.stream import Stream

__all__ = [
    "DataLoader",
    "Dataset",
    "DecodeError",
    "Delivery",
    "FieldError",
    "IndexFormatError",
    "IndexProgress",
    "IndexSummary",
    "LoadedRow",
    "Order",
    "ReadError",
    "Record",
    "ScriptError",
    "ShardFormatError",
    "Stream",
    "TarFormatError",
    "UltarError",
    "WriteError",
    "__version__",
    "check",
    "index",
    "mix",
    "order",
]
