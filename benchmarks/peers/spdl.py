"""spdl: its parser of tars, in a thread of its pipeline. Samples are put together by us: it has none."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from . import Job, Rows, contestant


def members(path: Path, size: int) -> Iterator[list[bytes]]:
    from spdl.io import iter_tarfile

    row = []
    with path.open("rb") as file:
        for _, payload in iter_tarfile(file):
            row.append(payload)
            if len(row) == size:
                yield row
                row = []


@contestant("spdl", lines="ACFI", pip=["spdl"], imports=["spdl.io", "spdl.pipeline"])
def read(job: Job) -> Rows:
    from spdl.pipeline import PipelineBuilder

    size = len(job.data.keys)
    rows = (row for path in job.data.tars for row in members(path, size))
    # Lists of rows, as one hand-over a row would measure the queue alone.
    batches = iter(lambda: list(islice(rows, 32)), [])
    pipeline = PipelineBuilder().add_source(batches).add_sink(8).build(num_threads=1)
    with pipeline.auto_stop():
        for batch in pipeline:
            yield from batch


@contestant("spdl, parser alone", lines="ACFI", pip=["spdl"], imports=["spdl.io"])
def parse(job: Job) -> Rows:
    return (row for path in job.data.tars for row in members(path, len(job.data.keys)))
