"""The JSON of wids: a list of shards, with how many samples each has.

`Dataset("shards.json")`, and whatever else takes shards, takes such a list as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlparse

from .. import _atomic, _native, _paths, _store_index, _wids
from .._errors import IndexFormatError, ReadError
from .._fetching import Fetching
from .._stores import StoreError, is_url
from .._wids import Shard
from . import _names, _shards

if TYPE_CHECKING:
    from .._index import IndexProgress, IndexSummary
    from .._native import IndexCounts

__all__ = ["Shard", "index", "read", "write"]

_PIECE_BYTES = 1 << 20
_NAME_MAX = 100
"""Bytes of a name that a header holds; wids does not know how tars go on with longer ones."""


def write(
    path: str | os.PathLike[str],
    shards: _paths.Paths,
    *,
    name: str | None = None,
    md5: bool = False,
    jobs: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | Callable[[IndexProgress], object] = False,
    storage_options: Mapping[str, Any] | None = None,
) -> IndexSummary:
    """Write the list of shards that ``wids.ShardListDataset`` takes.

    Local shards are named from the folder of the JSON on, objects by their URLs, in the order that is given.

    Args:
        path: Of the JSON.
        shards: As for `ultar_dataloader.index`. Indexes that are missing or older are built.
        name: Of the data set, for wids.
        md5: Read the shards, which are then local, and put down their checksums.
        jobs, progress, storage_options: As for `ultar_dataloader.index`.
        on_error: ``"raise"`` the first error, or ``"skip"`` bad shards, which are then not in the list.

    Returns:
        What is in the list.

    Raises:
        WriteError: The JSON cannot be written, or the name of a shard is no URL, having ``?`` or ``#`` in it.
        ValueError: A shard is no tar, or has a URL and `md5` is true.
        ShardFormatError, ReadError: As `ultar_dataloader.index`.
    """
    path = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(path))
    fetching = Fetching(storage_options)
    entries: dict[str, dict[str, object]] = {}

    def work(shard: str) -> IndexCounts:
        _shards.tars_only(shard, "wids")
        opened, warnings, size = _opened(shard, fetching)
        samples, passed = _names.grouped(_names.members(opened), _names.wids)
        entry: dict[str, object] = {"url": _url(path, folder, shard), "nsamples": len(samples), "filesize": size}
        if md5:
            entry["md5sum"] = _md5(shard)
        entries[shard] = entry
        warnings += _cut(samples)
        sizes = (part.size for sample in samples for part in sample.parts)
        return _shards.counts(len(samples), sizes, warnings + _names.left_out(passed, "wids"))

    order: list[str] = []
    how: dict[str, Any] = {"jobs": jobs, "on_error": on_error, "progress": progress, "plan": order.extend}
    summary = _shards.each(work, "listing shards", shards, fetching=fetching, **how)
    listed = [entries[shard] for shard in order if shard in entries]
    if not listed:
        raise _shards.unfit(path, "there is no shard to list")
    named = {} if name is None else {"name": name}
    content = {"__kind__": "wids-shard-index-v1", "wids_version": 1, **named, "shardlist": listed}
    with _atomic.replacing(path) as file:
        file.write(json.dumps(content, indent=2).encode() + b"\n")
    return summary


def index(
    path: str | os.PathLike[str],
    *,
    md5: bool = False,
    force: bool = False,
    jobs: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | Callable[[IndexProgress], object] = False,
    storage_options: Mapping[str, Any] | None = None,
) -> IndexSummary:
    """Build the indexes that are missing or older of the shards in a list, and compare all with it.

    A list has no offsets, so indexes cannot be made of it. Counts of samples and sizes of files are compared.

    Args:
        path: Of the JSON, or its URL.
        md5: Read local shards, and compare checksums where the list has them.
        force: Build indexes that are up to date, too.
        jobs, on_error, progress, storage_options: As for `ultar_dataloader.index`.

    Raises:
        IndexFormatError: The JSON is malformed, or a shard is not what it says: names the shard, what was wanted (by
            the shard) and what was got (from the list).
        ShardFormatError, ReadError, WriteError: As `ultar_dataloader.index`.
    """
    path = os.fspath(path)
    fetching = Fetching(storage_options)
    told = {shard.path: shard for shard in _wids.read(path, fetching.stores)}

    def work(shard: str) -> IndexCounts:
        if (listed := told.get(shard)) is None:
            raise _shards.bad(path, f"lists what is no shard: {shard} is in the place of a name in it")
        opened, warnings, size = _opened(shard, fetching, force)
        if listed.size is not None and listed.size != size:
            raise _differs(path, shard, "filesize", size, listed.size)
        if md5 and listed.md5 is not None and not is_url(shard) and (got := _md5(shard)) != listed.md5:
            raise _differs(path, shard, "md5sum", got, listed.md5)
        samples, passed = _names.grouped(_names.members(opened), _names.wids)
        if listed.samples != len(samples):
            raise _differs(path, shard, "nsamples", len(samples), listed.samples)
        sizes = (part.size for sample in samples for part in sample.parts)
        return _shards.counts(len(samples), sizes, warnings + _names.left_out(passed, "wids"))

    how: dict[str, Any] = {"jobs": jobs, "on_error": on_error, "progress": progress}
    return _shards.each(work, "comparing shards", list(told), fetching=fetching, **how)


def read(path: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> list[Shard]:
    """The shards of a list, and of the lists that it refers to. Nothing is compared with the shards.

    Args:
        path: Of the JSON, or its URL.
        storage_options: As for `DataLoader`.

    Raises:
        ReadError: It cannot be read.
        IndexFormatError: It is malformed; says where in it.
    """
    return _wids.read(os.fspath(path), Fetching(storage_options).stores)


def _opened(shard: str, fetching: Fetching, force: bool = False) -> tuple[_native.Index, list[str], int]:
    """The index of a shard, the warnings of building it, and the shard's size in bytes."""
    if not is_url(shard):
        return *_shards.opened(shard, force=force), _shards.size_of(shard)
    path = _store_index.find(fetching, shard, "rebuild" if force else "auto")
    try:
        version, _ = fetching.stores.insist(partial(fetching.stores.version, shard))
    except StoreError as failure:
        raise ReadError(failure.number or None, f"{shard}: {failure.text}", shard) from failure
    return _native.Index(path), [], version.size


