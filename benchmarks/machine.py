"""What the figures were measured on and with."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from . import peers


def facts(contestants: Iterable[peers.Contestant]) -> dict[str, Any]:
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "fio": _fio_version(),
        "versions": _versions(contestants),
    }


class Others:
    """How much of the machine other processes take while we measure: figures of a busy machine say little."""

    def __init__(self) -> None:
        self._start = self._now()

    def share(self) -> float:
        """The part of all cores' time, since this was made, that went neither idle nor to us."""
        busy, total, own = (now - then for now, then in zip(self._now(), self._start, strict=True))
        return max(0.0, (busy - own) / total) if total else 0.0

    @staticmethod
    def _now() -> tuple[float, float, float]:
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        idle = ticks[3] + ticks[4]
        per_s = os.sysconf("SC_CLK_TCK")
        return (sum(ticks) - idle) / per_s, sum(ticks) / per_s, sum(one.ru_utime + one.ru_stime for one in ours)


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""


def _fio_version() -> str:
    if shutil.which("fio") is None:
        return ""
    return subprocess.run(["fio", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _versions(contestants: Iterable[peers.Contestant]) -> dict[str, str]:
    names = {requirement.partition("==")[0] for one in contestants for requirement in one.pip}
    found = {}
    for name in sorted(names | {"ultar-dataloader"}):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
