"""The public names of ultar_dataloader, and nothing else."""

from typing import TYPE_CHECKING

from ._dataset import Dataset, Record
from ._errors import (
    CacheError,
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

if TYPE_CHECKING:
    from .loadit import LoadIt

__all__ = [
    "CacheError",
    "DataLoader",
    "Dataset",
    "DecodeError",
    "Delivery",
    "FieldError",
    "IndexFormatError",
    "IndexProgress",
    "IndexSummary",
    "LoadIt",
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


def __getattr__(name: str) -> object:
    # Not everyone needs it, and it brings imports of its own.
    if name == "LoadIt":
        from .loadit import LoadIt

        globals()[name] = LoadIt
        return LoadIt
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
