"""mosaicml-streaming: its shards (MDS), read from where they lie."""

from pathlib import Path
from typing import Any

from .. import measures
from ..data import Data
from . import Job, Rows, contestant


def import_streaming() -> Any:
    """It imports torchvision, whose builds on PyPI want operators that torch for the CPU lacks."""
    import torch

    if torch.version.cuda is None:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    import streaming
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    return streaming


def prepare(data: Data, folder: Path) -> None:
    columns = dict.fromkeys(data.keys, "bytes")
    with import_streaming().MDSWriter(out=str(folder / "mds"), columns=columns) as writer:
        for row in data.all_rows():
            writer.write(dict(zip(data.keys, row, strict=True)))


NEEDS: dict[str, Any] = {"pip": ["mosaicml-streaming", "torch==2.13.0"], "prepare": prepare}


@contestant("mosaicml-streaming", lines="ACDFGHIN", **NEEDS)
def read(job: Job) -> Rows:
    streaming = import_streaming()
    job.start()
    local = str(job.data.of_peer("mosaicml_streaming") / "mds")
    samples = streaming.StreamingDataset(local=local, shuffle=False, batch_size=1)
    keys = job.data.keys
    chosen = samples if job.picks is None else map(samples.__getitem__, job.picks)
    return ([sample[key] for key in keys] for sample in chosen)


@contestant("mosaicml-streaming", lines="LM", **NEEDS)
def read_shuffled(job: Job) -> Rows:
    streaming = import_streaming()
    job.start()
    local = str(job.data.of_peer("mosaicml_streaming") / "mds")
    keys = job.data.keys
    return (
        [sample[key] for key in keys] for sample in streaming.StreamingDataset(local=local, shuffle=True, batch_size=1)
    )


FIRST_BATCH = """
import itertools, sys
from benchmarks.peers.mosaicml_streaming import import_streaming
samples = import_streaming().StreamingDataset(local=sys.argv[1], shuffle=True, batch_size=1)
batch = [[sample["bin"], sample["cls"]] for sample in itertools.islice(samples, 64)]
"""


@contestant("mosaicml-streaming", lines="Q", **NEEDS)
def first_batch(job: Job) -> dict[str, float]:
    return measures.first_batch(FIRST_BATCH, job.data.rows, job.data.of_peer("mosaicml_streaming") / "mds")
