"""Ours. A variant is a line in `VARIANTS`: its name, the lines it takes part in, and options of `DataLoader`."""

import resource
import time
from functools import partial
from typing import Any

from ultar_dataloader import DataLoader, LoadedRow, index

from . import Job, Rows, contestant

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ultar": ("ABCDFGHIJ", {}),
    "ultar (io=threads)": ("ABCDFGHIJ", {"io": "threads"}),
    "ultar (threads=2)": ("ABDIJ", {"threads": 2}),
    "ultar (access=mmap)": ("ABCDFGHIJ", {"access": "mmap"}),
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


for variant, (lines, options) in VARIANTS.items():
    contestant(variant, lines=lines)(partial(read, options=options))


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
