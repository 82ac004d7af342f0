//! Which rows, in which order: places from `start` in steps of `step`, led
//! through a shuffled order, if there is one, and then through a list of row
//! numbers, if there is one. Any of this is a few words, but for the list.
const Numbers = @This();

const std = @import("std");
const Order = @import("../base/Order.zig");

/// How many places.
count: u64,
start: u64 = 0,
/// 0 repeats one place.
step: i64 = 1,
order: ?Order = null,
list: ?*List = null,

/// Row numbers that several sequences share.
pub const List = struct {
    gpa: std.mem.Allocator,
    refs: std.atomic.Value(usize) = .init(1),
    items: []const u64,

    /// Copies them.
    pub fn create(gpa: std.mem.Allocator, items: []const u64) error{OutOfMemory}!*List {
        const own = try gpa.dupe(u64, items);
        errdefer gpa.free(own);
        const list = try gpa.create(List);
        list.* = .{ .gpa = gpa, .items = own };
        return list;
    }

    pub fn retain(list: *List) void {
        _ = list.refs.fetchAdd(1, .monotonic);
    }

    /// Any thread.
    pub fn release(list: *List) void {
        if (list.refs.fetchSub(1, .acq_rel) != 1) return;
        list.gpa.free(list.items);
        list.gpa.destroy(list);
    }
};

/// Why a sequence does not fit the rows that there are.
pub const Misfit = enum { place_before_first, place_beyond_all, place_beyond_order, place_beyond_list, row_beyond_dataset };

/// What is wrong with it, for a dataset of so many rows; else every number that
/// `fill` gives is one of a row.
pub fn misfit(numbers: *const Numbers, rows: u64) ?Misfit {
    if (numbers.count == 0) return null;
    const last = @as(i128, numbers.start) + @as(i128, numbers.count - 1) * numbers.step;
    if (last < 0) return .place_before_first;
    const limit_wide = @max(last, numbers.start) + 1;
    var limit = std.math.cast(u64, limit_wide) orelse return .place_beyond_all;
    if (numbers.order) |order| {
        if (limit > order.n) return .place_beyond_order;
        limit = order.n;
    }
    if (numbers.list) |list| {
        if (limit > list.items.len) return .place_beyond_list;
        for (list.items) |row| if (row >= rows) return .row_beyond_dataset;
        return null;
    }
    return if (limit > rows) .row_beyond_dataset else null;
}

/// The row numbers of places from `first` on, which must be there.
pub fn fill(numbers: *const Numbers, first: u64, rows: []u64) void {
    if (rows.len == 0) return;
    // Of places that are there, so that what wraps on the way comes back.
    const step: u64 = @bitCast(numbers.step);
    const start = numbers.start +% first *% step;
    if (numbers.order) |*order| {
        order.fill(start, numbers.step, rows);
    } else {
        for (rows, 0..) |*row, i| row.* = start +% i *% step;
    }
    if (numbers.list) |list| {
        for (rows) |*row| row.* = list.items[@intCast(row.*)];
    }
}

const testing = std.testing;

test "places, then order, then list" {
    const list: *List = try .create(testing.allocator, &.{ 10, 11, 12, 13, 14, 15, 16, 17 });
    defer list.release();
    const order: Order = .init(8, 5, 0, null);
    const numbers: Numbers = .{ .count = 3, .start = 1, .step = 3, .order = order, .list = list };
    try testing.expectEqual(null, numbers.misfit(18));
    var rows: [2]u64 = undefined;
    numbers.fill(1, &rows);
    try testing.expectEqualSlices(u64, &.{ 10 + order.at(4), 10 + order.at(7) }, &rows);
}

test "what does not fit is known beforehand" {
    const list: *List = try .create(testing.allocator, &.{ 3, 9 });
    defer list.release();
    try testing.expectEqual(null, (Numbers{ .count = 5 }).misfit(5));
    try testing.expectEqual(Misfit.row_beyond_dataset, (Numbers{ .count = 6 }).misfit(5));
    try testing.expectEqual(null, (Numbers{ .count = 0, .start = 100 }).misfit(5));
    try testing.expectEqual(Misfit.place_beyond_list, (Numbers{ .count = 3, .list = list }).misfit(100));
    try testing.expectEqual(Misfit.row_beyond_dataset, (Numbers{ .count = 2, .list = list }).misfit(9));
    try testing.expectEqual(Misfit.place_beyond_order, (Numbers{ .count = 2, .step = 9, .order = .init(9, 1, 1, null) }).misfit(9));
    try testing.expectEqual(Misfit.place_before_first, (Numbers{ .count = 3, .start = 3, .step = -2 }).misfit(9));
    try testing.expectEqual(null, (Numbers{ .count = 3, .start = 4, .step = -2 }).misfit(5));
    const max = std.math.maxInt(u64);
    try testing.expectEqual(Misfit.place_beyond_all, (Numbers{ .count = max, .step = std.math.maxInt(i64) }).misfit(9));
    try testing.expectEqual(Misfit.place_before_first, (Numbers{ .count = max, .start = max, .step = std.math.minInt(i64) }).misfit(9));
    try testing.expectEqual(Misfit.place_beyond_all, (Numbers{ .count = 2, .start = max, .step = 1 }).misfit(9));
    try testing.expectEqual(null, (Numbers{ .count = 1, .start = 8, .step = std.math.minInt(i64) }).misfit(9));
}

test "backwards, with and without an order" {
    const order: Order = .init(100, 5, 0, 9);
    for ([_]?Order{ null, order }) |given| {
        const numbers: Numbers = .{ .count = 10, .start = 99, .step = -11, .order = given };
        try testing.expectEqual(null, numbers.misfit(100));
        var rows: [10]u64 = undefined;
        numbers.fill(0, rows[0..4]);
        numbers.fill(4, rows[4..]);
        for (rows, 0..) |row, i| {
            const place = 99 - 11 * i;
            try testing.expectEqual(if (given) |o| o.at(place) else place, row);
        }
    }
}
