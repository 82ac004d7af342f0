"""Roxxel archives: ours beside the package of that name."""

from functools import partial
from pathlib import Path
from typing import Any

from ultar_dataloader.roxxel import Roxxel

from ..data import Data
from . import Job, Rows, contestant


def prepare(data: Data, folder: Path) -> None:
    for shard in range(data.shards):
        Roxxel(folder / f"{shard}.rox").write(row[0] for row in data.shard_rows(shard))


def payloads(job: Job, theirs: bool) -> Rows:
    kind: Any = Roxxel
    if theirs:
        import roxxel

        kind = roxxel.Roxxel
    archive = kind([str(job.data.of_peer("roxxel") / f"{shard}.rox") for shard in range(job.data.shards)])
    chosen = archive if job.picks is None else map(archive.__getitem__, job.picks)
    # Of both as memoryviews, since the consumer cannot add up NumPy's bytes, which overflow.
    return ([memoryview(payload)] for payload in chosen)


OPTIONS: dict[str, Any] = {"lines": "Z", "imports": ["numpy"], "prepare": prepare}
contestant("ultar", pip=["numpy"], **OPTIONS)(partial(payloads, theirs=False))
contestant("roxxel", pip=["roxxel==0.1.0"], **OPTIONS)(partial(payloads, theirs=True))
