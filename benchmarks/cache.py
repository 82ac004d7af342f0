"""The page cache: drops files from it, reads them into it, and says how much of them it holds."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_MAP_FAILED = ctypes.c_void_p(-1).value


def drop(paths: Iterable[Path]) -> None:
    """Forget the contents of the files. Works on what is written back and mapped by nobody."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def warm(paths: Iterable[Path]) -> None:
    """Read the files once."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def resident(paths: Iterable[Path]) -> float:
    """The part of the files' pages that the cache holds, from 0 to 1."""
    pages = held = 0
    for path in paths:
        size = path.stat().st_size
        if size:
            states = _page_states(path, size)
            pages += len(states)
            held += sum(state & 1 for state in states)
    return held / pages if pages else 0.0


def _page_states(path: Path, size: int) -> bytes:
    states = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    file = os.open(path, os.O_RDONLY)
    # Mapping reads nothing; Python's own mmap does not tell its address when it is read-only.
    address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file, 0)
    os.close(file)
    if address == _MAP_FAILED or _libc.mincore(address, size, states):
        raise OSError(ctypes.get_errno(), "mincore", str(path))
    _libc.munmap(address, size)
    return states.raw
