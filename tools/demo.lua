--- The script of the demo: every sample of the shards, each rank taking its share.

local loader = require("ultar.loader")
local utix = require("ultar.utix")

return {
  init_ctx = function(rank, world_size, config)
    print(("rank %d of %d: %d shards"):format(rank, world_size, #config.shards))
    return { rank = rank, world_size = world_size, shards = config.shards, limit = config.limit or math.huge }
  end,

  row_generator = function(ctx)
    local seen = 0
    for _, path in ipairs(ctx.shards) do
      local tar = loader:open_file(path)
      for row in utix.open(path .. ".utix"):iter() do
        if row.iidx >= ctx.limit then
          break
        end
        -- Every world_size-th sample of all: the ranks' shares differ by one at most.
        if seen % ctx.world_size == ctx.rank then
          loader:add_entry_bytes("stem", row.str_idx)
          loader:add_row(tar, row)
          loader:finish_row()
        end
        seen = seen + 1
      end
      loader:close_file(tar)
    end
  end,
}
