"""The embedded Lua modules, tested from inside: the tests of `tests/lua` run in a script, one row each."""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest

import ultar_dataloader as ultar

ROOT = Path(__file__).parents[1]
LUA_TESTS = sorted((ROOT / "tests/lua").glob("*_test.lua"))

# A test that fails ends its row and not the script.
RUN_TESTS = """\
local loader = require("ultar.loader")
return {
  init_ctx = function(rank, world_size, config)
    local check = assert(loadstring(config.check, "@check.lua"))()
    assert(loadstring(config.test, "@" .. config.name))(check, config)
    return check.tests
  end,
  row_generator = function(tests)
    for _, test in ipairs(tests) do
      local ok, message = xpcall(test.run, function(message)
        return debug.traceback(tostring(message), 2)
      end)
      loader:add_entry_bytes(test.name, ok and "ok" or message)
      loader:finish_row()
    end
  end,
}
"""

RECORDS: list[dict[str, object]] = [
    {"iidx": 0, "offset": 512, "str_idx": "a", "keys": [".txt"], "offsets": [0], "sizes": [3]},
    {
        "iidx": 1,
        "offset": 4096,
        "str_idx": "b",
        "keys": [".txt", ".json"],
        "offsets": [0, 1024],
        "sizes": [5, 7],
        "metadata": {".label": "cat", ".box": [1, 2]},
    },
    {"iidx": 2, "offset": 8192, "str_idx": "c", "keys": [".txt"], "offsets": [0], "sizes": [0]},
    {"iidx": 3, "offset": 16384, "str_idx": "empty", "keys": [], "offsets": [], "sizes": []},
    {
        "iidx": 4,
        "offset": 20480,
        "str_idx": "twice",
        "keys": [".a", ".b", ".a"],
        "offsets": [0, 512, 1024],
        "sizes": [1, 2, 3],
    },
    {"iidx": 2**53 + 1, "offset": 2**63 + 1, "str_idx": "huge", "keys": [".txt"], "offsets": [2**53], "sizes": [2**62]},
]


def write_index(path: Path, records: list[dict[str, object]]) -> str:
    path.write_bytes(b"".join(map(msgpack.packb, records)))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, object]:
    """What the Lua tests find in `config`: a shard, indexes, directories."""
    tar = tmp_path / "shard.tar"
    tar.write_bytes(bytes(range(256)) * 128)
    large = [
        {
            "iidx": i,
            "offset": 1024 * i,
            "str_idx": str(i),
            "keys": [".jpg"] if i % 4 else [".txt", ".jpg"],
            "offsets": [0] if i % 4 else [0, 512],
            "sizes": [i] if i % 4 else [1, i],
        }
        for i in range(5000)
    ]
    listed = tmp_path / "listed"
    (listed / "sub").mkdir(parents=True)
    for name in ("b.tar", "a.tar", ".hidden", "ä.tar"):
        (listed / name).touch()
    (tmp_path / "empty").mkdir()
    return {
        "tar": str(tar),
        "index": write_index(tmp_path / "records.utix", RECORDS),
        "large": write_index(tmp_path / "large.utix", large),
        "dir": str(listed),
        "empty": str(tmp_path / "empty"),
        "listing": sorted(map(str, listed.iterdir()), key=lambda path: path.encode()),
    }


@pytest.mark.parametrize("path", LUA_TESTS, ids=lambda path: path.stem)
def test_lua(path: Path, files: dict[str, object]) -> None:
    config = {
        **files,
        "rank": 3,
        "world_size": 8,
        "name": path.name,
        "test": path.read_text(),
        "check": (ROOT / "tests/lua/check.lua").read_text(),
    }
    results: dict[str, str] = {}
    for row in ultar.DataLoader(RUN_TESTS, config, rank=3, world_size=8):
        results |= {name: text.decode() for name, text in row.items()}
    failed = {name: text for name, text in results.items() if text != "ok"}
    assert len(results) == path.read_text().count('\ntest("'), "a test is missing, or two have one name"
    assert not failed, "\n\n".join(f"{name}: {text}" for name, text in failed.items())


