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
const Divider = @import("Divider.zig");
const limits = @import("limits.zig");

n: u64,
method: union(enum) {
    table: Table,
    grid: Grid,
},

/// The largest n: indexes must be exact as Lua numbers.
pub const n_max = limits.lua_integer_max;

/// Small grids have few distinct round functions, so a Feistel network is
/// weakest there, and two tables cost two cache lines.
const table_max = 64;

/// With 4 rounds the pair test fails on the smallest grids, with 6 it passes;
/// the rest is margin.
const rounds = 10;

/// Numbers that `mapAll` has under way at once. One alone waits for its own
/// multiplications most of the time.
const lanes = 4;

const Table = struct {
    values: [table_max]u8,
    /// Where each value stands in `values`.
    places: [table_max]u8,
};

const Grid = struct {
    width: Divider,
    height: u64,
    keys: [rounds]u64,
};

/// The same arguments give the same order, everywhere and always: a shuffled
/// epoch can be repeated years later. `n` is at most `n_max`.
pub fn init(n: u64, seed: u64, epoch: u64) Permutation {
    return initKeys(n, .init(n, seed, epoch));
}

/// Of keys that say more than seed and epoch.
pub fn initKeys(n: u64, from: KeyStream) Permutation {
    assert(n <= n_max);
    var keys = from;
    if (n <= table_max) return .{ .n = n, .method = .{ .table = shuffled(n, &keys) } };

    const width = rootUp(n);
    var grid: Grid = .{ .width = .init(width), .height = (n + width - 1) / width, .keys = undefined };
    for (&grid.keys) |*key| key.* = keys.next();
    return .{ .n = n, .method = .{ .grid = grid } };
}

/// What stands at place `i` of the order. `i` is below `n`.
pub fn at(permutation: *const Permutation, i: u64) u64 {
    assert(i < permutation.n);
    switch (permutation.method) {
        .table => |*table| return table.values[i],
        .grid => |*grid| {
            // Ends: a bijection leads each point that comes from 0..n-1 back
            // there, after fewer steps than there are points outside.
            var value = encrypt(grid, i);
            while (value >= permutation.n) value = encrypt(grid, value);
            return value;
        },
    }
}

/// The place `i` where `value` stands: `at(i) == value`. `value` is below `n`.
pub fn placeOf(permutation: *const Permutation, value: u64) u64 {
    assert(value < permutation.n);
    switch (permutation.method) {
        .table => |*table| return table.places[value],
        .grid => |*grid| {
            // The same cycle as in `at`, the other way round.
            var i = decrypt(grid, value);
            while (i >= permutation.n) i = decrypt(grid, i);
            return i;
        },
    }
}

/// Replaces each place by what stands there, faster than one by one.
pub fn mapAll(permutation: *const Permutation, places: []u64) void {
    switch (permutation.method) {
        .table => |*table| for (places) |*place| {
            place.* = table.values[place.*];
        },
        .grid => |*grid| {
            var rest = places;
            while (rest.len >= lanes) : (rest = rest[lanes..]) {
                encryptLanes(grid, rest[0..lanes]);
                for (rest[0..lanes]) |*value| {
                    while (value.* >= permutation.n) value.* = encrypt(grid, value.*);
                }
            }
            for (rest) |*place| place.* = permutation.at(place.*);
        },
    }
}

fn encrypt(grid: *const Grid, index: u64) u64 {
    const parts = grid.width.divide(index);
    var x, var y = .{ parts.rest, parts.quotient };
    comptime assert(rounds % 2 == 0);
    var round: usize = 0;
    while (round < rounds) : (round += 2) {
        x = addModulo(x, scale(mix(y ^ grid.keys[round]), grid.width.divisor), grid.width.divisor);
        y = addModulo(y, scale(mix(x ^ grid.keys[round + 1]), grid.height), grid.height);
    }
    return y * grid.width.divisor + x;
}

