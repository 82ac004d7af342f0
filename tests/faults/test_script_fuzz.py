"""Random scripts: whatever they call with whatever, the outcome is rows or an exception of ours.

Each batch runs in a process of its own, so that a crash or a hang is pinned to a seed, which the
message names. `ULTAR_FUZZ_BATCHES=500` runs longer than the usual few seconds, and
`ULTAR_FUZZ_FIRST=100000` begins with another seed.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support import run_python

BATCHES = int(os.environ.get("ULTAR_FUZZ_BATCHES", "5"))
FIRST = int(os.environ.get("ULTAR_FUZZ_FIRST", "0"))
SCRIPTS_A_BATCH = 150
# Below the limit of a test, so that it is this test that says which seed hangs.
BATCH_SECONDS_MAX = 50

VALUES = """nil|true|0|1|-1|0.5|1e300|-1e300|2^53|2^53+2|2^62|0/0|1/0|-1/0|""|"a\\0b"|"\\255\\254"|(".jpg"):rep(30)|
("k"):rep(70000)|{}|{1,2}|{".bin"}|{".bin",{}}|{[0]=1}|print|function() end|coroutine.create(function() end)|
setmetatable({},{__index=error})|setmetatable({},{__tostring=error})|
setmetatable({},{__tostring=function() return {} end})|setmetatable({},getmetatable(row))|loader|utix|h|closed|index|
row|lost|scan|index[1]|index[0]|index[1e9]|row.keys|row.sizes|config.tar|config.tar..".utix"|config.fifo|
"/proc/self/mem"|"/nonexistent"|"/"|config|io.stdout|".bin"|".id"|"0"|"first"|"drop"|"{1..3}"|100|512|12345678|
index.iter|index:iter()|error|pcall|newproxy(true)|1LL|require("ffi").new("char[3]")""".replace("\n", "").split("|")

CALLS = """loader:open_file(V)|loader:close_file(V)|loader:add_entry(V,V,V,V)|loader:add_entry(h,V,V,V)|
loader:add_entry(h,".x",512,V)|loader:add_entry(h,".x",V,10)|loader:add_entry_bytes(V,V)|loader:add_entry_bytes(".b",V)|
loader:add_row(V,V)|loader:add_row(h,V)|loader:add_row(h,row,V)|loader:add_row(h,lost)|loader:add_row(h,index[math.random(9)])|
loader:finish_row()|loader.finish_row(V)|loader.add_row(V,h,row)|loader.rank|utix.open(V)|index[V]|#index|row:size(V)|row:has(V)|
row:range(V)|row[V]|row.metadata|lost[V]|lost:range(V)|lost.keys|row.has(V,V)|index:iter()()|index.iter(V)|scandir.open(V)|
scandir.open(config.dir):iter()()|scan.iter(V)|shard.by_shard(V,V,V)|shard.strided(V,V,V)|shard.strided(V,V,V)()|
shard.contiguous(V,V,V)|shard.equal(V,V,V,V)|shard.expand(V)|shuffle.permutation(V,V,V)|shuffle.permutation(9,1)[V]|
shuffle.permutation(9,1):iter(V)()|shuffle.random(V,V)(V)|shuffle.buffer(V,V,V)|shuffle.buffer(index:iter(),V,1)()|mix.draw(V,V)|
mix.draw({{index:iter(),V}},V)|mix.draw({{V,1}},{seed=V,stop=V})()|json.decode(V)|json.encode(V)|json.encode({V,V})|
json.array(V)|json.decode(("["):rep(500))|print(V,V)|collectgarbage()|error(V,V)|tostring(V)|V(V)|rawset(row,V,V)|
coroutine.resume(V)|for r in index:iter() do loader:add_row(h,r) loader:finish_row() end|debug.dump_stack()|
index = nil|index = utix.open(config.tar..".utix")""".replace("\n", "").split("|")

WRAPPERS = [
    "{}",
    "pcall(function() {} end)",
    "xpcall(function() {} end, function(e) {} return e end)",  # A handler that fails is called again, deeper.
    "coroutine.wrap(function() {} end)()",
    "local co = coroutine.create(function() {} coroutine.yield(5) {} end) coroutine.resume(co) coroutine.resume(co)",
    "abandoned = coroutine.create(function() {} coroutine.yield() end) coroutine.resume(abandoned)",
    "table.sort({{3,1,2}}, function(a, b) {} return a < b end)",
    "string.gsub('ab', '.', function() {} end)",
    "local p = newproxy(true) getmetatable(p).__gc = function() {} end p = nil collectgarbage()",
    "local p = newproxy(true) getmetatable(p).__gc = function() {} end kept = p",  # Runs when the state is closed.
    "local p = newproxy(true) local m = getmetatable(p) m.__gc = print m.__gc = function() {} end p, m = nil",
    "kept_c = require('ffi').gc(require('ffi').new('char[1]'), function() {} end)",
    "local _ = setmetatable({{}}, {{__index = function() {} end}}).x",
    "local _ = tostring(setmetatable({{}}, {{__tostring = function() {} return '' end}}))",
    "local _ = setmetatable({{}}, {{__lt = function() {} end}}) < setmetatable({{}}, {{}})",
    "for _ = 1, 20 do pcall(function() {} end) end",
    "for _ = 1, 1e7 do {} loader:finish_row() end",  # Ends by its error, or with the consumer.
    "coroutine.yield(1) {}",
]


def statement(rng: random.Random) -> str:
    def call() -> str:
        text = re.sub(r"\bV\b", lambda _: rng.choice(VALUES), rng.choice(CALLS))
        return text if text.startswith(("for ", "error(", "index = ")) else f"do local _ = {text} end"

    wrapper = rng.choice(WRAPPERS)
    holes = wrapper.replace("{{", "").replace("}}", "").count("{}")
    return wrapper.format(*(" ".join(call() for _ in range(rng.randint(1, 2))) for _ in range(holes)))


def script(seed: int) -> str:
    """A script that is likely to run for a while before it is wrong."""
    rng = random.Random(seed)
    statements = [statement(rng) for _ in range(rng.randint(1, 12))]
    # Most are guarded, or the first would be the last.
    statements = [f"pcall(function() {one} end)" if rng.random() < 0.7 else f"do {one} end" for one in statements]
    body = "\n".join(statements)
    in_init = statement(rng) if rng.random() < 0.2 else ""
    # Rows under way when something fails: those come first, and then the error.
    rows = "for i = 1, 5 do loader:add_row(h, index[i]) loader:finish_row() end" if rng.random() < 0.5 else ""
    return f"""
    local loader, utix = require("ultar.loader"), require("ultar.utix")
    local shard, shuffle, mix = require("ultar.shard"), require("ultar.shuffle"), require("ultar.mix")
    local json, debug, scandir = require("ultar.json"), require("ultar.debug"), require("ultar.scandir")
    local h, closed, index, row, lost, scan
    return {{
      init_ctx = function(_, _, config)
        index = utix.open(config.tar .. ".utix")
        row = index[1]
        lost = utix.open(config.tar .. ".utix")[2]  -- Of an index that only its row keeps.
        scan = scandir.open(config.dir)
        collectgarbage()
        h = loader:open_file(config.tar)
        pcall(function() {in_init} end)
        return config
      end,
      row_generator = function(config)
        closed = loader:open_file(config.tar)
        loader:close_file(closed)
        {rows}
        {body}
        loader:finish_row()
      end,
    }}
    """


# Prints each seed before its run, and how it ended after it.
BATCH = """
import logging, random
from test_script_fuzz import script
from ultar_dataloader import DataLoader, UltarError
logging.disable(logging.CRITICAL)

