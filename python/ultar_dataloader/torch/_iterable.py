"""`IterableDataset`: a stream for PyTorch's `DataLoader`, shared among its workers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from multiprocessing import parent_process
from typing import Any

from torch.utils import data

from .._split import POSITION_MAX, whole
from .._stream.iterator import StreamIterator
from .._stream.run import Start
from .._stream.stream import Stream
from .._stream.streamable import Streamable
from ._convert import portable
from ._epochs import Epochs
from ._states import epoch_after, merged, next_start


class IterableDataset(data.IterableDataset[Any]):
    """A stream as an iterable dataset of PyTorch.

    With ``DataLoader(dataset, batch_size=None, num_workers=n)`` worker i makes every n-th step
    of the stream, and the loader, which asks its workers in turn, gives the very batches that the
    stream gives, in its order, for every n. Each iteration is the next epoch, also where workers
    are started anew for it.

    An element is what the stream gives, with what no worker could hand on replaced: views by
    bytes, rows by dicts of bytes, arrays of this package by tensors. That is so without
    workers, too.

    A dataset of PyTorch's kind and torchdata's ``Stateful``: ``StatefulDataLoader`` gives exact
    states with it, whatever its workers have read ahead. `stream_state` makes of those what goes
    on with another number of workers, or of ranks.

    Args:
        stream: What is made of a `Dataset` by ``shuffle``, ``batch`` and the like. Its ranks
            are those of processes that train; workers come on top.
    """

    def __init__(self, stream: Streamable) -> None:
        if not isinstance(stream, Streamable):
            raise TypeError(f"stream must be a stream of ultar_dataloader, got {type(stream).__name__}")
        self._stream: Stream = stream.stream()
        self._epochs = Epochs()
        self._share: Stream | None = None
        """What a worker reads. There is none in other processes."""
        self._generation = -1
        """In a worker: of its latest iteration."""
        self._is_loaded = False
        """In a worker: it knows by itself where its next iteration begins."""

    @property
    def stream(self) -> Stream:
        """As given."""
        return self._stream

    def __iter__(self) -> Elements:
        stream = self._reader()
        if self._share is not None:
            self._agree(stream)
        elements = Elements(self, iter(stream))
        if self._share is None:
            self._tell_workers()
        return elements

    def __len__(self) -> int:
        """Elements of a whole epoch, of all workers together.

        Raises:
            TypeError: That is not known before.
        """
        return len(self._stream)

    def set_epoch(self, epoch: int) -> None:
        """Have the next iteration begin this epoch, in workers too: at its beginning, but where a
        state of that epoch was loaded, and nothing begun since.

        Raises:
            TypeError, ValueError: As `Stream.set_epoch`.
        """
        if data.get_worker_info() is not None:
            self._reader().set_epoch(epoch)
            self._is_loaded = True
            return
        epoch = whole("epoch", epoch, 0, POSITION_MAX)
        has_begun = self._stream._progress.started or self._epochs.has_begun(_owner())
        if has_begun or epoch != next_start(self._stream).epoch:
            self._stream.set_epoch(epoch)
        self._tell_workers()

    def state_dict(self) -> dict[str, Any]:
        """How far the latest iteration in this process has come, as `Stream.state_dict`.

        Of what a `DataLoader` with workers has given only its workers know: ``StatefulDataLoader``
        asks them, see `stream_state`.
        """
        return self._reader().state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Have the next iteration go on where the state was taken, with any number of workers, also
        where they run already and stay (``persistent_workers``).

        Raises:
            TypeError, ValueError: As `Stream.load_state_dict`.
        """
        self._reader().load_state_dict(state_dict)
        if self._share is not None:
            self._is_loaded = True
        else:
            self._tell_workers()

    def stream_state(self, loader_state: Mapping[str, Any]) -> dict[str, Any]:
        """The stream's state in that of a ``StatefulDataLoader`` over this dataset.

        It is to be made where the loader's state is made, as it depends on the batch size and
        the number of ranks. It can be loaded by a stream or a dataset with any batch size, number
        of ranks and of workers, while the loader's own state is for as many workers as it had.

        Raises:
            ValueError: It is no such state; or its workers have not made step after step in turn,
                as they do not where the loader makes the batches (use `batch` of the stream), or
                some steps have no element or several (behind a filter or flat_map).
        """
        return merged(self._stream, loader_state)

    def _reader(self) -> Stream:
        worker = data.get_worker_info()
        if worker is None:
            return self._stream
        if self._share is None:
            self._share = self._stream.share(worker.id, worker.num_workers)
        return self._share

    def _agree(self, share: Stream) -> None:
        """Have a worker's share begin where it begins in all workers."""
        self._generation += 1
        known = next_start(share).epoch if self._is_loaded else None
        start = self._note(known)
        if not self._is_loaded:
            share._begin_share(start)
        self._is_loaded = False

    def _note(self, known: int | None) -> Start:
        """Where this worker's iteration begins, for other workers and later ones to know."""
        worker = data.get_worker_info()
        assert worker is not None
        seed = (worker.seed - worker.id) % 2**64
        first, following = next_start(self._stream), partial(epoch_after, self._stream)
        return self._epochs.begin(_owner(), seed, self._generation, first, following, known)

    def _tell_workers(self) -> None:
        """Have workers begin next where this process would."""
        self._epochs.say(_owner(), next_start(self._stream))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._stream!r}>"


def _owner() -> int:
    """The process that trains: this one, or the one whose worker this is."""
    parent = parent_process()
    return os.getpid() if data.get_worker_info() is None or parent is None else parent.pid or 0


class Elements(Iterator[Any]):
    """One iteration of an `IterableDataset` in one process. Has a state, for ``StatefulDataLoader``."""

    def __init__(self, dataset: IterableDataset, elements: StreamIterator) -> None:
        self._dataset = dataset
        self._elements = elements
        self._has_ended = False

    def __next__(self) -> Any:
        try:
            return portable(next(self._elements))
        except StopIteration:
            self._has_ended = True
            raise

    def state_dict(self) -> dict[str, Any]:
        """As `Stream.state_dict`, but the end of an epoch is not yet the beginning of the next one.

        For a loader whose epoch had ended makes an iterator with this state, and then the one
        of the next epoch.
        """
        state = self._elements.state_dict()
        return {**state, "epoch": state["epoch"] - 1, "position": state["rows"]} if self._has_ended else state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the state was taken, instead of here.

        Raises:
            TypeError, ValueError: As `Stream.load_state_dict`.
        """
        if state_dict == self.state_dict():
            return
        self._elements.load_state_dict(state_dict)
        self._has_ended = False
        if data.get_worker_info() is not None:
            self._dataset._note(state_dict["epoch"])
        else:
            self._dataset._tell_workers()

    def close(self) -> None:
        """Stop reading."""
        self._elements.close()
