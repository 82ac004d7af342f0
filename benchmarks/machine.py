"""What the figures were measured on and with."""

from __future__ import annotations

import os
import platform
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
