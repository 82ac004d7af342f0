"""What `LoadIt` is told, in either of its two signatures."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from ._packed import KEYS

Path = str | os.PathLike[str]
Source = Callable[[], Iterable[Any]] | Iterable[Any]
Preload = Callable[[Any, int], Iterable[Iterable[int]]]
ShardLength = int | str | None

_SIZE = re.compile(r"(\d{1,18})\s*(b|kb|mb|gb|tb)", re.ASCII | re.IGNORECASE)
_UNITS = {"b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40}


def preload_next_shard(loader: Any, idx: int) -> list[list[int]]:
    """The shards that come next, one index of each: what is preloaded unless you say otherwise.

    They are ``loader.max_workers - 1``, after that of `idx` or, where a loader is gone through
    from the end to the start, before it. Nothing where accesses jump about.
    """
    return [[index] for index in loader._next_shards(idx)]


@dataclass(frozen=True)
class Options:
    """Checked arguments."""

    root_dir: str
    create_it: Source | None
    max_shard_length: int | str
    max_cache_size: int
    max_workers: int
    memory_limit: int | None
    preload_fn: Preload | None
    compression: str | None
    preload_all_async: bool
    info: Any
    iterator_thread_safe: bool
    length: int | None
    mode: int


def shard_limits(length: object) -> tuple[int | None, int | None]:
    """The most items, or bytes, of a shard.

    Raises:
        TypeError: It is neither a number nor a text.
        ValueError: It is neither a number from 1 nor a size.
    """
    if isinstance(length, str):
        return None, _size("max_shard_length", "a number of items", length, 1)
    return _whole("max_shard_length", length, 1), None


def _size(name: str, instead: str, text: str, least: int) -> int:
    match = _SIZE.fullmatch(text.strip())
    count = int(match[1]) * _UNITS[match[2].lower()] if match else -1
    if count < least:
        raise ValueError(f"{name} must be {instead}, or a size such as '64mb', got {text!r}")
    return count


def options_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Options:
    """The arguments of `LoadIt`, whichever of its signatures they fit.

    Raises:
        TypeError: They fit neither, or one has a wrong type.
        ValueError: One is out of range.
    """
    if "create_it" in kwargs and "create_iter" in kwargs:
        raise TypeError("create_it and create_iter are the same argument of two signatures: give one of them")
    if args and isinstance(args[0], (str, os.PathLike)):
        if "create_it" in kwargs:
            raise TypeError(
                "after a folder comes create_iter: LoadIt(root_dir, create_iter), or LoadIt(create_it, root_dir)"
            )
        return _later(*args, **kwargs)
    if args and not (args[0] is None or _runs(args[0])):
        raise TypeError(
            "the first argument must be a function that makes an iterator, an iterable, None or a folder, "
            f"got {type(args[0]).__name__}"
        )
    if args or "create_it" in kwargs:
        if "create_iter" in kwargs:
            raise TypeError("create_iter belongs to LoadIt(root_dir, create_iter): the first argument is no folder")
        return _first(*args, **kwargs)
    return _later(**kwargs)


def _first(
    create_it: Source | None,
    root_dir: Path = "cache/",
    max_shard_length: ShardLength = 512,
    max_cache_size: int = 128,
    max_workers: int = 3,
    memory_limit: int | str | None = None,
    preload_fn: Preload | None = preload_next_shard,
    **more: Any,
) -> Options:
    return _later(
        root_dir,
        create_it,
        max_shard_length,
        max_cache_size,
        max_workers,
        memory_limit,
        preload_fn=preload_fn,
        **more,
    )


def _later(
    root_dir: Path,
    create_iter: Source | None = None,
    max_shard_length: ShardLength = "64mb",
    max_cache_size: int = 128,
    max_workers: int = 3,
    memory_limit: int | str | None = None,
    compression: str | None = None,
    preload_fn: Preload | None = preload_next_shard,
    preload_all_async: bool = False,
    info: Any = None,
    iterator_thread_safe: bool = False,
    length: int | None = None,
    mode: int = 0o644,
) -> Options:
    if not isinstance(root_dir, (str, os.PathLike)):
        _refuse("root_dir", "a path", root_dir)
    if create_iter is not None and not _runs(create_iter):
        _refuse("create_it", "a function that makes an iterator, or an iterable", create_iter)
    if compression is not None and not isinstance(compression, str):
        _refuse("compression", "None or a name", compression)
    if compression not in KEYS:
        known = ", ".join(repr(name) for name in KEYS)
        raise ValueError(f"compression must be one of {known}, got {compression!r}")
    if preload_fn is not None and not callable(preload_fn):
        _refuse("preload_fn", "None or a function", preload_fn)
    if max_shard_length is None:
        max_shard_length = "64mb"
    shard_limits(max_shard_length)
    return Options(
        # Absolute, as it may be opened again by a process that works elsewhere.
        root_dir=os.path.abspath(os.fspath(root_dir)),
        create_it=create_iter,
        max_shard_length=max_shard_length,
        max_cache_size=_whole("max_cache_size", max_cache_size, 0),
        max_workers=_whole("max_workers", max_workers, 1),
        memory_limit=_limit(memory_limit),
        preload_fn=preload_fn,
        compression=compression,
        preload_all_async=bool(preload_all_async),
        info=info,
        iterator_thread_safe=bool(iterator_thread_safe),
        length=None if length is None else _whole("length", length, 0),
        mode=_whole("mode", mode, 0),
    )


# Python's own messages about arguments name these.
for _signature in (_first, _later):
    _signature.__qualname__ = "LoadIt"


def _runs(source: object) -> bool:
    if isinstance(source, (str, bytes, bytearray, os.PathLike)):
        return False
    return callable(source) or hasattr(source, "__iter__")


def _whole(name: str, value: object, least: int) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        _refuse(name, "an int", value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def _limit(value: object) -> int | None:
    if isinstance(value, str):
        return _size("memory_limit", "a number of bytes", value, 0)
    return None if value is None else _whole("memory_limit", value, 0)


def _refuse(name: str, wanted: str, value: object) -> NoReturn:
    raise TypeError(f"{name} must be {wanted}, got {type(value).__name__}")
