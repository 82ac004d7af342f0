//! Tests of `Order`: with and without a window, there and back.

const std = @import("std");
const testing = std.testing;
const Order = @import("Order.zig");

const sizes = [_]u64{ 0, 1, 2, 3, 5, 63, 64, 65, 66, 100, 127, 1000, 1023, 2500 };
const windows = [_]?u64{ null, 1, 2, 3, 4, 5, 9, 10, 63, 64, 65, 99, 100, 128, 500, 2499, 2500, 1 << 53 };

test "every row has one place and every place one row" {
    var seen: [2500]bool = undefined;
    for (sizes) |n| for (windows) |window| {
        const order: Order = .init(n, 5, n, window);
        @memset(&seen, false);
        for (0..n) |i| {
            const row = order.at(i);
            try testing.expect(row < n and !seen[row]);
            seen[row] = true;
            try testing.expectEqual(i, order.placeOf(row));
        }
    };
}

test "many at once are those that come one by one" {
    var rows: [2500]u64 = undefined;
    for (sizes) |n| for (windows) |window| for ([_]i64{ 1, 2, 3, 7, 64, 1000, -1, -5, -77 }) |step| {
        if (n == 0) continue;
        const order: Order = .init(n, 9, 3, window);
        const first = if (step < 0) n - 1 else 0;
        const count: usize = @intCast((n - 1) / @abs(step) + 1);
        order.fill(first, step, rows[0..count]);
        var place: i64 = @intCast(first);
        for (rows[0..count]) |row| {
            try testing.expectEqual(order.at(@intCast(place)), row);
            place += step;
        }
    };
}

test "a cursor may jump" {
    const order: Order = .init(1000, 1, 1, 90);
    var cursor: Order.Cursor = .{};
    var random: std.Random.DefaultPrng = .init(3);
    for (0..1000) |_| {
        const i = random.next() % 1000;
        var row: [1]u64 = undefined;
        cursor.fill(&order, i, 1, &row);
        try testing.expectEqual(order.at(i), row[0]);
        try testing.expectEqual(order.at(999 - i), cursor.at(&order, 999 - i));
    }
}

test "a window has whole blocks, but for those that its edges cut" {
    for ([_][2]u64{ .{ 1000, 100 }, .{ 1003, 100 }, .{ 5000, 64 }, .{ 777, 50 } }) |case| {
        const n, const window = case;
        const order: Order = .init(n, 1, 0, window);
        const block = order.blockSize().?;
        try testing.expectEqual(std.math.sqrt(window), block);
        var cut: u64 = 0;
        for (0..(n - 1) / block + 1) |number| {
            const last = @min((number + 1) * block, n) - 1;
            var spread: u64 = 0;
            for (number * block + 1..last + 1) |row| {
                spread = @max(spread, order.placeOf(row) / window -| order.placeOf(row - 1) / window);
                spread = @max(spread, order.placeOf(row - 1) / window -| order.placeOf(row) / window);
            }
            try testing.expect(spread <= 1);
            cut += spread;
        }
        // Each edge between two windows cuts one block at most.
        try testing.expect(cut <= (n - 1) / window);
    }
}

test "within a window every place is as likely for every row" {
    // Of 12 rows in windows of 4, blocks of 2: whichever window a row is in, its place
    // there is one of four, and its window one of three.
    var counts: [12][12]u32 = @splat(@splat(0));
    const seeds = 12_000;
    for (0..seeds) |seed| {
        const order: Order = .init(12, seed, 1, 4);
        for (0..12) |i| counts[i][order.at(i)] += 1;
    }
    var chi_square: f64 = 0;
    for (counts) |line| for (line) |count| {
        const difference = @as(f64, @floatFromInt(count)) - seeds / 12;
        chi_square += difference * difference / (seeds / 12);
    };
    // At most 11 * 11 degrees of freedom, and fewer as blocks go together.
    try testing.expect(chi_square < 121 + 6 * @sqrt(2.0 * 121.0));
}

test "windows of one order have nothing in common, nor have epochs" {
    var same: u32 = 0;
    const a: Order = .init(100_000, 1, 0, 1000);
    const b: Order = .init(100_000, 1, 1, 1000);
    for (0..1000) |i| {
        // Were windows permuted alike, equal places of two would be equally far from
        // their blocks' beginnings.
        same += @intFromBool(a.at(i) % 31 == a.at(i + 1000) % 31);
        same += @intFromBool(a.at(i) == b.at(i));
    }
    try testing.expect(same < 80); // 32 are expected.
}

test "the largest n works at both ends, whatever the window" {
    for ([_]u64{ Order.n_max, Order.n_max - 1, (1 << 52) + 1 }) |n| {
        for ([_]?u64{ null, 1, 2, 7, 1000, (1 << 40) + 1, n - 1, n }) |window| {
            const order: Order = .init(n, std.math.maxInt(u64), std.math.maxInt(u64), window);
            for ([_]u64{ 0, 1, n / 2, n / 3, n - 2, n - 1 }) |i| {
                try testing.expectEqual(i, order.placeOf(order.at(i)));
                try testing.expectEqual(i, order.at(order.placeOf(i)));
            }
        }
    }
}

test "an order is the same in every version" {
    const cases = [_]struct { n: u64, seed: u64, epoch: u64, window: ?u64, rows: [6]u64 }{
        .{ .n = 10, .seed = 0, .epoch = 0, .window = null, .rows = .{ 7, 9, 5, 8, 2, 0 } },
        .{ .n = 1000, .seed = 0, .epoch = 0, .window = null, .rows = .{ 168, 782, 40, 499, 947, 331 } },
        .{ .n = 1_000_000_007, .seed = 42, .epoch = 3, .window = null, .rows = .{ 921_402_582, 314_623_132, 755_838_260, 472_012_026, 585_455_584, 660_707_177 } },
        .{ .n = 10, .seed = 0, .epoch = 0, .window = 4, .rows = .{ 5, 8, 4, 9, 7, 6 } },
        .{ .n = 1000, .seed = 0, .epoch = 0, .window = 100, .rows = .{ 737, 995, 362, 733, 90, 97 } },
        .{ .n = 1_000_000_007, .seed = 42, .epoch = 3, .window = 65_536, .rows = .{ 326_951_873, 195_152_577, 534_413_617, 110_222_763, 377_077_274, 216_633_815 } },
    };
    for (cases) |case| {
        const order: Order = .init(case.n, case.seed, case.epoch, case.window);
        var rows: [6]u64 = undefined;
        order.fill(0, 1, &rows);
        try testing.expectEqualSlices(u64, &case.rows, &rows);
    }
}
