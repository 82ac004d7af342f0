--- JSON both ways, and what is refused.

local check = ...
local json = require("ultar.json")
local test, equal, raises = check.test, check.equal, check.raises

test("values of every kind are decoded", function()
  equal(json.decode(' { "a" : [ 1 , -2.5e3 , true , false , null ] , "b" : { } } '),
    { a = { 1, -2500, true, false, json.null }, b = {} })
  equal(json.decode('"x"'), "x")
  equal(json.decode("0"), 0)
  equal(json.decode("-0.5E-1"), -0.05)
  equal(json.decode("[]"), {})
  equal(json.decode('{"a":1,"a":2}'), { a = 2 })
  equal(tostring(json.decode("null")), "null")
  equal(json.decode("9007199254740993"), 2 ^ 53)
  equal(json.decode("[1e-99999999999, 0e99999999999]"), { 0, 0 })
end)

test("escapes are decoded, with surrogate pairs as one character", function()
  equal(json.decode([["\"\\\/\b\f\n\r\t"]]), '"\\/\b\f\n\r\t')
  equal(json.decode([["\u0041\u00e9\u20AC\ud83d\ude00\u0000"]]), "A\195\169\226\130\172\240\159\152\128\0")
  equal(json.decode('"\195\169\127"'), "\195\169\127")
  equal(json.decode([["a\u0062c\n"]]), "abc\n")
end)

test("what is not JSON is refused, with the byte", function()
  local cases = {
    { "", "wanted a value at byte 0, got the end" },
    { "[1,]", "wanted a value at byte 3, got \"]\"" },
    { "[1 2]", "wanted ',' or ']' at byte 3" },
    { '{"a":1,}', "wanted a key in quotes at byte 7" },
    { '{a:1}', "wanted a key in quotes at byte 1" },
    { '{"a" 1}', "wanted ':' at byte 5" },
    { '{"a":1 "b":2}', "wanted ',' or '}' at byte 7" },
    { "[1", "wanted ',' or ']' at byte 2, got the end" },
    { '"abc', "wanted a closing quote at byte 4, got the end" },
    { '"a\nb"', "wanted no control character in a string at byte 2" },
    { [["\x"]], "wanted an escape at byte 2, got \"x\"" },
    { [["\u12g4"]], "wanted four hexadecimal digits at byte 3" },
    { [["\ud800"]], "wanted the second half of a surrogate pair at byte 7" },
    { [["\ud800\u0041"]], "wanted the second half of a surrogate pair at byte 9" },
    { [["\ude00"]], "without the first at byte 3" },
    { "01", "wanted no leading zero at byte 0" },
    { "-01", "wanted no leading zero at byte 0" },
    { "1.", "wanted the end at byte 1" },
    { ".5", "wanted a value at byte 0" },
    { "+1", "wanted a value at byte 0" },
    { "1e", "wanted the end at byte 1" },
    { "0x10", "wanted the end at byte 1" },
    { "1e999", "wanted a number below 1.8e308 at byte 0" },
    { "-1e99999999999", "wanted a number below 1.8e308 at byte 0" },
    { "NaN", "wanted a value at byte 0" },
    { "tru", "wanted a value at byte 0" },
    { "nullx", "wanted the end at byte 4, got \"x\"" },
    { "[1] // no", "wanted the end at byte 4" },
    { "\239\187\191[]", "wanted a value at byte 0, got 0xEF" },
    { "'a'", "wanted a value at byte 0" },
    { "\200", "got 0xC8" },
  }
  for _, case in ipairs(cases) do
    raises(case[2], function() json.decode(case[1]) end)
  end
  raises("text must be a string, got nil", function() json.decode(nil) end)
end)

test("nesting has a limit that is said, and no stack overflow", function()
  local deepest = json.DEPTH_MAX
  json.decode(("["):rep(deepest) .. ("]"):rep(deepest))
  raises(("wanted at most %d levels at byte %d"):format(deepest, deepest), function()
    json.decode(("["):rep(1000000))
  end)
  raises("wanted at most", function() json.decode(('{"a":'):rep(1000000)) end)
  local nested = {}
  for _ = 1, deepest do
    nested = { nested }
  end
  raises("more than 128 levels", function() json.encode(nested) end)
end)

test("values are encoded, with keys in order", function()
  equal(json.encode({ b = 1, a = { true, json.null, "x" }, c = {} }), '{"a":[true,null,"x"],"b":1,"c":{}}')
  equal(json.encode(json.array({})), "[]")
  equal(json.encode("\"\\\1\n\195\169/"), [["\"\\\u0001\né/"]])
  equal(json.encode("a\0b"), [["a\u0000b"]])
  equal(json.encode(0.1), "0.1")
  equal(json.encode(1 / 3), "0.3333333333333333")
  equal(json.encode(-5), "-5")
  equal(json.encode(123456789012), "123456789012")
  equal(json.encode(1e300), "1e+300")
  equal(json.encode(false), "false")
end)

test("what was decoded encodes to the same bytes", function()
  local text = '{"a":[],"b":{},"c":[[1,2],{"d":null}],"e":"x\\ny","f":-1.5}'
  equal(json.encode(json.decode(text)), text)
end)

test("what JSON has not is refused, with its place", function()
  local loop = { x = {} }
  loop.x.y = { loop }
  raises("a table contains itself, at $.x.y[1]", function() json.encode(loop) end)
  raises("JSON has no NaN, at $.a[2]", function() json.encode({ a = { 1, 0 / 0 } }) end)
  raises("JSON has no infinity, at $", function() json.encode(-1 / 0) end)
  raises("JSON has no function, at $.f", function() json.encode({ f = print }) end)
  raises("JSON has no nil, at $", function() json.encode(nil) end)
  raises("or gaps: \"a\", at $", function() json.encode({ 1, 2, a = 3 }) end)
  raises("at $", function() json.encode({ [1] = 1, [3] = 3, [100] = 4 }) end)
  raises("at $", function() json.encode({ [0] = 1 }) end)
  raises("at $", function() json.encode({ [1.5] = 1 }) end)
  local shared = { 1 }
  equal(json.encode({ shared, shared }), "[[1],[1]]")
end)
