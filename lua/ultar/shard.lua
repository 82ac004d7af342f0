--- Shares a dataset out between ranks. Pure arithmetic, no I/O: each rank computes its own
--- share, and the shares of all ranks together are the dataset.
---
--- Which one: `by_shard` reads each file on one rank only, and is the default choice where
--- shards are many. The splits by row are even to the row, and let every rank open every
--- shard. `equal` gives every rank the same count, as training in step needs it.

---@class ultar.shard
local shard = {}

-- Counted from the public function that was called.
local SCRIPT = 3

---@param value any
---@param low integer
---@return boolean
local function is_whole(value, low)
  return type(value) == "number" and value >= low and value <= 0x1p53 and math.floor(value) == value
end

---@param value any
---@return string
local function show(value)
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function check_count(name, count)
  if not is_whole(count, 0) then
    error(("bad argument #1 to '%s' (count must be a whole number from 0 to 2^53, got %s)"):format(name, show(count)),
      SCRIPT)
  end
end

local function check_rank(name, rank, world_size)
  if not is_whole(world_size, 1) then
    error(("bad argument #3 to '%s' (world_size must be a whole number from 1, got %s)"):format(name, show(world_size)),
      SCRIPT)
  end
  if not is_whole(rank, 0) or rank >= world_size then
    error(("bad argument #2 to '%s' (rank must be a whole number from 0 to %d, got %s)"):format(name, world_size - 1,
      show(rank)), SCRIPT)
  end
end

