--- Indexes, their rows, and directories.

local check, config = ...
local utix = require("ultar.utix")
local scandir = require("ultar.scandir")
local test, equal, raises, collect = check.test, check.equal, check.raises, check.collect

-- What tests/test_lua_modules.py wrote: three ordinary records, one without members, one
-- with a key twice, and one with numbers beyond 2^53.
local index = utix.open(config.index)

test("an index has a count and places from 1", function()
  equal(#index, 6)
  equal(index[1].str_idx, "a")
  equal(index[6].str_idx, "huge")
  for _, place in ipairs({ 0, 7, -1, 1.5, 0 / 0, 1 / 0, -1 / 0 }) do
    equal(index[place], nil)
  end
  equal(index.nonsense, nil)
end)

test("a row has the fields of its record", function()
  local row = index[2]
  equal(row.iidx, 1)
  equal(row.offset, 4096)
  equal(row.str_idx, "b")
  equal(row.keys, { ".txt", ".json" })
  equal(row.offsets, { 0, 1024 })
  equal(row.sizes, { 5, 7 })
  equal(row.metadata, { [".label"] = "cat", [".box"] = { 1, 2 } })
  equal(row.nonsense, nil)
  equal(index[1].metadata, nil)
end)

test("a record without members has empty lists", function()
  local row = index[4]
  equal(row.keys, {})
  equal(row.offsets, {})
  equal(row.sizes, {})
  equal(row:has(""), false)
end)

test("lists are real tables of their row only", function()
  local row = index[2]
  equal(table.concat(row.keys, " "), ".txt .json")
  local places = {}
  for i, size in ipairs(row.sizes) do
    places[i] = size
  end
  equal(places, { 5, 7 })
  row.keys[1], row.sizes[1] = "changed", 99
  equal(row.keys[1], "changed")
  equal(index[2].keys[1], ".txt")
  equal(index[2].sizes[1], 5)
end)

test("methods look members up without tables", function()
  local row = index[2]
  equal(row:has(".json"), true)
  equal(row:has(".nope"), false)
  equal(row:has(nil), false)
  equal(row:size(".json"), 7)
  equal(row:size(".nope"), nil)
  equal({ row:range(".json") }, { 4096 + 1024, 7 })
  equal({ row:range(".nope") }, {})
  equal(rawget(row, "keys"), nil)
end)

test("of a key that comes twice the first counts", function()
  local row = index[5]
  equal(row.keys, { ".a", ".b", ".a" })
  equal(row:size(".a"), 1)
  equal({ row:range(".b") }, { 20480 + 512, 2 })
end)

test("numbers that Lua cannot hold are refused where they are read", function()
  local row = index[6]
  raises("offset is 9223372036854775809", function() return row.offset end)
  raises("iidx is 9007199254740993", function() return row.iidx end)
  raises("a size is 4611686018427387904", function() return row.sizes end)
  raises("a size is", function() local _ = row:size(".txt") end)
  equal(row.keys, { ".txt" })
  equal(row.offsets, { 2 ^ 53 })
end)

test("iterators give every row, and are independent", function()
  local stems = {}
  for row in index:iter() do
    stems[#stems + 1] = row.str_idx
  end
  equal(stems, { "a", "b", "c", "empty", "twice", "huge" })
  local first, second = index:iter(), index:iter()
  equal(first().str_idx, "a")
  equal(first().str_idx, "b")
  equal(second().str_idx, "a")
  equal(first().str_idx, "c")
  for _ = 1, 3 do
    first()
  end
  equal(first(), nil)
  equal(first(), nil)
end)

test("a loop that is compiled sees the same as one that is not", function()
  local large = utix.open(config.large)
  equal(#large, 5000)
  local sum, sizes, members, found = 0, 0, 0, 0
  for row in large:iter() do
    sum = sum + row.offset
    sizes = sizes + (row:size(".jpg") or 0)
    if row:has(".txt") then
      found = found + 1
    end
    for i = 1, #row.keys do
      members = members + row.offsets[i] * 0 + 1
    end
  end
  equal({ sum, sizes, members, found }, { 5000 * 4999 / 2 * 1024, 5000 * 4999 / 2, 5000 + 1250, 1250 })
end)

test("rows and iterators keep their index alive", function()
  local row = utix.open(config.index)[2]
  local next_row = utix.open(config.index):iter()
  for _ = 1, 20 do
    utix.open(config.index)
  end
  collectgarbage()
  collectgarbage()
  equal(row.str_idx, "b")
  equal(next_row().keys, { ".txt" })
end)

test("what is no index is refused", function()
  raises("bad argument #1 to 'open' (path must be a string, got nil)", function() utix.open() end)
  raises("/nonexistent.utix", function() utix.open("/nonexistent.utix") end)
  raises(config.tar, function() utix.open(config.tar) end)
  raises("use index:iter(), with a colon", function() index.iter() end)
end)

test("rows cannot be forged", function()
  local row = index[1]
  assert(not pcall(setmetatable, row, {}))
  local loader = require("ultar.loader")
  local handle = loader:open_file(config.tar)
  local copy = {}
  for key, value in pairs(row) do
    copy[key] = value
  end
  raises("row must be a row of an index", function() loader:add_row(handle, copy) end)
  loader:close_file(handle)
end)

test("a directory is listed in order, with full paths", function()
  equal(collect(scandir.open(config.dir):iter()), config.listing)
  equal(collect(scandir.open(config.dir .. "/"):iter()), config.listing)
  local scan = scandir.open(config.dir)
  equal(scan:iter()(), config.listing[1])
  equal(scan:iter()(), config.listing[1])
  equal(collect(scandir.open(config.empty):iter()), {})
end)

test("what cannot be listed is refused", function()
  raises("/nonexistent", function() scandir.open("/nonexistent") end)
  raises(config.tar, function() scandir.open(config.tar) end)
  raises("path must be a string", function() scandir.open(nil) end)
  raises("path must be a string", function() scandir.open("") end)
  raises("use scan:iter(), with a colon", function() scandir.open(config.dir).iter() end)
end)
