"""wids: random access to tars, which it indexes by reading their headers when they are opened."""

from typing import Any

from .. import measures
from . import Job, Rows, contestant

NEEDS: dict[str, Any] = {"pip": ["wids", "torch==2.13.0"], "imports": ["wids"]}


@contestant("wids", lines="ACDFGHILMN", **NEEDS)
def read(job: Job) -> Rows:
    samples = open_all(job)
    keys = [f".{key}" for key in job.data.keys]
    numbers = range(job.data.rows) if job.picks is None else job.picks
    for number in numbers:
        sample = samples[number]
        yield [sample[key].getvalue() for key in keys]


def open_all(job: Job) -> Any:
    import wids

    shards = [{"url": str(path), "nsamples": job.data.rows_per_shard} for path in job.data.tars]
    # keep: without it a shard that is closed is also deleted.
    return wids.ShardListDataset(shards, localname=str, transformations=[], keep=True)


@contestant("wids", lines="E", **NEEDS)
def build_index(job: Job) -> int:
    from wids.wids import IndexedTarSamples

    return sum(len(IndexedTarSamples(path=str(path)).reader) for path in job.data.tars)


FIRST_BATCH = """
import random, sys
import wids
rows, *paths = sys.argv[1:]
shards = [{"url": path, "nsamples": int(rows) // len(paths)} for path in paths]
samples = wids.ShardListDataset(shards, localname=str, transformations=[], keep=True)
batch = [
    [samples[number][key].getvalue() for key in (".bin", ".cls")]
    for number in random.sample(range(int(rows)), min(64, int(rows)))
]
"""


@contestant("wids", lines="Q", **NEEDS)
def first_batch(job: Job) -> dict[str, float]:
    return measures.first_batch(FIRST_BATCH, job.data.rows, job.data.rows, *job.data.tars)


@contestant("wids", lines="R", **NEEDS)
def memory(job: Job) -> dict[str, float]:
    def make() -> Any:
        samples = open_all(job)
        for first in range(0, job.data.rows, job.data.rows_per_shard):
            samples[first]  # Its shard is indexed only now.
        return samples

    return measures.memory(make, job.data.rows)
