"""RAW: a folder as a shard, where each entry of a row is a file of its own; or an object of a store.

The index of ``photos`` is ``photos.utix``, beside the folder. Stem and key of an entry are
together its name in the folder, and it begins at 0: see docs/formats.md.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from . import _native, _records, _store_index, _store_paths
from ._errors import IndexFormatError, ReadError, ShardFormatError
from ._stores import Options, StoreError, Stores, is_url

if TYPE_CHECKING:
    from ._native import IndexCounts

__all__ = ["index"]

_Row = tuple[str, list[_records.Member]]


def index(
    folder: str | os.PathLike[str],
    rows: Literal["stem", "file"] = "stem",
    *,
    format: Literal["msgpack", "jsonl"] = "msgpack",
    storage_options: Mapping[str, Any] | None = None,
) -> IndexCounts:
    """Build the index of all files below a folder, beside it: ``photos.utix`` for ``photos``.

    Of ``s3://bucket/photos``, and the like, it is made by listing, and put into the store; where
    that refuses, it stays in the cache of this machine, with a warning.

    From then on the folder is a shard wherever a path is. Files whose name begins with a dot are
    left out, as are folders; links to files count as files. Rows are in the order of stems.

    Args:
        folder: The folder, or its URL.
        rows: ``"stem"`` for a row of the files whose names are the same up to the first dot, as in
            a tar; ``"file"`` for a row of each file.
        format: Of the index, as for ``ultar_dataloader.index``.
        storage_options: For a folder in a store, as for `DataLoader`.

    Returns:
        Counts of rows (``"samples"``), entries and bytes, and warnings.

    Raises:
        ReadError: The folder, or one below it, cannot be read.
        ShardFormatError: There is no file in it.
        WriteError: The index cannot be written.
        ValueError: `rows` is neither of the two.
    """
    if rows not in ("stem", "file"):
        raise ValueError(f"rows must be 'stem' or 'file', got {rows!r}")
    path = os.fspath(folder).rstrip("/") or "/"
    if not is_url(path):
        return _build(path, rows, format, None)
    stores = Stores(Options.parse(storage_options))
    return _build(stores.bare(path), rows, format, stores)


def _build(folder: str, rows: str, format: str, stores: Stores | None) -> IndexCounts:
    found = list(_rows(folder, rows, stores))
    if not found:
        error = ShardFormatError(f"{folder}: there is no file in this folder, so there is nothing to index")
        error.filename = folder
        raise error
    counts = _counts(found)
    if stores is None:
        _records.write(folder, found, format)
        return counts
    with tempfile.TemporaryDirectory() as beside:
        _records.write(os.path.join(beside, "folder"), found, format)
        with open(os.path.join(beside, "folder.utix"), "rb") as file:
            counts["warnings"] += _store_index.keep_raw(stores, folder + "/", file.read())
    return counts


def renew(folder: str, format: Literal["msgpack", "jsonl"], stores: Stores | None) -> IndexCounts:
    """Build an index anew, with rows as it has them. Stores for a URL."""
    return _build(folder.rstrip("/"), _rows_of(_native.Index(_index_of(folder, stores))), format, stores)


def _index_of(folder: str, stores: Stores | None) -> str:
    """A file with the index that is there."""
    if stores is None:
        return folder.rstrip("/") + ".utix"
    return _store_index.fetch(stores, folder.rstrip("/") + "/", any_age=True)


def check(folder: str, stores: Stores | None) -> IndexCounts:
    """Compare the index that is there with the files. Stores for a URL.

    Raises:
        IndexFormatError: The index is malformed, or differs.
        ReadError: The folder or the index cannot be read.
    """
    path = folder.rstrip("/") + ".utix"
    stored = _native.Index(_index_of(folder, stores))
    found = list(_rows(folder.rstrip("/"), _rows_of(stored), stores))
    for number in range(max(len(found), len(stored))):
        wanted = [(found[number][0] + m.key, m.size) for m in found[number][1]] if number < len(found) else []
        got = []
        if number < len(stored):
            record = stored[number]
            names = [record["str_idx"] + key for key in record["keys"]]
            got = list(zip(names, record["sizes"], strict=True))
        if wanted != got:
            error = IndexFormatError(f"{path}: differs from the folder: record {number}: wanted {wanted}, got {got}")
            error.filename = path
            raise error
    return _counts(found)


def _rows_of(stored: _native.Index) -> Literal["stem", "file"]:
    """Which rows an index has: of one file each, as soon as two neighbours have one stem."""
    records = (stored[i] for i in range(len(stored)))
    last = None
    for record in records:
        if record["str_idx"] == last:
            return "file"
        last = record["str_idx"]
    return "stem"


def _rows(folder: str, rows: str, stores: Stores | None) -> Iterator[_Row]:
    files = _files(folder, "") if stores is None else _objects(folder, stores)
    parts = sorted(_split(name, size) for name, size in files)
    if rows == "file":
        return ((stem, [member]) for stem, member in parts)
    return ((stem, [member for _, member in group]) for stem, group in groupby(parts, key=lambda part: part[0]))


def _files(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Name from the folder on, and size in bytes, of each file below it."""
    try:
        with os.scandir(os.path.join(folder, prefix)) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(folder, f"{prefix}{entry.name}/")
                elif entry.is_file():
                    yield prefix + entry.name, entry.stat().st_size
    except OSError as error:
        path = error.filename or folder
        raise ReadError(error.errno, f"{path}: cannot read: {error.strerror}", path) from error


def _objects(folder: str, stores: Stores) -> Iterable[tuple[str, int]]:
    """The same of each object. What some tools put in the place of a folder is none."""
    try:
        found = _store_paths.files_below(folder, stores)
    except StoreError as failure:
        raise ReadError(failure.number or None, f"{folder}: cannot list: {failure.text}", folder) from failure
    return [
        (name, size)
        for name, size in found
        if name and not name.endswith("/") and not any(part.startswith(".") for part in name.split("/"))
    ]


def _split(name: str, size: int) -> tuple[str, _records.Member]:
    stem, key = _records.split(name)
    return stem, _records.Member(key, 0, size)


def _counts(found: list[_Row]) -> IndexCounts:
    return {
        "samples": len(found),
        "entries": sum(len(members) for _, members in found),
        "bytes": sum(member.size for _, members in found for member in members),
        "warnings": [],
    }
