--- JSON, for labels and metadata: strict when decoding, deterministic when encoding.
---
--- | JSON | Lua |
--- |---|---|
--- | object | table with string keys |
--- | array | table from 1 to n, marked so that it stays an array when empty |
--- | `null` | `json.null` |
--- | number | number; beyond 2^53 the nearest one that there is |
--- | string | string; bytes that are no UTF-8 pass through |

local byte, find, sub, char = string.byte, string.find, string.sub, string.char
local floor = math.floor

---@class ultar.json
local json = {}

--- How deep arrays and objects may nest, for both directions.
json.DEPTH_MAX = 128

--- What `null` becomes: a value of its own, as nil would leave no trace in a table.
---@type userdata
json.null = newproxy(true)
getmetatable(json.null).__tostring = function()
  return "null"
end

local array_metatable = {}

--- Mark a table as an array. Only an empty one needs it: without it `{}` is an object.
---@generic T: table
---@param list T
---@return T list
function json.array(list)
  if type(list) ~= "table" then
    error(("bad argument #1 to 'array' (list must be a table, got %s)"):format(type(list)), 2)
  end
  return (setmetatable(list, array_metatable))
end

local function malformed(text, at, wanted)
  local got = "the end"
  if at <= #text then
    local code = byte(text, at)
    -- Part of a longer character, or a control character, would make a mess of the message.
    got = (code < 0x20 or code >= 0x7F) and ("0x%02X"):format(code) or ("%q"):format(char(code))
  end
  error(("JSON: wanted %s at byte %d, got %s"):format(wanted, at - 1, got), 0)
end

local ESCAPES = {
  ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
}

