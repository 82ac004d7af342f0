--- Keeps a script from going on when its iterator is dropped.
---
--- The call into the loader that learns of it yields to the host, which closes the state.
--- But a coroutine of the script's own yields to the script, and where Lua cannot yield (in a
--- callback of `table.sort`) an error is all there is, which a `pcall` may catch. So what runs
--- other functions looks, when they return, and yields one level further.

local host = require("ultar.host")

local leave = host.leave

local dropping = {}

---@param ... any
---@return any ... The same, unless the iterator was dropped
local function unless_dropped(...)
  if host.dropped then
    leave(1)
  end
  return ...
end

--- Replace Lua's functions that run others by such that look.
function dropping.install()
  local resume_builtin, wrap_builtin = coroutine.resume, coroutine.wrap
  local pcall_builtin, xpcall_builtin = pcall, xpcall

  function coroutine.resume(thread, ...)
    return unless_dropped(resume_builtin(thread, ...))
  end

  function coroutine.wrap(f)
    local resume = wrap_builtin(f)
    return function(...)
      return unless_dropped(resume(...))
    end
  end

  function pcall(f, ...)
    return unless_dropped(pcall_builtin(f, ...))
  end

  -- An error in a handler that has called `pcall` makes LuaJIT call the handler again, on
  -- and on, until the thread's stack is used up. So it stays inside.
  function xpcall(f, handler, ...)
    return unless_dropped(xpcall_builtin(f, function(message)
      local ok, result = pcall_builtin(handler, message)
      if ok then
        return result
      end
      return "error in error handling: " .. tostring(result)
    end, ...))
  end
end

return dropping
