--- Permutations, buffers and random numbers: complete, repeatable, even.

local check = ...
local shuffle = require("ultar.shuffle")
local test, equal, raises, collect = check.test, check.equal, check.raises, check.collect

local function counter(n)
  local i = 0
  return function()
    i = i + 1
    return i <= n and i or nil
  end
end

local function sorted(list)
  local copy = { unpack(list) }
  table.sort(copy)
  return copy
end

test("a permutation has every number once", function()
  for _, n in ipairs({ 0, 1, 2, 3, 10, 64, 65, 100, 1000 }) do
    local order = shuffle.permutation(n, 7, 1)
    equal(#order, n)
    local list = collect(order:iter())
    equal(#list, n)
    equal(sorted(list), collect(counter(n)))
    for k = 1, n do
      equal(order[k], list[k])
    end
  end
end)

test("places that are none are nil", function()
  local order = shuffle.permutation(10, 1)
  for _, place in ipairs({ 0, -1, 11, 1.5, 0 / 0, 1 / 0 }) do
    equal(order[place], nil)
  end
  equal(order.nonsense, nil)
end)

test("seed and epoch fix the order", function()
  local function text(...)
    return table.concat(collect(shuffle.permutation(...):iter()), " ")
  end
  equal(text(100, 5, 2), text(100, 5, 2))
  equal(text(100, 5), text(100, 5, 0))
  local seen = {}
  for seed = 0, 3 do
    for epoch = 0, 3 do
      local order = text(100, seed, epoch)
      assert(not seen[order])
      seen[order] = true
    end
  end
end)

test("an order can be taken up in the middle", function()
  local order = shuffle.permutation(20, 3)
  local all, rest = collect(order:iter()), collect(order:iter(6))
  equal(rest, { unpack(all, 6) })
  equal(collect(order:iter(21)), {})
  raises("first must be a whole number from 1, got 0", function() order:iter(0) end)
  raises("use permutation:iter(), with a colon", function() order.iter() end)
end)

test("a window keeps neighbours near, and loses none", function()
  for _, n in ipairs({ 0, 1, 10, 99, 100, 1000 }) do
    for _, window in ipairs({ 1, 2, 10, 50, 100, 2 ^ 53 }) do
      local order = shuffle.permutation(n, 7, 1, window)
      local list = collect(order:iter())
      equal(sorted(list), collect(counter(n)))
      for k = n, 1, -1 do
        equal(order[k], list[k])
        equal(order:place_of(list[k]), k)
      end
    end
  end
  local order = shuffle.permutation(10000, 1, 0, 400)
  local near = 0
  for number = 1, 9999 do
    near = near + (math.abs(order:place_of(number) - order:place_of(number + 1)) < 400 and 1 or 0)
  end
  assert(near > 9000, near)
end)

test("a number that is none of the order has no place", function()
  local order = shuffle.permutation(10, 1)
  for _, number in ipairs({ 0, -1, 11, 1.5, 0 / 0, 1 / 0, "1", true, {} }) do
    equal(order:place_of(number), nil)
  end
  equal(order:place_of(nil), nil)
  raises("window must be a whole number from 1 to 2^53, got 0", function() shuffle.permutation(1, 1, 1, 0) end)
  raises("use permutation:place_of(number), with a colon", function() order.place_of(1) end)
end)

test("a permutation of all exact numbers works", function()
  local order = shuffle.permutation(2 ^ 53, 2 ^ 53, 2 ^ 53)
  for _, k in ipairs({ 1, 2, 2 ^ 53 - 1, 2 ^ 53 }) do
    assert(order[k] >= 1 and order[k] <= 2 ^ 53)
  end
end)

test("a buffer loses nothing, repeats nothing, and is not in order", function()
  for _, n in ipairs({ 0, 1, 5, 100, 1000 }) do
    for _, size in ipairs({ 1, 10, 5000 }) do
      local list = collect(shuffle.buffer(counter(n), size, 42))
      equal(sorted(list), collect(counter(n)))
    end
  end
  equal(collect(shuffle.buffer(counter(50), 1, 0)), collect(counter(50)))
  assert(table.concat(collect(shuffle.buffer(counter(50), 10, 0)), " ") ~= table.concat(collect(counter(50)), " "))
end)

test("a buffer holds no more than it may", function()
  local taken, given = 0, 0
  local values = shuffle.buffer(function()
    taken = taken + 1
    return taken <= 100 and taken or nil
  end, 10, 1)
  for value in values do
    given = given + 1
    assert(taken - given < 10)
    assert(value < given + 10)
  end
end)

test("a buffer is the same for the same seed, and asks an ended source no more", function()
  local function text(seed, epoch)
    return table.concat(collect(shuffle.buffer(counter(50), 20, seed, epoch)), " ")
  end
  equal(text(1, 1), text(1, 1))
  assert(text(1, 1) ~= text(1, 2))
  assert(text(1, 1) ~= text(2, 1))
  local ends = 0
  collect(shuffle.buffer(function() ends = ends + 1 end, 5, 0))
  equal(ends, 1)
end)

test("random numbers are even and independent of other streams", function()
  local random = shuffle.random(9)
  local counts, sum = {}, 0
  for _ = 1, 6000 do
    local die = random(6)
    counts[die] = (counts[die] or 0) + 1
    sum = sum + random()
  end
  equal(#counts, 6)
  for die = 1, 6 do
    assert(counts[die] > 850 and counts[die] < 1150, counts[die])
  end
  assert(math.abs(sum / 6000 - 0.5) < 0.02, sum / 6000)
  local a, b = shuffle.random(1), shuffle.random(1)
  shuffle.random(1)()
  for _ = 1, 10 do
    equal(a(), b())
  end
end)

test("arguments are checked", function()
  raises("n must be a whole number from 0 to 2^53, got -1", function() shuffle.permutation(-1, 0) end)
  raises("got 1.5", function() shuffle.permutation(1.5, 0) end)
  raises("seed must be a whole number from 0 to 2^53, got nil", function() shuffle.permutation(5) end)
  raises("epoch must be a whole number from 0 to 2^53, got nan", function() shuffle.permutation(5, 0, 0 / 0) end)
  raises("got \"5\"", function() shuffle.permutation(5, "5") end)
  raises("size must be a whole number from 1, got 0", function() shuffle.buffer(counter(1), 0, 1) end)
  raises("next_value must be an iterator function, got table", function() shuffle.buffer({}, 1, 1) end)
  raises("bound must be a whole number from 1, got 0", function() shuffle.random(1)(0) end)
end)
