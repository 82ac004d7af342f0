"""What the side files have in common: a pass over shards, their names and places, their errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from .. import _index, _native, _paths
from .._errors import IndexFormatError, ReadError, WriteError
from .._fetching import Fetching
from .._stores import is_url
from . import _names

if TYPE_CHECKING:
    from .._index import IndexProgress, IndexSummary
    from .._native import IndexCounts


def each(
    work: Callable[[str], IndexCounts],
    title: str,
    shards: _paths.Paths,
    *,
    jobs: int | None,
    on_error: Literal["raise", "skip"],
    progress: bool | Callable[[IndexProgress], object],
    side_of: Callable[[str], str] | None = None,
    plan: Callable[[list[str]], object] = list,
    fetching: Fetching | None = None,
) -> IndexSummary:
    """Have `work` done for all shards, several at a time, as `index` does. No two may have the
    same side file by `side_of`. Where there is no `fetching`, shards must be local.
    """

    def refuse_urls(paths: list[str]) -> None:
        if url := next((path for path in paths if fetching is None and is_url(path)), None):
            raise ValueError(f"{url}: side files of this kind are beside local shards only")

    def planned(paths: list[str]) -> None:
        refuse_urls(paths)
        if side_of is not None:
            distinct(paths, side_of)
        plan(paths)

    named = _paths.listed(shards)
    refuse_urls(named)  # Before a store is asked for them.
    return _index.Run(work, title, progress, fetching or Fetching(None), planned).over(named, jobs, on_error)


def tars_only(path: str, reader: str) -> None:
    """Refuse what is another container by its name."""
    container = "folder" if path.endswith("/") else _paths.container_of(path) or "tar"
    if container != "tar":
        raise ValueError(f"{path}: {reader} reads tars only, and this is a {container} shard")


def place(folder: str | os.PathLike[str] | None, side: str) -> str:
    """Where a side file is: beside its shard, or in another folder."""
    return side if folder is None else os.path.join(os.fspath(folder), os.path.basename(side))


def distinct(paths: Iterable[str], side_of: Callable[[str], str]) -> None:
    """Refuse shards whose side files would be one file."""
    taken: dict[str, str] = {}
    for path in paths:
        side = os.path.abspath(side_of(path))
        if (other := taken.setdefault(side, path)) != path:
            raise ValueError(
                f"{other} and {path} have the same side file, {side}: name other shards, or another folder"
            )


def opened(path: str, *, force: bool = False) -> tuple[_native.Index, list[str]]:
    """The index of a shard, built if need be, and the warnings of that."""
    summary = _index.index(path, force=force)
    return _native.Index(_index.index_path(path)), list(summary.warnings)


def seen_by(
    reader: str, rule: _names.Rule, path: str, side: str
) -> tuple[_native.Index, list[_names.Sample], list[str], list[str]]:
    """The index of a tar, the samples that another loader sees in it, the names that it passes over, and warnings.

    Raises:
        ValueError: It is no tar.
        WriteError: There is nothing to be seen, so `side` would be empty.
    """
    tars_only(path, reader)
    index, warnings = opened(path)
    samples, passed = _names.grouped(_names.members(index), rule)
    if not samples:
        raise unfit(side, f"{reader} sees no sample in {path}, as it passes over names such as {passed[0]!r}")
    return index, samples, passed, warnings


def counts(samples: int, sizes: Iterable[int], warnings: list[str]) -> IndexCounts:
    """What a shard came to; `sizes` in bytes, one an entry."""
    listed = list(sizes)
    return {"samples": samples, "entries": len(listed), "bytes": sum(listed), "warnings": warnings}


def read(path: str) -> bytes:
    """A whole side file.

    Raises:
        ReadError: It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ReadError(error.errno, f"{path}: cannot read: {error.strerror}", path) from error


def size_of(path: str) -> int:
    """Of a local file, in bytes.

    Raises:
        ReadError: It is not there.
    """
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise ReadError(error.errno, f"{path}: {error.strerror}", path) from error


def bad(path: str, text: str) -> IndexFormatError:
    """A side file is malformed, or another shard's."""
    error = IndexFormatError(f"{path}: {text}")
    error.filename = path
    return error


def unfit(path: str, text: str) -> WriteError:
    """A side file cannot hold what would be in it."""
    return WriteError(None, f"{path}: cannot write: {text}", path)


def metadata_of(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = record.get("metadata", {})
    return found
