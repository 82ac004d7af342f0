//! Division by a number that stays the same, by a multiplication: a grid and
//! blocks divide once for each number of an order, and a division costs as much
//! as several rounds.
const Divider = @This();

const std = @import("std");
const assert = std.debug.assert;
const limits = @import("limits.zig");

divisor: u64,
reciprocal: f64,

pub const Parts = struct { quotient: u64, rest: u64 };

/// `divisor` is from 1 to `limits.lua_integer_max`.
pub fn init(divisor: u64) Divider {
    assert(divisor >= 1 and divisor <= limits.lua_integer_max);
    return .{ .divisor = divisor, .reciprocal = 1 / @as(f64, @floatFromInt(divisor)) };
}

/// Exact for every `dividend` up to `limits.lua_integer_max`.
pub inline fn divide(by: *const Divider, dividend: u64) Parts {
    // Doubles hold both exactly. Two roundings make the product wrong by less than
    // one, so that the quotient is wrong by one at most, which the rest shows.
    const signed: i64 = @bitCast(dividend);
    var quotient: i64 = @intFromFloat(@as(f64, @floatFromInt(signed)) * by.reciprocal);
    const divisor: i64 = @bitCast(by.divisor);
    var rest = signed -% quotient *% divisor;
    if (rest < 0) {
        rest +%= divisor;
        quotient -%= 1;
    } else if (rest >= divisor) {
        rest -%= divisor;
        quotient +%= 1;
    }
    return .{ .quotient = @bitCast(quotient), .rest = @bitCast(rest) };
}

test "it divides as division does, at the edges and between" {
    const max = limits.lua_integer_max;
    var random: std.Random.DefaultPrng = .init(1);
    for (0..20_000) |i| {
        // Of every magnitude.
        const divisor = 1 + (random.next() % max >> @intCast(i % 53));
        const near = random.next() % (max / divisor + 1) * divisor;
        const by: Divider = .init(divisor);
        for ([_]u64{ 0, 1, divisor - 1, divisor, divisor + 1, near -| 1, near, near + 1, max - 1, max, random.next() % max }) |value| {
            const dividend = @min(value, max);
            const parts = by.divide(dividend);
            try std.testing.expectEqual(dividend / divisor, parts.quotient);
            try std.testing.expectEqual(dividend % divisor, parts.rest);
        }
    }
}
