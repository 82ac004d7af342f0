--- All samples of all shards in one random order, another in each epoch; the ranks' shares
--- are equal in size and have nothing in common. Memory: the indexes, and no list of places.
---
--- config.shards: paths of the tars, each with its index beside it, in the same order on
--- every rank
--- config.seed, config.epoch: whole numbers; the same ones give the same order
--- config.window: for reads in runs, the rows that are shuffled among each other; or none

local loader = require("ultar.loader")
local shard = require("ultar.shard")
local shuffle = require("ultar.shuffle")
local utix = require("ultar.utix")

--- Which shard the number lies in: the last that begins before it.
local function find(begins, number)
  local low, high = 1, #begins
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if begins[middle] < number then
      low = middle
    else
      high = middle - 1
    end
  end
  return low
end

return {
  init_ctx = function(rank, world_size, config)
    return { rank = rank, world_size = world_size, config = config }
  end,

  row_generator = function(ctx)
    local tars, indexes, begins, count = {}, {}, {}, 0
    for i, path in ipairs(ctx.config.shards) do
      tars[i], indexes[i] = loader:open_file(path), utix.open(path .. ".utix")
      begins[i], count = count, count + #indexes[i]
    end
    local order = shuffle.permutation(count, ctx.config.seed, ctx.config.epoch, ctx.config.window)
    for place in shard.equal(count, ctx.rank, ctx.world_size, "drop") do
      local number = order[place]
      local i = find(begins, number)
      loader:add_row(tars[i], indexes[i][number - begins[i]])
      loader:finish_row()
    end
  end,
}
