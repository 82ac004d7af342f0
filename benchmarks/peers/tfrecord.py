"""TFRecord files without TensorFlow: ours, the package tfrecord, and a loop that compares checksums as well."""

import struct
from functools import partial
from pathlib import Path
from typing import Any

from ultar_dataloader import Dataset, LoadedRow, index
from ultar_dataloader.tfrecord import parse_example

from ..data import Data
from . import Job, Rows, contestant


def prepare(data: Data, folder: Path) -> None:
    from tfrecord import TFRecordWriter

    writer = TFRecordWriter(str(folder / "all.tfrecord"))
    for row in data.all_rows():
        writer.write({key: (payload, "byte") for key, payload in zip(data.keys, row, strict=True)})
    writer.close()
    index(folder / "all.tfrecord")


def path_of(job: Job) -> str:
    return str(job.data.of_peer("tfrecord") / "all.tfrecord")


PEER: dict[str, Any] = {"pip": ["tfrecord"], "imports": ["tfrecord"], "prepare": prepare}


@contestant("tfrecord", lines="ACFIT", **PEER)
def read(job: Job) -> Rows:
    from tfrecord import tfrecord_loader

    keys = job.data.keys
    return (
        [sample[key] for key in keys] for sample in tfrecord_loader(path_of(job), None, dict.fromkeys(keys, "byte"))
    )


@contestant("tfrecord", lines="U", **PEER)
def read_records(job: Job) -> Rows:
    """Views are of one buffer, which the next record overwrites."""
    from tfrecord.reader import tfrecord_iterator

    wrap = memoryview if job.views else bytes
    return ([wrap(record)] for record in tfrecord_iterator(path_of(job)))


@contestant("plain loop with crc32c", lines="V", **PEER)
def read_checked(job: Job) -> Rows:
    """The package does not compare checksums: this does, with the library that it writes them by."""
    from crc32c import crc32c

    def masked(octets: bytes) -> int:
        crc = crc32c(octets)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    with open(path_of(job), "rb") as file:
        while head := file.read(12):
            length, crc = struct.unpack("<QI", head)
            record = file.read(length)
            assert crc == masked(head[:8]) and struct.unpack("<I", file.read(4))[0] == masked(record)
            yield [memoryview(record)]


def ours(job: Job, options: dict[str, Any]) -> Rows:
    rows = Dataset(path_of(job), **options)
    return ([row.view(0)] for row in rows) if job.views else map(LoadedRow.values, rows)


def ours_checked(job: Job, options: dict[str, Any]) -> Rows:
    index(path_of(job), verify=True, force=True)
    return ours(job, options)


def our_examples(job: Job, options: dict[str, Any], views: bool = False) -> Rows:
    keys = job.data.keys
    for row in Dataset(path_of(job), **options):
        example = parse_example(row.view(0) if views else row[0])
        yield [example[key][0] for key in keys]


for name, options in {"ultar": {}, "ultar (access=mmap)": {"access": "mmap"}}.items():
    for line, function in {"T": our_examples, "U": ours, "V": ours_checked}.items():
        contestant(name, lines=line, **PEER)(partial(function, options=options))
contestant("ultar (views)", lines="T", **PEER)(partial(our_examples, options={}, views=True))
