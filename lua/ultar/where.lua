--- The script behind `Dataset.where`, and not for others: finds the rows of the dataset at
--- hand for which an expression is true. Each of its rows has one entry, `rows`: numbers of
--- such rows, as unsigned 64-bit integers.
---
--- What the expression sees is read from the record at hand when it asks for it, so that
--- a loop over records compiles to machine code and makes no garbage.

local host = require("ultar.host")
local loader = require("ultar.loader")
require("ultar.utix") -- Declares the search for a number.

local ffi = require("ffi")
local api, native, unpack = host.api, host.native, host.unpack
local index_key, index_record = api.index_key, api.index_record
local view_next, view_index = api.view_next, api.view_index
local find_number, ffi_string = ffi.C.ultar_find_number, ffi.string
local error, pcall, tonumber, tostring = error, pcall, tonumber, tostring

-- Shards whose keys are kept at hand. With rows at random, each is come back to.
local SHARDS_MAX = 4096

local places = ffi.new("ultar_places")
local found = ffi.new("uint64_t[?]", 1024)
local record = ffi.new("ultar_record")
-- The place in `places` that is at hand, its shard, and the numbers of that shard's keys.
local at, shard, ids = 0, nil, nil
-- What the metadata of a record was decoded to, and whose it is.
local decoded, decoded_of = nil, -1

local states, states_count = {}, 0

local index_out = ffi.new("ultar_index *[1]")
local path_out = ffi.new("const char *[1]")
local size_out = ffi.new("size_t[1]")

--- The index of a shard, with the numbers of its keys.
---@param number integer
local function state_of(number)
  local state = states[number]
  if state then
    return state
  end
  if states_count >= SHARDS_MAX then
    states, states_count = {}, 0
  end
  local status = view_index(native, number, index_out, path_out, size_out)
  if status ~= 0 then
    host.fail(status, 2)
  end
  local index = ffi.gc(index_out[0], api.index_close)
  state = { index = index, path = ffi_string(path_out[0], size_out[0]), ids = {} }
  local id = 0
  local text = index_key(index, id, size_out)
  while text ~= nil do
    state.ids[ffi_string(text, size_out[0])] = id
    id = id + 1
    text = index_key(index, id, size_out)
  end
  states[number], states_count = state, states_count + 1
  return state
end

--- Where the first member with this key stands in the record; nil when there is none.
local function place_of(key)
  local id = ids[key]
  if id == nil then
    return nil
  end
  local place = find_number(record.keys, id, record.count)
  if place == nil then
    return nil
  end
  return place - record.keys
end

local names = {
  keys = setmetatable({}, { __index = function(_, key)
    return place_of(key) ~= nil
  end }),
  sizes = setmetatable({}, { __index = function(_, key)
    local place = place_of(key)
    if place then
      return (tonumber(record.sizes[place]))
    end
  end }),
  metadata = setmetatable({}, { __index = function(_, query)
    if record.metadata_size == 0 then
      return nil
    end
    if decoded_of ~= at then
      decoded, decoded_of = unpack(ffi_string(record.metadata, record.metadata_size)), at
    end
    return decoded[query]
  end }),
}

local function stem()
  return (ffi_string(record.stem, record.stem_size))
end

--- The expression as a function.
---@param expression string
local function compile(expression)
  if not expression:find("%S") then
    error("the expression is empty", 0)
  end
  local chunk, message = loadstring("return " .. expression, "=expression")
  if not chunk then
    error(message, 0)
  end
  return setfenv(chunk, setmetatable(names, { __index = function(_, name)
    if name == "stem" then
      return (stem())
    end
    return _G[name]
  end }))
end

--- Puts those of `places` that are wanted into `found`.
---@return integer count
local function judge(is_wanted)
  local count, index = 0, nil
  decoded_of = -1
  for i = 0, places.count - 1 do
    at = i
    local number = places.shards[i]
    if number ~= shard or index == nil then
      local state = state_of(number)
      shard, ids, index = number, state.ids, state.index
    end
    index_record(native, index, places.records[i], record)
    if is_wanted() then
      found[count] = places.numbers[i]
      count = count + 1
    end
  end
  return count
end

return {
  init_ctx = function(_, _, config)
    return compile(config.expression)
  end,
  row_generator = function(is_wanted)
    local first = 0
    local status = view_next(native, first, places)
    while status == 0 do
      local ok, count = pcall(judge, is_wanted)
      if not ok then
        error(("%s\nfor the row %q of %s"):format(tostring(count), stem(), state_of(shard).path), 0)
      end
      if count > 0 then
        loader:add_entry_bytes("rows", ffi_string(found, count * 8))
        loader:finish_row()
      end
      first = first + places.count
      status = view_next(native, first, places)
    end
    if status ~= host.NO_MORE then
      host.fail(status, 1)
    end
  end,
}
