"""Installs the peers into this environment, each by a call of its own: one that fails stops no other.

Why a peer could not be installed is written down, for the tables.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from . import peers

TIMEOUT_S = 400


def install(requirements: list[str], constraints: Path) -> str:
    """Returns why it failed; empty when it is installed."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), *requirements]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"pip took longer than {TIMEOUT_S} s"
    if result.returncode == 0:
        return ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
    return f"pip: {errors[-1]}" if errors else f"pip: exit code {result.returncode}"


def main() -> None:
    wanted: dict[str, list[str]] = {}
    for one in peers.load():
        if one.pip and not one.on_request:
            have = wanted.setdefault(one.peer, [])
            have += [requirement for requirement in one.pip if requirement not in have]
    # What one peer pins, another must not replace.
    pins = sorted({one for requirements in wanted.values() for one in requirements if "==" in one})
    failures = {}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(pins) + "\n")
        constraints.flush()
        for peer, requirements in wanted.items():
            print(f"installing for {peer}: {' '.join(requirements)}", flush=True)
            if reason := install(requirements, Path(constraints.name)):
                failures[peer] = reason
                print(f"  {reason}")
    peers.INSTALL_REPORT.write_text(json.dumps(failures, indent=1))


if __name__ == "__main__":
    main()
