"""Items of an iterable by number: `LoadIt`, and the pickle files that others keep them in."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

from ultar_dataloader import LoadIt

from ..data import Data
from . import Job, Rows, contestant

ITEMS_PER_SHARD = 512
IN_MEMORY = 128
"""Shards, for everyone who keeps shards."""


def prepare(data: Data, folder: Path) -> None:
    with LoadIt(data.all_rows, folder / "ours", ITEMS_PER_SHARD, memory_limit=None) as loader:
        loader.wait_until_all_cached()
    (folder / "shards").mkdir()
    (folder / "items").mkdir()
    picked = set(data.picks(max(1, round(20_000 * min(1.0, data.scale)))))  # As line X picks them.
    shard: list[Any] = []
    for number, row in enumerate(data.all_rows()):
        shard.append(row)
        if len(shard) == ITEMS_PER_SHARD or number == data.rows - 1:
            with open(folder / "shards" / str(number // ITEMS_PER_SHARD), "wb") as file:
                pickle.dump(shard, file, pickle.HIGHEST_PROTOCOL)
            shard = []
        if number in picked:
            with open(folder / "items" / str(number), "wb") as file:
                pickle.dump(row, file, pickle.HIGHEST_PROTOCOL)


@contestant("ultar", lines="X", prepare=prepare)
def ours(job: Job) -> Rows:
    loader = LoadIt(job.data.of_peer("loadit") / "ours", max_cache_size=IN_MEMORY)
    return map(loader.__getitem__, job.picks or ())


@contestant("pickle: a shard a file", lines="X", prepare=prepare)
def pickled_shards(job: Job) -> Rows:
    """As the package `loadit` keeps them: a list of 512 items a file, the last files used in memory."""
    folder = job.data.of_peer("loadit") / "shards"
    shards: OrderedDict[int, list[Any]] = OrderedDict()
    for number in job.picks or ():
        which, place = divmod(number, ITEMS_PER_SHARD)
        if which in shards:
            shards.move_to_end(which)
        else:
            with open(folder / str(which), "rb") as file:
                shards[which] = pickle.load(file)
            if len(shards) > IN_MEMORY:
                shards.popitem(last=False)
        yield shards[which][place]


@contestant("pickle: an item a file", lines="X", prepare=prepare)
def pickled_items(job: Job) -> Rows:
    folder = f"{job.data.of_peer('loadit') / 'items'}/"
    for number in job.picks or ():
        with open(folder + str(number), "rb") as file:
            yield pickle.load(file)