def run(body: str, config: dict[str, object] | None = None) -> list[dict[str, bytes]]:
    """The rows of a script with this generator; `tar` is `config.tar`, open."""
    script = f"""
        local loader, utix = require("ultar.loader"), require("ultar.utix")
        return {{
          init_ctx = function(_, _, config) return config end,
          row_generator = function(config)
            local tar = config.tar and loader:open_file(config.tar)
            {body}
          end,
        }}"""
    return [row.to_dict() for row in ultar.DataLoader(script, config or {})]


def test_a_row_is_added_whole_or_by_its_keys(make_shard: Callable[..., Path]) -> None:
    shard = make_shard({"a": {".jpg": b"one", ".txt": b"two", ".cls": b"3"}})
    config: dict[str, object] = {"tar": str(shard), "idx": f"{shard}.utix"}
    rows = run(
        """
        local row = utix.open(config.idx)[1]
        row.keys, row.offset = { ".changed" }, 0
        loader:add_row(tar, row) loader:finish_row()
        loader:add_row(tar, row, { ".cls", ".jpg" }) loader:finish_row()
        loader:add_row(tar, row, {}) loader:finish_row()
        loader:add_entry(tar, "text", row:range(".txt")) loader:finish_row()
        """,
        config,
    )
    assert [list(row.items()) for row in rows] == [
        [(".jpg", b"one"), (".txt", b"two"), (".cls", b"3")],
        [(".cls", b"3"), (".jpg", b"one")],
        [],
        [("text", b"two")],
    ]


def test_rows_may_be_made_in_coroutines_of_the_script() -> None:
    rows = run(
        """
        local emit = coroutine.wrap(function()
          for i = 1, 3 do
            loader:add_entry_bytes("n", tostring(i))
            loader:finish_row()
            coroutine.yield(i)
          end
        end)
        for i in emit do loader:add_entry_bytes("after", tostring(i)) loader:finish_row() end
        """
    )
    assert [list(row.values()) for row in rows] == [[b"1"], [b"1"], [b"2"], [b"2"], [b"3"], [b"3"]]


