"""turboloader: its record format, TBL v2. Its loaders decode images, and hand out no bytes."""

from pathlib import Path

from ..data import Data, pack, unpacker
from . import Job, Rows, contestant


def prepare(data: Data, folder: Path) -> None:
    import turboloader

    with turboloader.TblWriterV2(str(folder / "all.tbl"), enable_compression=False) as writer:
        for row in data.all_rows():
            writer.add_sample(pack(row), turboloader.SampleFormat.UNKNOWN)


@contestant("turboloader", lines="ACDFGHI", pip=["turboloader"], imports=["turboloader"], prepare=prepare)
def read(job: Job) -> Rows:
    import turboloader

    reader = turboloader.TblReaderV2(str(job.data.of_peer("turboloader") / "all.tbl"), verify_checksums=False)
    numbers = range(job.data.rows) if job.picks is None else job.picks
    return map(unpacker(len(job.data.keys)), map(reader.read_sample, numbers))
