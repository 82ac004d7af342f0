"""What contestants measure of themselves: the start of a process, and memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BATCH_ROWS = 64


def first_batch(code: str, rows: int, *arguments: object) -> dict[str, float]:
    """Seconds until a Python of its own, that runs `code`, has made `batch`: 64 rows, or all where there are fewer.

    Raises:
        RuntimeError: It has not; the text is its last line of error.
    """
    code += "\nprint('ready', len(batch), flush=True)"
    with tempfile.TemporaryFile("w+") as errors:
        began_s = time.perf_counter()
        command = [sys.executable, "-c", code, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        said = next((line for line in process.stdout if line.startswith("ready")), "")
        seconds = time.perf_counter() - began_s
        process.communicate(timeout=20)
        errors.seek(0)
        if said.split() != ["ready", str(min(BATCH_ROWS, rows))]:
            raise RuntimeError((errors.read().strip().splitlines() or [said or "no batch"])[-1])
    return {"first_batch_s": seconds, "rows": min(BATCH_ROWS, rows)}


def memory(make: Callable[[], object], rows: int) -> dict[str, float]:
    """What the memory of this process grows by, for a million rows. Pages of files do not count."""
    gc.collect()
    before = _own_bytes()
    made = make()
    gc.collect()
    grown = _own_bytes() - before
    del made
    return {"mb_per_million_rows": grown / rows, "rows": rows}


def _own_bytes() -> int:
    """Memory that can be given back to nobody else: anonymous, and what is shared with children."""
    status = Path("/proc/self/status").read_text()
    return sum(int(status.partition(f"{name}:")[2].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))
