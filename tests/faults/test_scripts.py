"""Whatever a script does wrong is a ScriptError with its line, after the rows that it had finished."""

import logging
import signal
import time

import pytest
from support import generator, load, run_python

from ultar_dataloader import DataLoader, ScriptError, UltarError


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 16)
    return str(path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("loader:add_entry(h, '.x', -1, 5)", "offset"),
        ("loader:add_entry(h, '.x', 0/0, 5)", "nan"),
        ("loader:add_entry(h, '.x', 1/0, 5)", "inf"),
        ("loader:add_entry(h, '.x', 1.5, 5)", "1.5"),
        ("loader:add_entry(h, '.x', 2^60, 5)", "2\\^53"),
        ("loader:add_entry(h, '.x', 0, -1)", "size"),
        ("loader:add_entry(h, '.x', 0, 0/0)", "size"),
        ("loader:add_entry(h, '.x', 0, 1e300)", "size"),
        ("loader:add_entry(h, '.x', nil, 5)", "nil"),
        ("loader:add_entry(h, '.x', '0', 5)", "offset"),
        ("loader:add_entry(h, '.x')", "offset"),
        ("loader:add_entry(h, nil, 0, 5)", "key"),
        ("loader:add_entry(h, {}, 0, 5)", "key"),
        ("loader:add_entry(nil, '.x', 0, 5)", "handle"),
        ("loader:add_entry({}, '.x', 0, 5)", "handle"),
        ("loader:add_entry(12345, '.x', 0, 5)", "12345 is not an open file"),
        ("loader:add_entry(-1, '.x', 0, 5)", "not an open file"),
        ("loader:add_entry(0/0, '.x', 0, 5)", "not an open file"),
        ("loader:add_entry(1e300, '.x', 0, 5)", "not an open file"),
        ("loader:add_entry(h + 0.5, '.x', 0, 5)", "not an open file"),
        ("loader:close_file(h) loader:add_entry(h, '.x', 0, 5)", "not an open file"),
        ("loader:close_file(h) loader:close_file(h)", "not an open file"),
        ("loader:close_file()", "handle"),
        ("loader.add_entry(h, '.x', 0, 5)", "colon"),
        ("loader.finish_row()", "colon"),
        ("loader.open_file('/etc/passwd')", "colon"),
        ("loader.close_file(h)", "colon"),
        ("loader.add_entry_bytes('.x', 'y')", "colon"),
        ("loader:add_entry_bytes('.x', 5)", "data"),
        ("loader:add_entry_bytes(5, 'x')", "key"),
        ("loader:add_row(h, {})", "row"),
        ("loader:add_row(h)", "row"),
        ("loader:add_entry(h, ('k'):rep(100000), 0, 5)", "key"),
        ("loader:open_file()", "path"),
        ("loader:nonsense()", "nonsense"),
        ("error('my own words')", "my own words"),
        ("error({code = 5})", "table"),
        ("error(setmetatable({}, {__tostring = function() return 'an object' end}))", "an object"),
        ("error()", "nil"),
        ("local t = nil; t.x = 1", "index"),
        ("require('no.such.module')", "no.such.module"),
    ],
)
def test_a_mistake_at_its_line(data, call, message, io):
    script = generator(f"local h = loader:open_file(config.data)\n{call}")
    rows = iter(DataLoader(script, {"data": data}, io=io, name="policy.lua"))
    with pytest.raises(ScriptError, match=message) as failure:
        next(rows)
    text = str(failure.value)
    assert "stack traceback:" in text
    assert "policy.lua:4" in text
    with pytest.raises(ScriptError, match=message):
        next(rows)


def test_size_0_works(data, io):
    script = generator(
        "local h = loader:open_file(config.data)\nloader:add_entry(h, '.e', 4096, 0) loader:finish_row()"
    )
    (row,) = load(script, io, data=data)
    assert row.to_dict() == {".e": b""}
    assert len(row.view(".e")) == 0


