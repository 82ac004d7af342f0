"""Random access to any Python iterable, through a cache on disk that processes share."""

from .._errors import CacheError
from ._loader import LoadIt
from ._options import preload_next_shard
from ._sequences import (
    ConcatableSequence,
    InterleaveSequences,
    RepeatSequence,
    SequenceView,
    chunk_shuffle,
)

__all__ = [
    "CacheError",
    "ConcatableSequence",
    "InterleaveSequences",
    "LoadIt",
    "RepeatSequence",
    "SequenceView",
    "chunk_shuffle",
    "preload_next_shard",
]
