"""Locks on single places of one file. The kernel takes them back when their process ends, however it ends.

They belong to an open file rather than to a process (``F_OFD_SETLK``), so that threads of one
process exclude each other as well.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from types import TracebackType
from typing import Self

_held: set[int] = set()
"""Descriptors of locks. A child of a fork shares them, and would keep its parent's locks alive."""
_guard = threading.Lock()
"""So that no fork comes between a descriptor and its place in `_held`."""


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()
    _guard.release()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_close_in_child)


def _close(descriptor: int) -> None:
    with _guard:
        # Where it is not among the held ones, it was the parent's.
        if descriptor in _held:
            _held.discard(descriptor)
            os.close(descriptor)


class Lock:
    """A lock that is held until it is closed."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class LockFile:
    """A file whose places can be locked: whole numbers from 0. The bytes of it are never used."""

    def __init__(self, path: str, mode: int) -> None:
        self._path = path
        self._mode = mode

    def lock(self, place: int) -> Lock:
        """The place for us alone, however long that takes."""
        lock = self._lock(place, shared=False, wait=True)
        assert lock is not None
        return lock

    def try_lock(self, place: int, *, shared: bool = False) -> Lock | None:
        """The place for us alone, or for all who share it; None when others have it."""
        return self._lock(place, shared, wait=False)

    def _lock(self, place: int, shared: bool, wait: bool) -> Lock | None:
        descriptor = self._open(shared)
        if descriptor is None:
            return Lock(None)
        # struct flock: kind, whence, start, length, and a process id that must be 0.
        kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        request = struct.pack("hhqqi4x", kind, os.SEEK_SET, place, 1, 0)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, request)
        except OSError as error:
            _close(descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return None
            raise
        except BaseException:
            _close(descriptor)
            raise
        return Lock(descriptor)

    def _open(self, shared: bool) -> int | None:
        """A descriptor; None where there is nothing to lock, since nobody can write here."""
        with _guard:
            try:
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
            except OSError as error:
                if not shared or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                    raise
                try:
                    descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                except OSError:
                    return None
            _held.add(descriptor)
            return descriptor
