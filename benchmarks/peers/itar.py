"""itar: random access to members of plain tars, by name."""

from pathlib import Path
from typing import Any

from ..data import Data, stem
from . import Job, Rows, contestant

NEEDS: dict[str, Any] = {"pip": ["itar"], "imports": ["itar", "msgpack"]}


def prepare(data: Data, folder: Path) -> None:
    import itar

    itar.index.create(folder / "all.itar", data.tars, progress_bar=False)


@contestant("itar", lines="ACDFGHI", prepare=prepare, tars=True, **NEEDS)
def read(job: Job) -> Rows:
    import itar

    with itar.open(job.data.of_peer("itar") / "all.itar", shards=job.data.tars) as archive:
        keys = [f".{key}" for key in job.data.keys]
        numbers = range(job.data.rows) if job.picks is None else job.picks
        for number in numbers:
            name = stem(number)
            yield [archive[name + key].read() for key in keys]


@contestant("itar", lines="E", **NEEDS)
def build_index(job: Job) -> int:
    import itar

    return len(itar.index.build(job.data.tars))