--- Deal a list out like cards: rank 0 takes the 1st, rank 1 the 2nd, and so on. Ranks
--- differ by at most one.
---@generic T
---@param list T[] Such as the paths of all shards, in the same order on every rank
---@param rank integer From 0, below `world_size`
---@param world_size integer At least 1
---@return T[] share In the order of `list`
function shard.by_shard(list, rank, world_size)
  if type(list) ~= "table" then
    error(("bad argument #1 to 'by_shard' (list must be a table, got %s)"):format(type(list)), 2)
  end
  check_rank("by_shard", rank, world_size)
  local share = {}
  for i = rank + 1, #list, world_size do
    share[#share + 1] = list[i]
  end
  return share
end

--- Every `world_size`-th row, for a `for` loop. Neighbouring rows go to different ranks.
---
--- ```lua
--- for i in shard.strided(#index, loader.rank, loader.world_size) do
---   loader:add_row(tar, index[i])
---   loader:finish_row()
--- end
--- ```
---@param count integer Rows in all
---@param rank integer From 0, below `world_size`
---@param world_size integer At least 1
---@return fun(): integer? next_place Places from 1 to `count`, ascending
function shard.strided(count, rank, world_size)
  check_count("strided", count)
  check_rank("strided", rank, world_size)
  local place = rank + 1 - world_size
  return function()
    place = place + world_size
    if place <= count then
      return place
    end
  end
end

--- One run of neighbouring rows, which reads fastest. Ranks differ by at most one row; the
--- first ranks have the longer runs.
---
--- ```lua
--- local first, last = shard.contiguous(#index, loader.rank, loader.world_size)
--- for i = first, last do ... end
--- ```
---@param count integer Rows in all
---@param rank integer From 0, below `world_size`
---@param world_size integer At least 1
---@return integer first From 1
---@return integer last `first - 1` where the share is empty
function shard.contiguous(count, rank, world_size)
  check_count("contiguous", count)
  check_rank("contiguous", rank, world_size)
  local longer = count % world_size
  local each = (count - longer) / world_size
  local first = rank * each + math.min(rank, longer) + 1
  return first, first + each - (rank < longer and 0 or 1)
end

--- The same number of rows for every rank, strided. Where `count` is not a multiple of
--- `world_size` one has to say what gives:
---
--- - "drop" leaves the last `count % world_size` rows out, for every rank;
--- - "repeat" starts again from the first row until every rank has as many as the longest.
---
--- A `count` of 0 gives no rows to anyone.
---@param count integer Rows in all
---@param rank integer From 0, below `world_size`
---@param world_size integer At least 1
---@param remainder "drop"|"repeat"
---@return fun(): integer? next_place Places from 1 to `count`
---@return integer share How many places that will be, the same on every rank
function shard.equal(count, rank, world_size, remainder)
  check_count("equal", count)
  check_rank("equal", rank, world_size)
  if remainder ~= "drop" and remainder ~= "repeat" then
    error(("bad argument #4 to 'equal' (remainder must be \"drop\" or \"repeat\", got %s)"):format(show(remainder)), 2)
  end
  local share = math.floor(count / world_size)
  if remainder == "repeat" and share * world_size < count then
    share = share + 1
  end
  local done = 0
  return function()
    if done < share then
      local place = (done * world_size + rank) % count + 1
      done = done + 1
      return place
    end
  end, share
end

-- What one pattern may become. Longer lists of shards are no longer written by hand.
local EXPANSION_MAX = 10000000

---@param pattern string
---@param open integer Place of the opening brace
---@return integer? close Place of the brace that closes it
local function closing_brace(pattern, open)
  local depth = 0
  for at, brace in pattern:sub(open):gmatch("()([{}])") do
    depth = depth + (brace == "{" and 1 or -1)
    if depth == 0 then
      return open + at - 1
    end
  end
end

--- The alternatives of what stands between two braces, split at its outer commas.
---@param body string
---@return string[]
local function split(body)
  local parts, depth, start = {}, 0, 1
  for at, mark in body:gmatch("()([{},])") do
    if mark == "{" then
      depth = depth + 1
    elseif mark == "}" then
      depth = depth - 1
    elseif depth == 0 then
      parts[#parts + 1] = body:sub(start, at - 1)
      start = at + 1
    end
  end
  parts[#parts + 1] = body:sub(start)
  return parts
end

---@param pattern string For the message
---@param body string
---@return string[]? numbers Nil when this is no range
local function range(pattern, body)
  local low, high = body:match("^(%d+)%.%.(%d+)$")
  if not low then
    return nil
  end
  local first, last = tonumber(low), tonumber(high)
  if last > 0x1p53 or first > 0x1p53 or math.abs(last - first) >= EXPANSION_MAX then
    error(("expand: {%s} in %q stands for more than %d names"):format(body, pattern, EXPANSION_MAX), 0)
  end
  -- Leading zeros ask for a fixed width, as in a shell.
  local padded = low:find("^0.") or high:find("^0.")
  local form = padded and "%0" .. math.max(#low, #high) .. ".0f" or "%.0f"
  local numbers = {}
  for number = first, last, first <= last and 1 or -1 do
    numbers[#numbers + 1] = form:format(number)
  end
  return numbers
end

---@param pattern string
---@return string[]
local function expand(pattern, whole)
  local open = pattern:find("{", 1, true)
  if not open then
    if pattern:find("}", 1, true) then
      error(("expand: a '}' without '{' in %q"):format(whole), 0)
    end
    return { pattern }
  end
  local close = closing_brace(pattern, open)
  if not close then
    error(("expand: a '{' without '}' in %q"):format(whole), 0)
  end
  local before, body = pattern:sub(1, open - 1), pattern:sub(open + 1, close - 1)
  if before:find("}", 1, true) then
    error(("expand: a '}' without '{' in %q"):format(whole), 0)
  end
  local middles = range(whole, body)
  if not middles then
    middles = {}
    for _, part in ipairs(split(body)) do
      for _, middle in ipairs(expand(part, whole)) do
        middles[#middles + 1] = middle
      end
    end
  end
  local afters = expand(pattern:sub(close + 1), whole)
  if #middles * #afters > EXPANSION_MAX then
    error(("expand: %q stands for more than %d names"):format(whole, EXPANSION_MAX), 0)
  end
  local names = {}
  for _, middle in ipairs(middles) do
    for _, after in ipairs(afters) do
      names[#names + 1] = before .. middle .. after
    end
  end
  return names
end

--- Write out braces as a shell does: `{000..127}` counts, with leading zeros where a bound
--- has them; `{a,b}` lists; several multiply, the last one running fastest.
---
--- ```lua
--- shard.expand("train-{000..127}.tar") -- "train-000.tar", "train-001.tar", ...
--- ```
---
--- Raises when braces do not match, or the result has more than ten million names.
---@param pattern string
---@return string[] names
function shard.expand(pattern)
  if type(pattern) ~= "string" then
    error(("bad argument #1 to 'expand' (pattern must be a string, got %s)"):format(type(pattern)), 2)
  end
  local ok, result = pcall(expand, pattern, pattern)
  if not ok then
    error(result, 2)
  end
  return result
end

return shard