def _url(path: str, folder: str, shard: str) -> str:
    """How the list names a shard, for wids to find it from the list's folder."""
    if is_url(shard):
        return shard
    name = os.path.relpath(os.path.abspath(shard), folder)
    if urlparse(name).path != name:
        name = f"./{name}"
    if urlparse(name).path != name:
        raise _shards.unfit(path, f"the name {shard!r} is no URL, which wids would take it for")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _shards.unfit(path, f"the name {shard!r} is not UTF-8, which JSON has to be") from None
    return name


def _cut(samples: list[_names.Sample]) -> list[str]:
    """A warning about names that wids does not read to their end."""
    names = [part.name for sample in samples for part in sample.parts if len(os.fsencode(part.name)) > _NAME_MAX]
    if not names:
        return []
    count = f"{len(names):,} name{' is' if len(names) == 1 else 's are'} longer"
    return [f"wids reads {_NAME_MAX} bytes of a name, and may see other samples, as {count}: {names[0]!r}"]


def _md5(shard: str) -> str:
    import hashlib  # Late, as it loads OpenSSL.

    if is_url(shard):
        raise ValueError(f"{shard}: checksums are made of local shards only")
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open(shard, "rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
    except OSError as error:
        raise ReadError(error.errno, f"{shard}: cannot read: {error.strerror}", shard) from error
    return digest.hexdigest()


def _differs(path: str, shard: str, what: str, wanted: object, got: object) -> IndexFormatError:
    return _shards.bad(path, f"does not describe {shard}: {what}: wanted {wanted}, got {got}")
