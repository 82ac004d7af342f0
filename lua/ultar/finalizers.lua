--- Keeps errors of finalizers from going astray.
---
--- The garbage collector runs finalizers at any allocation, and LuaJIT before 2023 throws
--- their errors from there: at a line that has nothing to do with it, and in some places at
--- the cost of the process. So `__gc` functions that a script sets are run protected, and an
--- error becomes a line of output, as in later versions of LuaJIT.

local ffi = require("ffi")
local getmetatable, pcall, rawset = getmetatable, pcall, rawset
local setmetatable, tostring, type = setmetatable, tostring, type

---@type fun(text: string)
local report

local finalizers = {}

---@param finalizer any
---@return any # The same, protected, if it is a function
local function protect(finalizer)
  if type(finalizer) ~= "function" then
    return finalizer
  end
  return function(object)
    local ok, message = pcall(finalizer, object)
    if not ok then
      pcall(report, "error in a finalizer: " .. tostring(message))
    end
  end
end

--- What `getmetatable` answers for a proxy: a table that stays empty, so that every
--- assignment comes by here, also the second one of `__gc`.
---@param metatable table The one that the proxy has
---@return table
local function guarded(metatable)
  return setmetatable({}, {
    __index = metatable,
    __newindex = function(_, name, value)
      rawset(metatable, name, name == "__gc" and protect(value) or value)
    end,
    __metatable = false,
  })
end

--- Replace what sets finalizers by what sets protected ones.
---@param to fun(text: string) Where an error is reported
function finalizers.install(to)
  report = to

  local newproxy_plain = newproxy
  function newproxy(template)
    local proxy = newproxy_plain(template)
    if template == true then
      local metatable = getmetatable(proxy)
      metatable.__metatable = guarded(metatable)
    end
    return proxy
  end

  local gc_plain = ffi.gc
  function ffi.gc(object, finalizer)
    return gc_plain(object, protect(finalizer))
  end

  local metatype_plain = ffi.metatype
  function ffi.metatype(ctype, metatable)
    if type(metatable) == "table" and metatable.__gc then
      metatable.__gc = protect(metatable.__gc)
    end
    return metatype_plain(ctype, metatable)
  end
end

return finalizers