/// The rounds of `encrypt`, each undone, the last one first.
fn decrypt(grid: *const Grid, index: u64) u64 {
    const parts = grid.width.divide(index);
    var x, var y = .{ parts.rest, parts.quotient };
    var round: usize = rounds;
    while (round > 0) : (round -= 2) {
        y = subtractModulo(y, scale(mix(x ^ grid.keys[round - 1]), grid.height), grid.height);
        x = subtractModulo(x, scale(mix(y ^ grid.keys[round - 2]), grid.width.divisor), grid.width.divisor);
    }
    return y * grid.width.divisor + x;
}

fn encryptLanes(grid: *const Grid, values: *[lanes]u64) void {
    const width, const height = .{ grid.width.divisor, grid.height };
    var xs: [lanes]u64 = undefined;
    var ys: [lanes]u64 = undefined;
    inline for (values, &xs, &ys) |value, *x, *y| {
        const parts = grid.width.divide(value);
        x.*, y.* = .{ parts.rest, parts.quotient };
    }
    var round: usize = 0;
    while (round < rounds) : (round += 2) {
        const key_x, const key_y = .{ grid.keys[round], grid.keys[round + 1] };
        inline for (&xs, ys) |*x, y| x.* = addModulo(x.*, scale(mix(y ^ key_x), width), width);
        inline for (xs, &ys) |x, *y| y.* = addModulo(y.*, scale(mix(x ^ key_y), height), height);
    }
    inline for (values, xs, ys) |*value, x, y| value.* = y * width + x;
}

/// Of numbers below `modulus`, which is far below 2^63.
inline fn addModulo(a: u64, b: u64, modulus: u64) u64 {
    const sum = a + b;
    return if (sum >= modulus) sum - modulus else sum;
}

inline fn subtractModulo(a: u64, b: u64, modulus: u64) u64 {
    return if (a >= b) a - b else a + modulus - b;
}

/// The square root, rounded up.
fn rootUp(n: u64) u64 {
    // A double may round the root of k^2 + 1 down to k, or that of k^2 - 1 up.
    var root: u64 = @intFromFloat(@sqrt(@as(f64, @floatFromInt(n))));
    while (root * root < n) root += 1;
    while (root > 0 and (root - 1) * (root - 1) >= n) root -= 1;
    return root;
}

fn shuffled(n: u64, keys: *KeyStream) Table {
    var table: Table = undefined;
    for (&table.values, 0..) |*value, i| value.* = @intCast(i);
    var rest = n;
    while (rest > 1) : (rest -= 1) {
        const chosen = scale(keys.next(), rest);
        std.mem.swap(u8, &table.values[chosen], &table.values[rest - 1]);
    }
    for (table.values, 0..) |value, i| table.places[value] = @intCast(i);
    return table;
}

/// Random numbers from what is mixed in. Each number is mixed in by itself, so that
/// (seed 1, epoch 0) and (seed 0, epoch 1) have nothing in common.
pub const KeyStream = struct {
    state: u64,

    pub fn init(n: u64, seed: u64, epoch: u64) KeyStream {
        const keys: KeyStream = .{ .state = mix(seed) };
        return keys.with(epoch).with(n);
    }

    pub fn with(keys: KeyStream, value: u64) KeyStream {
        return .{ .state = mix(keys.state +% step) ^ mix(value) };
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
inline fn mix(value: u64) u64 {
    var z = value;
    z = (z ^ (z >> 30)) *% 0xbf58_476d_1ce4_e5b9;
    z = (z ^ (z >> 27)) *% 0x94d0_49bb_1331_11eb;
    return z ^ (z >> 31);
}

/// A random 64-bit number to one below `bound`, without a division.
inline fn scale(random: u64, bound: u64) u64 {
    return @truncate((@as(u128, random) * bound) >> 64);
}

test "a grid is as wide as the root, rounded up" {
    for ([_]u64{ 1, 2, 3, 8, 9, 1000, 94_906_265, 94_906_266, (1 << 26) + 1 }) |k| {
        for ([_]u64{ k * k - 1, k * k, k * k + 1 }) |n| {
            const root = rootUp(n);
            try std.testing.expect(root * root >= n and (root == 0 or (root - 1) * (root - 1) < n));
        }
    }
}

test {
    _ = @import("Permutation_test.zig");
}
