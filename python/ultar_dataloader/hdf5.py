"""HDF5 files: rows along the first axis of their datasets, as plain ranges where there are such.

h5py finds the ranges, once, when a file is indexed. Reading needs it no more: `Dataset`,
`DataLoader` and scripts read rows as of any shard. See docs/formats.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from . import _native, _optional, _records
from ._errors import IndexFormatError, ReadError, ShardFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._native import IndexCounts, LoadedRow

__all__ = ["Decoder", "index"]

SUFFIXES = (".h5", ".hdf5")
_MAGIC = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: str) -> bool:
    """Whether a file is of this kind, by its name or its first bytes."""
    if path.endswith(SUFFIXES):
        return True
    try:
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False  # Whoever reads it next says why.


def index(
    path: str | os.PathLike[str],
    datasets: Iterable[str] | None = None,
    *,
    format: Literal["msgpack", "jsonl"] = "msgpack",
) -> IndexCounts:
    """Build the index of a file, beside it: row i has the i-th element of each dataset.

    ``ultar_dataloader.index`` does the same with all datasets, and leaves an index that is up
    to date as it is.

    Args:
        path: The file.
        datasets: Names of datasets, as ``"group/images"``, which are as long as one another.
            None: all that have an axis.
        format: Of the index, as for ``ultar_dataloader.index``.

    Returns:
        Counts of rows (``"samples"``), entries and bytes.

    Raises:
        ShardFormatError: The file is malformed, a dataset is not there or is not plain ranges, or
            the datasets differ in length.
        ReadError: The file cannot be read.
        WriteError: The index cannot be written.
        ImportError: h5py is not installed.
    """
    path = os.fspath(path)
    columns = _columns(path, datasets)
    _records.write(path, _rows(columns), format)
    return _counts(columns)


def check(path: str) -> IndexCounts:
    """Compare the index that is there with the file; it may have some of the datasets only.

    Raises:
        IndexFormatError: The index is malformed, or differs.
        ShardFormatError: The file is malformed.
    """
    found = _native.Index(path + ".utix")
    names = [key.removeprefix(".") for key in found[0]["keys"]]
    columns = _columns(path, names)
    if len(found) != columns[0].length:
        raise _differs(path, f"the shard has {columns[0].length} rows, and the index {len(found)} records")
    for number, (stem, members) in enumerate(_rows(columns)):
        record = found[number]
        got = {
            key: (record["offset"] + offset, size)
            for key, offset, size in zip(record["keys"], record["offsets"], record["sizes"], strict=True)
        }
        wanted = {member.key: (member.offset, member.size) for member in members}
        if record["str_idx"] != stem or got != wanted:
            raise _differs(path, f"record {number}: wanted {stem} with {wanted}, got {record['str_idx']} with {got}")
    return _counts(columns)


class Decoder:
    """Rows of a file as arrays, without copies: ``Decoder("a.h5")(row)["images"]``.

    It may be pickled, and used for the rows of all files with the same datasets.

    Args:
        path: A file, of which the types are read.

    Raises:
        ShardFormatError: The file is malformed.
        ReadError: It cannot be read.
        ImportError: h5py is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with _opened(os.fspath(path)) as file:
            self._types = {name: (file[name].dtype, file[name].shape[1:]) for name in _names(file)}

    def __call__(self, row: LoadedRow) -> dict[str, NDArray[Any]]:
        """The entries of a row, by the names of their datasets, as read-only views of the row.

        Raises:
            ValueError: An entry has another size, or is of no dataset of the file.
        """
        np = _optional.need("numpy", "hdf5", "hdf5.Decoder")
        arrays = {}
        for key in row:
            name = key.removeprefix(".")
            if name not in self._types:
                raise ValueError(f"entry {key!r} is of no dataset: there are {', '.join(self._types)}")
            dtype, shape = self._types[name]
            view = row.view(key)
            arrays[name] = np.frombuffer(view, dtype).reshape(shape) if len(view) else np.empty(shape, dtype)
        return arrays


class _Column(NamedTuple):
    """A dataset as ranges of its file."""

    name: str
    length: int
    row_bytes: int
    offset_of: Callable[[int], int]
    """Of a row in the file, in bytes."""


def _opened(path: str) -> Any:
    h5py = _optional.need("h5py", "hdf5", f"{path}: reading HDF5")
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ReadError(error.errno, f"{path}: cannot open: {error.strerror}", path) from error
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise _bad(path, f"not an HDF5 file that can be read: {error}") from error


def _names(file: Any) -> list[str]:
    """Of all datasets that have an axis."""
    h5py = _optional.need("h5py", "hdf5", "HDF5")
    names: list[str] = []
    file.visititems(lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) and found.shape else None)
    return names