def test_any_bytes_are_a_key(data, io):
    script = generator("""
    local h = loader:open_file(config.data)
    loader:add_entry(h, "a\\0b", 0, 1)
    loader:add_entry(h, "\\255\\254", 1, 1)
    loader:add_entry(h, "", 2, 1)
    loader:finish_row()
    """)
    (row,) = load(script, io, data=data)
    assert row["a\0b"] == b"\0"
    assert list(row.keys())[1].encode("utf-8", "surrogateescape") == b"\xff\xfe"
    assert row[b"\xff\xfe".decode("utf-8", "surrogateescape")] == b"\1"
    assert row[""] == b"\2"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("return {", "near"),
        ("error('at load')", "at load"),
        ("return { row_generator = function() end, init_ctx = function() error('in init') end }", "in init"),
        ("", "table"),
        ("return 5", "table"),
        ("return {}", "row_generator"),
        ("return { row_generator = 5 }", "row_generator"),
        ("return { row_generator = function() end, init_ctx = 5 }", "init_ctx"),
        (
            "return { row_generator = function() end, init_ctx = function() require('ultar.loader'):finish_row() end }",
            "init_ctx",
        ),
        ("\x1bLJ\x02 this is no bytecode", "bytecode|binary|chunk"),
        ("\0\0\0", "near|unexpected"),
    ],
)
def test_mistakes_surface_at_construction(script, message):
    with pytest.raises(ScriptError, match=message):
        DataLoader(script, {})


def test_rows_before_an_error_are_delivered(data, io):
    script = generator("""
    local h = loader:open_file(config.data)
    for i = 1, 1000 do
      loader:add_entry(h, ".x", i, 4)
      loader:finish_row()
    end
    loader:add_entry(h, ".half", 0, 1)
    error("after a thousand")
    """)
    rows = iter(load(script, io, data=data))
    content = bytes(range(256)) * 16
    for i in range(1, 1001):
        assert next(rows)[".x"] == content[i : i + 4]
    for _ in range(3):
        with pytest.raises(ScriptError, match="after a thousand"):
            next(rows)


def test_entries_without_finish_row_are_not_lost_silently(data):
    script = generator('loader:add_entry_bytes("a", "1") loader:finish_row() loader:add_entry_bytes("b", "2")')
    rows = iter(load(script))
    assert next(rows)["a"] == b"1"
    with pytest.raises(ScriptError, match="1 entries that no finish_row"):
        next(rows)


def test_the_end_stays_the_end():
    rows = iter(load(generator("")))
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(rows)


def test_a_generator_that_yields_by_itself():
    script = generator("""
    for i = 1, 50 do
      loader:add_entry_bytes("i", tostring(i))
      coroutine.yield(i, "whatever")
      loader:finish_row()
      coroutine.yield()
    end
    """)
    assert [row["i"] for row in load(script)] == [b"%d" % i for i in range(1, 51)]


def test_rows_from_inside_a_coroutine_of_the_script(io):
    script = generator("""
    local co = coroutine.wrap(function()
      for i = 1, 20000 do
        loader:add_entry_bytes("i", tostring(i))
        loader:finish_row()
        coroutine.yield(i)
      end
    end)
    for i = 1, 20000 do
      if co() ~= i then error("the engine took a yield that was mine") end
    end
    """)
    loader = DataLoader(script, {}, io=io, prefetch_rows=7)
    assert [row["i"] for row in loader] == [b"%d" % i for i in range(1, 20001)]


def test_open_file_can_be_caught(tmp_path):
    script = generator("""
    local ok, message = pcall(loader.open_file, loader, config.missing)
    loader:add_entry_bytes("ok", tostring(ok))
    loader:add_entry_bytes("message", message)
    loader:finish_row()
    """)
    (row,) = load(script, missing=str(tmp_path / "missing"))
    assert row["ok"] == b"false"
    assert b"No such file" in row["message"]


def test_a_caught_failure_does_not_colour_a_later_error(tmp_path):
    script = generator("pcall(loader.open_file, loader, config.missing) error('something else')")
    with pytest.raises(ScriptError, match="something else"):
        list(load(script, missing=str(tmp_path / "missing")))


def test_lua_out_of_memory():
    script = generator("""
    loader:add_entry_bytes("a", "1")
    loader:finish_row()
    local t = {}
    for i = 1, 1e9 do t[i] = ("x"):rep(2^20) .. i end
    """)
    rows = iter(load(script))
    assert next(rows)["a"] == b"1"
    with pytest.raises(UltarError, match="not enough memory"):
        next(rows)


def test_endless_recursion():
    with pytest.raises(ScriptError, match="stack overflow"):
        list(load(generator("local function f() return 1 + f() end f()")))


