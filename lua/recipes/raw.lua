--- Every row of a folder of plain files, each of which is an entry.
---
--- config.folder: the folder, or its URL in a store; `ultar_dataloader.raw.index(folder)` made its index, which lies
--- beside it ("photos.utix" for "photos").

local loader = require("ultar.loader")
local utix = require("ultar.utix")

return {
  init_ctx = function(rank, world_size, config)
    return { folder = config.folder, rank = rank, world_size = world_size }
  end,

  row_generator = function(ctx)
    local number = 0
    for row in utix.open(ctx.folder .. ".utix"):iter() do
      if number % ctx.world_size == ctx.rank then
        for i = 1, #row.keys do
          -- Stem and key are the file's name in the folder.
          local name = row.str_idx .. row.keys[i]
          if ("/" .. name .. "/"):find("/../", 1, true) then
            error(("the index of %s names a file outside of it: %s"):format(ctx.folder, name), 0)
          end
          local file = loader:open_file(ctx.folder .. "/" .. name, row.sizes[i])
          loader:add_entry(file, row.keys[i], 0, row.sizes[i])
          loader:close_file(file)
        end
        loader:finish_row()
      end
      number = number + 1
    end
  end,
}
