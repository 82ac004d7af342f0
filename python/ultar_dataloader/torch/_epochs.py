"""How worker processes that do not know one another agree on where they are to begin.

PyTorch starts workers anew for every epoch, from a dataset that never saw the one before, or
has them stay, and then they do not see what becomes of the dataset. What they have in common is
the seed that one iteration of a loader gives to its workers, and here a file in memory: to it
each appends what it is about to begin, and the process that trains where the next iteration is
to begin. All read the same lines in the same order, and so come to the same places.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from multiprocessing import context, reduction
from typing import Any, NamedTuple

from .._stream.run import Start

_LINE = struct.Struct("<QQqqqqq")


class _Line(NamedTuple):
    owner: int
    """The process that trains. Several may have come to share the file, by a fork."""
    seed: int
    """Common to the workers of one iteration, or of all if they stay."""
    generation: int
    """Iterations that these workers made before; -1 where it was said from outside of workers."""
    said: int
    """How often the owner had said so when the workers were started."""
    epoch: int
    """Negative for "the next one"."""
    position: int = 0
    within: int = 0

    @property
    def key(self) -> tuple[int, int, int]:
        """The same for all workers in one iteration."""
        return self.seed, self.said, self.generation

    @property
    def start(self) -> Start:
        return Start(self.epoch, self.position, self.within)


class Epochs:
    """Where iterations in worker processes begin. Goes to workers, however they are started."""

    def __init__(self) -> None:
        self._file = os.memfd_create("ultar-epochs")
        # Appending is one step to all processes, so no lock is needed.
        fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_APPEND)
        self._said = (0, 0)
        """An owner, and how often it has said where to begin."""

    def say(self, owner: int, start: Start) -> None:
        """Have the next iteration of the owner's workers begin there."""
        said = self._times_said(owner) + 1
        self._append(_Line(owner, 0, -1, said, start.epoch, start.position, start.within))
        self._said = owner, said

    def has_begun(self, owner: int) -> bool:
        """Whether workers have begun something since it was said where."""
        *_, last = (-1, *(line.generation for line in self._lines(owner)))
        return last >= 0

    def begin(
        self,
        owner: int,
        seed: int,
        generation: int,
        first: Start,
        following: Callable[[int], int],
        known: int | None = None,
    ) -> Start:
        """Where an iteration begins.

        Args:
            owner, seed, generation: Of the iteration, as lines have them.
            first: Where the first one of all begins.
            following: The epoch with which one begins after another.
            known: The epoch, where a state of a worker says which.
        """
        mine = _Line(owner, seed, generation, self._times_said(owner), -1 if known is None else known)
        self._append(mine)
        upcoming = [first]
        begun: dict[tuple[int, int, int], Start] = {}
        for line in self._lines(owner):
            if line.generation < 0:
                upcoming.append(line.start)
                continue
            # What is said while workers are started is for the iteration after.
            latest = line.said if line.generation == 0 else len(upcoming) - 1
            if line.epoch >= 0:
                # A loader's state brings its seed again, and generations count anew.
                begun = {key: start for key, start in begun.items() if key[:2] != line.key[:2] or key < line.key}
                begun[line.key] = line.start
            elif line.key not in begun:
                begun[line.key] = upcoming[latest]
            else:
                continue
            upcoming[latest] = Start(following(begun[line.key].epoch))
        return begun[mine.key]

    def _times_said(self, owner: int) -> int:
        return self._said[1] if self._said[0] == owner else 0

    def _append(self, line: _Line) -> None:
        os.write(self._file, _LINE.pack(*line))

    def _lines(self, owner: int) -> Iterator[_Line]:
        lines = os.pread(self._file, os.fstat(self._file).st_size, 0)
        return (line for line in map(_Line._make, _LINE.iter_unpack(lines)) if line.owner == owner)

    def __reduce__(self) -> tuple[Any, ...]:
        if context.get_spawning_popen() is not None:
            return _inherited, (reduction.DupFd(self._file), self._said)
        return Epochs, ()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)


def _inherited(file: Any, said: tuple[int, int]) -> Epochs:
    epochs = object.__new__(Epochs)
    epochs._file = file.detach()
    epochs._said = said
    return epochs
