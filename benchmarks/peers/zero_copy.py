"""Zero-copy shards: samples at random as views, beside reading them and slices of a NumPy map.

Everyone has opened the shards before the clock starts: that is done once for a training.
"""

import json
import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ultar_dataloader import zero_copy

from ..data import Data
from . import Job, Rows, contestant


def prepare(data: Data, folder: Path) -> None:
    for shard in range(data.shards):
        zero_copy.write(folder / f"{shard}.bin", (row[0] for row in data.shard_rows(shard)))


def paths_of(job: Job) -> list[Path]:
    return [job.data.of_peer("zero_copy") / f"{shard}.bin" for shard in range(job.data.shards)]


@contestant("ultar", lines="Y", prepare=prepare)
def ours(job: Job) -> Rows:
    loader = zero_copy.DataLoader(paths_of(job))
    job.start()
    get_sample = loader.get_sample
    return ([get_sample(number)] for number in job.picks or ())


@contestant("ultar (to_numpy)", lines="Y", pip=["numpy"], imports=["numpy"], prepare=prepare)
def our_arrays(job: Job) -> Rows:
    loader = zero_copy.DataLoader(paths_of(job))
    job.start()
    for number in job.picks or ():
        sample = loader.get_sample(number)
        yield [memoryview(zero_copy.to_numpy(sample, "u1", sample.nbytes))]  # type: ignore[arg-type]


def sampled(job: Job, open_shard: Callable[[Path], Any], take: Callable[[Any, int, int], Any]) -> Rows:
    shards = [(open_shard(path), _places(path)) for path in paths_of(job)]
    job.start()
    for number, place in job.shard_picks():
        shard, places = shards[number]
        begin, size = places[place]
        yield [take(shard, begin, size)]


def _places(path: Path) -> list[tuple[int, int]]:
    with open(path, "rb") as file:
        *_, metadata_at, data_at = struct.unpack("<IHQQ", file.read(22))
        file.seek(metadata_at)
        (length,) = struct.unpack("<Q", file.read(8))
        samples = json.loads(file.read(length))["samples"]
    return [(data_at + sample["offset"], sample["size"]) for sample in samples]


@contestant("read() loop", lines="Y", prepare=prepare)
def read(job: Job) -> Rows:
    def take(file: Any, begin: int, size: int) -> bytes:
        file.seek(begin)
        return file.read(size)

    return sampled(job, lambda path: open(path, "rb"), take)


@contestant("NumPy: memmap slices", lines="Y", pip=["numpy"], imports=["numpy"], prepare=prepare)
def mapped(job: Job) -> Rows:
    import numpy

    # As a memoryview, since the consumer cannot add up NumPy's bytes, which overflow: 0.1 µs.
    return sampled(
        job,
        lambda path: numpy.memmap(path, "u1", "r"),
        lambda mapped, begin, size: memoryview(mapped[begin : begin + size]),
    )


@contestant("limit: slices of a map", lines="Y", prepare=prepare)
def sliced(job: Job) -> Rows:
    """What is left when nothing is looked up and nothing checked: page faults, mostly."""

    def open_shard(path: Path) -> memoryview:
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))

    return sampled(job, open_shard, lambda view, begin, size: view[begin : begin + size])
