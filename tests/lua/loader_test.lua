--- What the loader refuses; rows that it makes are tested from Python.

local check, config = ...
local loader = require("ultar.loader")
local utix = require("ultar.utix")
local test, equal, raises = check.test, check.equal, check.raises

test("a method that is called with a dot says so", function()
  for _, method in ipairs({ "open_file", "close_file", "add_entry", "add_entry_bytes", "add_row", "finish_row" }) do
    raises(("use loader:%s(...), with a colon"):format(method), function() loader[method]("x", 1, 2, 3) end)
    raises("with a colon", function() loader[method]() end)
  end
end)

test("numbers that are no offset or size are refused", function()
  local handle = loader:open_file(config.tar)
  local bad = {
    { nil, "nil" }, { 0 / 0, "nan" }, { 1 / 0, "inf" }, { -1 / 0, "-inf" }, { -1, "-1" }, { 1.5, "1.5" },
    { 2 ^ 53 + 2, "9007199254740994" }, { "12", '"12"' }, { {}, "table" }, { true, "true" },
  }
  for i = 1, 10 do
    local value, shown = bad[i][1], bad[i][2]
    raises(("bad argument #3 to 'add_entry' (offset must be a whole number from 0 to 2^53, got %s)"):format(shown),
      function() loader:add_entry(handle, ".a", value, 1) end)
    raises(("bad argument #4 to 'add_entry' (size must be a whole number from 0 to 2^53, got %s)"):format(shown),
      function() loader:add_entry(handle, ".a", 1, value) end)
  end
  loader:close_file(handle)
end)

test("keys, data, paths and handles of the wrong type are refused", function()
  local handle = loader:open_file(config.tar)
  raises("bad argument #1 to 'open_file' (path must be a string, got nil)", function() loader:open_file() end)
  raises("path must be a string, got 5", function() loader:open_file(5) end)
  raises("bad argument #2 to 'add_entry' (key must be a string, got 5)", function()
    loader:add_entry(handle, 5, 0, 1)
  end)
  raises("bad argument #2 to 'add_entry_bytes' (data must be a string, got 5)", function()
    loader:add_entry_bytes(".a", 5)
  end)
  raises("bad argument #1 to 'add_entry_bytes' (key must be a string, got nil)", function()
    loader:add_entry_bytes(nil, "")
  end)
  raises("bad argument #1 to 'add_entry' (handle must be a number that open_file returned, got nil)", function()
    loader:add_entry(nil, ".a", 0, 1)
  end)
  raises("bad argument #1 to 'close_file'", function() loader:close_file("1") end)
  loader:close_file(handle)
end)

test("handles that are not open are refused", function()
  local handle = loader:open_file(config.tar)
  loader:close_file(handle)
  local row = utix.open(config.index)[1]
  for _, bad in ipairs({ handle, 0, -1, 12345, 0 / 0, 1 / 0, 1e300, 0.5 }) do
    raises("is not an open file", function() loader:close_file(bad) end)
    raises("is not an open file", function() loader:add_entry(bad, ".a", 0, 1) end)
    raises("is not an open file", function() loader:add_row(bad, row) end)
    raises("is not an open file", function() loader:add_row(bad, row, { ".txt" }) end)
  end
end)

test("a file that is not there is named", function()
  raises("/nonexistent.tar", function() loader:open_file("/nonexistent.tar") end)
  raises("the path is empty", function() loader:open_file("") end)
  raises("NUL", function() loader:open_file("a\0b") end)
end)

test("add_row wants a row of an index, and keys that the record has", function()
  local handle = loader:open_file(config.tar)
  local row = utix.open(config.index)[1]
  for _, bad in ipairs({ {}, 1, "x", true }) do
    raises("bad argument #2 to 'add_row' (row must be a row of an index of ultar.utix", function()
      loader:add_row(handle, bad)
    end)
  end
  raises("got nil", function() loader:add_row(handle, nil) end)
  raises("bad argument #3 to 'add_row' (keys must be a list of strings, got \".txt\")", function()
    loader:add_row(handle, row, ".txt")
  end)
  raises("bad argument #3 to 'add_row' (keys[1] must be a string, got 5)", function()
    loader:add_row(handle, row, { 5 })
  end)
  for _, text in ipairs({ row.str_idx, ".nope", ".txt" }) do
    raises(text, function() loader:add_row(handle, row, { ".nope" }) end)
  end
  loader:close_file(handle)
end)

test("rank and world_size are numbers", function()
  equal({ loader.rank, loader.world_size }, { config.rank, config.world_size })
end)

test("scripts of the first generation find their globals", function()
  equal(g_loader, loader)
  equal(g_config, config)
  equal(msgpack_unpacker(config.index):iter()().str_idx, utix.open(config.index)[1].str_idx)
  assert(scan_dir(config.dir):iter()())
end)
