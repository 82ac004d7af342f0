--- Draws from several sources.

local check = ...
local mix = require("ultar.mix")
local test, equal, raises = check.test, check.equal, check.raises

local function repeating(value, n)
  local left = n
  return function()
    if left > 0 then
      left = left - 1
      return value
    end
  end
end

--- Everything drawn, as text, and how often each source was.
local function drawn(sources, options)
  local text, counts = {}, {}
  for value, source in mix.draw(sources, options) do
    text[#text + 1] = value
    counts[source] = (counts[source] or 0) + 1
  end
  return table.concat(text), counts
end

test("all sources are drawn to their end", function()
  local text, counts = drawn({ { repeating("a", 10), 1 }, { repeating("b", 3), 5 }, { repeating("c", 7), 0.1 } })
  equal(#text, 20)
  equal(counts, { 10, 3, 7 })
end)

test("weights are the chances", function()
  local _, counts = drawn({ { repeating("a", 1e5), 3 }, { repeating("b", 2000), 1 } }, { stop = "first", seed = 4 })
  equal(counts[2], 2000)
  assert(math.abs(counts[1] / 6000 - 1) < 0.1, counts[1])
end)

test("stop = first ends with the first source that has nothing left", function()
  local text, counts = drawn({ { repeating("a", 100), 1 }, { repeating("b", 5), 1 } }, { stop = "first" })
  equal(counts[2], 5)
  assert(#text < 60)
end)

test("seed and epoch fix the order", function()
  local function text(options)
    return (drawn({ { repeating("a", 50), 1 }, { repeating("b", 50), 1 } }, options))
  end
  equal(text({ seed = 1 }), text({ seed = 1, epoch = 0, stop = "all" }))
  equal(text(nil), text({ seed = 0 }))
  assert(text({ seed = 1 }) ~= text({ seed = 2 }))
  assert(text({ seed = 1 }) ~= text({ seed = 1, epoch = 1 }))
end)

test("one source, or empty ones, are no trouble", function()
  equal((drawn({ { repeating("a", 3), 9 } })), "aaa")
  equal((drawn({ { repeating("a", 0), 1 }, { repeating("b", 0), 1 } })), "")
  local next_value = mix.draw({ { repeating("a", 0), 1 } })
  equal(next_value(), nil)
  equal(next_value(), nil)
end)

test("very different weights do not stall", function()
  equal((drawn({ { repeating("a", 2), 1e300 }, { repeating("b", 2), 1e-300 } })), "aabb")
end)

test("arguments are checked", function()
  local function nothing() end
  raises("sources must be a list", function() mix.draw({}) end)
  raises("source 1: the iterator must be a function, got nil", function() mix.draw({ {} }) end)
  raises("source 2: the weight must be a number above 0, got 0", function()
    mix.draw({ { nothing, 1 }, { nothing, 0 } })
  end)
  raises("the weight must be a number above 0, got", function() mix.draw({ { nothing, 0 / 0 } }) end)
  raises("the weight must be a number above 0, got", function() mix.draw({ { nothing, math.huge } }) end)
  raises("stop must be \"all\" or \"first\", got never", function() mix.draw({ { nothing, 1 } }, { stop = "never" }) end)
  raises("there is no option \"sede\"", function() mix.draw({ { nothing, 1 } }, { sede = 1 }) end)
  raises("seed must be a whole number", function() mix.draw({ { nothing, 1 } }, { seed = -1 }) end)
end)
