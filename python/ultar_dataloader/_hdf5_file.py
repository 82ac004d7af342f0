"""HDF5 files that are open: where the rows of their datasets are, and rows that have to be decoded.

A row is plain where its bytes are a range of the file. All others are decoded when they are asked
for, a *band* at a time: the rows along the first axis that share chunks. What is decoded has
offsets from `DECODED_MIN` on: dataset after dataset in the order of their names, row after row.
"""

from __future__ import annotations

import atexit
import errno
import threading
import weakref
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

from . import _optional
from ._errors import ReadError, ShardFormatError
from ._hdf5_chunks import Chunks, Codec, is_as_numpy_has_it
from ._hdf5_source import Local, Object, Reading, Source
from ._records import DECODED_MIN
from ._stores import StoreError, Stores, is_url

_DECODED_END = 1 << 53
_GUARD = 1 << 20
"""Between datasets, so that no read serves rows of two."""

_BAND_BYTES = 1 << 20
"""Of rows that have no chunks."""


@dataclass(frozen=True, slots=True)
class Column:
    """A dataset with an axis."""

    name: str
    dataset: Any
    length: int
    row_bytes: int
    base: int
    """Offset of the first row, decoded."""
    band_rows: int
    """Rows that are decoded together."""

    @property
    def type(self) -> tuple[Any, tuple[int, ...]]:
        """The dtype and the shape of a row."""
        dtype = self.dataset.dtype
        return dtype.base, (*self.dataset.shape[1:], *dtype.shape)

    @property
    def end(self) -> int:
        return self.base + self.length * self.row_bytes

    @property
    def band_bytes(self) -> int:
        return self.band_rows * self.row_bytes

    def decoded_at(self, row: int) -> int:
        return self.base + row * self.row_bytes


class File:
    """A file, or an object. Threads may share it; `close` is for who has it alone.

    Raises:
        ReadError: It cannot be opened.
        ShardFormatError: It is malformed.
        ImportError: h5py is not installed.
    """

    def __init__(self, path: str, stores: Stores | None) -> None:
        h5py = _optional.need("h5py", "hdf5", f"{path}: reading HDF5")
        _prepare_for_the_end()
        self.path = path
        try:
            self.source: Source = Object(path, stores) if stores is not None and is_url(path) else Local(path)
        except OSError as error:
            raise ReadError(error.errno, f"{path}: cannot open: {error.strerror}", path) from error
        except StoreError as failure:
            raise ReadError(failure.number or None, f"{path}: {failure.text}", path) from failure
        try:
            self._reading = Reading(self.source)
            self._file = h5py.File(self._reading, "r")
            _all.add(self)
            self.columns, self.refused = _columns(path, self._file)
            self._codecs: dict[str, Codec | None] = {}
            self._codecs_lock = threading.Lock()
        except Exception as error:
            raise self.failed("not an HDF5 file that can be read", error) from error

    def column(self, name: str) -> Column | None:
        """Of a dataset, by any of its names."""
        for column in self.columns:
            if column.name == name:
                return column
        found = self._file.get(name)
        return next((column for column in self.columns if column.dataset == found), None)

    def column_at(self, offset: int) -> Column | None:
        """That which has the decoded row at an offset."""
        place = bisect_right(self.columns, offset, key=lambda column: column.base) - 1
        return self.columns[place] if place >= 0 and offset < self.columns[place].end else None

    def plain(self, column: Column) -> Callable[[int], int] | None:
        """The offset of each row in the file; None if rows are to be decoded."""
        h5py = _optional.need("h5py", "hdf5", "HDF5")
        plist = column.dataset.id.get_create_plist()
        if plist.get_nfilters() > 0 or not is_as_numpy_has_it(column.dataset):
            return None
        if column.row_bytes == 0:
            return lambda row: 0
        layout = plist.get_layout()
        if layout == h5py.h5d.CONTIGUOUS and plist.get_external_count() == 0:
            begin = column.dataset.id.get_offset()
            return None if begin is None else lambda row: begin + row * column.row_bytes
        if layout == h5py.h5d.CHUNKED and column.dataset.chunks[1:] == column.dataset.shape[1:]:
            chunks = Chunks(column.dataset)
            if chunks.are_all_there():
                begins, rows = chunks.offsets.ravel().tolist(), column.band_rows
                return lambda row: begins[row // rows] + row % rows * column.row_bytes
        return None

    def require_decodable(self, column: Column) -> None:
        """That h5py can decode rows.

        Raises:
            ShardFormatError: There is a filter that it does not have, or rows are in other files.
        """
        h5py = _optional.need("h5py", "hdf5", "HDF5")
        plist = column.dataset.id.get_create_plist()
        for i in range(plist.get_nfilters()):
            code, _, _, name = plist.get_filter(i)
            if not h5py.h5z.filter_avail(code):
                known = f"{name.decode(errors='replace')} ({code})"
                raise bad(
                    self.path, f"dataset {column.name}: h5py does not have filter {known} that it is written through"
                )
        sources = column.dataset.virtual_sources() if plist.get_layout() == h5py.h5d.VIRTUAL else []
        if plist.get_external_count() > 0 or any(source.file_name != "." for source in sources):
            raise bad(self.path, f"dataset {column.name}: its rows are in other files: name those, as shards")

    def differs(self, record: Mapping[str, Any]) -> str | None:
        """In what an index that has this first record is of another file, in words."""
        for key, offset, size in zip(record["keys"], record["offsets"], record["sizes"], strict=True):
            place = record["offset"] + offset
            if place < DECODED_MIN:
                continue
            column = self.column(key.removeprefix("."))
            if column is None or (column.base, column.row_bytes) != (place, size):
                return f"dataset {key.removeprefix('.')} had its first row at {place}, of {size} bytes"
        return None

    def decode(self, column: Column, band: int) -> memoryview:
        """The bytes of all rows of a band.

        Raises:
            StoreError: They cannot be had.
        """
        begin = band * column.band_rows
        end = min(begin + column.band_rows, column.length)
        try:
            codec = self._codec(column)
            array = None if codec is None else codec.decode(self.source, band, end - begin)
            if array is None:
                array = column.dataset[begin:end]
            self.source.check()
        except StoreError:
            raise
        except Exception as error:
            if (failure := self._reading.failure) is not None:
                self._reading.failure = None
                raise failure from error
            raise StoreError(errno.EIO, f"rows {begin} to {end - 1} cannot be decoded: {error}") from error
        np = _optional.need("numpy", "hdf5", "HDF5")
        return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))

    def _codec(self, column: Column) -> Codec | None:
        with self._codecs_lock:
            if column.name not in self._codecs:
                self._codecs[column.name] = Codec.make(column.dataset)
            return self._codecs[column.name]

    def failed(self, what: str, error: Exception) -> Exception:
        """The exception for one of h5py's, or of what it read from."""
        failure, self._reading.failure = self._reading.failure, None
        if failure is not None:
            return ReadError(failure.number or None, f"{self.path}: {failure.text}", self.path)
        return error if isinstance(error, ShardFormatError) else bad(self.path, f"{what}: {error}")

    def close(self) -> None:
        self._file.close()
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_all: weakref.WeakSet[File] = weakref.WeakSet()


