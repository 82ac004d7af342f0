--- The rows for which `config.expression` is true, by the indexes of `config.shards`: rows
--- whose one entry, `rows`, has their numbers as unsigned 64-bit integers.

local ffi = require("ffi")
local loader = require("ultar.loader")
local utix = require("ultar.utix")

local CHUNK = 8192

--- The expression as a function of an index row.
local function compile(expression)
  local chunk, message = loadstring("return " .. expression, "=expression")
  if not chunk then
    error(message, 0)
  end
  local row
  local keys = setmetatable({}, { __index = function(_, key) return row:has(key) end })
  local sizes = setmetatable({}, { __index = function(_, key) return row:size(key) end })
  local metadata = setmetatable({}, { __index = function(_, query)
    local stored = row.metadata
    return stored and stored[query]
  end })
  local known = { keys = keys, sizes = sizes, metadata = metadata }
  setfenv(chunk, setmetatable({}, { __index = function(_, name)
    if name == "stem" then
      return row.str_idx
    end
    return known[name] or _G[name]
  end }))
  return function(candidate)
    row = candidate
    return chunk()
  end
end

return {
  init_ctx = function(_, _, config)
    return { is_wanted = compile(config.expression), expression = config.expression, shards = config.shards }
  end,
  row_generator = function(ctx)
    local numbers = ffi.new("uint64_t[?]", CHUNK)
    local count, number = 0, 0
    local function flush()
      loader:add_entry_bytes("rows", ffi.string(numbers, count * 8))
      loader:finish_row()
      count = 0
    end
    for _, shard in ipairs(ctx.shards) do
      for row in utix.open(shard .. ".utix"):iter() do
        local ok, result = pcall(ctx.is_wanted, row)
        if not ok then
          error(("%s\nfor the row %q of %s"):format(tostring(result), row.str_idx, shard), 0)
        end
        if result then
          numbers[count] = number
          count = count + 1
          if count == CHUNK then
            flush()
          end
        end
        number = number + 1
      end
    end
    if count > 0 then
      flush()
    end
  end,
}
