"""array_record: records in files of their own format, without compression, each its own group."""

from pathlib import Path
from typing import Any

from ..data import Data, pack, unpacker
from . import Job, Rows, contestant

BATCH_ROWS = {"big": 64, "tiny": 4096, "record": 1024}


def prepare(data: Data, folder: Path) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(folder / "all.array_record"), "group_size:1,uncompressed")
    for row in data.all_rows():
        writer.write(pack(row))
    writer.close()


@contestant(
    "array_record",
    lines="ACDFGHILMN",
    pip=["array_record"],
    imports=["array_record.python.array_record_module"],
    prepare=prepare,
)
def read(job: Job) -> Rows:
    from array_record.python.array_record_module import ArrayRecordReader

    # What it recommends for each order.
    options = "" if job.picks is None else "readahead_buffer_size:0,max_parallelism:0"
    reader: Any = ArrayRecordReader(str(job.data.of_peer("array_record") / "all.array_record"), options)
    unpack = unpacker(len(job.data.keys))
    size = BATCH_ROWS[job.data.name]
    count = job.data.rows if job.picks is None else len(job.picks)
    for first in range(0, count, size):
        last = min(first + size, count)
        records = reader.read(first, last) if job.picks is None else reader.read(job.picks[first:last])
        yield from map(unpack, records)
