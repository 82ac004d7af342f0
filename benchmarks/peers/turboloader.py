"""turboloader: its record format, TBL v2, and its batches of arrays. Other loaders of it decode images, not bytes."""

from pathlib import Path

from ..data import BATCH_ROWS, Data, pack, unpacker
from . import Batches, Job, Rows, contestant, limits


def prepare(data: Data, folder: Path) -> None:
    import turboloader

    with turboloader.TblWriterV2(str(folder / "all.tbl"), enable_compression=False) as writer:
        for row in data.all_rows():
            writer.add_sample(pack(row), turboloader.SampleFormat.UNKNOWN)


@contestant("turboloader", lines="ACDFGHILMN", pip=["turboloader"], imports=["turboloader"], prepare=prepare)
def read(job: Job) -> Rows:
    import turboloader

    reader = turboloader.TblReaderV2(str(job.data.of_peer("turboloader") / "all.tbl"), verify_checksums=False)
    numbers = range(job.data.rows) if job.picks is None else job.picks
    return map(unpacker(len(job.data.keys)), map(reader.read_sample, numbers))


@contestant(
    "turboloader, of a mapped array",
    lines="O",
    pip=["turboloader", "numpy"],
    imports=["turboloader"],
    prepare=limits.prepare_array,
)
def batches(job: Job) -> Batches:
    import turboloader

    rows = limits.mapped_array(job.data.of_peer("turboloader"))
    return iter(turboloader.ArrayDataLoader(rows, batch_size=BATCH_ROWS, shuffle=True))
