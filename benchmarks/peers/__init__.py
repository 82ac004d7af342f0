"""The contestants: one small file a peer, found by itself. To add one, copy `bagz.py`.

A contestant is a function that takes a `Job` and returns one of these:

- an iterator of rows, each a sequence of `bytes` (or of memoryviews, when `job.views`);
- an iterator of arrays of rows, on lines whose task is batches;
- an int: how many things it did, for a contestant without rows, such as one that builds an index;
- a dict of facts that it measured itself, such as {"rows_per_s": 1000.0}.

The clock starts before it is called, and again when it calls `job.start`.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ..data import Data

Rows = Iterable[Sequence[Any]]
Batches = Iterable[Any]
"""Of NumPy arrays, or what NumPy takes for one without a copy."""


@dataclass(frozen=True)
class Job:
    """What a contestant is asked for."""

    data: Data
    start: Callable[[], None]
    """Starts the clock anew: what came before is preparation that we give away."""
    views: bool = False
    """Rows of memoryviews rather than of bytes."""
    picks: list[int] | None = None
    """Numbers of the rows, in the order to read them in; None for all rows in order."""

    def shard_picks(self) -> Iterator[tuple[int, int]]:
        """The picks, as numbers of a shard and of a row in it."""
        for number in self.picks or ():
            yield divmod(number, self.data.rows_per_shard)


@dataclass(frozen=True)
class Contestant:
    name: str
    peer: str
    """Name of the file it is in."""
    lines: str
    """The lines it takes part in, as letters."""
    run: Callable[[Job], Rows | int | dict[str, float]]
    pip: tuple[str, ...]
    """What pip has to install for it."""
    imports: tuple[str, ...]
    """Modules to import before the clock starts."""
    prepare: Callable[[Data, Path], None] | None
    """Writes the data in the peer's own format."""
    tars: bool
    """Whether it reads the tars (too)."""
    on_request: bool
    """Whether `make bench` leaves the installing to you."""

    def import_all(self) -> None:
        for module in self.imports:
            importlib.import_module(module)

    def why_missing(self) -> str:
        """Why it cannot run here; empty when it can."""
        for requirement in self.pip:
            name = requirement.partition("==")[0]
            try:
                metadata.version(name)
            except metadata.PackageNotFoundError:
                return _failed_installs().get(self.peer, f"{name} is not installed")
        return ""


_contestants: list[Contestant] = []


def contestant(
    name: str,
    lines: str,
    pip: Sequence[str] = (),
    imports: Sequence[str] = (),
    prepare: Callable[[Data, Path], None] | None = None,
    tars: bool = False,
    on_request: bool = False,
) -> Callable[[Callable[[Job], Any]], Callable[[Job], Any]]:
    """Register a function. Imports of the peer belong inside it, as not everyone has the peer."""

    def register(run: Callable[[Job], Any]) -> Callable[[Job], Any]:
        # A variant is a partial, which has no module of its own.
        module = getattr(run, "func", run).__module__
        peer = module.rpartition(".")[2]
        needs = tuple(pip), tuple(imports), prepare, tars or prepare is None, on_request
        _contestants.append(Contestant(name, peer, lines, run, *needs))
        return run

    return register


def load() -> list[Contestant]:
    """All contestants, ours first."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    first = ("ultar", "limits")
    return sorted(_contestants, key=lambda one: first.index(one.peer) if one.peer in first else len(first))


INSTALL_REPORT = Path(sys.prefix) / "bench-install.json"
"""Written by `benchmarks.install`: why peers could not be installed."""


def _failed_installs() -> dict[str, str]:
    try:
        return json.loads(INSTALL_REPORT.read_text())
    except FileNotFoundError:
        return {}
