--- Looks into a running script.

-- The library that this module shares its name with, before a script changes it.
local getinfo, getlocal = debug.getinfo, debug.getlocal

---@class ultar.debug
local M = {}

local VALUE_BYTES_MAX = 60
-- Functions shown. Endless recursion has tens of thousands, all alike.
local LEVELS_MAX = 50

---@param value any
---@return string
local function show(value)
  if type(value) == "string" then
    local shown = value:sub(1, VALUE_BYTES_MAX)
    return ("%q"):format(shown) .. (#value > #shown and ("... (%d bytes)"):format(#value) or "")
  end
  -- `__tostring` of a script may fail or never end; addresses say enough here.
  if type(value) == "table" or type(value) == "userdata" then
    return type(value)
  end
  return tostring(value)
end

---@param info table Of `debug.getinfo`
---@return string
local function describe(info)
  local where = info.currentline > 0 and ("%s:%d"):format(info.short_src, info.currentline) or info.short_src
  if info.what == "main" then
    return where .. ": in main chunk"
  elseif info.name then
    return ("%s: in function '%s'"):format(where, info.name)
  end
  return ("%s: in function <%s:%d>"):format(where, info.short_src, info.linedefined)
end

--- Print the call stack with the local variables of each function, innermost first, of
--- at most 50 functions.
---
--- ```lua
--- require("ultar.debug").dump_stack()
--- ```
---@return string text What was printed
function M.dump_stack()
  local lines = { "stack:" }
  local level = 2
  local info = getinfo(level, "nSl")
  while info do
    lines[#lines + 1] = "  " .. describe(info)
    local place = 1
    local name, value = getlocal(level, place)
    while name do
      -- Names in parentheses are temporaries of the interpreter.
      if name:sub(1, 1) ~= "(" then
        lines[#lines + 1] = ("    %s = %s"):format(name, show(value))
      end
      place = place + 1
      name, value = getlocal(level, place)
    end
    level = level + 1
    info = getinfo(level, "nSl")
    if info and level > LEVELS_MAX + 1 then
      lines[#lines + 1] = "  ..."
      break
    end
  end
  local text = table.concat(lines, "\n")
  print(text)
  return text
end

return M
