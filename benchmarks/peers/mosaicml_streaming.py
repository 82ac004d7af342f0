"""mosaicml-streaming: its shards (MDS), read from where they lie."""

from pathlib import Path

from ..data import Data
from . import Job, Rows, contestant


def prepare(data: Data, folder: Path) -> None:
    from streaming import MDSWriter

    columns = dict.fromkeys(data.keys, "bytes")
    with MDSWriter(out=str(folder / "mds"), columns=columns) as writer:
        for row in data.all_rows():
            writer.write(dict(zip(data.keys, row, strict=True)))


@contestant(
    "mosaicml-streaming",
    lines="ACDFGHI",
    pip=["mosaicml-streaming", "torch==2.13.0"],
    imports=["streaming"],
    prepare=prepare,
)
def read(job: Job) -> Rows:
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    samples = StreamingDataset(local=str(job.data.of_peer("mosaicml_streaming") / "mds"), shuffle=False, batch_size=1)
    keys = job.data.keys
    chosen = samples if job.picks is None else map(samples.__getitem__, job.picks)
    return ([sample[key] for key in keys] for sample in chosen)
