"""Ours. A variant is a line in `VARIANTS`: its name, the lines it takes part in, and options of reading."""

import json
import math
import os
import resource
import time
from functools import partial
from pathlib import Path
from typing import Any

from ultar_dataloader import DataLoader, Dataset, LoadedRow, index

from .. import measures
from ..data import ARRAY_SIZE, BATCH_ROWS, Data
from . import Batches, Job, Rows, contestant

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ultar": ("ABCDFGHIJLMNO", {}),
    "ultar (io=threads)": ("ABCDFGHIJLMNO", {"io": "threads"}),
    "ultar (threads=2)": ("ABDIJLMNO", {"threads": 2}),
    "ultar (access=mmap)": ("ABCDFGHIJLMNO", {"access": "mmap"}),
    "ultar (access=direct)": ("FGH", {"access": "direct"}),
}

IN_ORDER = """
local loader = require("ultar.loader")
local utix = require("ultar.utix")
return {
  init_ctx = function(rank, world_size, config) return config end,
  row_generator = function(config)
    for _, path in ipairs(config.tars) do
      local tar = loader:open_file(path)
      for row in utix.open(path .. ".utix"):iter() do
        loader:add_row(tar, row)
        loader:finish_row()
      end
      loader:close_file(tar)
    end
  end,
}
"""

AT_RANDOM = """
local loader = require("ultar.loader")
local utix = require("ultar.utix")
return {
  init_ctx = function(rank, world_size, config) return config end,
  row_generator = function(config)
    local tars, indexes = {}, {}
    for i, path in ipairs(config.tars) do
      tars[i], indexes[i] = loader:open_file(path), utix.open(path .. ".utix")
    end
    local per_shard = config.rows_per_shard
    for _, number in ipairs(config.picks) do
      local i = math.floor(number / per_shard) + 1
      loader:add_row(tars[i], indexes[i][number % per_shard + 1])
      loader:finish_row()
    end
  end,
}
"""


def make_loader(job: Job, options: dict[str, Any]) -> DataLoader:
    config: dict[str, object] = {"tars": job.data.tars}
    if job.picks is None:
        return DataLoader(IN_ORDER, config, **options)
    config |= {"picks": job.picks, "rows_per_shard": job.data.rows_per_shard}
    return DataLoader(AT_RANDOM, config, **options)


def read(job: Job, options: dict[str, Any]) -> Rows:
    loader = make_loader(job, options)
    if not job.views:
        return map(LoadedRow.values, loader)
    keys = [f".{key}" for key in job.data.keys]
    return ([row.view(key) for key in keys] for row in loader)


def read_shuffled(job: Job, options: dict[str, Any]) -> Rows:
    return map(LoadedRow.values, Dataset(job.data.tars, **options).shuffle(0))


def read_rows(job: Job, options: dict[str, Any]) -> Rows:
    assert job.picks is not None
    return map(LoadedRow.values, Dataset(job.data.tars, **options).read(job.picks))


def read_batches(job: Job, options: dict[str, Any]) -> Batches:
    fields = {".npy": ("u2", (ARRAY_SIZE,))}
    stream = Dataset(job.data.tars, **options).shuffle(0).batch(BATCH_ROWS, collate=fields)
    return (batch[".npy"] for batch in stream)


@contestant("ultar (iterating)", lines="N")
def iterate(job: Job) -> Rows:
    """As the loops do: a row at a time, where `read` holds all rows at once."""
    return map(LoadedRow.values, iter(Dataset(job.data.tars)[job.picks]))


ROWS = {"ABCDFGHIJ": read, "LM": read_shuffled, "N": read_rows}

for variant, (lines, options) in VARIANTS.items():
    for letters, function in ROWS.items():
        contestant(variant, lines="".join(set(lines) & set(letters)))(partial(function, options=options))
    if "O" in lines:
        contestant(variant, lines="O", pip=["numpy"], imports=["numpy"])(partial(read_batches, options=options))


@contestant("limit: ultar, in order", lines="L")
def in_order(job: Job) -> Rows:
    """The same rows, but not shuffled: what shuffling costs."""
    return map(LoadedRow.values, Dataset(job.data.tars))


@contestant("ultar", lines="E")
def build_index(job: Job) -> int:
    return index(job.data.tars, force=True).entries


@contestant("ultar", lines="K")
def idle(job: Job) -> dict[str, float]:
    """CPU time of a loader that has read ahead all it may, while nobody takes rows."""
    rows = iter(make_loader(job, {}))
    next(rows)
    time.sleep(0.5)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(2)
    after = resource.getrusage(resource.RUSAGE_SELF)
    del rows
    return {"idle_cpu_ms": 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)}


EPOCH_ROWS = 10_000_000


def prepare_epoch(data: Data, folder: Path) -> None:
    """Enough shards for a long epoch at scale 1: the tars and their indexes, under many names."""
    for number in range(math.ceil(EPOCH_ROWS * data.scale / data.rows_per_shard)):
        tar = data.tars[number % len(data.tars)]
        os.link(tar, folder / f"{number:04d}.tar")
        os.link(f"{tar}.utix", folder / f"{number:04d}.tar.utix")


def epoch_tars(data: Data, rows: int) -> list[Path]:
    """The first of these shards, with so many rows at scale 1."""
    return sorted(data.of_peer("ultar").glob("*.tar"))[: math.ceil(rows * data.scale / data.rows_per_shard)]


@contestant("ultar", lines="P", prepare=prepare_epoch, tars=True)
def resume(job: Job) -> dict[str, float]:
    tars = epoch_tars(job.data, EPOCH_ROWS)
    before = Dataset(tars).shuffle(0)
    state = json.dumps(before.state_after(before.steps_per_epoch * 9 // 10))
    del before
    job.start()
    began_s = time.perf_counter()
    stream = Dataset(tars).shuffle(0)
    stream.load_state_dict(json.loads(state))
    row = next(iter(stream))
    return {"first_row_s": time.perf_counter() - began_s, "rows": len(row) // 2}


@contestant("ultar", lines="R", prepare=prepare_epoch, tars=True)
def memory(job: Job) -> dict[str, float]:
    tars = epoch_tars(job.data, 1_000_000)
    return measures.memory(lambda: Dataset(tars), len(tars) * job.data.rows_per_shard)


FIRST_BATCH = """
import sys
from ultar_dataloader import Dataset
batch = next(iter(Dataset(sys.argv[1:]).shuffle(0).batch(64)))[".bin"]
"""


@contestant("ultar", lines="Q")
def first_batch(job: Job) -> dict[str, float]:
    return measures.first_batch(FIRST_BATCH, job.data.rows, *job.data.tars)