def test_print_goes_to_the_log_as_lua_prints(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ultar_dataloader.script")
    run("print('a', nil, 1.5, true) print() print(setmetatable({}, { __tostring = function() return 'mine' end }))")
    texts = [record.getMessage() for record in caplog.records]
    assert texts == ["a\tnil\t1.5\ttrue", "", "mine"]


def test_the_stack_is_printed_with_its_variables(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ultar_dataloader.script")
    run("local function inner(name) local text = require('ultar.debug').dump_stack() assert(text) end inner('x')")
    (text,) = [record.getMessage() for record in caplog.records]
    assert "script.lua" in text
    assert "in function 'inner'" in text
    assert 'name = "x"' in text


def test_an_argument_error_has_the_line_of_the_script() -> None:
    with pytest.raises(ultar.ScriptError, match=r"script\.lua:2: bad argument #3 to 'add_entry'.*got nan"):
        list(
            ultar.DataLoader(
                "local loader = require('ultar.loader') return { row_generator = function()\n"
                "loader:add_entry(1, 'k', 0/0, 1) end }"
            )
        )


def test_a_script_that_catches_errors_can_be_dropped() -> None:
    script = """
        local loader = require("ultar.loader")
        return { row_generator = function()
          while true do
            pcall(function() loader:add_entry_bytes("a", "x") loader:finish_row() end)
          end
        end }"""
    rows = iter(ultar.DataLoader(script, prefetch_rows=10))
    assert next(rows).to_dict() == {"a": b"x"}
    del rows


@pytest.mark.parametrize(
    "emit",
    [
        "local co = coroutine.create(emit) while coroutine.status(co) ~= 'dead' do coroutine.resume(co) end",
        "local next_row = coroutine.wrap(emit) while true do pcall(next_row) end",
        "pcall(emit)",
        "xpcall(emit, function(e) emit() return e end)",
        "pcall(table.sort, {3, 1, 2}, function(a, b) emit() return a < b end)",
        "pcall(string.gsub, 'abc', '.', emit)",
        "coroutine.wrap(function() while true do pcall(coroutine.wrap(emit)) end end)()",
    ],
)
def test_a_script_that_holds_on_is_dropped_all_the_same(emit: str) -> None:
    """Its thread ends, wherever in the script the loader says that nobody wants rows any more."""
    script = """
        local loader = require("ultar.loader")
        local function emit()
          while true do
            loader:add_entry_bytes("a", "x") loader:finish_row()
            if coroutine.running() then pcall(coroutine.yield) end
          end
        end
        return { row_generator = function() while true do EMIT end end }"""
    rows = iter(ultar.DataLoader(script.replace("EMIT", emit), prefetch_rows=10))
    threads = len(os.listdir("/proc/self/task"))
    assert next(rows).to_dict() == {"a": b"x"}
    del rows
    assert len(os.listdir("/proc/self/task")) < threads


def test_indexes_that_are_garbage_are_closed(files: dict[str, object]) -> None:
    # The collector waits for as much garbage as there is in use, which the ballast makes a lot.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(
        """
        local ballast = {}
        for i = 1, 2000000 do ballast[i] = i end
        for _ = 1, 1500 do utix.open(config.large) end
        """,
        files,
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 250 * 1024, "KiB"


def recipe(name: str, config: dict[str, object], rank: int = 0, world_size: int = 1) -> list[dict[str, bytes]]:
    path = ROOT / "lua/recipes" / f"{name}.lua"
    return [row.to_dict() for row in ultar.DataLoader.from_file(path, config, rank, world_size)]


def test_recipe_every_row(make_shard: Callable[..., Path], tmp_path: Path) -> None:
    for k in range(3):
        make_shard({f"{k}-{i}": {".txt": f"{k}-{i}".encode()} for i in range(2)}, f"s-{k}.tar")
    config: dict[str, object] = {"shards": [f"{tmp_path}/s-{{0..2}}.tar"]}
    assert [row[".txt"] for row in recipe("every_row", config, 0, 2)] == [b"0-0", b"0-1", b"2-0", b"2-1"]
    assert [row[".txt"] for row in recipe("every_row", config, 1, 2)] == [b"1-0", b"1-1"]


def test_recipe_filter_by_metadata(make_shard: Callable[..., Path]) -> None:
    sides = [(100, 900), (600, 700), (512, 512), (None, 900)]
    samples = {
        str(i): {".jpg": b"%d" % i, ".json": json.dumps(dict(zip(("width", "height"), s, strict=True))).encode()}
        for i, s in enumerate(sides)
    }
    samples["empty"] = {".jpg": b"", ".json": b'{"width": 1000, "height": 1000}'}
    shard = make_shard(samples, index=False)
    ultar.index(shard, metadata_rules=[".json:.width;.height"])
    rows = recipe("filter_by_metadata", {"shard": str(shard), "side_min": 512})
    assert [row[".jpg"] for row in rows] == [b"1", b"2"]


def test_recipe_join_two_shards(make_shard: Callable[..., Path]) -> None:
    left = make_shard({stem: {".jpg": stem.encode()} for stem in "abc"}, "left.tar")
    right = make_shard({stem: {".txt": stem.encode() * 2} for stem in "cxa"}, "right.tar")
    rows = recipe("join_two_shards", {"left": str(left), "right": str(right)})
    assert rows == [{".jpg": b"a", ".txt": b"aa"}, {".jpg": b"c", ".txt": b"cc"}]


def test_recipe_shuffled(make_shard: Callable[..., Path]) -> None:
    sizes = [3, 1, 10]
    shards = [
        str(make_shard({f"{k}-{i}": {".txt": f"{k}-{i}".encode()} for i in range(size)}, f"{k}.tar"))
        for k, size in enumerate(sizes)
    ]

    def read(epoch: int) -> list[list[bytes]]:
        config: dict[str, object] = {"shards": shards, "seed": 5, "epoch": epoch}
        return [[row[".txt"] for row in recipe("shuffled", config, rank, 2)] for rank in range(2)]

    first, second = read(0), read(1)
    everything = sorted(f"{k}-{i}".encode() for k, size in enumerate(sizes) for i in range(size))
    assert sorted(first[0] + first[1]) == sorted(second[0] + second[1]) == everything
    assert first == read(0)
    assert first != second
    assert len(first[0]) == len(first[1])
    near = recipe("shuffled", {"shards": shards, "seed": 5, "epoch": 0, "window": 4})
    assert sorted(row[".txt"] for row in near) == everything


def test_the_page_about_the_lua_api_is_fresh() -> None:
    made = subprocess.run([sys.executable, ROOT / "tools/lua_api.py", "--check"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
