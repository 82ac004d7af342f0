--- Only samples that are large enough: rows are chosen by what the index knows, and nothing
--- of the others is read. The index has to be made with the rule ".json:.width;.height".
---
--- config.shard: path of the tar, with its index beside it
--- config.side_min: pixels that the shorter side must have

local loader = require("ultar.loader")
local utix = require("ultar.utix")

-- Also a cheap filter, as it takes no metadata: nobody needs images of no bytes.
local BYTES_MIN = 1

return {
  init_ctx = function(_, _, config)
    return { path = config.shard, side_min = config.side_min }
  end,

  row_generator = function(ctx)
    local tar = loader:open_file(ctx.path)
    for row in utix.open(ctx.path .. ".utix"):iter() do
      local bytes = row:size(".jpg")
      if bytes and bytes >= BYTES_MIN then
        -- A value that the sample does not have is nil.
        local metadata = row.metadata or {}
        local side = math.min(metadata[".width"] or 0, metadata[".height"] or 0)
        if side >= ctx.side_min then
          loader:add_row(tar, row, { ".jpg", ".json" })
          loader:finish_row()
        end
      end
    end
    loader:close_file(tar)
  end,
}