@cache
def _prepare_for_the_end() -> None:
    """What is registered last is called first, and h5py's own handler has no regard for threads."""
    from . import _fetching

    atexit.register(_end)
    atexit.unregister(_fetching.end)
    atexit.register(_fetching.end)


def _end() -> None:
    """Have nobody in the HDF5 library when Python ends, and nothing open.

    A thread that Python stops there would leave it in pieces, and it closes at last what is open,
    by calling Python that is no more.
    """
    # For good. Whoever calls the library has this lock.
    _optional.need("h5py", "hdf5", "HDF5")._objects.phil.acquire()
    for file in list(_all):
        file.close()


def bad(path: str, text: str) -> ShardFormatError:
    error = ShardFormatError(f"{path}: {text}")
    error.filename = path
    return error


def _columns(path: str, file: Any) -> tuple[list[Column], dict[str, str]]:
    """All datasets with an axis; of those that cannot have rows, why."""
    h5py = _optional.need("h5py", "hdf5", "HDF5")
    found: dict[str, Any] = {}
    file.visititems(lambda name, one: found.update({name: one}) if isinstance(one, h5py.Dataset) else None)
    columns, refused, base = [], {}, DECODED_MIN
    for name, dataset in sorted(found.items()):
        if not dataset.shape:
            continue
        try:
            dtype = dataset.dtype
        except TypeError as error:
            refused[name] = str(error)
            continue
        if dtype.hasobject:
            refused[name] = f"elements of {dtype} have no fixed size"
            continue
        length, *inner = dataset.shape
        row_bytes = dtype.itemsize
        for size in inner:
            row_bytes *= size
        rows = dataset.chunks[0] if dataset.chunks else max(1, _BAND_BYTES // max(row_bytes, 1))
        columns.append(Column(name, dataset, length, row_bytes, base, max(1, min(rows, length))))
        base += -(-length * row_bytes // _GUARD) * _GUARD + _GUARD
        if base > _DECODED_END:
            raise bad(path, f"the rows up to dataset {name} are {base - DECODED_MIN:,} bytes: too many to be numbered")
    return columns, refused
