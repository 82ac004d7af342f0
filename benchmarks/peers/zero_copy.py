"""Zero-copy shards: samples at random as views, beside reading them and slices of a NumPy map.

Everyone has opened the shards before the clock starts: that is done once for a training. On line Y
pages are mapped while it runs, as in a first epoch; on line S they are from an epoch before.
"""

import json
import mmap
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ultar_dataloader import zero_copy

from ..data import Data
from . import Job, Rows, contestant

PAGE = 4096

Take = Callable[[int], Any]
"""The bytes of a sample, by its number."""


def prepare(data: Data, folder: Path) -> None:
    for shard in range(data.shards):
        zero_copy.write(folder / f"{shard}.bin", (row[0] for row in data.shard_rows(shard)))


def samples(job: Job, make: Callable[[list[Path]], Take], again: bool) -> Rows:
    take = make([job.data.of_peer("zero_copy") / f"{shard}.bin" for shard in range(job.data.shards)])
    picks = job.picks or ()
    if again:
        for number in picks:
            bytes(take(number)[::PAGE])
    job.start()
    return ([take(number)] for number in picks)


def ours(paths: list[Path]) -> Take:
    return zero_copy.DataLoader(paths).get_sample


def our_arrays(paths: list[Path]) -> Take:
    loader = zero_copy.DataLoader(paths)

    def take(number: int) -> memoryview:
        sample = loader.get_sample(number)
        return memoryview(zero_copy.to_numpy(sample, "u1", sample.nbytes))  # type: ignore[arg-type]

    return take


def places_of(path: Path) -> list[tuple[Path, int, int]]:
    """Where each sample begins, and its size."""
    with open(path, "rb") as file:
        *_, metadata_at, data_at = struct.unpack("<IHQQ", file.read(22))
        file.seek(metadata_at)
        (length,) = struct.unpack("<Q", file.read(8))
        found = json.loads(file.read(length))["samples"]
    return [(path, data_at + sample["offset"], sample["size"]) for sample in found]


def plain(paths: list[Path], open_shard: Callable[[Path], Any], slice_of: Callable[[Any, int, int], Any]) -> Take:
    shards = {path: open_shard(path) for path in paths}
    places = [place for path in paths for place in places_of(path)]

    def take(number: int) -> Any:
        path, begin, size = places[number]
        return slice_of(shards[path], begin, size)

    return take


def read(paths: list[Path]) -> Take:
    def slice_of(file: Any, begin: int, size: int) -> bytes:
        file.seek(begin)
        return file.read(size)

    return plain(paths, lambda path: open(path, "rb"), slice_of)


def memmap(paths: list[Path]) -> Take:
    import numpy

    # As a memoryview, since the consumer cannot add up NumPy's bytes, which overflow: 0.1 µs.
    return plain(
        paths,
        lambda path: numpy.memmap(path, "u1", "r"),
        lambda mapped, begin, size: memoryview(mapped[begin : begin + size]),
    )


def sliced(paths: list[Path]) -> Take:
    """What is left when nothing is checked: page faults, mostly."""

    def open_shard(path: Path) -> memoryview:
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))

    return plain(paths, open_shard, lambda view, begin, size: view[begin : begin + size])


CONTESTANTS: dict[str, tuple[Callable[[list[Path]], Take], tuple[str, ...]]] = {
    "ultar": (ours, ()),
    "ultar (to_numpy)": (our_arrays, ("numpy",)),
    "read() loop": (read, ()),
    "NumPy: memmap slices": (memmap, ("numpy",)),
    "limit: slices of a map": (sliced, ()),
}

for name, (make, needs) in CONTESTANTS.items():
    for line, again in {"Y": False, "S": True}.items():
        contestant(name, lines=line, pip=needs, imports=needs, prepare=prepare)(
            partial(samples, make=make, again=again)
        )
