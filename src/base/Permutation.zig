//! A keyed permutation of 0..n-1 in constant memory: place `i` of a shuffled
//! order, computed and not looked up, so that billions of rows can be visited
//! in random order, from any place in it.
//!
//! Up to `table_max` places there is room for the order itself, made by Fisher
//! and Yates' shuffle: every order is equally likely. Beyond that, an index is
//! a point (x, y) of a grid that is as square as can be and holds n points or a
//! few more. A round adds to one coordinate a keyed hash of the other, modulo
//! its size; such a round can be undone, so any number of them is a bijection of
//! the grid (a Feistel network). A result outside 0..n-1 goes through again until
//! it lies inside ("cycle walking"), which keeps it a bijection of 0..n-1.
const Permutation = @This();

const std = @import("std");
const assert = std.debug.assert;
const limits = @import("limits.zig");

n: u64,
method: union(enum) {
    table: [table_max]u8,
    grid: Grid,
},

/// The largest n: indexes must be exact as Lua numbers.
pub const n_max = limits.lua_integer_max;

/// Small grids have few distinct round functions, so a Feistel network is
/// weakest there, and a table costs one cache line.
const table_max = 64;

/// With 4 rounds the pair test below fails on the smallest grids, with 6 it
/// passes; the rest is margin.
const rounds = 10;

const Grid = struct {
    width: u64,
    height: u64,
    keys: [rounds]u64,
};

/// The same arguments give the same order, everywhere and always: a shuffled
/// epoch can be repeated years later. `n` is at most `n_max`.
pub fn init(n: u64, seed: u64, epoch: u64) Permutation {
    assert(n <= n_max);
    var keys: KeyStream = .init(n, seed, epoch);
    if (n <= table_max) return .{ .n = n, .method = .{ .table = shuffled(n, &keys) } };

    const root: u64 = std.math.sqrt(n);
    const width = if (root * root < n) root + 1 else root;
    var grid: Grid = .{
        .width = width,
        .height = (n + width - 1) / width,
        .keys = undefined,
    };
    for (&grid.keys) |*key| key.* = keys.next();
    return .{ .n = n, .method = .{ .grid = grid } };
}

/// What stands at place `i` of the order. `i` is below `n`.
pub fn at(permutation: *const Permutation, i: u64) u64 {
    assert(i < permutation.n);
    switch (permutation.method) {
        .table => |*table| return table[i],
        .grid => |*grid| {
            // Ends: a bijection leads each point that comes from 0..n-1 back
            // there, after fewer steps than there are points outside.
            var value = encrypt(grid, i);
            while (value >= permutation.n) value = encrypt(grid, value);
            return value;
        },
    }
}

fn encrypt(grid: *const Grid, index: u64) u64 {
    var x = index % grid.width;
    var y = index / grid.width;
    comptime assert(rounds % 2 == 0);
    var round: usize = 0;
    while (round < rounds) : (round += 2) {
        x = addModulo(x, scale(mix(y ^ grid.keys[round]), grid.width), grid.width);
        y = addModulo(y, scale(mix(x ^ grid.keys[round + 1]), grid.height), grid.height);
    }
    return y * grid.width + x;
}

fn addModulo(a: u64, b: u64, modulus: u64) u64 {
    const sum = a + b;
    return if (sum >= modulus) sum - modulus else sum;
}

fn shuffled(n: u64, keys: *KeyStream) [table_max]u8 {
    var table: [table_max]u8 = undefined;
    for (&table, 0..) |*value, i| value.* = @intCast(i);
    var rest = n;
    while (rest > 1) : (rest -= 1) {
        const chosen = scale(keys.next(), rest);
        std.mem.swap(u8, &table[chosen], &table[rest - 1]);
    }
    return table;
}

/// Random numbers from seed and epoch. Each is mixed in by itself, so that
/// (seed 1, epoch 0) and (seed 0, epoch 1) have nothing in common.
const KeyStream = struct {
    state: u64,

    fn init(n: u64, seed: u64, epoch: u64) KeyStream {
        var keys: KeyStream = .{ .state = mix(seed) };
        keys.state = keys.next() ^ mix(epoch);
        keys.state = keys.next() ^ mix(n);
        return keys;
    }

    fn next(keys: *KeyStream) u64 {
        keys.state +%= step;
        return mix(keys.state);
    }

    /// 2^64 divided by the golden ratio, made odd: its multiples spread evenly.
    const step = 0x9e37_79b9_7f4a_7c15;
};

/// A bijection of 64 bits in which every input bit changes each output bit
/// with probability one half (the finalizer of SplitMix64).
fn mix(value: u64) u64 {
    var z = value;
    z = (z ^ (z >> 30)) *% 0xbf58_476d_1ce4_e5b9;
    z = (z ^ (z >> 27)) *% 0x94d0_49bb_1331_11eb;
    return z ^ (z >> 31);
}

