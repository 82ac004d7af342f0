"""litdata: its chunks, read from where they lie."""

from pathlib import Path

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


@contestant("litdata", lines="ACDFGHI", pip=["litdata", "torch==2.13.0"], imports=["litdata"], prepare=prepare)
def read(job: Job) -> Rows:
    from litdata import StreamingDataset

    samples = StreamingDataset(str(job.data.of_peer("litdata") / "chunks"), shuffle=False)
    keys = job.data.keys
    chosen = samples if job.picks is None else map(samples.__getitem__, job.picks)
    return ([sample[key] for key in keys] for sample in chosen)
