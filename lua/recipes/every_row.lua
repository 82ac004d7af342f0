--- Every sample of the shards, whole. Each rank reads its share of the shards.
---
--- config.shards: paths, where braces count ("train-{000..127}.tar"); each has its index
--- beside it ("train-000.tar.utix").

local loader = require("ultar.loader")
local shard = require("ultar.shard")
local utix = require("ultar.utix")

return {
  init_ctx = function(rank, world_size, config)
    local paths = {}
    for _, pattern in ipairs(config.shards) do
      for _, path in ipairs(shard.expand(pattern)) do
        paths[#paths + 1] = path
      end
    end
    return { paths = shard.by_shard(paths, rank, world_size) }
  end,

  row_generator = function(ctx)
    for _, path in ipairs(ctx.paths) do
      local tar = loader:open_file(path)
      for row in utix.open(path .. ".utix"):iter() do
        loader:add_row(tar, row)
        loader:finish_row()
      end
      loader:close_file(tar)
    end
  end,
}