---@param code integer A Unicode code point
---@return string
local function utf8_bytes(code)
  if code < 0x80 then
    return char(code)
  elseif code < 0x800 then
    return char(0xC0 + floor(code / 0x40), 0x80 + code % 0x40)
  elseif code < 0x10000 then
    return char(0xE0 + floor(code / 0x1000), 0x80 + floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
  end
  return char(0xF0 + floor(code / 0x40000), 0x80 + floor(code / 0x1000) % 0x40, 0x80 + floor(code / 0x40) % 0x40,
    0x80 + code % 0x40)
end

--- The code unit of the `\uXXXX` whose digits start at `at`.
local function code_unit(text, at)
  local digits = text:match("^%x%x%x%x", at)
  if not digits then
    malformed(text, at, "four hexadecimal digits")
  end
  return tonumber(digits, 16)
end

---@param at integer Place after the `\u`
---@return string bytes
---@return integer at
local function unicode_escape(text, at)
  local unit = code_unit(text, at)
  if unit >= 0xDC00 and unit <= 0xDFFF then
    malformed(text, at, "no second half of a surrogate pair without the first")
  elseif unit < 0xD800 or unit > 0xDFFF then
    return utf8_bytes(unit), at + 4
  end
  if sub(text, at + 4, at + 5) ~= "\\u" then
    malformed(text, at + 4, "the second half of a surrogate pair")
  end
  local second = code_unit(text, at + 6)
  if second < 0xDC00 or second > 0xDFFF then
    malformed(text, at + 6, "the second half of a surrogate pair")
  end
  return utf8_bytes(0x10000 + (unit - 0xD800) * 0x400 + (second - 0xDC00)), at + 10
end

---@param at integer Place after the opening quote
---@return string value
---@return integer at Place after the closing quote
local function decode_string(text, at)
  local parts, count = nil, 0
  while true do
    local stop = find(text, '[%c"\\]', at)
    -- DEL is a control character for Lua and an ordinary one for JSON.
    while stop and byte(text, stop) == 0x7F do
      stop = find(text, '[%c"\\]', stop + 1)
    end
    if not stop then
      malformed(text, #text + 1, "a closing quote")
    end
    local mark = byte(text, stop)
    if mark == 0x22 and not parts then
      return sub(text, at, stop - 1), stop + 1
    end
    parts = parts or {}
    parts[count + 1] = sub(text, at, stop - 1)
    if mark == 0x22 then
      return table.concat(parts), stop + 1
    elseif mark ~= 0x5C then
      malformed(text, stop, "no control character in a string")
    end
    local letter = sub(text, stop + 1, stop + 1)
    if letter == "u" then
      parts[count + 2], at = unicode_escape(text, stop + 2)
    else
      parts[count + 2], at = ESCAPES[letter] or malformed(text, stop + 1, "an escape"), stop + 2
    end
    count = count + 2
  end
end

---@return number value
---@return integer at
local function decode_number(text, at)
  local _, last = find(text, "^-?%d+", at)
  if not last then
    malformed(text, at, "a value")
  elseif find(text, "^-?0%d", at) then
    malformed(text, at, "no leading zero")
  end
  local _, fraction = find(text, "^%.%d+", last + 1)
  last = fraction or last
  local _, exponent = find(text, "^[eE][+-]?%d+", last + 1)
  last = exponent or last
  local digits = sub(text, at, last)
  local value = tonumber(digits)
  if value == nil then
    -- LuaJIT reads exponents of a few digits only.
    value = (find(digits, "[eE]%-") or not find(digits, "^[^eE]*[1-9]")) and 0 or math.huge
  end
  if value == math.huge or value == -math.huge then
    malformed(text, at, "a number below 1.8e308")
  end
  return value, last + 1
end

local function skip_space(text, at)
  return find(text, "[^ \t\r\n]", at) or #text + 1
end

local WORDS = { t = { "true", true }, f = { "false", false }, n = { "null", json.null } }

local decode_value

local function decode_array(text, at, depth)
  local list, count = setmetatable({}, array_metatable), 0
  at = skip_space(text, at)
  if byte(text, at) == 0x5D then
    return list, at + 1
  end
  while true do
    count = count + 1
    list[count], at = decode_value(text, at, depth)
    at = skip_space(text, at)
    local mark = byte(text, at)
    if mark == 0x5D then
      return list, at + 1
    elseif mark ~= 0x2C then
      malformed(text, at, "',' or ']'")
    end
    at = skip_space(text, at + 1)
  end
end

local function decode_object(text, at, depth)
  local object = {}
  at = skip_space(text, at)
  if byte(text, at) == 0x7D then
    return object, at + 1
  end
  while true do
    if byte(text, at) ~= 0x22 then
      malformed(text, at, "a key in quotes")
    end
    local key
    key, at = decode_string(text, at + 1)
    at = skip_space(text, at)
    if byte(text, at) ~= 0x3A then
      malformed(text, at, "':'")
    end
    object[key], at = decode_value(text, skip_space(text, at + 1), depth)
    at = skip_space(text, at)
    local mark = byte(text, at)
    if mark == 0x7D then
      return object, at + 1
    elseif mark ~= 0x2C then
      malformed(text, at, "',' or '}'")
    end
    at = skip_space(text, at + 1)
  end
end

--- The value that starts at `at`, which is no white space, and the place after it.
function decode_value(text, at, depth)
  local first = sub(text, at, at)
  if first == '"' then
    return decode_string(text, at + 1)
  elseif first == "{" or first == "[" then
    if depth >= json.DEPTH_MAX then
      malformed(text, at, ("at most %d levels"):format(json.DEPTH_MAX))
    end
    return (first == "{" and decode_object or decode_array)(text, at + 1, depth + 1)
  end
  local word = WORDS[first]
  if not word then
    return decode_number(text, at)
  elseif sub(text, at, at + #word[1] - 1) ~= word[1] then
    malformed(text, at, "a value")
  end
  return word[2], at + #word[1]
end

local function decode_all(text)
  local value, at = decode_value(text, skip_space(text, 1), 0)
  at = skip_space(text, at)
  if at <= #text then
    malformed(text, at, "the end")
  end
  return value
end

--- Decode one JSON value. Of a key that comes twice the last value counts.
---
--- Raises on anything that is not JSON, with the byte (from 0) where it stops being so:
--- trailing commas, comments, `NaN`, half surrogate pairs, text after the value.
---@param text string
---@return any value
function json.decode(text)
  if type(text) ~= "string" then
    error(("bad argument #1 to 'decode' (text must be a string, got %s)"):format(type(text)), 2)
  end
  local ok, result = pcall(decode_all, text)
  if not ok then
    error(result, 2)
  end
  return result
end

local NAMED = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r",
  ["\t"] = "\\t" }

local function escape(character)
  return NAMED[character] or ("\\u%04x"):format(byte(character))
end

local function encode_string(text)
  return '"' .. text:gsub('[%z\1-\31"\\]', escape) .. '"'
end

---@return string
local function encode_number(value, path)
  if value ~= value or value == math.huge or value == -math.huge then
    error(("JSON has no %s, at %s"):format(value ~= value and "NaN" or "infinity", path), 0)
  end
  if floor(value) == value and value > -0x1p53 and value < 0x1p53 then
    return ("%.0f"):format(value)
  end
  -- The shortest that reads back as the same number.
  for digits = 15, 16 do
    local text = ("%." .. digits .. "g"):format(value)
    if tonumber(text) == value then
      return text
    end
  end
  return ("%.17g"):format(value)
end

--- Count of an array, or nil for an object. Raises for what is neither.
local function array_count(value, path)
  local marked = getmetatable(value) == array_metatable
  local count, entries = #value, 0
  for key in pairs(value) do
    entries = entries + 1
    if type(key) == "string" and not marked and count == 0 then
      return nil
    elseif type(key) ~= "number" or key < 1 or key > count or floor(key) ~= key then
      error(("a table has keys of an array and of an object, or gaps: %s, at %s"):format(
        type(key) == "string" and ("%q"):format(key) or tostring(key), path), 0)
    end
  end
  if entries ~= count then
    error(("an array has gaps (use json.null), at %s"):format(path), 0)
  end
  if count == 0 and not marked then
    return nil
  end
  return count
end

local encode_value

local function encode_object(value, path, parts, inside)
  local keys = {}
  for key in pairs(value) do
    if type(key) ~= "string" then
      error(("a key of an object must be a string, got %s, at %s"):format(type(key), path), 0)
    end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  parts[#parts + 1] = "{"
  for i, key in ipairs(keys) do
    parts[#parts + 1] = (i > 1 and "," or "") .. encode_string(key) .. ":"
    encode_value(value[key], path .. "." .. key, parts, inside)
  end
  parts[#parts + 1] = "}"
end

local function encode_table(value, path, parts, inside)
  if inside[value] then
    error(("a table contains itself, at %s"):format(path), 0)
  elseif inside.depth >= json.DEPTH_MAX then
    error(("more than %d levels, at %s"):format(json.DEPTH_MAX, path:sub(1, 60)), 0)
  end
  inside[value], inside.depth = true, inside.depth + 1
  local count = array_count(value, path)
  if count then
    parts[#parts + 1] = "["
    for i = 1, count do
      if i > 1 then
        parts[#parts + 1] = ","
      end
      encode_value(value[i], ("%s[%d]"):format(path, i), parts, inside)
    end
    parts[#parts + 1] = "]"
  else
    encode_object(value, path, parts, inside)
  end
  inside[value], inside.depth = nil, inside.depth - 1
end

function encode_value(value, path, parts, inside)
  local kind = type(value)
  if kind == "table" then
    encode_table(value, path, parts, inside)
  elseif kind == "string" then
    parts[#parts + 1] = encode_string(value)
  elseif kind == "number" then
    parts[#parts + 1] = encode_number(value, path)
  elseif kind == "boolean" then
    parts[#parts + 1] = tostring(value)
  elseif rawequal(value, json.null) then
    parts[#parts + 1] = "null"
  else
    error(("JSON has no %s, at %s"):format(kind, path), 0)
  end
end

--- Encode a value, on one line, with keys sorted: the same value gives the same bytes.
---
--- Raises, naming the place in the value (`$.boxes[3]`), on NaN and infinities, functions
--- and other values that JSON has not, nil, tables that contain themselves, arrays with gaps,
--- and tables that are half array, half object.
---@param value any
---@return string text
function json.encode(value)
  local parts = {}
  local ok, message = pcall(encode_value, value, "$", parts, { depth = 0 })
  if not ok then
    error(message, 2)
  end
  return (table.concat(parts))
end

return json
