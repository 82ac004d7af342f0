"""Runs one contestant once, in a process of its own, and prints one line of JSON.

The consumer looks at each payload: its length, its first and last byte, and a byte of each page,
so that a reader which maps its files pays for every page. `--verify` looks at all bytes instead.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from zlib import crc32

from . import peers
from .data import Data

PAGE = 4096


def touch(rows: peers.Rows) -> tuple[int, int]:
    """Count rows, and add up what is sampled of their payloads: the order of rows does not matter."""
    count = total = 0
    for row in rows:
        count += 1
        for entry in row:
            size = len(entry)
            total += size + entry[0] + entry[-1]
            if size > PAGE:
                total += crc32(bytes(entry[::PAGE]))
    return count, total


def verify(rows: peers.Rows) -> tuple[int, int]:
    """The same over all bytes."""
    count = total = 0
    for row in rows:
        count += 1
        total += sum(map(crc32, row))
    return count, total


def touch_batches(batches: Iterable[Any]) -> tuple[int, int]:
    """Of arrays with a row of numbers each, a page apart."""
    import numpy

    count = total = 0
    for batch in map(numpy.asarray, batches):
        count += len(batch)
        total += int(batch[:, :: PAGE // batch.itemsize].sum()) + int(batch[:, -1].sum())
    return count, total


def verify_batches(batches: Iterable[Any]) -> tuple[int, int]:
    import numpy

    return verify([memoryview(row)] for batch in map(numpy.asarray, batches) for row in batch)


class Meter:
    """Time, CPU time (workers' too, once they have ended) and peak memory since `start`."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        # Resets the peak to what is held now. Where that is not allowed, a new peak counts only above the old one.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        self._peak_kb = _peak_kb()
        self._cpu_s = _cpu_s()
        self._start_s = time.perf_counter()

    def stop(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._start_s
        return {
            "seconds": seconds,
            "cpu_s": _cpu_s() - self._cpu_s,
            "peak_mb": max(0, _peak_kb() - self._peak_kb) * 1024 / 1e6,
        }


def _cpu_s() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def _peak_kb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def run(contestant: peers.Contestant, job: peers.Job, meter: Meter, look: Callable[..., tuple[int, int]]) -> dict:
    meter.start()
    result = contestant.run(job)
    checksum = None
    if isinstance(result, Iterable) and not isinstance(result, dict):
        count, checksum = look(result)
        del result
    facts = meter.stop()
    if checksum is None:
        if isinstance(result, dict):
            return facts | result
        count = result
    facts |= {"rows": count, "rows_per_s": count / facts["seconds"]}
    facts["cpu_s_per_1000_rows"] = 1000 * facts["cpu_s"] / count
    return facts if checksum is None else facts | {"checksum": checksum}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("order", help="JSON: name, line, data, folder, scale, views, picks, batches")
    parser.add_argument("--verify", action="store_true", help="look at all bytes")
    arguments = parser.parse_args()
    order = json.loads(arguments.order)

    found = [one for one in peers.load() if one.name == order["name"] and order["line"] in one.lines]
    if reason := found[0].why_missing():
        raise SystemExit(reason)
    found[0].import_all()
    data = Data(order["data"], Path(order["folder"]), order["scale"])
    meter = Meter()
    job = peers.Job(data, meter.start, order["views"], data.picks(order["picks"]) if order["picks"] else None)
    looks = (touch_batches, verify_batches) if order["batches"] else (touch, verify)
    print(json.dumps(run(found[0], job, meter, looks[arguments.verify])))


if __name__ == "__main__":
    main()
