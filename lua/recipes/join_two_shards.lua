--- Rows from two shards: the samples of one, each with the members that the sample with the
--- same stem has in the other. Samples without a partner are left out.
---
--- config.left, config.right: paths of the tars, each with its index beside it

local loader = require("ultar.loader")
local utix = require("ultar.utix")

--- Places by stem. One entry a sample: let `right` be the shard with fewer.
local function places_of(index)
  local places, place = {}, 0
  for row in index:iter() do
    place = place + 1
    places[row.str_idx] = place
  end
  return places
end

return {
  init_ctx = function(_, _, config)
    return { left = config.left, right = config.right }
  end,

  row_generator = function(ctx)
    local left, right = loader:open_file(ctx.left), loader:open_file(ctx.right)
    local partners = utix.open(ctx.right .. ".utix")
    local places = places_of(partners)
    for row in utix.open(ctx.left .. ".utix"):iter() do
      local place = places[row.str_idx]
      if place then
        loader:add_row(left, row)
        loader:add_row(right, partners[place])
        loader:finish_row()
      end
    end
    loader:close_file(left)
    loader:close_file(right)
  end,
}
