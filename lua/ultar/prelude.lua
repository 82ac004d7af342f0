--- What a state has before its script runs: rank and world_size, `print`, and the
--- globals that scripts of the first generation use instead of `require`.

require("ultar.iteration") -- Before all that uses `pairs`.
local dropping = require("ultar.dropping")
local finalizers = require("ultar.finalizers")
local host = require("ultar.host")
local loader = require("ultar.loader")
local scandir = require("ultar.scandir")
local utix = require("ultar.utix")

local api, native, fail = host.api, host.native, host.fail
local concat, select = table.concat, select

local prelude = {}

--- Lua's own `print`, to the logger "ultar_dataloader.script" of Python: the arguments
--- through the global `tostring`, with tabs between them. It comes in order with the rows.
---@param ... any
local function print_to_log(...)
  local texts = {}
  for i = 1, select("#", ...) do
    local text = tostring((select(i, ...)))
    if type(text) ~= "string" then
      error("'tostring' must return a string to 'print'", 2)
    end
    texts[i] = text
  end
  local line = concat(texts, "\t")
  local status = api.log(native, line, #line)
  if status ~= 0 then
    fail(status, 2)
  end
end

--- Prepare the state. Called once, before the script is loaded.
---@param rank integer
---@param world_size integer
---@param config table
function prelude.start(rank, world_size, config)
  loader.rank, loader.world_size = rank, world_size
  _G.print = print_to_log
  finalizers.install(print_to_log)
  dropping.install()
  _G.g_loader = loader
  _G.g_config = config
  _G.msgpack_unpacker = utix.open
  _G.scan_dir = scandir.open
end

return prelude
