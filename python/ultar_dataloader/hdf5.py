"""HDF5 files: rows along the first axis of their datasets.

h5py finds where rows are when a file is indexed. From then on `Dataset`, `DataLoader` and scripts
read them as of any shard; those that are no ranges of the file are decoded. See docs/formats.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from . import _native, _optional, _paths, _records
from ._errors import IndexFormatError
from ._hdf5_file import Column, File, bad
from ._stores import Options, StoreError, Stores, is_url

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._native import IndexCounts, LoadedRow

__all__ = ["Decoder", "index"]

SUFFIXES = (".h5", ".hdf5")
_MAGIC = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: str, stores: Stores | None = None) -> bool:
    """Whether a file, or an object of `stores`, is of this kind, by its name or its first bytes."""
    if path.endswith(SUFFIXES):
        return True
    try:
        if stores is not None and is_url(path):
            # An object is asked only if its name says nothing.
            if _paths.container_of(path) is not None or stores.size(path) < len(_MAGIC):
                return False
            return bytes(stores.insist(lambda: stores.read(path, 0, len(_MAGIC)))[0]) == _MAGIC
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except (OSError, StoreError):
        return False  # Whoever reads it next says why.


def index(
    path: str | os.PathLike[str],
    datasets: Iterable[str] | None = None,
    *,
    format: Literal["msgpack", "jsonl"] = "msgpack",
    storage_options: Mapping[str, Any] | None = None,
) -> IndexCounts:
    """Build the index of a file, beside it: row i has the i-th element of each dataset.

    ``ultar_dataloader.index`` does the same with all datasets, and leaves an index that is up
    to date as it is.

    Args:
        path: The file, or the URL of an object.
        datasets: Names of datasets, as ``"group/images"``, which are as long as one another.
            None: all that have an axis.
        format: Of the index, as for ``ultar_dataloader.index``.
        storage_options: For URLs, as for `DataLoader`.

    Returns:
        Counts of rows (``"samples"``), entries and bytes.

    Raises:
        ShardFormatError: The file is malformed, a dataset is not there or has elements without a
            fixed size, or the datasets differ in length.
        ReadError: The file cannot be read.
        WriteError: The index cannot be written.
        ImportError: h5py is not installed.
    """
    path = os.fspath(path)
    if not is_url(path):
        return write_index(path, None, None, format, datasets)
    from . import _store_index
    from ._fetching import Fetching

    how = {"format": format, "rules": [], "verify": False, "datasets": datasets}
    counts = _store_index.build(Fetching(storage_options), path, None, **how)
    assert counts is not None  # As nothing fits.
    return counts


def write_index(
    path: str, stores: Stores | None, at: str | None, format: str, datasets: Iterable[str] | None = None
) -> IndexCounts:
    """As `index`, of a file or an object of `stores`, with the path of the index, if that is not beside it."""
    with _opened(path, stores, datasets) as columns:
        _records.write(path, _rows(columns), format, path=at)
        return _counts(columns)


def check(path: str, stores: Stores | None = None, at: str | None = None) -> IndexCounts:
    """Compare the index that is there with the file; it may have some of the datasets only.

    Raises:
        IndexFormatError: The index is malformed, or differs.
        ShardFormatError: The file is malformed.
        ReadError: It cannot be read.
    """
    found = _native.Index(at or path + ".utix")
    names = [key.removeprefix(".") for key in found[0]["keys"]]
    with _opened(path, stores, names) as columns:
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
                raise _differs(
                    path, f"record {number}: wanted {stem} with {wanted}, got {record['str_idx']} with {got}"
                )
        return _counts(columns)


class Decoder:
    """Rows of a file as arrays, without copies: ``Decoder("a.h5")(row)["images"]``.

    It may be pickled, and used for the rows of all files with the same datasets.

    Args:
        path: A file, or the URL of an object, of which the types are read.
        storage_options: For URLs, as for `DataLoader`.

    Raises:
        ShardFormatError: The file is malformed.
        ReadError: It cannot be read.
        ImportError: h5py is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> None:
        path = os.fspath(path)
        stores = Stores(Options.parse(storage_options)) if is_url(path) else None
        with File(path, stores) as file:
            self._types = {column.name: column.type for column in file.columns}

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


class _Placed(NamedTuple):
    """A dataset, and where its rows are."""

    name: str
    length: int
    row_bytes: int
    offset_of: Callable[[int], int]
    """Of a row, in bytes: in the file, or in what is decoded of it."""


@contextmanager
def _opened(path: str, stores: Stores | None, wanted: Iterable[str] | None) -> Iterator[list[_Placed]]:
    """The datasets that are wanted, of one length; all for None."""
    with File(path, stores) as file:
        try:
            placed = [_place(file, name, column) for name, column in _chosen(file, wanted)]
        except Exception as error:
            raise file.failed("malformed", error) from error
        lengths = {column.length for column in placed}
        if len(lengths) > 1:
            told = ", ".join(f"{column.name} {column.length}" for column in placed)
            raise bad(path, f"datasets differ in length ({told}): choose some with ultar_dataloader.hdf5.index")
        if lengths == {0}:
            raise bad(path, "the datasets have no rows, so there is nothing to index")
        yield placed


def _chosen(file: File, wanted: Iterable[str] | None) -> Iterator[tuple[str, Column]]:
    names = (
        [*(column.name for column in file.columns), *file.refused] if wanted is None else list(dict.fromkeys(wanted))
    )
    if not names:
        raise bad(file.path, "there is no dataset with an axis, so there is nothing to index")
    for name in names:
        if name in file.refused:
            raise bad(file.path, f"dataset {name}: {file.refused[name]}")
        column = file.column(name)
        if column is None:
            raise bad(file.path, f"there is no dataset {name!r} with an axis")
        yield name, column


def _place(file: File, name: str, column: Column) -> _Placed:
    offset_of = file.plain(column)
    if offset_of is None:
        file.require_decodable(column)
        return _Placed(name, column.length, column.row_bytes, column.decoded_at)
    if column.length > 0 and column.row_bytes > 0:
        for row in (0, column.length - 1):
            got = bytes(file.source.read(offset_of(row), column.row_bytes))
            # What is between the fields of a compound type is not carried over.
            if column.dataset.dtype.fields is None and got != column.dataset[row : row + 1].tobytes():
                raise bad(file.path, f"dataset {name}: row {row} is not at {offset_of(row)}")
    return _Placed(name, column.length, column.row_bytes, offset_of)


def _rows(columns: list[_Placed]) -> Iterator[tuple[str, list[_records.Member]]]:
    for row in range(columns[0].length):
        yield str(row), [_records.Member(f".{c.name}", c.offset_of(row), c.row_bytes) for c in columns]


def _counts(columns: list[_Placed]) -> IndexCounts:
    rows = columns[0].length
    return {
        "samples": rows,
        "entries": rows * len(columns),
        "bytes": rows * sum(column.row_bytes for column in columns),
        "warnings": [],
    }


def _differs(path: str, text: str) -> IndexFormatError:
    error = IndexFormatError(f"{path}.utix: differs from the shard: {text}")
    error.filename = f"{path}.utix"
    return error
