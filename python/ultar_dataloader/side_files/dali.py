"""DALI's index of a tar, which `wds2idx` writes and `fn.readers.webdataset` wants: `.idx`.

Text. The first line is `v1.2` and the number of samples; then a line a sample, with
`ext offset size name` for each member, offsets and sizes in bytes. Version 1.1 has no names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from itertools import chain
from tarfile import TarInfo
from typing import TYPE_CHECKING, Literal, NamedTuple

from .. import _atomic, _index, _paths, _records
from .._errors import IndexFormatError
from . import _names, _shards
from ._headers import BLOCK, Headers

if TYPE_CHECKING:
    from .._index import IndexProgress, IndexSummary
    from .._native import IndexCounts

__all__ = ["Component", "index", "read", "write"]

_WHITE = re.compile(r"[\s\0]", re.ASCII)
_SHORT_NAME = 99
"""Bytes of a name that every tar has in the header itself. Of longer ones `wds2idx` may have the wrong offset."""


class Component(NamedTuple):
    """What a line says of a member."""

    ext: str
    """What is behind the first dot of the file name, case kept."""
    offset: int
    """Of the payload, in bytes."""
    size: int
    """Of the payload, in bytes."""
    name: str | None
    """In the tar; None in version 1.1."""


def write(
    shards: _paths.Paths,
    *,
    folder: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | Callable[[IndexProgress], object] = False,
) -> IndexSummary:
    """Write the `.idx` of each tar: ``train.idx`` for ``train.tar``, as DALI's `wds2idx` names it.

    Hidden files and names without a dot are left out, which DALI cannot name, with a warning.

    Args:
        shards: As for `ultar_dataloader.index`. Indexes that are missing or older are built.
        folder: Where to. None: beside each shard.
        jobs, on_error, progress: As for `ultar_dataloader.index`.

    Returns:
        What was written: samples, entries and bytes are those in the `.idx`.

    Raises:
        WriteError: A file cannot be written, or a name has white space in it, or an empty extension,
            which the format cannot hold.
        ValueError: Two shards have the same `.idx`, or a shard is no tar.
        ShardFormatError, ReadError: As `ultar_dataloader.index`.
    """

    def work(path: str) -> IndexCounts:
        side = _side(path, folder)
        _, samples, passed, warnings = _shards.seen_by("DALI", _names.dali, path, side)
        with _atomic.replacing(side) as file:
            file.write(b"v1.2 %d\n" % len(samples))
            for sample in samples:
                file.write(_line(side, sample))
        sizes = (part.size for sample in samples for part in sample.parts)
        return _shards.counts(len(samples), sizes, warnings + _names.left_out(passed, "DALI"))

    return _shards.each(
        work,
        "writing .idx",
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
    """Make the `.utix` of tars from their `.idx`, or where a `.utix` is up to date compare the two.

    An `.idx` of version 1.2 says all that an index has. Of the tar, only the first and the last header are
    read, those of long names, and what lies between members. What DALI passes over is in no such
    index. An `.idx` of version 1.1 has no names: the shard is indexed, and compared.

    Args:
        shards: The tars, as for `ultar_dataloader.index`.
        folder: Where the `.idx` are. None: beside each shard.
        force: Make indexes that are up to date, too.
        jobs, on_error, progress: As for `ultar_dataloader.index`.

    Raises:
        IndexFormatError: An `.idx` is malformed, or does not describe its shard: says which sample, what
            was wanted (by the shard) and what was got (from the `.idx`).
        ReadError: A file cannot be read.
        WriteError: An index cannot be written.
        ShardFormatError: As `ultar_dataloader.index`.
        ValueError: Two shards have the same `.idx`, or a shard is no tar.
    """

    def work(path: str) -> IndexCounts:
        _shards.tars_only(path, "DALI")
        side = _side(path, folder)
        told = read(side)
        flat = list(chain.from_iterable(told))
        sizes = [component.size for component in flat]
        if flat[0].name is not None and (force or not _index.is_fresh(path)):
            _records.write(path, _from(path, side, told), "msgpack")
            return _shards.counts(len(told), sizes, [])
        opened, warnings = _shards.opened(path, force=force)
        passed = _compare(path, side, told, list(_names.members(opened)))
        return _shards.counts(len(told), sizes, warnings + _names.left_out(passed, "DALI"))

    return _shards.each(
        work,
        "reading .idx",
        shards,
        jobs=jobs,
        on_error=on_error,
        progress=progress,
        side_of=lambda path: _side(path, folder),
    )


def read(path: str | os.PathLike[str]) -> list[list[Component]]:
    """The samples of an `.idx`, each a list of its members.

    Raises:
        ReadError: It cannot be read.
        IndexFormatError: It is malformed; says in which line.
    """
    path = os.fspath(path)
    # Not by `splitlines`, which also splits where names may have other separators.
    first, *lines = _shards.read(path).removesuffix(b"\n").split(b"\n")
    match = re.fullmatch(rb"v(\d+\.\d+)[ \t]+(\d{1,18})[ \t\r]*", first)
    if match is None or match[1] not in (b"1.1", b"1.2"):
        raise _bad(path, 1, f"wanted 'v1.2 COUNT' or 'v1.1 COUNT', got {first[:80]!r}")
    if (count := int(match[2])) != len(lines) or not count:
        raise _bad(path, 1, f"wanted a line for each of {count} samples, got {len(lines)} lines")
    fields = 4 if match[1] == b"1.2" else 3
    return [_components(path, number, line.split(), fields) for number, line in enumerate(lines, 2)]


def _components(path: str, number: int, words: Sequence[bytes], fields: int) -> list[Component]:
    form = "EXT OFFSET SIZE NAME" if fields == 4 else "EXT OFFSET SIZE"
    if not words or len(words) % fields:
        raise _bad(path, number, f"wanted {form} for each member, got {len(words)} words")
    found = []
    for at in range(0, len(words), fields):
        ext, offset, size = words[at : at + 3]
        if not all(word.isdigit() and len(word) < 19 for word in (offset, size)):
            raise _bad(path, number, f"wanted {form}, got {b' '.join(words[at : at + fields])[:80]!r}")
        name = os.fsdecode(words[at + 3]) if fields == 4 else None
        component = Component(os.fsdecode(ext), int(offset), int(size), name)
        if component.offset % BLOCK:
            raise _bad(path, number, f"wanted an offset that is a multiple of {BLOCK}, got {component.offset}")
        if name is not None and component.ext != name[name.find(".", name.rfind("/") + 1) + 1 :]:
            raise _bad(path, number, f"wanted the extension of {name!r}, got {component.ext!r}")
        found.append(component)
    return found


def _side(path: str, folder: str | os.PathLike[str] | None) -> str:
    """Up to the first dot, that of a hidden file not counted."""
    dot = path.find(".", path.rfind("/") + 2)
    return _shards.place(folder, (path if dot < 0 else path[:dot]) + ".idx")


def _line(side: str, sample: _names.Sample) -> bytes:
    words = []
    for part in sample.parts:
        if not part.key or _WHITE.search(part.name):
            why = "white space" if part.key else "an empty extension"
            raise _shards.unfit(side, f"the name {part.name!r} has {why}, which DALI's format cannot hold")
        words.append(f"{part.key} {part.offset} {part.size} {part.name}")
    return os.fsencode(" ".join(words)) + b"\n"


def _from(path: str, side: str, told: list[list[Component]]) -> list[tuple[str, list[_records.Member]]]:
    """The records of an index, compared with the tar where that costs little."""
    size = _shards.size_of(path)
    records: list[tuple[str, list[_records.Member]]] = []
    with Headers(path, side, lambda info: _refuse(side, info)) as headers:
        for number, components in enumerate(told, 2):
            members = []
            stems = []
            for ext, offset, payload, name in components:
                assert name is not None  # Of version 1.2.
                if offset + payload > size:
                    raise _bad(side, number, f"{name!r} ends at {offset + payload}, and {path} at {size}")
                look = not records or components is told[-1] or len(os.fsencode(name)) > _SHORT_NAME
                headers.start_of(_names.Part(ext, offset, payload, name), look=look)
                stem, key = _records.split(name)
                stems.append(stem)
                members.append(_records.Member(key, offset, payload))
            if len(distinct := sorted(set(stems))) > 1:
                raise _bad(side, number, f"wanted members with one stem, got {distinct[0]!r} and {distinct[1]!r}")
            records.append((stems[0], members))
        headers.end()
    return records


def _refuse(side: str, info: TarInfo) -> None:
    """Of a file in the tar that the side file does not name."""
    if _names.dali(info.name) is not None:
        raise _shards.bad(side, f"member {info.name!r}, at {info.offset} in the tar, is missing")


def _compare(path: str, side: str, told: list[list[Component]], found: list[tuple[str, int, int]]) -> list[str]:
    """That the side file says what an index does. The names that DALI passes over."""
    dotless = {offset for name, offset, _ in found if _names.dali(name) is None and _names.wds2idx(name)}
    by_wds2idx = any(component.offset in dotless for component in chain.from_iterable(told))
    samples, passed = _names.grouped(found, _names.wds2idx if by_wds2idx else _names.dali)
    for number, (sample, components) in enumerate(zip(samples, told, strict=False)):
        wanted = [Component(*part) for part in sample.parts]
        if components[0].name is None:
            wanted = [component._replace(name=None) for component in wanted]
        if wanted == components:
            continue
        at = next((i for i, pair in enumerate(zip(wanted, components, strict=False)) if pair[0] != pair[1]), None)
        shown = (_text(wanted), _text(components)) if at is None else (_text([wanted[at]]), _text([components[at]]))
        raise _bad(
            side,
            number + 2,
            f"does not describe {path}: sample {number}, {sample.stem!r}: wanted {shown[0]}, got {shown[1]}",
        )
    if len(samples) != len(told):
        raise _shards.bad(side, f"wanted {len(samples)} samples, which {path} has, got {len(told)}")
    return passed


def _text(components: Sequence[Component]) -> str:
    return ", ".join(
        f"{c.ext!r} of {c.size} bytes at {c.offset}" + (f" ({c.name!r})" if c.name else "") for c in components
    )


def _bad(path: str, line: int, text: str) -> IndexFormatError:
    return _shards.bad(path, f"line {line}: {text}")
