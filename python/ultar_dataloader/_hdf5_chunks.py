"""Chunks of HDF5 datasets: where they are, and those that zlib and NumPy can decode.

That takes neither h5py nor the lock that it has for all of the process.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from . import _optional
from ._hdf5_source import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPARSE = 16
"""So many places for each chunk that is there, and no more, are kept a table of."""


def is_as_numpy_has_it(dataset: Any) -> bool:
    """Whether the file has elements just as arrays of the dataset's dtype do."""
    h5py = _optional.need("h5py", "hdf5", "HDF5")
    return bool(h5py.h5t.py_create(dataset.dtype, logical=True) == dataset.id.get_type())


class Chunks:
    """Where the chunks of a dataset are. Asking h5py for one of them looks through all.

    Raises:
        ValueError: The dataset has two of one place: the file is damaged.
    """

    def __init__(self, dataset: Any) -> None:
        np = _optional.need("numpy", "hdf5", "HDF5")
        steps = dataset.chunks
        self.grid = tuple(-(-size // step) for size, step in zip(dataset.shape, steps, strict=True))
        identity = dataset.id
        cells = prod(self.grid)
        self.is_kept = cells <= _SPARSE * (identity.get_num_chunks() + 1)
        self.offsets = np.zeros(self.grid if self.is_kept else 0, np.uint64)
        self.sizes = np.zeros(self.grid if self.is_kept else 0, np.uint64)
        """In bytes, in the file; 0 where there is no chunk, or one that some filter left out."""

        twice: list[tuple[int, ...]] = []

        def note(info: Any) -> None:
            place = tuple(at // step for at, step in zip(info.chunk_offset, steps, strict=True))
            # A dataset that was made smaller may have more than its shape.
            if not info.filter_mask and all(at < count for at, count in zip(place, self.grid, strict=True)):
                if self.sizes[place] != 0:
                    twice.append(place)
                self.offsets[place], self.sizes[place] = info.byte_offset, info.size

        if not self.is_kept:
            return
        if hasattr(identity, "chunk_iter"):
            identity.chunk_iter(note)
        else:
            for i in range(identity.get_num_chunks()):
                note(identity.get_chunk_info(i))
        if twice:
            raise ValueError(f"there are two chunks {twice[0]}")

    def are_all_there(self) -> bool:
        return self.is_kept and bool(self.sizes.all())


class Codec:
    """Decodes bands of a dataset, as `make` says."""

    def __init__(self, dataset: Any, is_deflated: bool, is_shuffled: bool) -> None:
        np = _optional.need("numpy", "hdf5", "HDF5")
        self._item = dataset.dtype.itemsize
        self._dtype = np.dtype(f"u{self._item}" if self._item in (1, 2, 4, 8) else f"V{self._item}")
        self._is_deflated = is_deflated
        self._is_shuffled = is_shuffled and self._item > 1
        self._steps, self._inner = dataset.chunks, dataset.shape[1:]
        self._chunk_bytes = self._item * prod(self._steps)
        self._chunks = Chunks(dataset)

    @staticmethod
    def make(dataset: Any) -> Codec | None:
        """None for what is left to h5py."""
        h5py = _optional.need("h5py", "hdf5", "HDF5")
        if not dataset.chunks or not is_as_numpy_has_it(dataset):
            return None
        plist = dataset.id.get_create_plist()
        filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
        match [one[0] for one in filters]:
            case []:
                codec = Codec(dataset, False, False)
            case [h5py.h5z.FILTER_DEFLATE]:
                codec = Codec(dataset, True, False)
            case [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE] if filters[0][2][0] == dataset.dtype.itemsize:
                codec = Codec(dataset, True, True)
            case _:
                return None
        return codec if codec._chunks.is_kept else None

    def decode(self, source: Source, band: int, rows: int) -> NDArray[Any] | None:
        """So many rows from the first of a band on.

        None for what is left to h5py after all, which then also says what is wrong.

        Raises:
            StoreError: They cannot be read.
        """
        np = _optional.need("numpy", "hdf5", "HDF5")
        if self._steps[1:] == self._inner:
            chunk = self._chunk(source, (band, *(0 for _ in self._inner)))
            return None if chunk is None else chunk[:rows]
        whole = np.empty((rows, *self._inner), self._dtype)
        for place in product(*map(range, self._chunks.grid[1:])):
            chunk = self._chunk(source, (band, *place))
            if chunk is None:
                return None
            part = whole[(slice(None), *self._slices(place))]
            part[...] = chunk[tuple(map(slice, part.shape))]
        return whole

    def _slices(self, place: tuple[int, ...]) -> Iterator[slice]:
        for at, step in zip(place, self._steps[1:], strict=True):
            yield slice(at * step, (at + 1) * step)

    def _chunk(self, source: Source, place: tuple[int, ...]) -> NDArray[Any] | None:
        np = _optional.need("numpy", "hdf5", "HDF5")
        stored = int(self._chunks.sizes[place])
        if stored == 0:
            return None
        data = source.read(int(self._chunks.offsets[place]), stored)
        if self._is_deflated:
            inflating = zlib.decompressobj()
            try:
                # With room for one byte more it goes on to the checksum.
                data = inflating.decompress(data, self._chunk_bytes + 1)
            except zlib.error:
                return None
            if not inflating.eof:
                return None
        if len(data) != self._chunk_bytes:
            return None
        if self._is_shuffled:
            data = np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(self._item, -1).T)
        return np.frombuffer(data, self._dtype).reshape(self._steps)
