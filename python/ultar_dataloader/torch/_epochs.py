"""How worker processes that do not know one another agree on which epoch they are to read.

PyTorch starts workers anew for every epoch, from a dataset that never saw the one before.
What they have in common is the seed that one iteration of a loader gives to its workers, and
here a file in memory, to which each appends what it is about to begin. All read the same
lines in the same order, and so come to the same epochs.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from multiprocessing import context, reduction
from typing import Any

Key = tuple[int, int]
"""Of one iteration, the same in all workers: their common seed, and how many iterations they made before."""

_LINE = struct.Struct("<QQq")
"""A key and an epoch, which is negative for "the next one"."""
_SET: Key = (2**64 - 1, 2**64 - 1)
"""For an epoch that was set outside of workers."""


class Epochs:
    """The epochs that iterations in worker processes begin. Goes to workers, however they are started."""

    def __init__(self, lines: bytes = b"") -> None:
        self._file = os.memfd_create("ultar-epochs")
        # Appending is one step to all processes, so no lock is needed.
        fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_APPEND)
        os.write(self._file, lines)

    def set(self, epoch: int) -> None:
        """Have the next iteration begin this epoch."""
        os.write(self._file, _LINE.pack(*_SET, epoch))

    def begin(self, key: Key, first: int, following: Callable[[int], int], known: int | None = None) -> int:
        """The epoch of an iteration.

        Args:
            key: Of the iteration.
            first: The epoch of the first iteration of all.
            following: The epoch with which one begins after another.
            known: The epoch, where a state says which.
        """
        os.write(self._file, _LINE.pack(*key, -1 if known is None else known))
        begun: dict[Key, int] = {}
        upcoming = first
        for seed, generation, epoch in _LINE.iter_unpack(self._lines()):
            if (seed, generation) == _SET:
                begun.clear()
                upcoming = epoch
            elif epoch >= 0:
                begun[seed, generation] = epoch
                upcoming = following(epoch)
            elif (seed, generation) not in begun:
                begun[seed, generation] = upcoming
                upcoming = following(upcoming)
        return begun[key]

    def _lines(self) -> bytes:
        return os.pread(self._file, os.fstat(self._file).st_size, 0)

    def __reduce__(self) -> tuple[Any, ...]:
        if context.get_spawning_popen() is not None:
            return _inherited, (reduction.DupFd(self._file),)
        return Epochs, (self._lines(),)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)


def _inherited(file: Any) -> Epochs:
    epochs = object.__new__(Epochs)
    epochs._file = file.detach()
    return epochs
