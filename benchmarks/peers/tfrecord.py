"""tfrecord: TFRecord files read in Python, without TensorFlow."""

from pathlib import Path

from ..data import Data
from . import Job, Rows, contestant


def prepare(data: Data, folder: Path) -> None:
    from tfrecord import TFRecordWriter

    writer = TFRecordWriter(str(folder / "all.tfrecord"))
    for row in data.all_rows():
        writer.write({key: (payload, "byte") for key, payload in zip(data.keys, row, strict=True)})
    writer.close()


@contestant("tfrecord", lines="ACFI", pip=["tfrecord"], imports=["tfrecord"], prepare=prepare)
def read(job: Job) -> Rows:
    from tfrecord import tfrecord_loader

    keys = job.data.keys
    path = str(job.data.of_peer("tfrecord") / "all.tfrecord")
    return ([sample[key] for key in keys] for sample in tfrecord_loader(path, None, dict.fromkeys(keys, "byte")))