def _columns(path: str, wanted: Iterable[str] | None) -> list[_Column]:
    h5py = _optional.need("h5py", "hdf5", f"{path}: reading HDF5")
    with _opened(path) as file:
        try:
            names = _names(file) if wanted is None else list(dict.fromkeys(wanted))
            if not names:
                raise _bad(path, "there is no dataset with an axis, so there is nothing to index")
            columns = []
            for name in names:
                dataset = file.get(name)
                if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
                    raise _bad(path, f"there is no dataset {name!r} with an axis")
                columns.append(_column(path, name, dataset))
        except (OSError, RuntimeError, KeyError) as error:
            raise _bad(path, f"malformed: {error}") from error
    lengths = {column.length for column in columns}
    if len(lengths) > 1:
        told = ", ".join(f"{column.name} {column.length}" for column in columns)
        raise _bad(path, f"datasets differ in length ({told}): choose some with ultar_dataloader.hdf5.index")
    if lengths == {0}:
        raise _bad(path, "the datasets have no rows, so there is nothing to index")
    return columns


def _column(path: str, name: str, dataset: Any) -> _Column:
    h5py = _optional.need("h5py", "hdf5", "HDF5")
    plist = dataset.id.get_create_plist()
    layout = plist.get_layout()
    length, *inner = dataset.shape
    row_bytes = dataset.dtype.itemsize
    for size in inner:
        row_bytes *= size
    if dataset.dtype.hasobject:
        raise _bad(path, f"dataset {name}: elements of {dataset.dtype} have no fixed size")
    if plist.get_nfilters() > 0:
        how = dataset.compression or "a filter"
        raise _bad(
            path, f"dataset {name} is written through {how}, so its rows are no ranges; h5repack -f NONE undoes it"
        )
    if layout == h5py.h5d.CONTIGUOUS and plist.get_external_count() == 0:
        begin = dataset.id.get_offset()
        if begin is None and length * row_bytes > 0:
            raise _bad(path, f"dataset {name} was never written")
        first = begin or 0
        column = _Column(name, length, row_bytes, lambda row: first + row * row_bytes)
    elif layout == h5py.h5d.CHUNKED and list(dataset.chunks[1:]) == inner:
        rows = dataset.chunks[0]
        chunks = _chunks(path, name, dataset, -(-length // rows))
        column = _Column(name, length, row_bytes, lambda row: chunks[row // rows] + row % rows * row_bytes)
    else:
        raise _bad(path, f"dataset {name}: the rows of its layout are no ranges; h5repack -l CONTI makes them so")
    _verify(path, column, dataset)
    return column


def _chunks(path: str, name: str, dataset: Any, count: int) -> list[int]:
    """Where each chunk of whole rows is."""
    places: dict[int, int] = {}
    for i in range(dataset.id.get_num_chunks()):
        info = dataset.id.get_chunk_info(i)
        places[info.chunk_offset[0] // dataset.chunks[0]] = info.byte_offset
    missing = next((i for i in range(count) if i not in places), None)
    if missing is not None:
        raise _bad(path, f"dataset {name}: rows from {missing * dataset.chunks[0]} on were never written")
    return [places[i] for i in range(count)]


def _verify(path: str, column: _Column, dataset: Any) -> None:
    """That the ranges lie in the file, and hold what h5py reads."""
    size = os.path.getsize(path)
    if column.length == 0 or column.row_bytes == 0:
        return
    with open(path, "rb") as file:
        for row in (0, column.length - 1):
            file.seek(column.offset_of(row))
            got = file.read(column.row_bytes)
            # What is between the fields of a compound type is not carried over.
            if len(got) < column.row_bytes or (dataset.dtype.fields is None and got != dataset[row].tobytes()):
                raise _bad(path, f"dataset {column.name}: row {row} is not at {column.offset_of(row)}, of {size} bytes")


def _rows(columns: list[_Column]) -> Iterator[tuple[str, list[_records.Member]]]:
    for row in range(columns[0].length):
        yield str(row), [_records.Member(f".{c.name}", c.offset_of(row), c.row_bytes) for c in columns]


def _counts(columns: list[_Column]) -> IndexCounts:
    rows = columns[0].length
    return {
        "samples": rows,
        "entries": rows * len(columns),
        "bytes": rows * sum(column.row_bytes for column in columns),
        "warnings": [],
    }


def _bad(path: str, text: str) -> ShardFormatError:
    error = ShardFormatError(f"{path}: {text}")
    error.filename = path
    return error


def _differs(path: str, text: str) -> IndexFormatError:
    error = IndexFormatError(f"{path}.utix: differs from the shard: {text}")
    error.filename = f"{path}.utix"
    return error