def outcome(seed, io):
    rng = random.Random(seed)
    take = rng.choice([3, 2000])
    try:
        rows = iter(DataLoader(script(seed), config["script"], io=io, prefetch_rows=rng.choice([1, 7, 4096]),
                               prefetch_bytes=rng.choice([1, 5000, 1 << 26])))
    except (UltarError, MemoryError):
        return "refused"
    count, end = 0, "dropped"
    while count < take:
        try:
            next(rows).to_dict()
            count += 1
        except StopIteration:
            end = "ended"
        except (UltarError, MemoryError) as error:
            end = "failed"
            first = error
        if end != "dropped":
            break
    try:  # An outcome stays what it was.
        if end != "dropped":
            next(rows)
            raise AssertionError("a row after the end")
    except StopIteration:
        assert end == "ended"
    except (UltarError, MemoryError) as error:
        assert end == "failed" and type(error) is type(first) and str(error) == str(first)
    return f"{end}-{'rows' if count else 'empty'}"

for seed in range(config["first"], config["first"] + config["count"]):
    print(seed, end=" ", flush=True)
    print(outcome(seed, config["io"]), flush=True)
"""


def run_batch(script_config: dict[str, str], io: str, first: int) -> Counter[str]:
    """Outcomes and how often each came, or a failure that names the seed."""
    config = {"script": script_config, "io": io, "first": first, "count": SCRIPTS_A_BATCH}
    try:
        done = run_python(BATCH, timeout=BATCH_SECONDS_MAX, config=config)
        out, err, how = done.stdout, done.stderr, f"exit {done.returncode}"
    except subprocess.TimeoutExpired as hang:
        # Bytes even in text mode.
        out, err = ((part or b"").decode() for part in (hang.stdout, hang.stderr))
        how = f"no end after {BATCH_SECONDS_MAX} s"
    if how != "exit 0" or err:
        words = (out.splitlines() or [""])[-1].split()
        text = script(int(words[0])) if words else "(before the first)"
        pytest.fail(f"seed {words[:1]}, {how}\n{err}\n{text}")
    return Counter(line.split()[1] for line in out.splitlines())


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_script_crashes_or_hangs(make_shard: Callable[..., Path], tmp_path: Path, io: str, batch: int) -> None:
    tar = make_shard({f"s{i}": {".bin": bytes([i]) * 700, ".id": b"%d" % i} for i in range(50)})
    os.mkfifo(tmp_path / "fifo")
    script_config = {"tar": str(tar), "dir": str(tmp_path), "fifo": str(tmp_path / "fifo")}
    outcomes = run_batch(script_config, io, FIRST + batch * SCRIPTS_A_BATCH)
    assert sum(outcomes.values()) == SCRIPTS_A_BATCH
    # Else all this would be about scripts that die at once.
    assert outcomes["ended-rows"] and outcomes["failed-rows"] + outcomes["dropped-rows"], outcomes
