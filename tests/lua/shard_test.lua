--- Shares, and braces written out.

local check = ...
local shard = require("ultar.shard")
local test, equal, raises, collect = check.test, check.equal, check.raises, check.collect

local COUNTS = { 0, 1, 2, 3, 7, 8, 9, 100 }
local WORLD_SIZES = { 1, 2, 3, 7, 8, 13 }

--- `share_of(count, rank, world_size)` of all ranks must be 1..count, each once.
local function expect_partition(share_of, difference_max)
  for _, count in ipairs(COUNTS) do
    for _, world_size in ipairs(WORLD_SIZES) do
      local seen, least, most = {}, math.huge, 0
      for rank = 0, world_size - 1 do
        local share = share_of(count, rank, world_size)
        least, most = math.min(least, #share), math.max(most, #share)
        for _, place in ipairs(share) do
          assert(not seen[place], "given out twice")
          seen[place] = true
        end
      end
      equal(#seen, count)
      assert(most - least <= difference_max)
    end
  end
end

test("by_shard deals a list out, each element to one rank", function()
  expect_partition(function(count, rank, world_size)
    local list = {}
    for i = 1, count do
      list[i] = i
    end
    return shard.by_shard(list, rank, world_size)
  end, 1)
  equal(shard.by_shard({ "a", "b", "c", "d", "e" }, 1, 2), { "b", "d" })
end)

test("strided gives every place to one rank", function()
  expect_partition(function(count, rank, world_size)
    return collect(shard.strided(count, rank, world_size))
  end, 1)
  equal(collect(shard.strided(7, 2, 3)), { 3, 6 })
end)

test("contiguous gives neighbouring places, every one to one rank", function()
  expect_partition(function(count, rank, world_size)
    local first, last = shard.contiguous(count, rank, world_size)
    local share = {}
    for place = first, last do
      share[#share + 1] = place
    end
    return share
  end, 1)
  equal({ shard.contiguous(10, 0, 4) }, { 1, 3 })
  equal({ shard.contiguous(10, 3, 4) }, { 9, 10 })
  equal({ shard.contiguous(1, 3, 4) }, { 2, 1 })
end)

test("contiguous is exact where numbers are large", function()
  local count = 2 ^ 53 - 1
  local last = 0
  for rank = 0, 6 do
    local first, next_last = shard.contiguous(count, rank, 7)
    equal(first, last + 1)
    last = next_last
  end
  equal(last, count)
end)

test("equal gives every rank as many", function()
  for _, remainder in ipairs({ "drop", "repeat" }) do
    for _, count in ipairs(COUNTS) do
      for _, world_size in ipairs(WORLD_SIZES) do
        local times = {}
        for rank = 0, world_size - 1 do
          local next_place, share = shard.equal(count, rank, world_size, remainder)
          local places = collect(next_place)
          equal(#places, share)
          local wanted = (remainder == "drop" and math.floor or math.ceil)(count / world_size)
          equal(share, wanted)
          for _, place in ipairs(places) do
            assert(place >= 1 and place <= count)
            times[place] = (times[place] or 0) + 1
          end
        end
        if remainder == "repeat" then
          equal(#times, count) -- None left out.
        else
          for _, time in pairs(times) do
            equal(time, 1)
          end
        end
      end
    end
  end
end)

test("ranks, counts and the remainder are checked", function()
  raises("rank must be a whole number from 0 to 1, got 2", function() shard.strided(5, 2, 2) end)
  raises("rank must be a whole number from 0 to 1, got -1", function() shard.by_shard({}, -1, 2) end)
  raises("bad argument #2 to 'contiguous'", function() shard.contiguous(5, 0.5, 2) end)
  raises("world_size must be a whole number from 1, got 0", function() shard.strided(5, 0, 0) end)
  raises("count must be a whole number", function() shard.strided(0 / 0, 0, 1) end)
  raises("got \"5\"", function() shard.contiguous("5", 0, 1) end)
  raises("list must be a table, got nil", function() shard.by_shard(nil, 0, 1) end)
  raises("remainder must be", function() shard.equal(5, 0, 2) end)
end)

test("expand writes braces out as a shell does", function()
  equal(shard.expand("a.tar"), { "a.tar" })
  equal(shard.expand("a-{08..11}.tar"), { "a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar" })
  equal(shard.expand("{9..11}"), { "9", "10", "11" })
  equal(shard.expand("{2..0}"), { "2", "1", "0" })
  equal(shard.expand("{0..0}"), { "0" })
  equal(shard.expand("{a,b}-{0..1}"), { "a-0", "a-1", "b-0", "b-1" })
  equal(shard.expand("{train-{0..1},val}.tar"), { "train-0.tar", "train-1.tar", "val.tar" })
  equal(shard.expand("x{,.gz}"), { "x", "x.gz" })
  equal(#shard.expand("{000000..000127}"), 128)
end)

test("expand refuses braces that do not match, and lists without end", function()
  raises("a '{' without '}' in \"a{0..1\"", function() shard.expand("a{0..1") end)
  raises("a '}' without '{' in \"a0..1}\"", function() shard.expand("a0..1}") end)
  raises("a '}' without '{'", function() shard.expand("}{0..1}") end)
  raises("a '}' without '{'", function() shard.expand("{0..1}}") end)
  raises("more than 10000000 names", function() shard.expand("{0..99999999}") end)
  raises("more than 10000000 names", function() shard.expand("{0..9999}{0..9999}") end)
  raises("pattern must be a string, got table", function() shard.expand({}) end)
end)
