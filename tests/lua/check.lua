--- What the tests beside this file are written with; `tests/test_lua_modules.py` runs them.

local check = {
  ---@type { name: string, run: function }[] In the order of the file
  tests = {},
}

---@param name string What is promised, in words
---@param run function Raises when the promise is broken
function check.test(name, run)
  check.tests[#check.tests + 1] = { name = name, run = run }
end

local function show(value)
  if type(value) == "string" then
    return ("%q"):format(value)
  elseif type(value) ~= "table" then
    return tostring(value)
  end
  local parts = {}
  for key, member in pairs(value) do
    parts[#parts + 1] = ("[%s] = %s"):format(show(key), show(member))
  end
  table.sort(parts)
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return a == b
  end
  for key, member in pairs(a) do
    if not same(member, b[key]) then
      return false
    end
  end
  for key in pairs(b) do
    if a[key] == nil then
      return false
    end
  end
  return true
end

--- Tables are compared by what is in them.
function check.equal(got, wanted)
  if not same(got, wanted) then
    error(("got %s, wanted %s"):format(show(got), show(wanted)), 2)
  end
end

--- `run` must raise, at a line of the calling file, with `text` (plain) in the message.
function check.raises(text, run)
  local file = debug.getinfo(2, "S").short_src
  local ok, message = pcall(run)
  if ok then
    error(("nothing was raised, wanted %q"):format(text), 2)
  elseif type(message) ~= "string" or not message:find(text, 1, true) then
    error(("raised %s, wanted %q"):format(show(message), text), 2)
  elseif message:sub(1, #file + 1) ~= file .. ":" then
    error(("%q does not begin with the script's line"):format(message), 2)
  end
end

--- All that an iterator gives, as a list.
function check.collect(next_value)
  local list = {}
  for value in next_value do
    list[#list + 1] = value
  end
  return list
end

return check
