//! The order in which an epoch visits its n rows: a bijection of 0..n-1 from
//! seed and epoch, in constant memory and with an inverse.
//!
//! Without a window it is one `Permutation` of all rows. With a window of w
//! places (w < n) neighbours stay near, so that a reader which has a window's
//! rows under way at once reads them in runs:
//!
//! 1. Rows are cut into blocks of b = floor(sqrt(w)) neighbours, and the blocks
//!    are laid out in permuted order. The last block may be shorter, wherever it
//!    comes to lie.
//! 2. The places are cut into windows of w, of which the last may be shorter, and
//!    each window is permuted by keys of its own.
//!
//! Both steps can be undone, and so can the two together.
const Order = @This();

const std = @import("std");
const assert = std.debug.assert;
const Divider = @import("Divider.zig");
const Permutation = @import("Permutation.zig");

n: u64,
method: union(enum) {
    whole: Permutation,
    windowed: Windowed,
},

pub const n_max = Permutation.n_max;

const Windowed = struct {
    n: u64,
    window: Divider,
    block: Divider,
    /// Of the blocks.
    blocks: Permutation,
    /// How many rows the last block has less than the others, and where it lies.
    missing: u64,
    last_at: u64,
    /// What the keys of each window are made from.
    keys: Permutation.KeyStream,

    fn init(n: u64, seed: u64, epoch: u64, window: u64) Windowed {
        const keys = Permutation.KeyStream.init(n, seed, epoch).with(window);
        const block: u64 = std.math.sqrt(window);
        const count = (n - 1) / block + 1;
        const blocks: Permutation = .initKeys(count, keys.with(0));
        return .{
            .n = n,
            .window = .init(window),
            .block = .init(block),
            .blocks = blocks,
            .missing = count * block - n,
            .last_at = blocks.placeOf(count - 1),
            .keys = keys,
        };
    }

    fn windowAt(windowed: *const Windowed, number: u64) Permutation {
        const rest = windowed.n - number * windowed.window.divisor;
        return .initKeys(@min(rest, windowed.window.divisor), windowed.keys.with(number + 1));
    }

    /// Where the last block ends among the blocks as they are laid out.
    fn lastEnd(windowed: *const Windowed) u64 {
        return (windowed.last_at + 1) * windowed.block.divisor - windowed.missing;
    }

    /// The block at a place among the blocks as laid out, and how far the place is into it.
    inline fn blockAt(windowed: *const Windowed, place: u64) Divider.Parts {
        const last_end = windowed.lastEnd();
        if (place < last_end) return windowed.block.divide(place);
        const behind = windowed.block.divide(place - last_end);
        return .{ .quotient = behind.quotient + windowed.last_at + 1, .rest = behind.rest };
    }

    fn rowOf(windowed: *const Windowed, place: u64) u64 {
        const parts = windowed.blockAt(place);
        return windowed.blocks.at(parts.quotient) * windowed.block.divisor + parts.rest;
    }

    /// Replaces places among the blocks as laid out by the rows there.
    fn rowsOf(windowed: *const Windowed, places: []u64) void {
        var rests: [chunk_max]u64 = undefined;
        for (places, rests[0..places.len]) |*place, *rest| {
            const parts = windowed.blockAt(place.*);
            place.*, rest.* = .{ parts.quotient, parts.rest };
        }
        windowed.blocks.mapAll(places);
        for (places, rests[0..places.len]) |*place, rest| place.* = place.* * windowed.block.divisor + rest;
    }

    fn laidOutAt(windowed: *const Windowed, row: u64) u64 {
        const parts = windowed.block.divide(row);
        const block = windowed.blocks.placeOf(parts.quotient);
        const before = block * windowed.block.divisor + parts.rest;
        return if (block > windowed.last_at) before - windowed.missing else before;
    }
};

/// Numbers that are computed in one go.
const chunk_max = 256;

/// `n` is at most `n_max`. `window` is at least 1; one of n places or more is the
/// same as none.
pub fn init(n: u64, seed: u64, epoch: u64, window: ?u64) Order {
    assert(n <= n_max);
    if (window) |size| {
        assert(size > 0);
        if (size < n) return .{ .n = n, .method = .{ .windowed = .init(n, seed, epoch, size) } };
    }
    return .{ .n = n, .method = .{ .whole = .init(n, seed, epoch) } };
}

