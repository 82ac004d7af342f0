"""Energon's index of a tar: `shard.tar.idx` for `shard.tar`.

Numbers of 64 bits in this machine's byte order: for each sample the offset of its first header, in
bytes, then the offset behind the last member.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from itertools import pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

from .. import _atomic, _paths
from . import _names, _shards
from ._headers import Headers

if TYPE_CHECKING:
    from .._index import IndexProgress, IndexSummary
    from .._native import Index, IndexCounts

__all__ = ["index", "read", "write"]


def write(
    shards: _paths.Paths,
    *,
    folder: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | Callable[[IndexProgress], object] = False,
) -> IndexSummary:
    """Write the `.tar.idx` of each tar, byte for byte as ``energon prepare`` does.

    Names that Energon passes over (without a dot, `__meta__`) are no samples, with a warning. The
    folder `.nv-meta` is Energon's to make.

    Args:
        shards: As for `ultar_dataloader.index`. Indexes that are missing or older are built.
        folder: Where to. None: beside each shard, where Energon looks.
        jobs, on_error, progress: As for `ultar_dataloader.index`.

    Returns:
        What was written: samples, and entries and bytes in them.

    Raises:
        WriteError: A file cannot be written, or Energon sees no sample in a shard.
        ValueError: Two shards have the same `.tar.idx`, or a shard is no tar.
        IndexFormatError: An index does not describe its shard.
        ShardFormatError, ReadError: As `ultar_dataloader.index`.
    """

    def work(path: str) -> IndexCounts:
        side = _side(path, folder)
        opened, samples, passed, warnings = _shards.seen_by("Energon", _names.webdataset, path, side)
        offsets = _offsets(path, opened, samples)
        with _atomic.replacing(side) as file:
            file.write(offsets)
        return _counts(samples, warnings + _names.left_out(passed, "Energon"))

    return _shards.each(
        work,
        "writing .tar.idx",
        shards,
        jobs=jobs,
        on_error=on_error,
        progress=progress,
        side_of=lambda path: _side(path, folder),
    )


def index(
    shards: _paths.Paths,
    *,
    folder: str | os.PathLike[str] | None = None,
    force: bool = False,
    jobs: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | Callable[[IndexProgress], object] = False,
) -> IndexSummary:
    """Compare the `.tar.idx` of tars with their `.utix`, which is built where it is missing or older.

    A `.tar.idx` has neither names nor sizes, so a `.utix` cannot be made of it.

    Args:
        shards: The tars, as for `ultar_dataloader.index`.
        folder: Where the `.tar.idx` are. None: beside each shard.
        force: Build indexes that are up to date, too.
        jobs, on_error, progress: As for `ultar_dataloader.index`.

    Raises:
        IndexFormatError: A `.tar.idx` is malformed, or does not describe its shard: says which sample, what
            was wanted (by the shard) and what was got (from the side file).
        ReadError: A file cannot be read.
        ShardFormatError, WriteError: As `ultar_dataloader.index`.
        ValueError: Two shards have the same `.tar.idx`, or a shard is no tar.
    """

    def work(path: str) -> IndexCounts:
        _shards.tars_only(path, "Energon")
        side = _side(path, folder)
        told = read(side)
        opened, warnings = _shards.opened(path, force=force)
        samples, passed = _names.grouped(_names.members(opened), _names.webdataset)
        wanted = _offsets(path, opened, samples)
        for number, pair in enumerate(zip(wanted, told, strict=False)):
            if pair[0] != pair[1]:
                what = f"sample {number}, {samples[number].stem!r}" if number < len(samples) else "the end"
                raise _shards.bad(side, f"does not describe {path}: {what}: wanted offset {pair[0]}, got {pair[1]}")
        if len(wanted) != len(told):
            raise _shards.bad(side, f"does not describe {path}: wanted {len(samples)} samples, got {len(told) - 1}")
        return _counts(samples, warnings + _names.left_out(passed, "Energon"))

    return _shards.each(
        work,
        "comparing .tar.idx",
        shards,
        jobs=jobs,
        on_error=on_error,
        progress=progress,
        side_of=lambda path: _side(path, folder),
    )


def read(path: str | os.PathLike[str]) -> array[int]:
    """The numbers of a `.tar.idx`: one more than there are samples. ``array("Q")``, in bytes.

    Raises:
        ReadError: It cannot be read.
        IndexFormatError: It is cut short, or its offsets do not grow.
    """
    path = os.fspath(path)
    content = _shards.read(path)
    if len(content) % 8 or len(content) < 16:
        raise _shards.bad(path, f"wanted two or more numbers of 8 bytes, got {len(content)} bytes")
    offsets: array[int] = array("Q", content)
    for number, (offset, following) in enumerate(pairwise(offsets)):
        if offset >= following or following % 512:
            raise _shards.bad(path, f"number {number + 1}: wanted a multiple of 512 above {offset}, got {following}")
    return offsets


def _side(path: str, folder: str | os.PathLike[str] | None) -> str:
    return _shards.place(folder, str(PurePath(path).with_suffix(".tar.idx")))


def _offsets(path: str, opened: Index, samples: list[_names.Sample]) -> array[int]:
    """What Energon has of a tar, found by its index and, where need be, by its headers."""
    firsts = {sample.parts[0].offset for sample in samples}
    offsets: array[int] = array("Q")
    with Headers(path, f"{path}.utix") as headers:
        for name, offset, size in _names.members(opened):
            begin = headers.start_of(_names.Part("", offset, size, name))
            if offset in firsts:
                offsets.append(begin)
        offsets.append(headers.end())
    return offsets


def _counts(samples: list[_names.Sample], warnings: list[str]) -> IndexCounts:
    return _shards.counts(len(samples), (part.size for sample in samples for part in sample.parts), warnings)
