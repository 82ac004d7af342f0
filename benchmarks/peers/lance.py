"""lance: columns, written by the `pylance` package."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ..data import Data
from . import Job, Rows, contestant

BATCH_ROWS = {"big": 64, "tiny": 8192, "record": 1024}


def prepare(data: Data, folder: Path) -> None:
    import lance
    import pyarrow

    schema = pyarrow.schema([(key, pyarrow.large_binary()) for key in data.keys])

    def batches() -> Iterator[Any]:
        rows = data.all_rows()
        while batch := list(islice(rows, BATCH_ROWS[data.name])):
            columns = [pyarrow.array(column, pyarrow.large_binary()) for column in zip(*batch, strict=True)]
            yield pyarrow.record_batch(columns, schema=schema)

    lance.write_dataset(pyarrow.RecordBatchReader.from_batches(schema, batches()), folder / "all.lance")


@contestant("lance", lines="ACDFGHILMN", pip=["pylance"], imports=["lance"], prepare=prepare)
def read(job: Job) -> Rows:
    import lance

    dataset = lance.dataset(job.data.of_peer("lance") / "all.lance")
    size = BATCH_ROWS[job.data.name]
    if job.picks is None:
        for batch in dataset.to_batches(batch_size=size):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
        return
    for first in range(0, len(job.picks), size):
        for batch in dataset.take(job.picks[first : first + size]).to_batches():
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
