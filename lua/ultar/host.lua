--- The door to the engine, for the other modules of `ultar` and not for scripts.
---
--- A native function never raises: it answers with a status, and the module that
--- called it raises with the line of the script. Native functions are fields of a
--- struct; each module keeps those that it needs in locals, so that a call compiles
--- to a plain machine call.

local ffi = require("ffi")

-- The same declarations, in the same order, as in src/lua/ffi.zig.
ffi.cdef([[
typedef struct ultar_host ultar_host;
typedef struct ultar_index ultar_index;
typedef struct ultar_scan ultar_scan;
typedef struct {
  uint64_t offset;
  uint64_t iidx;
  const char *stem;
  size_t stem_size;
  const uint64_t *offsets;
  const uint64_t *sizes;
  const uint32_t *keys;
  size_t count;
  const char *metadata;
  size_t metadata_size;
} ultar_record;
typedef struct {
  double n, seed, epoch, window;
  uint64_t native[64];
} ultar_order;
typedef struct {
  double count;
  uint64_t numbers[1024];
  double records[1024], shards[1024];
} ultar_places;
typedef struct {
  ultar_host *host;
  int32_t (*open_file)(ultar_host *, const char *path, size_t path_size, double size, double *handle);
  int32_t (*close_file)(ultar_host *, double handle);
  int32_t (*add_entry)(ultar_host *, double handle, const char *key, size_t key_size, double offset, double size);
  int32_t (*add_entry_bytes)(ultar_host *, const char *key, size_t key_size, const char *data, size_t data_size);
  int32_t (*add_record)(ultar_host *, double handle, ultar_index *, double record);
  int32_t (*add_record_key)(ultar_host *, double handle, ultar_index *, double record, const char *key, size_t key_size);
  int32_t (*finish_row)(ultar_host *);
  int32_t (*poll)(ultar_host *);
  int32_t (*log)(ultar_host *, const char *text, size_t size);
  const char *(*message)(ultar_host *, size_t *size);
  int32_t (*index_open)(ultar_host *, const char *path, size_t path_size, ultar_index **);
  void (*index_close)(ultar_index *);
  double (*index_count)(ultar_index *);
  int32_t (*index_record)(ultar_host *, ultar_index *, double record, ultar_record *);
  const char *(*index_key)(ultar_index *, uint32_t key, size_t *size);
  int32_t (*scan_open)(ultar_host *, const char *path, size_t path_size, ultar_scan **);
  int32_t (*scan_next)(ultar_host *, ultar_scan *, const char **path, size_t *path_size);
  void (*scan_close)(ultar_scan *);
  bool (*order_init)(ultar_order *, double n, double seed, double epoch, double window);
  double (*order_at)(ultar_order *, double i);
  double (*order_place)(ultar_order *, double number);
  int32_t (*view_next)(ultar_host *, double first, ultar_places *);
  int32_t (*view_index)(ultar_host *, double shard, ultar_index **, const char **path, size_t *path_size);
} ultar_api;
]])

-- An 8-byte string that holds the address of the struct, and a C function.
local address, unpack = ...
local api = ffi.cast("ultar_api *const *", address)[0]

---@class ultar.host
---@field api ffi.cdata* The native functions
---@field native ffi.cdata* What they take as first argument
---@field unpack fun(msgpack: string): any Decodes one msgpack value; null is nil; raises on malformed input
---@field ROW table What `getmetatable` answers for a row; set by `ultar.utix`
local host = { api = api, native = api.host, unpack = unpack }

--- What the native functions answer.
host.DONE, host.FAILED, host.DROPPED, host.NO_MORE = 0, 1, 2, 3

--- Whole numbers up to here are exact.
host.NUMBER_MAX = 2 ^ 53

local message, native = api.message, api.host
local message_size = ffi.new("size_t[1]")
-- A script may put something else into the global tables; this must not notice.
local error, pcall, yield = error, pcall, coroutine.yield
local type, tostring, floor = type, tostring, math.floor

--- The text of the native call that answered FAILED.
---@return string
function host.message()
  local text = message(native, message_size)
  if text == nil then
    return "unknown error"
  end
  return ffi.string(text, message_size[0])
end

--- The iterator is being dropped: there is nobody to report to, and no `pcall` of a script
--- should keep it going. Control goes to the host, which closes the state. It comes back
--- only where a script resumes its own coroutine, or cannot yield (in a callback of
--- `table.sort`); an error is what is left. `ultar.dropping` sees to the rest.
---@param level integer As for `error`
function host.leave(level)
  pcall(yield)
  error("the iterator was dropped", level + 1)
end

--- Deal with a status other than DONE: never returns.
---@param status integer
---@param level integer As for `error`, seen from the caller: 2 is where the module's function was called
function host.fail(status, level)
  if status == host.DROPPED then
    host.dropped = true
    host.leave(level + 1)
  end
  error(host.message(), level + 1)
end

--- "got nil", "got nan", "got 1.5", 'got "x"': how messages show a value.
---@param value any
---@return string
function host.show(value)
  local kind = type(value)
  if kind == "number" then
    if value ~= value then
      return "nan" -- Printed as -nan on some machines.
    end
    return (floor(value) == value and "%.17g" or "%.14g"):format(value)
  elseif kind == "string" then
    return #value <= 40 and ("%q"):format(value) or ("%q..."):format(value:sub(1, 40))
  elseif kind == "boolean" or kind == "nil" then
    return tostring(value)
  end
  return kind
end

--- Raise "bad argument #3 to 'add_entry' (offset must be ..., got nan)".
---@param position integer
---@param name string Of the function
---@param wanted string
---@param value any What was passed
---@param level integer As for `fail`
function host.bad_argument(position, name, wanted, value, level)
  error(("bad argument #%d to '%s' (%s, got %s)"):format(position, name, wanted, host.show(value)), level + 1)
end

--- A whole number from `low` to 2^53.
---@param value any
---@param low integer
---@return boolean
function host.is_whole(value, low)
  -- NaN fails the comparison.
  return type(value) == "number" and value >= low and value <= 0x1p53 and floor(value) == value
end

return host
