"""The command `bench`: its figures are all there, its verdict fits them, its errors are the loader's."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import ultar_dataloader as ultar
from ultar_dataloader.cli.bench_plan import GAP_BYTES, READ_BYTES, Plan, Read, plan_of
from ultar_dataloader.cli.bench_rounds import ROUNDS, TITLES, Measure, Sample
from ultar_dataloader.cli.bench_verdict import Circumstances, verdict
from ultar_dataloader.cli.run import DryLoader

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Make = Callable[..., Path]
SAMPLES = {f"s{i:03}": {".jpg": bytes(5000 + i), ".cls": b"7"} for i in range(50)}
SCRIPT = """\
local loader = require("ultar.loader")
local utix = require("ultar.utix")
return {
  init_ctx = function(rank, world_size, config)
    return { path = config.dir .. "/" .. (config.shards and config.shards[1] or "shard-000000.tar"), config = config }
  end,
  row_generator = function(ctx)
    local tar = loader:open_file(ctx.path)
    for row in utix.open(ctx.path .. ".utix"):iter() do
      if ctx.config.fail then error("enough") end
      loader:add_row(tar, row, { ctx.config.key })
      loader:add_entry_bytes("made", "12345")
      loader:finish_row()
    end
  end,
}
"""


@pytest.fixture
def shard(make_shard: Make) -> Path:
    return make_shard(SAMPLES)


@pytest.fixture
def script_file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.lua"
    path.write_text(SCRIPT)
    return path


def as_json(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("cold", [[], ["--cold"]], ids=["cached", "cold"])
def test_json_has_all_figures(make_shard: Make, command: Command, io: str, cold: list[str]) -> None:
    for i in range(2):
        make_shard(SAMPLES, f"s-{i}.tar")
    done = command("bench", "s-{0..1}.tar", "--json", "--seconds", 0.3, "--io", io, *cold)
    if cold and done.stderr.endswith("the figures of cold storage\n"):  # Such as on tmpfs.
        done.stderr = ""
    found = as_json(done)
    payload = sum(len(entry) for entries in SAMPLES.values() for entry in entries.values())
    expected = {"files": 2, "rows": 100, "bytes": 2 * payload, "whole": True, "cold": bool(cold), "access": "auto"}
    assert found | expected == found
    assert str(found["io"]) in ("uring", "io_uring", "threads")
    assert found["bound_by"] and "\n" not in str(found["verdict"])
    measures = found["measures"]
    assert isinstance(measures, dict) and list(measures) == list(TITLES)
    for name, measure in measures.items():
        assert len(measure["rows_per_s_by_round"]) == ROUNDS
        assert measure["rows"] > 0 and measure["rows_per_s"] > 0 and measure["seconds"] > 0
        assert measure["of_storage"] > 0 and measure["cpu_s_per_1000_rows"] >= 0
        assert ("read_bytes_per_s" if name == "storage" else "script_ns") in measure
        assert (measure["bytes_per_s"] is None) == (name == "script")


def test_a_table_and_one_line_that_says_what_bounds(shard: Path, command: Command) -> None:
    done = command("bench", shard.name, "--seconds", 0.1)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    # A machine that is very busy comes less far in a tenth of a second.
    assert re.match(r"(50 rows|the first \d+ rows?), .* from 1 file; io=", lines[0])
    assert [line for line in lines if line.startswith(tuple(TITLES.values()))] == lines[3:8]
    assert len(lines) == 10 and lines[9].startswith(("bound by ", "too little data to tell: 50 rows, "))


def test_a_script_of_ones_own_with_its_config(shard: Path, script_file: Path, command: Command) -> None:
    arguments = ["--script", script_file.name, "-c", "dir=.", "-c", "key=.cls", "--json", "--seconds", 0.1]
    counts = {"files": 1, "rows": 50, "bytes": 50 * (1 + 5)}
    found = as_json(command("bench", *arguments))
    assert found | counts == found
    # Shards that are named are config.shards.
    shard.rename(shard.with_name("other.tar"))
    Path(f"{shard}.utix").rename(shard.with_name("other.tar.utix"))
    found = as_json(command("bench", "other.tar", *arguments))
    assert found | counts == found


def test_indexes_are_wanted_and_can_be_built(make_shard: Make, command: Command) -> None:
    for i in range(2):
        make_shard(SAMPLES, f"s-{i}.tar", index=False)
    done = command("bench", "s-*.tar")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: s-0.tar: there is no s-0.tar.utix, and 1 more is missing; "
        "make them with: ultar-dataloader index 's-*.tar' (or add --index)\n"
    )
    assert as_json(command("bench", "s-*.tar", "--index", "--json", "--seconds", 0.1))["rows"] == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the shards to read, or a script with --script"),
        (["none.tar"], "none.tar: no such shard"),
        (["shard-000000.tar", "-c", "n=1"], "-c is the config of a script: name it with --script"),
        (["--script", "none.lua"], "none.lua"),
        (["--script", "policy.lua", "-c", "word"], "-c wants KEY=VALUE, got 'word'"),
        (["--script", "policy.lua", "-c", "dir=.", "-c", "key=.cls", "-c", "fail=true"], "policy.lua:10: enough"),
        (["--script", "nothing.lua"], "there are no rows, so there is nothing to measure"),
        (["--script", "made.lua"], "the rows have nothing from files, so there is nothing to compare with"),
    ],
)
def test_it_says_what_is_wrong(
    shard: Path, script_file: Path, tmp_path: Path, command: Command, arguments: list[str], message: str
) -> None:
    (tmp_path / "nothing.lua").write_text("return { row_generator = function() end }")
    made = 'local l = require("ultar.loader") l:add_entry_bytes("a", "b") l:finish_row()'
    (tmp_path / "made.lua").write_text(f"return {{ row_generator = function() {made} end }}")
    done = command("bench", *arguments, "--seconds", 0.1)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert "Traceback (" not in done.stderr


def test_a_shard_that_is_cut_off_is_the_loaders_error(shard: Path, command: Command) -> None:
    os.truncate(shard, 3000)
    done = command("bench", shard.name, "--seconds", 0.1)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        'error: shard-000000.tar: entry ".jpg" wanted 5000 bytes at offset 512, got 2488 (end of file at 3000)\n'
    )
    Path(f"{shard}.utix").write_bytes(b"\xc1 nothing")
    done = command("bench", shard.name, "--seconds", 0.1)
    assert done.returncode == 1
    assert "shard-000000.tar.utix" in done.stderr and "Traceback (" not in done.stderr


def test_seconds_are_more_than_none(command: Command) -> None:
    for wrong in ("0", "-1", "nan", "inf", "x"):
        assert command("bench", "none.tar", f"--seconds={wrong}").returncode == 2


def test_ctrl_c_ends_it_quietly(shard: Path, script_file: Path) -> None:
    started = shard.parent / "started"
    begin = f'loader:add_row(tar, row, {{ ".cls" }}) io.open("{started}", "w"):close()'
    script_file.write_text(SCRIPT.replace("loader:add_row(tar, row, { ctx.config.key })", begin))
    arguments = ["bench", "--script", script_file.name, "-c", "dir=.", "--seconds", "50"]
    with subprocess.Popen(
        [sys.executable, "-m", "ultar_dataloader", *arguments],
        cwd=shard.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            deadline = time.monotonic() + 20
            while not started.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, errors) == (130, b"", b"")


@pytest.mark.parametrize("access", ["read", "mmap", "direct"])
def test_every_way_to_the_bytes(shard: Path, command: Command, access: str) -> None:
    done = command("bench", shard.name, "--access", access, "--json", "--seconds", 0.1)
    assert done.returncode == 0, done.stderr  # A file system may refuse O_DIRECT, with a warning.
    found = json.loads(done.stdout)
    assert (found["access"], found["rows"]) == (access, 50)


def plan_from(tmp_path: Path, *ranges: tuple[int, int], rows_each: int = 1) -> Plan:
    """The plan for a script with such entries, by offset and size, so many in each row."""
    path = tmp_path / "plain"
    path.write_bytes(bytes(max(offset + size for offset, size in ranges)))
    lines = [f'local file = loader:open_file("{path}")']
    for number, (offset, size) in enumerate(ranges, 1):
        lines.append(f'loader:add_entry(file, "k{number}", {offset}, {size})')
        if number % rows_each == 0:
            lines.append("loader:finish_row()")
    text = "\n".join(lines)
    source = f'local loader = require("ultar.loader")\nreturn {{ row_generator = function()\n{text}\nend }}'
    return plan_of(DryLoader(source), 1 << 40, 60)


def test_ranges_are_read_as_the_engine_would(tmp_path: Path) -> None:
    far = 100 + GAP_BYTES
    plan = plan_from(tmp_path, (0, 50), (60, 40), (far, 10), (2 * far + 11, 10), (5, 1))
    assert plan.reads == [Read(0, 0, far + 10, 3), Read(0, 2 * far + 11, 10, 4), Read(0, 5, 1, 5)]
    assert [plan.payload_bytes(rows) for rows in range(7)] == [0, 50, 90, 100, 110, 111, 111]
    large = plan_from(tmp_path, (7, 2 * READ_BYTES + 1), (2 * READ_BYTES + 8, 3))
    assert [read.size for read in large.reads] == [READ_BYTES, READ_BYTES, 4]
    assert [read.rows for read in large.reads] == [0, 0, 2]


@pytest.mark.parametrize("cold", [False, True])
def test_bare_reads_read_all(tmp_path: Path, cold: bool) -> None:
    plan = plan_from(tmp_path, *((offset * 20_000, 5000) for offset in range(100)), rows_each=2)
    assert plan.read_bare(60, cold=cold) == (50, 500_000, 500_000)
    plan.cut(30)
    assert (plan.rows, len(plan.reads), plan.is_whole) == (30, 61, False)
    assert plan.read_bare(60, cold=cold) == (30, 300_000, 305_000)
    os.truncate(tmp_path / "plain", 30_000)
    with pytest.raises(ultar.ReadError, match=r"plain: wanted 5000 bytes at offset \d+, got 0"):
        plan.read_bare(60, cold=cold)
    assert plan.cached_share() is None or 0 <= (plan.cached_share() or 0) <= 1


def made_up(**rates: float) -> dict[str, Measure]:
    """Measures of 1000 rows with such rates, in which nothing waits."""
    found = {name: Measure(name, title) for name, title in TITLES.items()}
    for name, measure in found.items():
        measure.samples.append(Sample(1000, 10**6, 10**6, 1000 / rates[name], 0.1))
    return found


def said(found: dict[str, Measure], **around: object) -> tuple[str, str]:
    usual = {
        "rows": 100_000,
        "payload_bytes": 10**8,
        "cached": True,
        "access": "auto",
        "io": "uring",
        "every_row": True,
        "remote": False,
    }
    return verdict(found, Circumstances(**(usual | around)))  # type: ignore[arg-type]


def test_the_verdict_fits_the_figures() -> None:
    found = made_up(storage=100e3, script=1e6, engine=90e3, views=80e3, bytes=79e3)
    found["script"].samples[0].waits["script_ns"] = 10**6
    waits = found["views"].samples[0].waits
    waits |= {"script_ns": 9 * 10**6, "storage_ns": 10**6, "consumer_ns": 10**6}
    assert said(found, rows=100)[0] == "too_little"
    assert said(found)[0] == "copy" and 'access="mmap"' in said(found)[1]
    assert 'access="mmap"' not in said(found, access="mmap")[1]
    assert said(found, cached=False)[0] == "storage" and "80% is used" in said(found, cached=False)[1]

    waits["script_ns"] = 10**6
    found["script"].samples[0].waits["script_ns"] = 3 * 10**6
    assert said(found)[0] == "script" and "script of your own" in said(found)[1]
    assert "init_ctx" in said(found, every_row=False)[1]

    waits["consumer_ns"] = 10**7
    assert said(found)[0] == "python" and "not as views" not in said(found)[1]


def test_the_verdict_on_bytes_and_on_waiting() -> None:
    found = made_up(storage=100e3, script=1e6, engine=90e3, views=80e3, bytes=40e3)
    found["bytes"].samples[0].waits["consumer_ns"] = 10**7
    assert said(found)[0] == "bytes" and "views are 2.0 times as fast" in said(found)[1]

    slow = made_up(storage=100e3, script=1e6, engine=30e3, views=30e3, bytes=30e3)
    slow["views"].samples[0].waits["storage_ns"] = 10**7
    bound_by, text = said(slow, cached=False)
    assert bound_by == "latency" and 'access="direct"' in text and 'io="threads"' in text
    _, text = said(slow, cached=False, access="direct", io="threads")
    assert "access=" not in text and 'io="uring"' in text
    _, text = said(slow, cached=False, remote=True)
    assert "access=" not in text and "io=" not in text and "storage_options" in text

    assert said(found, cached=False, access="mmap")[0] == "latency"  # Of 100 rows, 40: touched, not mapped.
    assert said(
        made_up(storage=50e3, script=1e6, engine=90e3, views=90e3, bytes=40e3), cached=False, access="mmap"
    ) == (
        "storage",
        "bound by storage: it gives 0.05 GB/s, of which 80% is used; "
        "read fewer keys or rows, or put the shards on faster storage",
    )

    small = made_up(storage=100e3, script=1e6, engine=90e3, views=40e3, bytes=80e3)
    small["bytes"].samples[0].waits["consumer_ns"] = 10**7
    assert said(small)[0] == "python" and "as bytes, not as views" in said(small)[1]
