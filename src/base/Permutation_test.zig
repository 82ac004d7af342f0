//! Tests of `Permutation`: it is a bijection with its inverse, and looks random.

const std = @import("std");
const testing = std.testing;
const Permutation = @import("Permutation.zig");

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
        try testing.expectEqual(i, permutation.placeOf(value));
    }
}

test "the largest n works at both ends" {
    for ([_]u64{ Permutation.n_max, Permutation.n_max - 1, (1 << 52) + 1, 1 << 32 }) |n| {
        const permutation: Permutation = .init(n, std.math.maxInt(u64), std.math.maxInt(u64));
        for ([_]u64{ 0, 1, n / 2, n - 1 }) |i| {
            try testing.expect(permutation.at(i) < n);
            try testing.expectEqual(i, permutation.placeOf(permutation.at(i)));
        }
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

test "many at once are those that come one by one" {
    for ([_]u64{ 1, 64, 65, 66, 100, 10_001, 1 << 40 }) |n| {
        const permutation: Permutation = .init(n, 3, n);
        var places: [103]u64 = undefined;
        for (&places, 0..) |*place, i| place.* = i * 7919 % n;
        permutation.mapAll(&places);
        for (places, 0..) |value, i| try testing.expectEqual(permutation.at(i * 7919 % n), value);
    }
}

test "seeds and epochs that differ in one bit give unrelated orders" {
    // Equal values, and equal distances from one place to the next: each is expected
    // once a pair, and 12 times with a probability of 1e-9.
    const n = 4096;
    const first: Permutation = .init(n, 0, 0);
    for (0..53) |bit| {
        const one = @as(u64, 1) << @intCast(bit);
        for ([_]Permutation{ .init(n, one, 0), .init(n, 0, one), .init(n, one, one) }) |other| {
            var same: u32 = 0;
            var parallel: u32 = 0;
            for (0..n) |i| {
                const before = (i + n - 1) % n;
                same += @intFromBool(first.at(i) == other.at(i));
                parallel += @intFromBool((first.at(i) -% first.at(before)) % n == (other.at(i) -% other.at(before)) % n);
            }
            try testing.expect(same < 14 and parallel < 14);
        }
    }
}

test "neighbours, and places a rank or a batch apart, end up anywhere" {
    // Where two places that are `stride` apart lie to one another, in sixteenths of n.
    const n = 1_000_003;
    for ([_]u64{ 1, 2, 8, 256, 1000, 1001, 1002 }) |stride| {
        const permutation: Permutation = .init(n, stride, 5);
        var counts: [16]u32 = @splat(0);
        const samples = 20_000;
        for (0..samples) |i| {
            const distance = (permutation.at(i + stride) + n - permutation.at(i)) % n;
            counts[distance * 16 / n] += 1;
        }
        try expectUniform(&counts, samples, 15, 1);
    }
}
