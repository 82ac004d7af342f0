"""wids: random access to tars, which it indexes by reading their headers when they are opened."""

from typing import Any

from . import Job, Rows, contestant

NEEDS: dict[str, Any] = {"pip": ["wids", "torch==2.13.0"], "imports": ["wids"]}


@contestant("wids", lines="ACDFGHI", **NEEDS)
def read(job: Job) -> Rows:
    import wids

    shards = [{"url": str(path), "nsamples": job.data.rows_per_shard} for path in job.data.tars]
    # keep: without it a shard that is closed is also deleted.
    samples = wids.ShardListDataset(shards, localname=str, transformations=[], keep=True)
    keys = [f".{key}" for key in job.data.keys]
    numbers = range(job.data.rows) if job.picks is None else job.picks
    for number in numbers:
        sample = samples[number]
        yield [sample[key].getvalue() for key in keys]


@contestant("wids", lines="E", **NEEDS)
def build_index(job: Job) -> int:
    from wids.wids import IndexedTarSamples

    return sum(len(IndexedTarSamples(path=str(path)).reader) for path in job.data.tars)