/// A random 64-bit number to one below `bound`, without a division.
fn scale(random: u64, bound: u64) u64 {
    return @truncate((@as(u128, random) * bound) >> 64);
}

const testing = std.testing;

test "every place has one value and every value one place" {
    var seen: [5000]bool = undefined;
    const sizes = [_]u64{ 127, 128, 129, 255, 256, 257, 1000, 1023, 1024, 1025, 4095, 4096, 4097, 5000 };
    for (0..100) |n| try expectBijection(n, &seen);
    for (sizes) |n| try expectBijection(n, &seen);
}

fn expectBijection(n: u64, seen: []bool) !void {
    const permutation: Permutation = .init(n, 42, n);
    @memset(seen, false);
    for (0..n) |i| {
        const value = permutation.at(i);
        try testing.expect(value < n);
        try testing.expect(!seen[value]);
        seen[value] = true;
    }
}

test "the largest n works at both ends" {
    for ([_]u64{ n_max, n_max - 1, (1 << 52) + 1, 1 << 32 }) |n| {
        const permutation: Permutation = .init(n, std.math.maxInt(u64), std.math.maxInt(u64));
        for ([_]u64{ 0, 1, n / 2, n - 1 }) |i| try testing.expect(permutation.at(i) < n);
        try testing.expect(permutation.at(0) != permutation.at(n - 1));
    }
}

test "values are equally likely at every place" {
    // Each seed fills one cell of every line and column, so that the statistic
    // is n/(n-1) times one with (n-1)^2 degrees of freedom.
    inline for (.{ 3, 5, 16, 63, 64, 65, 66, 81, 100 }) |n| {
        const seeds = 40 * n;
        var counts: [n][n]u32 = @splat(@splat(0));
        for (0..seeds) |seed| {
            const permutation: Permutation = .init(n, seed, 7);
            for (0..n) |i| counts[i][permutation.at(i)] += 1;
        }
        const cells: *const [n * n]u32 = @ptrCast(&counts);
        try expectUniform(cells, seeds * n, (n - 1) * (n - 1), @as(f64, n) / (n - 1));
    }
}

test "the values of two places are independent" {
    // Neighbours, and places of one row or column of the grid: where a network
    // with too few rounds shows.
    inline for (.{ 4, 10, 65, 72, 81 }) |n| {
        for ([_][2]u64{ .{ 0, 1 }, .{ 0, 3 }, .{ 1, n - 1 }, .{ 0, @min(9, n - 2) } }) |places| {
            const pairs = n * (n - 1);
            const seeds = 20 * pairs;
            var counts: [n * n]u32 = @splat(0);
            for (0..seeds) |seed| {
                const permutation: Permutation = .init(n, seed, 0);
                counts[permutation.at(places[0]) * n + permutation.at(places[1])] += 1;
            }
            var possible: [pairs]u32 = undefined;
            var filled: usize = 0;
            for (counts, 0..) |count, pair| {
                if (pair / n == pair % n) continue;
                possible[filled] = count;
                filled += 1;
            }
            try expectUniform(&possible, seeds, pairs - 1, 1);
        }
    }
}

/// Chi-square: its mean is `freedom` and its variance twice that. The seeds are
/// fixed, so this passes always or never; six deviations are far out.
fn expectUniform(counts: []const u32, total: u64, freedom: u64, factor: f64) !void {
    const expected = @as(f64, @floatFromInt(total)) / @as(f64, @floatFromInt(counts.len));
    var chi_square: f64 = 0;
    for (counts) |count| {
        const difference = @as(f64, @floatFromInt(count)) - expected;
        chi_square += difference * difference / expected;
    }
    const mean: f64 = @floatFromInt(freedom);
    const deviations = (chi_square / factor - mean) / @sqrt(2 * mean);
    if (@abs(deviations) > 6) {
        std.debug.print("{d} counts, {d} samples: {d:.1} deviations off\n", .{ counts.len, total, deviations });
        return error.NotUniform;
    }
}

test "seed, epoch and n each change the order" {
    const orders = [_]Permutation{
        .init(1000, 0, 0), .init(1000, 1, 0), .init(1000, 0, 1), .init(1000, 1, 1), .init(999, 0, 0),
    };
    for (orders, 0..) |a, k| {
        for (orders[0..k]) |b| {
            var same: u32 = 0;
            for (0..999) |i| same += @intFromBool(a.at(i) == b.at(i));
            // One place in common is expected; twelve are one in a billion.
            try testing.expect(same < 12);
        }
    }
}

test "an order is the same in every version" {
    const small: Permutation = .init(8, 1, 2);
    const large: Permutation = .init(1_000_000, 1, 2);
    var got: [12]u64 = undefined;
    for (got[0..8], 0..) |*value, i| value.* = small.at(i);
    for (got[8..], 0..) |*value, i| value.* = large.at(i);
    try testing.expectEqualSlices(u64, &.{ 2, 3, 5, 1, 7, 4, 6, 0, 824_440, 370_576, 311_237, 791_938 }, &got);
}
