--- Draws from several sources by weight: 7 parts of this dataset, 3 parts of that.

local shuffle = require("ultar.shuffle")

---@class ultar.mix
local mix = {}

---@class ultar.MixOptions
---@field seed? integer 0 to 2^53; 0 when left out
---@field epoch? integer 0 to 2^53; 0 when left out
---@field stop? "all"|"first" When to end: "all" (or left out) goes on with the others when a source has ended, until all have; "first" ends when a source is drawn that has ended

local OPTIONS = { seed = true, epoch = true, stop = true }

---@param options ultar.MixOptions
local function check_options(options)
  if type(options) ~= "table" then
    error(("bad argument #2 to 'draw' (options must be a table, got %s)"):format(type(options)), 3)
  end
  for name in pairs(options) do
    if not OPTIONS[name] then
      error(("bad argument #2 to 'draw' (there is no option %q; there are seed, epoch and stop)"):format(
        tostring(name)), 3)
    end
  end
  local stop = options.stop
  if stop ~= nil and stop ~= "all" and stop ~= "first" then
    error(("bad argument #2 to 'draw' (stop must be \"all\" or \"first\", got %s)"):format(tostring(stop)), 3)
  end
end

---@return function[] iterators
---@return number[] weights
local function read_sources(sources)
  if type(sources) ~= "table" or #sources == 0 then
    error("bad argument #1 to 'draw' (sources must be a list of { iterator, weight })", 3)
  end
  local iterators, weights = {}, {}
  for i = 1, #sources do
    local source = sources[i]
    local iterator = type(source) == "table" and source[1]
    local weight = type(source) == "table" and source[2]
    if type(iterator) ~= "function" then
      error(("bad argument #1 to 'draw' (source %d: the iterator must be a function, got %s)"):format(i,
        type(iterator)), 3)
    end
    if type(weight) ~= "number" or not (weight > 0 and weight < math.huge) then
      error(("bad argument #1 to 'draw' (source %d: the weight must be a number above 0, got %s)"):format(i,
        tostring(weight)), 3)
    end
    iterators[i], weights[i] = iterator, weight
  end
  return iterators, weights
end

--- Draw from sources at random, each with a chance in proportion to its weight. The same
--- seed and epoch draw in the same order.
---
--- ```lua
--- local a, b = utix.open("a.tar.utix"), utix.open("b.tar.utix")
--- local tars = { loader:open_file("a.tar"), loader:open_file("b.tar") }
--- for row, source in mix.draw({ { a:iter(), 0.7 }, { b:iter(), 0.3 } }, { seed = 1 }) do
---   loader:add_row(tars[source], row)
---   loader:finish_row()
--- end
--- ```
---@generic T
---@param sources table[] Each `{ iterator, weight }`; weights are above 0 and need not add up to 1
---@param options? ultar.MixOptions
---@return fun(): T?, integer? next_value A value, and the place of its source in `sources`
function mix.draw(sources, options)
  options = options == nil and {} or options
  check_options(options)
  local iterators, weights = read_sources(sources)
  -- Checks seed and epoch; what it raises belongs to the script's line.
  local ok, random = pcall(shuffle.random, options.seed == nil and 0 or options.seed, options.epoch)
  if not ok then
    error(random, 2)
  end
  local stop_at_first = options.stop == "first"
  local count, total = #iterators, 0
  for i = 1, count do
    total = total + weights[i]
  end
  local ended = false

  local function draw()
    local rest = random() * total
    local last
    for i = 1, count do
      if weights[i] > 0 then
        rest, last = rest - weights[i], i
        if rest < 0 then
          return i
        end
      end
    end
    return last -- Rounding left a little more than all weights together.
  end

  --- Take a source that has ended out of the draw.
  local function remove(place)
    weights[place], iterators[place] = 0, false
    total = 0 -- Added up anew, so that no rounding error stays.
    for i = 1, count do
      total = total + weights[i]
    end
  end

  return function()
    while not ended do
      local place = draw()
      local value = iterators[place]()
      if value ~= nil then
        return value, place
      end
      remove(place)
      ended = stop_at_first or total == 0
    end
  end
end

return mix
