"""itar: random access to members of plain tars, by name."""

from pathlib import Path
from typing import Any

from .. import measures
from ..data import Data, stem
from . import Job, Rows, contestant

NEEDS: dict[str, Any] = {"pip": ["itar"], "imports": ["itar", "msgpack"]}


def prepare(data: Data, folder: Path) -> None:
    import itar

    itar.index.create(folder / "all.itar", data.tars, progress_bar=False)


@contestant("itar", lines="ACDFGHILMN", prepare=prepare, tars=True, **NEEDS)
def read(job: Job) -> Rows:
    import itar

    with itar.open(_index(job), shards=job.data.tars) as archive:
        keys = [f".{key}" for key in job.data.keys]
        numbers = range(job.data.rows) if job.picks is None else job.picks
        for number in numbers:
            name = stem(number)
            yield [archive[name + key].read() for key in keys]


@contestant("itar", lines="E", **NEEDS)
def build_index(job: Job) -> int:
    import itar

    return len(itar.index.build(job.data.tars))


FIRST_BATCH = """
import random, sys
import itar
index, rows, *shards = sys.argv[1:]
with itar.open(index, shards=shards) as archive:
    numbers = random.sample(range(int(rows)), min(64, int(rows)))
    batch = [[archive[f"{number:08d}.{key}"].read() for key in ("bin", "cls")] for number in numbers]
"""


@contestant("itar", lines="Q", prepare=prepare, tars=True, **NEEDS)
def first_batch(job: Job) -> dict[str, float]:
    return measures.first_batch(FIRST_BATCH, job.data.rows, _index(job), job.data.rows, *job.data.tars)


@contestant("itar", lines="R", prepare=prepare, tars=True, **NEEDS)
def memory(job: Job) -> dict[str, float]:
    import itar

    return measures.memory(lambda: itar.open(_index(job), shards=job.data.tars), job.data.rows)


def _index(job: Job) -> Path:
    return job.data.of_peer("itar") / "all.itar"
