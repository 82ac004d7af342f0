"""Names of shards: files, folders, globs and braces become a list of files.

What exists under the very name that was given is taken as it is, whatever characters are
in it. Else `{000..127}` (from, to, as wide as written) and `{a,b}` are expanded, then `*`,
`?` and `[...]`. A folder stands for the `*.tar` directly in it, or if there are none for the
shards of another container, which must be one; or for itself, where `raw.index` made an index
of it, and ends in a slash then. A `.json` is a list of shards as wids has them. URLs of objects in
stores are taken in the same way.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator
from itertools import islice

from ._errors import ReadError
from ._store_paths import expand_url
from ._stores import Options, Stores, is_url

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

NAMES_MAX = 1_000_000
"""Names that one pattern may stand for: far more shards than a file system likes, and a
slip such as `{0..99999999999}` is noticed."""

CONTAINERS = {
    "tar": (".tar",),
    "Roxxel": (".rox",),
    "zero-copy": (".bin",),
    "TFRecord": (".tfrecord", ".tfrecords"),
    "NPZ": (".npz",),
    "HDF5": (".h5", ".hdf5"),
}
"""Suffixes by container, that of folders of shards first."""

_NUMBERED_TFRECORD = re.compile(r"\.tfrecords?-\d+-of-\d+$")

_RANGE = re.compile(r"(\d+)\.\.(\d+)", re.ASCII)


def listed(paths: Paths) -> list[str]:
    """The paths and patterns, each as text."""
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    return [os.fspath(path) for path in paths]


def expand(paths: Paths, stores: Stores | None = None) -> list[str]:
    """The shards that all `paths` name, in order. Raises what `expand_one` does."""
    return [name for path in listed(paths) for name in expand_one(path, stores)]


def expand_one(path: str, stores: Stores | None = None) -> list[str]:
    """The shards that a path or pattern names, in order.

    Raises:
        ReadError: The path does not exist, or the pattern or folder has no shard.
        IndexFormatError: A list of shards is malformed.
        ValueError: The pattern stands for more than `NAMES_MAX` names.
    """
    if not isinstance(path, str):
        raise TypeError(f"a path must be str, got {type(path).__name__}: {path!r}")
    if is_url(path):
        stores = stores or Stores(Options.parse(None))
        return _listed(path, stores) if path.endswith(".json") else expand_url(path, stores)
    if (files := _files_at(path, stores)) is not None:
        return files
    names = list(islice(_braces(path), NAMES_MAX + 1))
    if len(names) > NAMES_MAX:
        raise ValueError(f"{path}: stands for more than {NAMES_MAX:,} names")
    found: list[str] = []
    for name in names:
        if (files := _files_at(name, stores)) is not None:
            found += files
            continue
        matches = sorted(glob.glob(name)) if glob.has_magic(name) else []
        if not matches:
            of = "" if name == path else f", from {path}"
            raise _missing(path, f"{name}: no such shard{of}")
        for match in matches:
            found += _files_at(match, stores) or [match]  # Gone meanwhile, which is noticed when it is read.
    return found


def _listed(path: str, stores: Stores | None) -> list[str]:
    """The shards in a list of wids."""
    from . import _wids  # Late, as few have such lists.

    return [shard.path for shard in _wids.read(path, stores or Stores(Options.parse(None)))]


def _files_at(path: str, stores: Stores | None) -> list[str] | None:
    """The shards of what has this very name; None when nothing has."""
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(mode) or (stat.S_ISLNK(mode) and os.path.isdir(path)):
        return _files_in(path)
    return _listed(path, stores) if path.endswith(".json") else [path]


def _files_in(path: str) -> list[str]:
    if os.path.exists(f"{path.rstrip('/')}.utix"):
        return [path.rstrip("/") + "/"]  # RAW: the folder itself is the shard.
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(path)):
        if container := container_of(name):
            found.setdefault(container, []).append(os.path.join(path, name))
    if "tar" in found or len(found) == 1:
        return found.get("tar") or next(iter(found.values()))
    if found:
        kinds = " and ".join(sorted(found))
        raise _missing(path, f"{path}: {kinds} files in this folder: name those that are meant, as {path}/*.SUFFIX")
    raise _missing(path, f"{path}: no *.tar in this folder, and no shard of another container")


def container_of(name: str) -> str | None:
    """The container that a name tells of."""
    for container, suffixes in CONTAINERS.items():
        if name.endswith(suffixes):
            return container
    return "TFRecord" if _NUMBERED_TFRECORD.search(name) else None


def absolute(path: str) -> str:
    """The path of a shard from the root on; a folder that is a shard keeps its slash."""
    return os.path.abspath(path) + ("/" if path.endswith("/") else "")


def _missing(path: str, message: str) -> ReadError:
    return ReadError(errno.ENOENT, message, path)


def _braces(pattern: str) -> Iterator[str]:
    """The names a pattern stands for; braces that are no pattern stand for themselves."""
    start = pattern.find("{")
    while start >= 0:
        end = _closing(pattern, start)
        choices = None if end is None else _choices(pattern[start + 1 : end])
        if end is not None and choices is not None:
            head, tail = pattern[:start], pattern[end + 1 :]
            return (head + middle + rest for middle in choices for rest in _braces(tail))
        start = pattern.find("{", start + 1)
    return iter([pattern])


def _closing(pattern: str, start: int) -> int | None:
    depth = 0
    for i in range(start, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[i], 0)
        if depth == 0:
            return i
    return None


def _choices(inside: str) -> Iterator[str] | None:
    """What stands between two braces, or None when that is no list and no range."""
    if match := _RANGE.fullmatch(inside):
        first, last = match.groups()
        padded = first.startswith("0") or last.startswith("0")
        width = max(len(first), len(last)) if padded else 0
        low, high = int(first), int(last)
        numbers = range(low, high + 1) if low <= high else range(low, high - 1, -1)
        return (f"{number:0{width}d}" for number in numbers)
    parts, depth, begin = [], 0, 0
    for i, char in enumerate(inside):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append(inside[begin:i])
            begin = i + 1
    if not parts:
        return None
    return (name for part in [*parts, inside[begin:]] for name in _braces(part))
