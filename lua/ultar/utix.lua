--- Reads indexes (`.utix`): `utix.open(path)` gives the records of a shard as rows.
---
--- A record stays in native memory. A row is a small table over it: what a script does
--- not ask for is never made, and a loop that only looks at `row.offset` or calls
--- `row:size(key)` compiles to machine code that makes no garbage at all.

-- Three habits of the JIT compiler shape this file. A table that a loop makes costs
-- nothing if all that is stored in it is the same in each turn or counts along: hence
-- rows start with index and number only. A compiled loop is tied to the metatables that
-- it met: hence one metatable serves the rows of all indexes. And a function must not
-- end in a call to a built-in function without parentheses around it, or calls to it
-- from loops are not compiled.

local host = require("ultar.host")

local ffi = require("ffi")
local new_table = require("table.new")
local api, native, unpack = host.api, host.native, host.unpack
local fail, bad_argument = host.fail, host.bad_argument
local error, rawset, setmetatable = error, rawset, setmetatable
local collectgarbage = collectgarbage
local tonumber, tostring, type = tonumber, tostring, type
local floor = math.floor
local ffi_string = ffi.string

local index_record, index_key, poll = api.index_record, api.index_key, api.poll

-- The C library's search for a 32-bit number, under a name of ours so that a script may
-- declare it as well.
ffi.cdef([[
const uint32_t *ultar_find_number(const uint32_t *numbers, uint32_t number, size_t count) __asm__("wmemchr");
]])
local find_number = ffi.C.ultar_find_number

-- Filled anew by each use, and read before anything else can use it.
local record_out = ffi.new("ultar_record")
local size_out = ffi.new("size_t[1]")

-- Records between two turns of the engine in a loop that emits nothing.
local POLL_EVERY = 1024

---A sample of a shard, as its index has it. What a script changes in a row changes that
---row's table only: not other rows, and not what `loader:add_row` adds.
---@class ultar.Row
---@field iidx integer Number of the sample in its shard, from 0
---@field offset integer Where the sample's first payload starts, in bytes from the start of the shard
---@field str_idx string The stem: what the names of its members have in common
---@field keys string[] One a member, such as ".jpg"
---@field offsets integer[] One a member, in bytes, counted from `offset`
---@field sizes integer[] One a member, in bytes
---@field metadata? table<string, any> What was picked out while indexing; nil when there is none
---@field package _index ultar.IndexState
---@field package _record integer 0-based place in the index
local methods = {}

-- What rows need of their index.
---@class ultar.IndexState
---@field pointer ffi.cdata* Closed when the index and its last row are garbage
---@field path string
---@field count integer
---@field names string[] Keys by their number, plus one
---@field numbers? table<string, integer> Numbers by their key, from the first search on

---@param state ultar.IndexState
---@param record integer
---@param level integer
local function read_record(state, record, level)
  local status = index_record(native, state.pointer, record, record_out)
  if status ~= 0 then
    fail(status, level + 1)
  end
end

---@param value ffi.cdata* A uint64_t
---@param field string What it is, for the message
---@param level integer
---@return integer
local function exact(value, state, record, field, level)
  local number = tonumber(value)
  -- From 2^53 on the conversion rounds, and 2^53 + 1 becomes 2^53.
  if number >= 0x1p53 and value > 0x20000000000000ULL then
    error(("%s: record %d: %s is %s, and Lua numbers are exact up to 2^53; loader:add_row takes it as it is"):format(
      state.path, record + 1, field, (tostring(value):gsub("ULL$", ""))), level + 1)
  end
  return number
end

local function key_name(state, number)
  local name = state.names[number + 1]
  if name == nil then
    local text = index_key(state.pointer, number, size_out)
    name = text == nil and "" or ffi_string(text, size_out[0])
    state.names[number + 1] = name
  end
  return name
end

--- Ask for the key of each number, until there is none.
local function learn_numbers(state)
  local numbers, number = {}, 0
  local text = index_key(state.pointer, number, size_out)
  while text ~= nil do
    numbers[ffi_string(text, size_out[0])] = number
    number = number + 1
    text = index_key(state.pointer, number, size_out)
  end
  state.numbers = numbers
  return numbers
end

--- Place of the first member with this key in `record_out`, from 0; nil when there is none.
local function find_key(state, key)
  local number = (state.numbers or learn_numbers(state))[key]
  if number == nil then
    return nil
  end
  local found = find_number(record_out.keys, number, record_out.count)
  if found == nil then
    return nil
  end
  return found - record_out.keys
end

--- Whether the record has a member with this key. Makes no table.
---@param key string
---@return boolean
function methods:has(key)
  local state = self._index
  read_record(state, self._record, 2)
  return find_key(state, key) ~= nil
end

--- Size of the first member with this key, in bytes; nil when there is none. Makes no table.
---@param key string
---@return integer? size
function methods:size(key)
  local state, record = self._index, self._record
  read_record(state, record, 2)
  local place = find_key(state, key)
  if place then
    return (exact(record_out.sizes[place], state, record, "a size", 2))
  end
end

--- Where the first member with this key lies in the shard; nothing when there is none.
--- Makes no table.
---
--- ```lua
--- loader:add_entry(tar, "image", row:range(".jpg"))
--- ```
---@param key string
---@return integer? offset In bytes, from the start of the shard
---@return integer? size In bytes
function methods:range(key)
  local state, record = self._index, self._record
  read_record(state, record, 2)
  local place = find_key(state, key)
  if place then
    local offset = exact(record_out.offset + record_out.offsets[place], state, record, "an offset", 2)
    return offset, (exact(record_out.sizes[place], state, record, "a size", 2))
  end
end

