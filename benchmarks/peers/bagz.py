"""bagz: records in files of their own format, here without compression."""

from pathlib import Path

from ..data import Data, pack, unpacker
from . import Job, Rows, contestant


def prepare(data: Data, folder: Path) -> None:
    import bagz

    with bagz.Writer(folder / "all.bag", bagz.Writer.Options(compression=bagz.CompressionNone())) as writer:
        for row in data.all_rows():
            writer.write(pack(row))


@contestant("bagz", lines="ACDFGHILMN", pip=["bagz"], imports=["bagz"], prepare=prepare)
def read(job: Job) -> Rows:
    import bagz

    options = bagz.Reader.Options(compression=bagz.CompressionNone())
    reader = bagz.Reader(job.data.of_peer("bagz") / "all.bag", options)
    records = reader if job.picks is None else reader.read_indices_iter(job.picks)
    return map(unpacker(len(job.data.keys)), records)
