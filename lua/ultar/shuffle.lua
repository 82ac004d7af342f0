--- Random order that can be repeated: everything here follows from a seed and an epoch, and
--- nothing from the clock or from `math.random`. The same arguments give the same order on
--- every machine and rank.

local host = require("ultar.host")

local ffi = require("ffi")
local order_init, order_at, order_place = host.api.order_init, host.api.order_at, host.api.order_place
local floor = math.floor
local is_whole, bad_argument = host.is_whole, host.bad_argument

---@class ultar.shuffle
local shuffle = {}

local WANT_SEED = "seed must be a whole number from 0 to 2^53"
local WANT_EPOCH = "epoch must be a whole number from 0 to 2^53"

---A shuffled order of 1..n: `order[k]` is the k-th number, nil where `k` is not in 1..n,
---and `#order` is n. It holds half a kilobyte and no list, whatever n is.
---@class ultar.Permutation
---@operator len: integer
---@field [integer] integer?
local methods = {}

--- The numbers in shuffled order, from the k-th on. Each call starts anew.
---
--- ```lua
--- for i in shuffle.permutation(#index, config.seed, config.epoch):iter() do
---   loader:add_row(tar, index[i])
---   loader:finish_row()
--- end
--- ```
---@param first? integer k, to go on in the middle; 1 when left out
---@return fun(): integer? next_number
function methods:iter(first)
  if not ffi.istype("ultar_order", self) then
    error("use permutation:iter(), with a colon", 2)
  end
  first = first == nil and 1 or first
  if not is_whole(first, 1) then
    bad_argument(1, "iter", "first must be a whole number from 1", first, 2)
  end
  local n = self.n
  local place = first - 1
  return function()
    if place < n then
      place = place + 1
      return order_at(self, place - 1) + 1
    end
  end
end

--- The place where a number stands: `permutation[permutation:place_of(number)] == number`.
--- Computed, not searched for.
---@param number any
---@return integer? place nil where it is not in 1..n
function methods:place_of(number)
  if not ffi.istype("ultar_order", self) then
    error("use permutation:place_of(number), with a colon", 2)
  end
  if is_whole(number, 1) and number <= self.n then
    return order_place(self, number - 1) + 1
  end
  return nil
end

local metatable = {}

function metatable.__index(order, key)
  if type(key) == "number" then
    if key >= 1 and key <= order.n and floor(key) == key then
      return order_at(order, key - 1) + 1
    end
    return nil
  end
  return methods[key]
end

function metatable.__len(order)
  return order.n
end

local new_order = ffi.metatype("ultar_order", metatable)

--- A permutation of 1..n in constant memory, by which an index of billions of records can
--- be read in random order. Another seed or epoch gives an unrelated order. Python's
--- `order(n, seed, epoch, window=window)` has the same numbers, counted from 0.
---
--- With a `window` neighbours stay near, so that a reader that is a window ahead reads them
--- in runs: blocks of `floor(sqrt(window))` neighbouring numbers are shuffled, then the
--- places within each stretch of `window`. docs/order.md says what each guarantees.
---
--- Combine it with a split by place, so that the ranks together see each number once:
--- `for k in shard.strided(#order, rank, world_size) do local i = order[k] ... end`.
---@param n integer How many; 0 to 2^53
---@param seed integer 0 to 2^53
---@param epoch? integer 0 to 2^53; 0 when left out
---@param window? integer From 1; all of n when left out
---@return ultar.Permutation
function shuffle.permutation(n, seed, epoch, window)
  epoch = epoch == nil and 0 or epoch
  if not is_whole(n, 0) then
    bad_argument(1, "permutation", "n must be a whole number from 0 to 2^53", n, 2)
  elseif not is_whole(seed, 0) then
    bad_argument(2, "permutation", WANT_SEED, seed, 2)
  elseif not is_whole(epoch, 0) then
    bad_argument(3, "permutation", WANT_EPOCH, epoch, 2)
  elseif window ~= nil and not is_whole(window, 1) then
    bad_argument(4, "permutation", "window must be a whole number from 1 to 2^53", window, 2)
  end
  local order = new_order()
  order_init(order, n, seed, epoch, window or 0)
  return order
end

--- A stream of random numbers of its own: streams with another seed or epoch have nothing in
--- common, and no other call disturbs one.
---
--- ```lua
--- local random = shuffle.random(config.seed, config.epoch)
--- random()   -- a number in [0, 1)
--- random(6)  -- a whole number from 1 to 6
--- ```
---@param seed integer 0 to 2^53
---@param epoch? integer 0 to 2^53; 0 when left out
---@return fun(bound?: integer): number random
function shuffle.random(seed, epoch)
  epoch = epoch == nil and 0 or epoch
  if not is_whole(seed, 0) then
    bad_argument(1, "random", WANT_SEED, seed, 2)
  elseif not is_whole(epoch, 0) then
    bad_argument(2, "random", WANT_EPOCH, epoch, 2)
  end
  -- The order of a set this large shows no repetition that anyone could notice.
  local order = new_order()
  order_init(order, 0x1p53, seed, epoch, 0)
  local drawn = 0
  return function(bound)
    local fraction = order_at(order, drawn) / 0x1p53
    drawn = drawn + 1
    if bound == nil then
      return fraction
    end
    if not is_whole(bound, 1) then
      bad_argument(1, "random", "bound must be a whole number from 1", bound, 2)
    end
    return floor(fraction * bound) + 1
  end
end

--- Shuffle what an iterator gives, as well as `size` values in memory allow: each value
--- comes out at random from those waiting. All come out, each once. For what can only be
--- read in order; an index is shuffled better, and without memory, by `permutation`.
---
--- ```lua
--- for row in shuffle.buffer(index:iter(), 1000, config.seed) do ... end
--- ```
---@generic T
---@param next_value fun(): T? Nil ends it
---@param size integer Values to hold, from 1
---@param seed integer 0 to 2^53
---@param epoch? integer 0 to 2^53; 0 when left out
---@return fun(): T?
function shuffle.buffer(next_value, size, seed, epoch)
  epoch = epoch == nil and 0 or epoch
  if type(next_value) ~= "function" then
    bad_argument(1, "buffer", "next_value must be an iterator function", next_value, 2)
  elseif not is_whole(size, 1) then
    bad_argument(2, "buffer", "size must be a whole number from 1", size, 2)
  elseif not is_whole(seed, 0) then
    bad_argument(3, "buffer", WANT_SEED, seed, 2)
  elseif not is_whole(epoch, 0) then
    bad_argument(4, "buffer", WANT_EPOCH, epoch, 2)
  end
  local random = shuffle.random(seed, epoch)
  local waiting, count, open = {}, 0, true
  return function()
    while open and count < size do
      local value = next_value()
      if value == nil then
        open = false -- Never asked again: some iterators would start over.
      else
        count = count + 1
        waiting[count] = value
      end
    end
    if count == 0 then
      return nil
    end
    local place = random(count)
    local value = waiting[place]
    waiting[place], waiting[count] = waiting[count], nil
    count = count - 1
    return value
  end
end

return shuffle
