"""Random scripts: whatever they call with whatever, the outcome is rows or an exception of ours.

Each batch runs in a process of its own, so that a crash or a hang is pinned to a seed, which the
message names. `ULTAR_FUZZ_BATCHES=500` runs longer than the usual few seconds.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support import run_python

BATCHES = int(os.environ.get("ULTAR_FUZZ_BATCHES", "6"))
SCRIPTS_A_BATCH = 60

VALUES = """nil|true|0|1|-1|0.5|1e300|-1e300|2^53|2^53+2|2^62|0/0|1/0|-1/0|""|"a\\0b"|"\\255\\254"|(".jpg"):rep(30)|
{}|{1,2}|{".bin"}|{[0]=1}|print|function() end|coroutine.create(function() end)|setmetatable({},{__index=error})|
loader|utix|h|closed|index|row|index[1]|index[0]|index[1e9]|row.keys|row.sizes|config.tar|config.tar..".utix"|
"/proc/self/mem"|"/nonexistent"|config|io.stdout|".bin"|"0"|100|512|12345678|index.iter|newproxy(true)""".replace(
    "\n", ""
).split("|")

CALLS = """loader:open_file(V)|loader:close_file(V)|loader:add_entry(V,V,V,V)|loader:add_entry(h,V,V,V)|
loader:add_entry(h,".x",512,V)|loader:add_entry(h,".x",V,10)|loader:add_entry_bytes(V,V)|loader:add_entry_bytes(".b",V)|loader:add_row(V,V)|loader:add_row(h,V)|
loader:add_row(h,row,V)|loader:add_row(h,index[math.random(9)])|loader:finish_row()|loader.finish_row(V)|loader.add_row(V,h,row)|
utix.open(V)|index[V]|#index|row:size(V)|row:has(V)|row:range(V)|row[V]|row.metadata|index:iter()()|index.iter(V)|
require("ultar.scandir").open(V)|shard.by_shard(V,V,V)|shard.strided(V,V,V)|shard.contiguous(V,V,V)|shard.equal(V,V,V,V)|shard.expand(V)|
shuffle.permutation(V,V,V)|shuffle.permutation(9,1)[V]|shuffle.buffer(V,V,V)|mix.draw(V,V)|mix.draw({{index:iter(),V}},V)|
json.decode(V)|json.encode(V)|json.decode(("["):rep(500))|print(V,V)|collectgarbage()|error(V,V)|tostring(V)|V(V)|
for r in index:iter() do loader:add_row(h,r) loader:finish_row() end|debug.dump_stack()""".replace("\n", "").split("|")

WRAPPERS = [
    "{}",
    "pcall(function() {} end)",
    "xpcall(function() {} end, function(e) {} return e end)",  # A handler that fails is called again, deeper.
    "coroutine.wrap(function() {} end)()",
    "local co = coroutine.create(function() {} coroutine.yield(5) {} end) coroutine.resume(co) coroutine.resume(co)",
    "table.sort({{3,1,2}}, function(a, b) {} return a < b end)",
    "string.gsub('ab', '.', function() {} end)",
    "local p = newproxy(true) getmetatable(p).__gc = function() {} end p = nil collectgarbage()",
    "local p = newproxy(true) getmetatable(p).__gc = function() {} end kept = p",  # Runs when the state is closed.
    "local _ = setmetatable({{}}, {{__index = function() {} end}}).x",
    "for _ = 1, 20 do pcall(function() {} end) end",
    "coroutine.yield(1) {}",
]


def statement(random: random.Random) -> str:
    def call() -> str:
        text = re.sub(r"\bV\b", lambda _: random.choice(VALUES), random.choice(CALLS))
        return text if text.startswith(("for ", "error(")) else f"do local _ = {text} end"

    wrapper = random.choice(WRAPPERS)
    holes = wrapper.replace("{{", "").replace("}}", "").count("{}")
    return wrapper.format(*(" ".join(call() for _ in range(random.randint(1, 2))) for _ in range(holes)))


def script(seed: int) -> str:
    """A script that is likely to run for a while before it is wrong."""
    rng = random.Random(seed)
    statements = [statement(rng) for _ in range(rng.randint(1, 12))]
    # Most are guarded, or the first would be the last.
    statements = [f"pcall(function() {one} end)" if rng.random() < 0.7 else one for one in statements]
    body = "\n".join(statements)
    in_init = statement(rng) if rng.random() < 0.2 else ""
    return f"""
    local loader, utix = require("ultar.loader"), require("ultar.utix")
    local shard, shuffle, mix = require("ultar.shard"), require("ultar.shuffle"), require("ultar.mix")
    local json, debug = require("ultar.json"), require("ultar.debug")
    local h, closed, index, row
    return {{
      init_ctx = function(_, _, config)
        index = utix.open(config.tar .. ".utix")
        row = index[1]
        h = loader:open_file(config.tar)
        pcall(function() {in_init} end)
        return config
      end,
      row_generator = function(config)
        closed = loader:open_file(config.tar)
        loader:close_file(closed)
        {body}
        loader:finish_row()
      end,
    }}
    """


BATCH = """
import logging, random, sys
from test_script_fuzz import script
from ultar_dataloader import DataLoader, UltarError
logging.disable(logging.CRITICAL)
for seed in range(config["first"], config["first"] + config["count"]):
    print(seed, file=sys.stdout, flush=True)
    rng = random.Random(seed)
    try:
        loader = DataLoader(script(seed), {"tar": config["tar"]}, io=rng.choice(["uring", "threads"]),
                            prefetch_rows=rng.choice([1, 7, 4096]), prefetch_bytes=rng.choice([1, 5000, 1 << 26]))
        take = rng.choice([3, 10_000])
        for i, row in enumerate(loader):
            row.to_dict()
            if i >= take:
                break
    except (UltarError, MemoryError):
        pass
"""


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_script_crashes_or_hangs(make_shard: Callable[..., Path], batch: int) -> None:
    tar = make_shard({f"s{i}": {".bin": bytes([i]) * 700, ".id": b"%d" % i} for i in range(50)})
    first = batch * SCRIPTS_A_BATCH
    done = run_python(BATCH, timeout=120, config={"tar": str(tar), "first": first, "count": SCRIPTS_A_BATCH})
    seeds = done.stdout.split()
    last = seeds[-1] if seeds else "none"
    assert done.returncode == 0, (
        f"seed {last} (see `script`), exit {done.returncode}:\n{done.stderr}\n{script(int(last))}"
    )
    assert done.stderr == ""
    assert len(seeds) == SCRIPTS_A_BATCH