@pytest.mark.parametrize("where", ["row_generator", "init_ctx", "top level"])
def test_a_script_that_never_returns_answers_ctrl_c(where):
    code = f"""
    import os, signal, threading, time
    from ultar_dataloader import DataLoader
    loop = "while true do end"
    where = {where!r}
    script = (
        ("while true do end " if where == "top level" else "") + "return {{ init_ctx = function() "
        + (loop if where == "init_ctx" else "") + " end, row_generator = function() "
        + (loop if where == "row_generator" else "") + " end }}")
    def interrupt():
        global at
        at = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)
    threading.Timer(0.5, interrupt).start()
    try:
        next(iter(DataLoader(script, {{}})))
    except KeyboardInterrupt:
        # Dropping the iterator may take up to a quarter of a second more.
        print("answered", time.monotonic() - at < 1.0)
    """
    start = time.monotonic()
    done = run_python(code, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "answered True\n", "")
    assert time.monotonic() - start < 10


def test_ctrl_c_is_answered_within_a_tenth_of_a_second():
    code = """
    import os, signal, threading, time
    from support import generator, load
    rows = iter(load(generator("while true do end")))
    def interrupt():
        global at
        at = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)
    threading.Timer(0.3, interrupt).start()
    try:
        next(rows)
    except KeyboardInterrupt:
        print(time.monotonic() - at < 0.1)
        os._exit(0)
    """
    assert run_python(code, timeout=20).stdout == "True\n"


def test_rows_of_0_and_of_10000_entries(data, io):
    script = generator("""
    local h = loader:open_file(config.data)
    loader:finish_row()
    for i = 0, 9999 do loader:add_entry(h, "." .. i, i % 4000, 7) end
    loader:finish_row()
    loader:finish_row()
    """)
    rows = list(load(script, io, data=data))
    content = bytes(range(256)) * 16
    assert [len(row) for row in rows] == [0, 10000, 0]
    assert rows[0].to_dict() == {}
    assert rows[1].to_dict() == {f".{i}": content[i % 4000 : i % 4000 + 7] for i in range(10000)}


def test_print_reaches_logging_in_order(caplog):
    script = generator("""
    print("zero", 0, nil, true)
    for i = 1, 3 do
      loader:add_entry_bytes("i", tostring(i))
      loader:finish_row()
      print("after", i)
    end
    """)
    with caplog.at_level(logging.INFO, logger="ultar_dataloader.script"):
        seen = [[record.getMessage() for record in caplog.records] + [row["i"].decode()] for row in load(script)]
    assert seen == [
        ["zero\t0\tnil\ttrue", "1"],
        ["zero\t0\tnil\ttrue", "after\t1", "2"],
        ["zero\t0\tnil\ttrue", "after\t1", "after\t2", "3"],
    ]
    assert caplog.records[-1].getMessage() == "after\t3"


def test_a_script_that_only_prints_is_held_back(caplog):
    """Its output counts in the budget, so it cannot fill the memory."""
    rows = iter(DataLoader(generator("while true do print(('x'):rep(1000)) end"), {}, prefetch_bytes=1 << 20))
    time.sleep(0.3)
    ahead = rows.stats()["bytes_ahead"] if hasattr(rows, "stats") else 0
    assert ahead <= 1 << 20
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError()))
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(TimeoutError):
            next(rows)


def test_first_generation_scripts_still_run(make_shard):
    shard = make_shard({"a": {".txt": b"one"}, "b": {".txt": b"two"}})
    script = """
    return {
      init_ctx = function(rank, world_size, _)
        local indices = {}
        for f in scan_dir(g_config.dir):iter() do
          if string.match(f, ".tar.utix$") then table.insert(indices, f) end
        end
        return { indices = indices }
      end,
      row_generator = function(ctx)
        for _, idx_path in ipairs(ctx.indices) do
          local tar = g_loader:open_file((string.gsub(idx_path, ".utix$", "")))
          for row in msgpack_unpacker(idx_path):iter() do
            for i, k in ipairs(row.keys) do
              g_loader:add_entry(tar, k, row.offset + row.offsets[i], row.sizes[i])
            end
            g_loader:finish_row()
          end
        end
      end,
    }
    """
    assert [row["txt"] for row in DataLoader(script, {"dir": str(shard.parent)})] == [b"one", b"two"]
