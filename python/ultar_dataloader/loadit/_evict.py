"""What a limit on the bytes of a cache costs: the shards that were used least recently."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable

from ._locks import Lock

_SHARD = re.compile(r"(\d{12,})\.tar(\.utix)?", re.ASCII)


def clean(folder: str) -> dict[int, tuple[int, int]]:
    """Delete what writers that died have left. Needs the lock of whoever writes.

    Returns:
        Bytes and time of the last use, by the first item of each shard that is there.
    """
    tars: dict[int, int] = {}
    indexes: dict[int, tuple[int, int]] = {}
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
        if match[2]:
            indexes[int(match[1])] = stat.st_size, stat.st_mtime_ns
        else:
            tars[int(match[1])] = stat.st_size
    for start in tars.keys() ^ indexes.keys():
        _delete_shard(folder, start)
    return {start: (size + indexes[start][0], indexes[start][1]) for start, size in tars.items() if start in indexes}


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
    # The index first: without it there is no shard.
    path = os.path.join(folder, f"{start:012d}.tar")
    _delete(f"{path}.utix")
    _delete(path)


def _delete(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
