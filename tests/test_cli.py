"""The command, run as users run it: what it prints, where, and its exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ultar_dataloader as ultar

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Make = Callable[..., Path]
CATS = {
    "cat": {".txt": b"a cat\n", ".bin": b"\x00\xff" * 40},
    "dog": {".txt": b"ein H\xc3\xbcndchen", ".json": b'{"n": 1}'},
}
PRINTING = """\
local loader = require("ultar.loader")
local utix = require("ultar.utix")
return {
  init_ctx = function(rank, world_size, config)
    print("config", type(config.n), config.n, type(config.s), config.s)
    return config
  end,
  row_generator = function(config)
    local tar = loader:open_file(config.tar)
    for row in utix.open(config.tar .. ".utix"):iter() do
      print("now " .. row.str_idx)
      loader:add_row(tar, row)
      loader:add_entry_bytes("made", row.str_idx)
      loader:finish_row()
    end
    if config.fail then error("enough") end
  end,
}
"""


@pytest.fixture
def printing(tmp_path: Path) -> Path:
    path = tmp_path / "printing.lua"
    path.write_text(PRINTING)
    return path


def test_version_and_help(command: Command) -> None:
    assert command("--version").stdout == f"ultar-dataloader {ultar.__version__}\n"
    shown = command("--help")
    assert shown.returncode == 0
    for verb in ("index", "convert", "run", "inspect", "bench", "init-lsp", "types-path"):
        assert verb in shown.stdout
        assert command(verb, "--help").returncode == 0
    assert command().returncode == 2


def test_index_prints_a_summary(make_shard: Make, command: Command) -> None:
    for i in range(3):
        make_shard(CATS, f"s-{i}.tar", index=False)

    done = command("index", "s-{0..2}.tar")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 shards indexed: 6 samples, 12 entries, ")

    done = command("index", ".", "--json")
    assert json.loads(done.stdout) | {"seconds": 0} == {
        "shards": 0,
        "skipped": 3,
        "samples": 0,
        "entries": 0,
        "bytes": 0,
        "seconds": 0,
        "warnings": [],
        "failures": [],
    }
    assert command("index", "s-0.tar", "--force", "--jobs", 1).stdout.startswith("1 shard indexed: 2 samples")
    assert command("index", ".", "--check").stdout.startswith("3 shards checked: 6 samples")


def test_index_names_the_bad_ones(make_shard: Make, command: Command, tmp_path: Path) -> None:
    make_shard(CATS, "good.tar", index=False)
    (tmp_path / "bad.tar").write_bytes(b"x" * 2000)

    done = command("index", "bad.tar", "good.tar")

    assert done.returncode == 1
    assert done.stdout.startswith("1 shard indexed, 1 failed: 2 samples")
    assert done.stderr.startswith("error: bad.tar")
    assert "Traceback" not in done.stderr
    assert (tmp_path / "good.tar.utix").exists()
    (tmp_path / "empty").mkdir()
    done = command("index", "none.tar", "empty", "good.tar")
    assert done.returncode == 1
    assert done.stdout.startswith("0 shards indexed, 1 up to date, 2 failed")
    none = "no *.tar in this folder, and no shard of another container"
    assert done.stderr == f"error: none.tar: no such shard\nerror: empty: {none}\n"


def test_index_check_changes_nothing(make_shard: Make, command: Command) -> None:
    index = Path(f"{make_shard(CATS)}.utix")
    index.write_bytes(index.read_bytes()[:-10])
    before = index.read_bytes()
    done = command("index", "--check", "shard-000000.tar")
    assert done.returncode == 1
    assert "shard-000000.tar.utix" in done.stderr
    assert index.read_bytes() == before


def test_index_with_metadata(make_shard: Make, command: Command) -> None:
    make_shard(CATS, index=False)
    assert command("index", ".", "--meta-rule", ".json:.n", "--fmt", "jsonl").returncode == 0
    done = command("inspect", "shard-000000.tar")
    assert "metadata: .n in 2 samples, null in 1" in done.stdout


def test_run_shows_rows_with_prints_in_order(make_shard: Make, printing: Path, command: Command, io: str) -> None:
    make_shard(CATS)
    done = command("run", printing.name, "-c", "tar=shard-000000.tar", "-c", "n=1.5", "-c", "s=1x", "--io", io)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["print", "|", "config", "number", "1.5", "string", "1x"]
    order = [line for line in lines if line.startswith(("print | now", "row"))]
    assert order == ["print | now cat", "row 0", "print | now dog", "row 1"]
    assert [line.split() for line in lines if ".txt" in line] == [
        [".txt", "6", "a", r"cat\n"],
        [".txt", "13", "ein", "Hündchen"],
    ]
    assert any(line.split()[:4] == [".bin", "80", "00", "ff"] for line in lines)
    assert done.stderr.startswith("2 rows, 6 entries, ")


def test_run_as_json_and_with_a_limit(make_shard: Make, printing: Path, command: Command) -> None:
    make_shard(CATS)
    done = command("run", printing.name, "-c", "tar=shard-000000.tar", "--show", "json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["row"] for row in rows] == [0, 1]
    assert rows[1]["entries"][1:] == [
        {"key": ".json", "size": 8, "value": {"n": 1}},
        {"key": "made", "size": 3, "value": "dog"},
    ]
    assert "print | now cat" in done.stderr
    for limit in (0, 1):
        done = command("run", printing.name, "-c", "tar=shard-000000.tar", "--limit", limit, "--show", "hex")
        assert done.stdout.count("row ") == limit
    assert "61 20 63 61 74 0a" in done.stdout


def test_dry_shows_what_would_be_read(make_shard: Make, printing: Path, command: Command) -> None:
    shard = make_shard(CATS)
    done = command("run", printing.name, "-c", f"tar={shard}", "--dry")
    assert done.returncode == 0, done.stderr
    assert f"{shard} at 512" in done.stdout
    assert "made by the script" in done.stdout
    assert done.stdout.count("print | config") == 1  # init_ctx ran once.
    assert "to read" in done.stderr
    done = command("run", printing.name, "-c", f"tar={shard}", "--dry", "--show", "json")
    assert json.loads(done.stdout.splitlines()[0])["entries"][0] == {
        "key": ".txt",
        "size": 6,
        "path": str(shard),
        "offset": 512,
    }


def test_a_failing_script_shows_its_traceback_only(make_shard: Make, printing: Path, command: Command) -> None:
    make_shard(CATS)
    done = command("run", printing.name, "-c", "tar=shard-000000.tar", "-c", "fail=true")
    assert done.returncode == 1
    assert done.stdout.count("\nrow ") == 2  # All that was finished comes first.
    assert "error: printing.lua:16: enough" in done.stderr
    assert "stack traceback" in done.stderr
    assert "File " not in done.stderr

    printing.write_text("return {")
    done = command("run", printing.name)
    assert done.returncode == 1
    assert done.stderr.startswith("error: printing.lua:1:")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.lua"], "none.lua"),
        (["printing.lua", "--rank", "1"], "rank must be from 0 to 0, got 1"),
        (["printing.lua", "-c", "word"], "-c wants KEY=VALUE, got 'word'"),
    ],
)
def test_run_says_what_is_wrong(printing: Path, command: Command, arguments: list[str], message: str) -> None:
    done = command("run", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def spawn(folder: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The command, running. It is gone afterwards, and long before a test could hang."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ultar_dataloader", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = threading.Timer(30, process.kill)
    limit.start()
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        limit.cancel()


def save(script: Path, text: str) -> None:
    """As editors do: the file is never half there."""
    draft = script.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(script)


def test_watch_runs_again_when_the_script_is_saved(tmp_path: Path) -> None:
    source = 'return { init_ctx = function() print("%s") end, row_generator = function() end }'
    script = tmp_path / "watched.lua"
    script.write_text(source % "first")
    with spawn(tmp_path, "run", script.name, "--watch") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        assert process.stdout.readline() == "print | first\n"
        save(script, "not lua")
        assert "0 rows" in process.stderr.readline()
        assert process.stderr.readline().startswith("error: watched.lua:1:")
        save(script, source % "second, and longer")
        while (line := process.stdout.readline()).startswith("--"):
            pass
        assert line == "print | second, and longer\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert "Traceback" not in process.stderr.read()


def test_ctrl_c_ends_a_script_that_never_does(tmp_path: Path) -> None:
    script = tmp_path / "forever.lua"
    script.write_text(
        'return { init_ctx = function() print("on") end, row_generator = function() while true do end end }'
    )
    with spawn(tmp_path, "run", script.name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "print | on\n"
        time.sleep(0.2)  # Into the loop.
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert time.monotonic() - began < 2
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_a_reader_that_has_enough_is_no_error(make_shard: Make, printing: Path, tmp_path: Path) -> None:
    make_shard({f"sample{i}": {".txt": b"x" * 50} for i in range(5000)})
    with spawn(tmp_path, "run", printing.name, "-c", "tar=shard-000000.tar") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(10) == 0


def test_inspect(make_shard: Make, command: Command) -> None:
    shard = make_shard({"a": {".txt": b"1234567", ".jpg": b""}, "b": {".txt": b"1" * 2000}})
    for name in (shard.name, f"{shard.name}.utix"):
        done = command("inspect", name)
        assert done.returncode == 0, done.stderr
        assert "2 samples, 3 entries, 2.0 KiB of payload" in done.stdout
        rows = [line.split() for line in done.stdout.splitlines()]
        assert [".txt", "2", "2", "2.0", "KiB", "7", "B", "7", "B", "2.0", "KiB"] in rows
        assert "stems: a, b" in done.stdout
        found = json.loads(command("inspect", name, "--json").stdout)
        assert found["samples"] == 2
        assert found["keys"][".txt"] == {"count": 2, "samples": 2, "bytes": 2007, "min": 7, "median": 7, "max": 2000}
        assert sum(bucket["count"] for bucket in found["sizes"]) == 3
        assert all(bucket["from"] < bucket["below"] for bucket in found["sizes"])


def test_inspect_says_what_is_wrong(make_shard: Make, command: Command, tmp_path: Path) -> None:
    shard = make_shard(CATS, index=False)
    done = command("inspect", shard.name)
    assert done.returncode == 1
    assert "ultar-dataloader index shard-000000.tar" in done.stderr
    (tmp_path / "bad.utix").write_bytes(b"\xc1 nothing")
    for name in ("bad.utix", "none.utix"):
        done = command("inspect", name)
        assert done.returncode == 1
        assert name in done.stderr
        assert "Traceback" not in done.stderr


def test_editors_are_set_up(command: Command, tmp_path: Path) -> None:
    types = Path(command("types-path").stdout.strip())
    assert (types / "ultar" / "loader.lua").is_file()

    assert command("init-lsp").returncode == 0
    settings = json.loads((tmp_path / ".luarc.json").read_text())
    assert settings["workspace.library"] == [str(types)]

    again = command("init-lsp")
    assert again.returncode == 1
    assert os.path.join(".", ".luarc.json") in again.stderr
    assert command("init-lsp", "--dir", "none").returncode == 1
