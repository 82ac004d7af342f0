"""What `bench` reads: the byte ranges that a script asks for, and bare reads of the same."""

from __future__ import annotations

import os
import time
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import NamedTuple

from .._errors import ReadError
from .._native import LoadedRow
from .._records import DECODED_MIN
from .._stores import StoreError, Stores, is_url

READ_BYTES = 256 * 1024
"""The most that one read takes, as in the engine."""
GAP_BYTES = 8 * 1024
"""Ranges no further apart are read in one, gap and all, as the engine does it."""
STORE_READ_BYTES = 2 * 1024 * 1024
STORE_GAP_BYTES = 256 * 1024
"""The same two for objects in stores."""
ROWS_MAX = 250_000
"""Rows that are looked at: enough to measure by, and their reads fit into memory."""
COLD_THREADS = 16
"""That read at once where storage has to be waited for."""
LOOKS = 256
"""Places at which the page cache is asked whether it has them."""


class Read(NamedTuple):
    """One read, and how many rows the plan had when it was complete."""

    file: int
    offset: int
    size: int
    rows: int


class Bare(NamedTuple):
    """What a bare pass has read."""

    rows: int
    payload_bytes: int
    read_bytes: int
    """With the gaps between entries."""


@dataclass(slots=True)
class Plan:
    """Rows of a script, as reads in its order."""

    files: dict[str, int] = field(default_factory=dict)
    """Places in the order of first use."""
    reads: list[Read] = field(default_factory=list)
    row_ends: array[int] = field(default_factory=lambda: array("Q"))
    """Payload bytes of all rows up to each, and with it."""
    is_whole: bool = True
    """Whether these are all the rows that there are."""
    stores: Stores | None = None
    """Where files are that are URLs."""

    @property
    def has_urls(self) -> bool:
        return any(map(is_url, self.files))

    @property
    def rows(self) -> int:
        return len(self.row_ends)

    def payload_bytes(self, rows: int) -> int:
        """Of the first rows."""
        return self.row_ends[min(rows, self.rows) - 1] if rows and self.rows else 0

    def cut(self, rows: int) -> None:
        """Keep the first rows, but at least one read."""
        if rows >= self.rows:
            return
        kept = max(bisect_right(self.reads, rows, key=lambda read: read.rows), 1)
        del self.reads[kept:]
        del self.row_ends[self.reads[-1].rows :]
        self.is_whole = False

    def drop(self) -> None:
        """Ask the kernel to forget the files' pages. Pages that are not written yet stay."""
        for path in self.files:
            if is_url(path):
                continue
            with _opened(path) as file:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

    def cached_share(self) -> float | None:
        """How much of it the page cache has, by a sample; None where the system does not tell."""
        if self.has_urls:
            return None
        paths = list(self.files)
        looks = self.reads[:: max(len(self.reads) // LOOKS, 1)]
        buffer, hits = bytearray(1), 0
        for read in looks:
            with _opened(paths[read.file]) as file:
                try:
                    hits += os.preadv(file, [buffer], read.offset + read.size // 2, os.RWF_NOWAIT)
                except BlockingIOError:
                    continue
                except OSError:
                    return None
        return hits / len(looks)

    def read_bare(self, seconds: float, *, cold: bool) -> Bare:
        """Read the ranges in order, into one buffer a thread, until the time is up or all are read."""
        files: list[int] = []
        try:
            # A URL has no descriptor.
            files += [-1 if is_url(path) else os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in self.files]
            threads = self.stores.options.requests if self.stores and self.has_urls else COLD_THREADS if cold else 1
            done = _in_threads(self, files, seconds, threads) if threads > 1 else _in_turn(self, files, seconds)
        finally:
            for file in files:
                if file >= 0:
                    os.close(file)
        rows = self.reads[done - 1].rows if done else 0
        return Bare(rows, self.payload_bytes(rows), sum(read.size for read in self.reads[:done]))


def plan_of(dry: Iterable[LoadedRow], bytes_max: int, seconds: float, stores: Stores | None = None) -> Plan:
    """The plan for the rows of a dry loader: as many as the bounds allow, but at least one.

    Raises:
        ValueError: There are no rows, or they have nothing from files, or what is decoded.
    """
    plan = Plan(stores=stores)
    deadline = time.perf_counter() + seconds
    grown: tuple[int, int, int] | None = None
    total = 0
    rows = iter(dry)
    for row in rows:
        for path, offset, size in row.sources():
            total += size
            if offset >= DECODED_MIN:
                raise ValueError(f"{path}: its rows are decoded, so no bare reads give the same")
            if path:
                file = plan.files.setdefault(path, len(plan.files))
                how = (STORE_GAP_BYTES, STORE_READ_BYTES) if is_url(path) else (GAP_BYTES, READ_BYTES)
                grown = _extend(plan, grown, file, offset, size, *how)
        plan.row_ends.append(total)
        if plan.rows >= ROWS_MAX or total >= bytes_max or time.perf_counter() > deadline:
            plan.is_whole = next(rows, None) is None
            break
    if grown is not None:
        _close(plan, grown)
    if not plan.rows:
        raise ValueError("there are no rows, so there is nothing to measure")
    if not plan.reads:
        raise ValueError("the rows have nothing from files, so there is nothing to compare with")
    return plan


def _extend(
    plan: Plan, grown: tuple[int, int, int] | None, file: int, offset: int, size: int, gap: int, most: int
) -> tuple[int, int, int] | None:
    """Add a range to the read that may grow, or begin others. Gives the last of them.

    A read that may grow is its file, offset and end.
    """
    while size > 0:
        if grown is not None:
            file_of, start, end = grown
            if file_of == file and 0 <= offset - end <= gap and offset - start < most:
                taken = min(size, most - (offset - start))
                grown = (file, start, offset + taken)
                offset, size = offset + taken, size - taken
                continue
            _close(plan, grown)
        grown = (file, offset, offset)
    return grown


def _close(plan: Plan, grown: tuple[int, int, int]) -> None:
    file, start, end = grown
    plan.reads.append(Read(file, start, end - start, plan.rows))


def _in_turn(plan: Plan, files: list[int], seconds: float) -> int:
    deadline = time.perf_counter() + seconds
    buffer = memoryview(bytearray(READ_BYTES))
    for done, read in enumerate(plan.reads, 1):
        _read(plan, files, read, buffer)
        if time.perf_counter() > deadline:
            return done
    return len(plan.reads)


def _in_threads(plan: Plan, files: list[int], seconds: float, threads: int) -> int:
    deadline = time.perf_counter() + seconds
    numbers = count()

    def work() -> int:
        buffer = memoryview(bytearray(READ_BYTES))
        done = 0
        while time.perf_counter() < deadline and (number := next(numbers)) < len(plan.reads):
            _read(plan, files, plan.reads[number], buffer)
            done += 1
        return done

    with ThreadPoolExecutor(threads, thread_name_prefix="ultar-bench") as pool:
        futures = [pool.submit(work) for _ in range(threads)]
        try:
            # With a time limit: so Ctrl-C is noticed on every system.
            while wait(futures, timeout=0.1).not_done:
                pass
        except KeyboardInterrupt:
            deadline = 0.0  # The threads look at it: none begins another read.
            raise
        return sum(future.result() for future in futures)


def _read(plan: Plan, files: list[int], read: Read, buffer: memoryview) -> None:
    if files[read.file] < 0:
        _fetch(plan, read)
        return
    have = 0
    while have < read.size:
        got = os.preadv(files[read.file], [buffer[have : read.size]], read.offset + have)
        if got == 0:
            path = list(plan.files)[read.file]
            message = f"{path}: wanted {read.size} bytes at offset {read.offset}, got {have} (end of file)"
            raise ReadError(None, message, path)
        have += got


def _fetch(plan: Plan, read: Read) -> None:
    assert plan.stores is not None
    url = list(plan.files)[read.file]
    try:
        plan.stores.insist(partial(plan.stores.read, url, read.offset, read.size))
    except StoreError as failure:
        raise ReadError(failure.number or None, f"{url}: {failure.text}", url) from failure


@contextmanager
def _opened(path: str) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)