/// Neighbouring rows that stay in one window, or two; null when they may go anywhere.
pub fn blockSize(order: *const Order) ?u64 {
    return switch (order.method) {
        .whole => null,
        .windowed => |*windowed| windowed.block.divisor,
    };
}

/// The row at place `i`, which is below `n`.
pub fn at(order: *const Order, i: u64) u64 {
    var cursor: Cursor = .{};
    return cursor.at(order, i);
}

/// The place of `row`, which is below `n`.
pub fn placeOf(order: *const Order, row: u64) u64 {
    assert(row < order.n);
    switch (order.method) {
        .whole => |*permutation| return permutation.placeOf(row),
        .windowed => |*windowed| {
            const parts = windowed.window.divide(windowed.laidOutAt(row));
            const window = windowed.windowAt(parts.quotient);
            return parts.quotient * windowed.window.divisor + window.placeOf(parts.rest);
        },
    }
}

/// The rows at `rows.len` places: `first`, `first + step` and so on, all below `n`.
pub fn fill(order: *const Order, first: u64, step: i64, rows: []u64) void {
    var cursor: Cursor = .{};
    cursor.fill(order, first, step, rows);
}

/// Keeps the window that was last used, for who comes back to it.
pub const Cursor = struct {
    number: ?u64 = null,
    window: Permutation = undefined,

    /// The row at place `i`, which is below `order.n`.
    pub fn at(cursor: *Cursor, order: *const Order, i: u64) u64 {
        assert(i < order.n);
        switch (order.method) {
            .whole => |*permutation| return permutation.at(i),
            .windowed => |*windowed| {
                const parts = cursor.moveTo(windowed, i);
                const place = cursor.window.at(parts.rest);
                return windowed.rowOf(parts.quotient * windowed.window.divisor + place);
            },
        }
    }

    fn moveTo(cursor: *Cursor, windowed: *const Windowed, place: u64) Divider.Parts {
        const parts = windowed.window.divide(place);
        if (cursor.number != parts.quotient) {
            cursor.window = windowed.windowAt(parts.quotient);
            cursor.number = parts.quotient;
        }
        return parts;
    }

    /// The rows at `rows.len` places: `first`, `first + step` and so on, all below `order.n`.
    pub fn fill(cursor: *Cursor, order: *const Order, first: u64, step: i64, rows: []u64) void {
        var done: usize = 0;
        var place = first;
        while (done < rows.len) {
            assert(place < order.n);
            const count = cursor.fillSome(order, place, step, rows[done..]);
            done += count;
            // The last of these steps, which leads nowhere, may leave 0..n-1.
            place +%= @as(u64, @bitCast(step)) *% count;
        }
    }

    /// As many as one window has, or one chunk; at least one.
    fn fillSome(cursor: *Cursor, order: *const Order, first: u64, step: i64, rows: []u64) usize {
        switch (order.method) {
            .whole => |*permutation| {
                const some = rows[0..@min(rows.len, chunk_max)];
                putPlaces(first, step, some);
                permutation.mapAll(some);
                return some.len;
            },
            .windowed => |*windowed| {
                const parts = cursor.moveTo(windowed, first);
                const ahead = if (step < 0) parts.rest else cursor.window.n - 1 - parts.rest;
                const inside = 1 + ahead / @max(1, @abs(step));
                const some = rows[0..@min(rows.len, chunk_max, inside)];
                putPlaces(parts.rest, step, some);
                cursor.window.mapAll(some);
                const base = parts.quotient * windowed.window.divisor;
                for (some) |*place| place.* += base;
                windowed.rowsOf(some);
                return some.len;
            },
        }
    }
};

fn putPlaces(first: u64, step: i64, places: []u64) void {
    var place = first;
    for (places) |*out| {
        out.* = place;
        place +%= @as(u64, @bitCast(step));
    }
}

test {
    _ = @import("Order_test.zig");
}
