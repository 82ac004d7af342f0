"""What a row costs in system calls: a count, which no busy machine changes much.

It is the guard against a wake-up, a read or a clock call for each row slipping in again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ALL_ROWS = """
import sys
import ultar_dataloader as ultar
script, tar, access, count = sys.argv[1:]
loader = ultar.DataLoader(script, {"tar_path": tar, "idx_path": tar + ".utix"}, access=access)
for _ in range(int(count)):
    assert all(row.values() for row in loader)
"""


def calls(*arguments: object) -> int:
    """System calls of a run, all threads together."""
    done = subprocess.run(
        ["strace", "-f", "-c", "-qq", "-o", "/dev/stderr", sys.executable, "-c", ALL_ROWS, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    total = done.stderr.rstrip().splitlines()[-1].split()
    assert total[-1] == "total"
    return int(total[3])


def can_count() -> bool:
    """Whether strace is there, and may look at other processes."""
    strace = shutil.which("strace")
    return (
        strace is not None and subprocess.run([strace, "-c", "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not can_count(), reason="strace is not installed, or may not trace")
@pytest.mark.parametrize("access", ["read", "mmap", "direct"])
@pytest.mark.parametrize(
    ("rows", "size", "calls_per_row_max"),
    [
        pytest.param(30_000, 150, 0.1, id="tiny"),  # Measured: 0.02; a call for each row would be 1.
        pytest.param(2_000, 100_000, 2.5, id="large"),  # Measured: 0.7; five rows share a group.
    ],
)
def test_rows_share_system_calls(
    make_shard: Callable[..., Path], script: str, access: str, rows: int, size: int, calls_per_row_max: float
) -> None:
    shard = make_shard({f"s{i:06}": {".bin": b"x" * size} for i in range(rows)})
    # Start and end of the process are in both; they make thousands of calls.
    once, thrice = (calls(script, shard, access, count) for count in (1, 3))
    assert (thrice - once) / (2 * rows) < calls_per_row_max
