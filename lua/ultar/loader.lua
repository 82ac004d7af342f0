--- Builds rows: opens files, adds entries, finishes a row. All methods are called with
--- a colon and act on the one row that is being built.
---
--- Nothing here waits for a read. `finish_row` waits while the engine holds as much ahead
--- of the consumer as it may (`prefetch_rows`, `prefetch_bytes`); then it goes on.

local host = require("ultar.host")
require("ultar.utix") -- Leaves in `host` by what its rows are known.

local ffi = require("ffi")
local api, native = host.api, host.native
local fail, bad_argument, ROW = host.fail, host.bad_argument, host.ROW
local getmetatable, type, error = getmetatable, type, error
local floor = math.floor

local open_file, close_file = api.open_file, api.close_file
local add_entry, add_entry_bytes = api.add_entry, api.add_entry_bytes
local add_record, add_record_key = api.add_record, api.add_record_key
local finish_row = api.finish_row

local handle_out = ffi.new("double[1]")

---@class ultar.loader
---@field rank integer This process, from 0
---@field world_size integer How many processes share the dataset
local loader = { rank = 0, world_size = 1 }

local WANT_HANDLE = "handle must be a number that open_file returned"
local WANT_OFFSET = "offset must be a whole number from 0 to 2^53"
local WANT_SIZE = "size must be a whole number from 0 to 2^53"
local WANT_KEY = "key must be a string"
local WANT_ROW = "row must be a row of an index of ultar.utix"

--- Raise at the script's line when a method was called with a dot.
---@param method string
local function need_colon(method)
  error(("use loader:%s(...), with a colon"):format(method), 3)
end

--- Open a file for reading. Opening the same path twice gives two handles.
---
--- Raises when `path` is no string, or the file cannot be opened.
---@param path string A path, or the URL of an object in a store
---@param size? integer In bytes, of an object where an index says it, 0 to 2^53: saves the request that
--- asks for it. Rows of an object that has another size then are errors, in Python
---@return number handle For `add_entry`, `add_row` and `close_file`; valid until `close_file`
function loader:open_file(path, size)
  if self ~= loader then
    need_colon("open_file")
  end
  if type(path) ~= "string" then
    bad_argument(1, "open_file", "path must be a string", path, 2)
  end
  if size ~= nil and not (type(size) == "number" and size >= 0 and size <= 2 ^ 53 and size == floor(size)) then
    bad_argument(2, "open_file", WANT_SIZE, size, 2)
  end
  local status = open_file(native, path, #path, size or -1, handle_out)
  if status ~= 0 then
    fail(status, 2)
  end
  return handle_out[0]
end

--- Close a file. Rows that are finished are read all the same.
---
--- Raises when `handle` is not that of an open file.
---@param handle number
function loader:close_file(handle)
  if self ~= loader then
    need_colon("close_file")
  end
  if type(handle) ~= "number" then
    bad_argument(1, "close_file", WANT_HANDLE, handle, 2)
  end
  local status = close_file(native, handle)
  if status ~= 0 then
    fail(status, 2)
  end
end

--- Add a range of a file to the row, under `key`.
---
--- ```lua
--- loader:add_entry(tar, ".jpg", row.offset + row.offsets[1], row.sizes[1])
--- ```
---
--- Raises when `handle` is not that of an open file, or an argument is not what it should
--- be. A range that goes beyond the end of the file is an error of the row, in Python.
---@param handle number From `open_file`
---@param key string Name of the entry in its row, such as ".jpg"; the same key may come twice
---@param offset integer In bytes, from the start of the file; 0 to 2^53
---@param size integer In bytes; 0 to 2^53; 0 makes an empty entry and reads nothing
function loader:add_entry(handle, key, offset, size)
  if self ~= loader then
    need_colon("add_entry")
  end
  if type(handle) ~= "number" then
    bad_argument(1, "add_entry", WANT_HANDLE, handle, 2)
  end
  if type(key) ~= "string" then
    bad_argument(2, "add_entry", WANT_KEY, key, 2)
  end
  -- Written out twice: these are the hot lines of most scripts. NaN fails them.
  if not (type(offset) == "number" and offset >= 0 and offset <= 0x1p53 and floor(offset) == offset) then
    bad_argument(3, "add_entry", WANT_OFFSET, offset, 2)
  end
  if not (type(size) == "number" and size >= 0 and size <= 0x1p53 and floor(size) == size) then
    bad_argument(4, "add_entry", WANT_SIZE, size, 2)
  end
  local status = add_entry(native, handle, key, #key, offset, size)
  if status ~= 0 then
    fail(status, 2)
  end
end

--- Add an entry whose bytes the script made, such as a label or a line of JSON.
---
--- Raises when an argument is no string.
---@param key string Name of the entry in its row
---@param data string Its bytes; any bytes, any size
function loader:add_entry_bytes(key, data)
  if self ~= loader then
    need_colon("add_entry_bytes")
  end
  if type(key) ~= "string" then
    bad_argument(1, "add_entry_bytes", WANT_KEY, key, 2)
  end
  if type(data) ~= "string" then
    bad_argument(2, "add_entry_bytes", "data must be a string", data, 2)
  end
  local status = add_entry_bytes(native, key, #key, data, #data)
  if status ~= 0 then
    fail(status, 2)
  end
end

--- Add members of a record to the row, in one call: all of them, or those that `keys`
--- names, in that order. What is added is what the index says, whatever the script did to
--- the fields of `row`.
---
--- ```lua
--- loader:add_row(tar, row)                    -- every member
--- loader:add_row(tar, row, { ".jpg", ".cls" }) -- these two
--- ```
---
--- Raises when `handle` is not that of an open file, `row` is not a row of `ultar.utix`,
--- or the record has no member with one of the keys: the message has the stem and the keys
--- that there are. Of several members with the same key it takes the first.
---@param handle number From `open_file`: the shard that the index belongs to
---@param row ultar.Row
---@param keys? string[] Without it every member, in the order of the shard
function loader:add_row(handle, row, keys)
  if self ~= loader then
    need_colon("add_row")
  end
  if type(handle) ~= "number" then
    bad_argument(1, "add_row", WANT_HANDLE, handle, 2)
  end
  if type(row) ~= "table" or getmetatable(row) ~= ROW then
    bad_argument(2, "add_row", WANT_ROW, row, 2)
  end
  if keys == nil then
    local status = add_record(native, handle, row._index.pointer, row._record)
    if status ~= 0 then
      fail(status, 2)
    end
    return
  end
  if type(keys) ~= "table" then
    bad_argument(3, "add_row", "keys must be a list of strings", keys, 2)
  end
  local pointer, record = row._index.pointer, row._record
  for i = 1, #keys do
    local key = keys[i]
    if type(key) ~= "string" then
      bad_argument(3, "add_row", ("keys[%d] must be a string"):format(i), key, 2)
    end
    local status = add_record_key(native, handle, pointer, record, key, #key)
    if status ~= 0 then
      fail(status, 2)
    end
  end
end

--- The row is complete: read it and hand it to Python. A row without entries is a row too.
---
--- Waits while as much is ahead of the consumer as may be. Entries that are added after it
--- belong to the next row.
function loader:finish_row()
  if self ~= loader then
    need_colon("finish_row")
  end
  local status = finish_row(native)
  if status ~= 0 then
    fail(status, 2)
  end
end

return loader
