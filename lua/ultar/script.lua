--- Runs the user's script: its top level and `init_ctx` in `load`, its
--- `row_generator` in `generate`. Called by the engine's host, each in a coroutine.

local prelude = require("ultar.prelude")

local script = {}

local row_generator, context

--- Where `require` looks for the script's own modules, before anywhere else.
---@param dir string
local function search_in(dir)
  if dir ~= "" then
    -- A `;` or `?` in the name of a directory means something else in here.
    if not dir:find("[;?]") then
      package.path = dir .. "/?.lua;" .. dir .. "/?/init.lua;" .. package.path
    end
  end
end

---@param value any
---@param what string
local function check_function(value, what)
  if type(value) ~= "function" then
    error(("the script's %s must be a function, got %s"):format(what, type(value)), 0)
  end
end

--- Compile and run the script, then its `init_ctx`. Raises what either raises.
---@param text string Lua source, no bytecode
---@param name string Names the script in messages
---@param search_dir string Where `require` looks first; "" for nowhere
---@param rank integer
---@param world_size integer
---@param config table
function script.load(text, name, search_dir, rank, world_size, config)
  search_in(search_dir)
  prelude.start(rank, world_size, config)
  local chunk, message = load(text, "@" .. name, "t")
  if not chunk then
    error(message, 0)
  end
  local result = chunk()
  if type(result) ~= "table" then
    error(("%s: the script must return a table with init_ctx and row_generator, got %s"):format(name, type(result)), 0)
  end
  check_function(result.row_generator, "row_generator")
  row_generator = result.row_generator
  if result.init_ctx ~= nil then
    check_function(result.init_ctx, "init_ctx")
    context = result.init_ctx(rank, world_size, config)
  end
end

--- Run the generator to its end.
function script.generate()
  row_generator(context)
end

return script
