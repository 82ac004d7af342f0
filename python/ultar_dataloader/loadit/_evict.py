"""What a limit on the bytes of a cache costs: the shards that were used least recently."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable

from ._locks import Lock

SUFFIXES = ("", ".places", ".utix")
"""Of the files of a shard, in the order in which they come. They go in the other one."""

_SHARD = re.compile(r"(\d{12,})\.tar(|\.places|\.utix)", re.ASCII)


def clean(folder: str) -> dict[int, tuple[int, int]]:
    """Delete what writers that died have left. Needs the lock of whoever writes.

    Returns:
        Bytes and time of the last use, by the first item of each shard that is there.
    """
    sizes: dict[int, int] = {}
    tars: set[int] = set()
    used: dict[int, int] = {}
    with os.scandir(folder) as entries:
        found = [(entry, _SHARD.fullmatch(entry.name)) for entry in entries]
    for entry, match in found:
        if match is None:
            if ".tmp" in entry.name:
                _delete(entry.path)
            continue
        try:
            stat = entry.stat()
        except FileNotFoundError:
            continue  # Somebody dropped a damaged one.
        start, suffix = int(match[1]), match[2]
        sizes[start] = sizes.get(start, 0) + stat.st_size
        if suffix == ".utix":
            used[start] = stat.st_mtime_ns
        elif suffix == "":
            tars.add(start)
    whole = tars & used.keys()
    for start in sizes.keys() - whole:
        _delete_shard(folder, start)
    return {start: (sizes[start], used[start]) for start in whole}


def make_room(folder: str, left: int, lock_at: Callable[[int], Lock | None], name: str, evict: bool) -> bool:
    """Delete shards until the others have `left` bytes at most. Whether they have.

    Needs the lock of whoever writes. A shard that is being opened stays.

    Args:
        folder: Where they are.
        left: Bytes; negative where there can never be room.
        lock_at: Takes the lock of the shard that begins with an item, if it can be had.
        name: The file that is to be written, and may be there already.
        evict: Whether to delete any.
    """
    shards = clean(folder)
    own = int(name.partition(".")[0])
    if own in shards:
        # It is damaged, or it would not be written again; its maker has its lock.
        _delete_shard(folder, own)
        del shards[own]
    total = sum(size for size, _ in shards.values())
    if total <= left or left < 0 or not evict:
        return total <= left
    for start in sorted(shards, key=lambda start: shards[start][1]):
        lock = lock_at(start)
        if lock is None:
            continue
        with lock:
            _delete_shard(folder, start)
        total -= shards[start][0]
        if total <= left:
            return True
    return False


def _delete_shard(folder: str, start: int) -> None:
    path = os.path.join(folder, f"{start:012d}.tar")
    for suffix in reversed(SUFFIXES):
        _delete(path + suffix)


def _delete(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