-- One for each field that is made and kept when a script first asks for it.
local makers = {}

function makers.str_idx()
  return (ffi_string(record_out.stem, record_out.stem_size))
end

function makers.keys(state)
  local count, numbers = tonumber(record_out.count), record_out.keys
  local list = new_table(count, 0)
  for i = 1, count do
    list[i] = key_name(state, numbers[i - 1])
  end
  return list
end

local function copy_numbers(values, state, record, field)
  local count = tonumber(record_out.count)
  local list = new_table(count, 0)
  for i = 1, count do
    list[i] = exact(values[i - 1], state, record, field, 4)
  end
  return list
end

function makers.offsets(state, record)
  local list = copy_numbers(record_out.offsets, state, record, "an offset")
  return list
end

function makers.sizes(state, record)
  local list = copy_numbers(record_out.sizes, state, record, "a size")
  return list
end

function makers.metadata()
  if record_out.metadata_size ~= 0 then
    return (unpack(ffi_string(record_out.metadata, record_out.metadata_size)))
  end
end

local row_metatable = {}

function row_metatable.__index(row, field)
  local method = methods[field]
  if method then
    return method
  end
  local state, record = row._index, row._record
  if field == "offset" then
    read_record(state, record, 2)
    return (exact(record_out.offset, state, record, "offset", 2))
  elseif field == "iidx" then
    read_record(state, record, 2)
    return (exact(record_out.iidx, state, record, "iidx", 2))
  end
  local make = makers[field]
  if make == nil then
    return nil
  end
  read_record(state, record, 2)
  local value = make(state, record)
  rawset(row, field, value)
  return value
end

-- Keeps the metatable out of reach, so that only rows have it: `loader:add_row` relies on
-- what is in them.
row_metatable.__metatable = { "row of ultar.utix" }

function row_metatable.__tostring(row)
  return ("row %q of %s (record %d)"):format(row.str_idx, row._index.path, row._record + 1)
end

-- What a script holds as the index: `#` asks cdata, and not tables, for `__len`.
ffi.cdef("typedef struct { double count; } ultar_open_index;")

-- From what a script holds to its state. Nothing in a state refers to the key, so that
-- both can be collected.
---@type table<ffi.cdata*, ultar.IndexState>
local states = setmetatable({}, { __mode = "k" })

---An index: `#index` records, of which `index[i]` is the row of the i-th, counted from 1, and
---nil beyond the last.
---@class ultar.Index
---@operator len: integer
---@field [integer] ultar.Row?
local index_methods = {}

---@param state ultar.IndexState
---@return fun(): ultar.Row?
local function iterator(state)
  local record, count = 0, state.count
  return function()
    local current = record
    if current >= count then
      return nil
    end
    record = current + 1
    if record % POLL_EVERY == 0 then
      local status = poll(native)
      if status ~= 0 then
        fail(status, 2)
      end
    end
    return (setmetatable({ _index = state, _record = current }, row_metatable))
  end
end

-- A loop that is compiled while the iterator was made only once or twice is compiled for
-- that one iterator, and the next shard would need it compiled again.
for _ = 1, 8 do
  iterator({ count = 0 })
end

--- All rows, from the first on. Each call starts anew; iterators of one index are
--- independent.
---
--- ```lua
--- for row in index:iter() do ... end
--- ```
---@return fun(): ultar.Row? next_row
function index_methods:iter()
  local state = states[self]
  if state == nil then
    error("use index:iter(), with a colon", 2)
  end
  return (iterator(state))
end

local index_metatable = {}

function index_metatable.__len(index)
  return index.count
end

function index_metatable.__index(index, key)
  local method = index_methods[key]
  if method then
    return method
  end
  -- NaN and fractions are no places.
  if type(key) == "number" and key >= 1 and key <= index.count and floor(key) == key then
    return (setmetatable({ _index = states[index], _record = key - 1 }, row_metatable))
  end
  return nil
end

function index_metatable.__tostring(index)
  return ("index %s (%d records)"):format(states[index].path, index.count)
end

local new_index = ffi.metatype("ultar_open_index", index_metatable)
local pointer_out = ffi.new("ultar_index *[1]")

-- The collector does not see native memory, and a script that goes from shard to shard makes
-- little garbage of its own: without help, closed indexes would pile up. So indexes are
-- counted, by their records, and garbage is collected whenever they have doubled.
local INDEX_COST = 1000
local COLLECT_FROM = 1000000
local held, collect_at = 0, COLLECT_FROM

--- Close the index when nothing refers to it any more.
local function closed_by_collector(pointer, count)
  local cost = count + INDEX_COST
  held = held + cost
  return ffi.gc(pointer, function(garbage)
    held = held - cost
    api.index_close(garbage)
  end)
end

---@class ultar.utix
local utix = {}

--- Open an index. The whole of it is checked and held in memory, until the index and its
--- rows are garbage.
---
--- Raises when the file cannot be read or is no index; the message names the byte offset.
---@param path string A path, or the URL of an index in a store
---@return ultar.Index
function utix.open(path)
  if type(path) ~= "string" then
    bad_argument(1, "open", "path must be a string", path, 2)
  end
  if held >= collect_at then
    collectgarbage()
    collect_at = math.max(COLLECT_FROM, 2 * held)
  end
  local status = api.index_open(native, path, #path, pointer_out)
  if status ~= 0 then
    fail(status, 2)
  end
  local count = api.index_count(pointer_out[0])
  local pointer = closed_by_collector(pointer_out[0], count)
  local index = new_index(count)
  states[index] = { pointer = pointer, path = path, count = count, names = {} }
  return index
end

-- What `getmetatable` answers for a row, for `ultar.loader`.
host.ROW = row_metatable.__metatable

return utix
