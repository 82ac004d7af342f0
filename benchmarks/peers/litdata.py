"""litdata: its chunks, read from where they lie."""

from pathlib import Path
from typing import Any

from .. import measures
from ..data import Data
from . import Job, Rows, contestant


def prepare(data: Data, folder: Path) -> None:
    from litdata.streaming.writer import BinaryWriter

    chunks = folder / "chunks"
    chunks.mkdir()
    writer = BinaryWriter(str(chunks), chunk_bytes="64MB")
    for number, row in enumerate(data.all_rows()):
        writer[number] = dict(zip(data.keys, row, strict=True))
    writer.done()
    writer.merge()


NEEDS: dict[str, Any] = {"pip": ["litdata", "torch==2.13.0"], "imports": ["litdata"], "prepare": prepare}


@contestant("litdata", lines="ACDFGHIN", **NEEDS)
def read(job: Job) -> Rows:
    from litdata import StreamingDataset

    samples = StreamingDataset(str(job.data.of_peer("litdata") / "chunks"), shuffle=False)
    keys = job.data.keys
    chosen = samples if job.picks is None else map(samples.__getitem__, job.picks)
    return ([sample[key] for key in keys] for sample in chosen)


@contestant("litdata", lines="LM", **NEEDS)
def read_shuffled(job: Job) -> Rows:
    from litdata import StreamingDataset

    samples = StreamingDataset(str(job.data.of_peer("litdata") / "chunks"), shuffle=True)
    keys = job.data.keys
    return ([sample[key] for key in keys] for sample in samples)


FIRST_BATCH = """
import itertools, sys
from litdata import StreamingDataset
samples = StreamingDataset(sys.argv[1], shuffle=True)
batch = [[sample["bin"], sample["cls"]] for sample in itertools.islice(samples, 64)]
"""


@contestant("litdata", lines="Q", **NEEDS)
def first_batch(job: Job) -> dict[str, float]:
    return measures.first_batch(FIRST_BATCH, job.data.rows, job.data.of_peer("litdata") / "chunks")
