"""What an order costs to compute, and what a window costs and brings: `python -m benchmarks.order [FOLDER]`.

The second part writes 800 MB to FOLDER (default: that of temporary files), and removes them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ultar_dataloader import Order, order

WINDOWS = (None, 100, 10_000, 1_000_000)
ROWS, ROW_BYTES, BATCH = 200_000, 4096, 256

Rows = NDArray[np.int64]


def seconds(work: object) -> float:
    """Of the best of three."""
    assert callable(work)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def speed() -> None:
    print("n, window: ns a number in a slice, in a slice of each 8th, in a loop, by place, by row")
    for n in (10**6, 10**9):
        for window in WINDOWS:
            if window == n:
                continue
            rows = order(n, 1, window=window)
            count = min(n, 5_000_000)
            some = [place * 7919 % n for place in range(100_000)]
            slice_ns = seconds(lambda r=rows, c=count: r[:c]) / count * 1e9
            stride_ns = seconds(lambda r=rows, c=count: r[:c:8]) / (count / 8) * 1e9
            loop_ns = seconds(lambda w=window: sum(1 for _ in order(10**6, 1, window=w))) * 1e3
            place_ns = seconds(lambda r=rows, s=some: [r[i] for i in s]) * 1e4
            row_ns = seconds(lambda r=rows, s=some: [r.index(i) for i in s]) * 1e4
            print(f"{n:>10} {window!s:>7}: {slice_ns:.0f} {stride_ns:.0f} {loop_ns:.0f} {place_ns:.0f} {row_ns:.0f}")


def reads(places: Rows, ahead: int) -> Iterator[tuple[int, int]]:
    """First row and count of each read of a reader that sorts and merges `ahead` rows at a time."""
    for at in range(0, len(places), ahead):
        rows = np.sort(places[at : at + ahead])
        cuts = np.flatnonzero(np.diff(rows) != 1) + 1
        starts, stops = np.concatenate(([0], cuts)), np.concatenate((cuts, [len(rows)]))
        yield from zip(rows[starts].tolist(), (stops - starts).tolist(), strict=True)


def epoch_us(file: int, rows: Order, ahead: int, buffer: memoryview) -> tuple[float, float]:
    """Microseconds a row, and reads a row."""
    began, count = time.perf_counter(), 0
    for first, size in reads(np.asarray(rows[:]).astype(np.int64), ahead):
        os.preadv(file, [buffer[: size * ROW_BYTES]], first * ROW_BYTES)
        count += 1
    return (time.perf_counter() - began) / ROWS * 1e6, count / ROWS


def locality(folder: str) -> None:
    print("window, ahead: reads a row, us a row warm, cold; neighbours that share a batch; blocks in a batch")
    buffer = memoryview(bytearray(ROWS * ROW_BYTES // 10))
    with tempfile.TemporaryFile(dir=folder) as written:
        for _ in range(ROWS // 1000):
            written.write(os.urandom(ROW_BYTES) * 1000)
        written.flush()
        os.fsync(written.fileno())
        for window in (None, 256, 1024, 16_384):
            rows = order(ROWS, 1, window=window)
            listed = np.asarray(rows[:]).astype(np.int64)
            batch_of = np.empty(ROWS, np.int64)
            batch_of[listed] = np.arange(ROWS) // BATCH
            shared = float((batch_of[1:] == batch_of[:-1]).mean())
            blocks = np.mean(
                [len(np.unique(listed[at : at + BATCH] // (rows.block or 1))) for at in range(0, ROWS, BATCH)]
            )
            for ahead in [window] if window else [1024, 16_384]:
                warm = min(epoch_us(written.fileno(), rows, ahead, buffer)[0] for _ in range(2))
                os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                cold, each = epoch_us(written.fileno(), rows, ahead, buffer)
                print(f"{window!s:>6} {ahead:>6}: {each:.3f} {warm:.2f} {cold:.1f}; {shared:.2%}; {blocks:.0f}")


if __name__ == "__main__":
    speed()
    locality(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir())
