"""Bugs of the LuaJIT that distributions ship, which scripts here must not meet."""

import logging

import pytest
from support import generator, load, run_python


def test_an_error_in_a_finalizer_is_output_and_no_crash(caplog):
    """LuaJIT throws it from wherever the collector runs, and may not survive that."""
    script = generator("""
    local ffi = require("ffi")
    for i = 1, 200 do
      local p = newproxy(true)
      getmetatable(p).__gc = function() error("in __gc") end
      ffi.gc(ffi.new("int[1]"), function() error("in ffi.gc") end)
      if i == 1 then kept = p else p = nil end  -- One for the closing of the state.
      loader:add_entry_bytes("i", tostring(i))
      loader:finish_row()
      if i % 50 == 0 then collectgarbage() end
    end
    """)
    with caplog.at_level(logging.INFO, logger="ultar_dataloader.script"):
        assert len(list(load(script))) == 200
    text = caplog.text
    assert "error in a finalizer" in text
    assert "in __gc" in text
    assert "in ffi.gc" in text


def test_an_error_of_a_finalizer_that_replaced_another_stays_with_it(io: str) -> None:
    """It would be thrown at any allocation, where LuaJIT dies of it."""
    done = run_python(
        """
        from support import generator, load
        rows = list(load(generator('''
            for i = 1, 3000 do
              local p = newproxy(true)
              local m = getmetatable(p)
              m.__gc = print
              m.__gc = function() error({}) end
              p, m = nil, nil
              local t = {}
              for j = 1, 200 do t[j] = { tostring(j) .. i } end
              loader:add_entry_bytes("k", ("x"):rep(i))
              loader:finish_row()
              pcall(loader.open_file, loader, "/nonexistent" .. i)
            end
        '''), config["io"]))
        print(len(rows))
        """,
        config={"io": io},
    )
    assert (done.returncode, done.stdout) == (0, "3000\n"), done.stderr


def test_no_pairs_loop_ends_early():
    """LuaJIT issue 827: when its own `pairs` loop leaves the compiler's list, it may skip what is left."""
    [row] = load(
        generator("""
        local t = {1, 2, 3, 4, 5}
        local tab = {a = t, b = t, c = t, d = t, e = t}
        local function f(...) for j = 1, 100 do end end
        local wrong = 0
        for i = 1, 20000 do
          f()
          local count, listed = 0, 0
          for k, v in pairs(tab) do for _ in next, v do end count = count + 1 end
          table.foreach(tab, function() listed = listed + 1 end)
          if count ~= 5 or listed ~= 5 then wrong = wrong + 1 end
        end
        loader:add_entry_bytes("wrong", tostring(wrong))
        loader:finish_row()
        """)
    )
    assert row["wrong"] == b"0"


@pytest.mark.parametrize("when", ["p = nil collectgarbage() collectgarbage()", "kept = p"])
def test_a_pairs_loop_in_a_finalizer_ends(when, caplog):
    """A compiled one of LuaJIT would not, where it may not compile another way out of it."""
    script = generator("""
    local json = require("ultar.json")
    local function count(t) local n = 0 for _ in pairs(t) do n = n + 1 end return n end
    for i = 1, 300 do count({x = 1, y = 2}) json.encode({ -1e300 }) end
    local p = newproxy(true)
    getmetatable(p).__gc = function() print(count({1, 2, "a", k = 2}), json.encode({true, {k = 1}}), count({})) end
    WHEN
    """)
    with caplog.at_level(logging.INFO, logger="ultar_dataloader.script"):
        assert list(load(script.replace("WHEN", when))) == []
    # Nobody is left to hear what is printed while the state closes.
    assert when == "kept = p" or '4\t[true,{"k":1}]\t0' in caplog.text


@pytest.mark.parametrize(
    "handler", ["json.encode({0/0})", "debug.dump_stack() json.encode({0/0})", "pcall(error) error(e)"]
)
def test_an_error_in_an_error_handler_ends_there(handler):
    """LuaJIT calls the handler again for it, where it has called `pcall`, until the stack is used up."""
    script = generator("""
    local json, debug = require("ultar.json"), require("ultar.debug")
    local calls = 0
    local ok, message = xpcall(error, function(e) calls = calls + 1 HANDLER return e end, "first")
    loader:add_entry_bytes("calls", tostring(calls))
    loader:add_entry_bytes("answer", tostring(ok) .. " " .. message)
    loader:finish_row()
    loader:add_entry_bytes("answer", table.concat({tostring(xpcall(error, function(e) return e .. "!" end, "second"))}))
    loader:add_entry_bytes("results", select("#", xpcall(function(...) return ... end, error, 1, nil, nil)) .. "")
    loader:finish_row()
    """).replace("HANDLER", handler)
    first, second = load(script)
    assert first["calls"] == b"1"
    assert first["answer"].startswith(b"false error in error handling: ")
    assert second["answer"] == b"false"
    assert second["results"] == b"4"
