//! Which reads serve a set of wanted ranges: a pure function. Ranges of one
//! file that overlap or lie close together become one read, in whatever order
//! they were asked for, since a read costs more than the few bytes between them.

const std = @import("std");

/// A range that is wanted. `source` tells files apart and orders them.
pub const Wanted = struct {
    source: usize,
    offset: u64,
    size: u64,
    /// What lies this far behind another range shares its read.
    gap: u64,

    fn lessThan(wanted: []const Wanted, a: u32, b: u32) bool {
        const x = wanted[a];
        const y = wanted[b];
        if (x.source != y.source) return x.source < y.source;
        return x.offset < y.offset;
    }
};

/// A read, and where its bytes go in the buffer that all reads share.
pub const Range = struct {
    source: usize,
    offset: u64,
    size: u64,
    position: u64,
};

pub const Plan = struct {
    ranges: std.ArrayList(Range) = .empty,
    /// Place in the shared buffer of each wanted range, in the order of asking.
    positions: std.ArrayList(u64) = .empty,
    /// Size of the shared buffer.
    bytes: u64 = 0,
    order: std.ArrayList(u32) = .empty,

    pub fn deinit(plan: *Plan, gpa: std.mem.Allocator) void {
        plan.ranges.deinit(gpa);
        plan.positions.deinit(gpa);
        plan.order.deinit(gpa);
    }

    /// Replace the plan by one for `wanted`. No wanted range may be empty or
    /// end beyond 2^64. `alignment` (a power of two) is kept for the first byte of each range in the
    /// buffer. `TooLarge` when the buffer would pass 2^63 bytes.
    pub fn make(
        plan: *Plan,
        gpa: std.mem.Allocator,
        wanted: []const Wanted,
        alignment: u64,
    ) error{ OutOfMemory, TooLarge }!void {
        plan.ranges.clearRetainingCapacity();
        plan.bytes = 0;
        try plan.positions.resize(gpa, wanted.len);
        try plan.sortOrder(gpa, wanted);

        for (plan.order.items) |index| {
            const want = wanted[index];
            if (plan.ranges.items.len > 0) {
                const last = &plan.ranges.items[plan.ranges.items.len - 1];
                const last_end = last.offset + last.size;
                if (last.source == want.source and want.offset <= last_end +| want.gap) {
                    last.size = @max(last_end, want.offset + want.size) - last.offset;
                    plan.positions.items[index] = last.position + (want.offset - last.offset);
                    continue;
                }
                plan.bytes = last.position +| last.size;
            }
            plan.bytes = std.mem.alignForwardAnyAlign(u64, @min(plan.bytes, bytes_max), alignment);
            plan.positions.items[index] = plan.bytes;
            try plan.ranges.append(gpa, .{
                .source = want.source,
                .offset = want.offset,
                .size = want.size,
                .position = plan.bytes,
            });
        }
        if (plan.ranges.getLastOrNull()) |last| plan.bytes = last.position +| last.size;
        if (plan.bytes > bytes_max) return error.TooLarge;
    }

    const bytes_max = 1 << 63;

    /// Indices by source and offset. Scripts mostly ask in order: then there is
    /// nothing to sort.
    fn sortOrder(plan: *Plan, gpa: std.mem.Allocator, wanted: []const Wanted) error{OutOfMemory}!void {
        try plan.order.resize(gpa, wanted.len);
        var sorted = true;
        for (plan.order.items, 0..) |*place, i| {
            place.* = @intCast(i);
            if (i > 0 and Wanted.lessThan(wanted, @intCast(i), @intCast(i - 1))) sorted = false;
        }
        if (!sorted) std.mem.sort(u32, plan.order.items, wanted, Wanted.lessThan);
    }
};

const testing = std.testing;

test "neighbours share a read, in any order; strangers do not" {
    var plan: Plan = .{};
    defer plan.deinit(testing.allocator);
    const wanted = [_]Wanted{
        .{ .source = 1, .offset = 2000, .size = 10, .gap = 100 },
        .{ .source = 1, .offset = 512, .size = 100, .gap = 100 },
        .{ .source = 2, .offset = 512, .size = 7, .gap = 100 },
        .{ .source = 1, .offset = 700, .size = 50, .gap = 100 },
        .{ .source = 1, .offset = 512, .size = 100, .gap = 100 }, // Twice: read once.
    };
    try plan.make(testing.allocator, &wanted, 64);
    try testing.expectEqualSlices(Range, &.{
        .{ .source = 1, .offset = 512, .size = 238, .position = 0 },
        .{ .source = 1, .offset = 2000, .size = 10, .position = 256 },
        .{ .source = 2, .offset = 512, .size = 7, .position = 320 },
    }, plan.ranges.items);
    try testing.expectEqualSlices(u64, &.{ 256, 0, 320, 188, 0 }, plan.positions.items);
    try testing.expectEqual(327, plan.bytes);
}

test "every wanted byte is read exactly where the plan says, whatever is asked for" {
    var plan: Plan = .{};
    defer plan.deinit(testing.allocator);
    for (0..300) |seed| {
        errdefer std.log.err("seed {d}", .{seed});
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        var wanted: [40]Wanted = undefined;
        for (&wanted) |*want| want.* = .{
            .source = random.uintLessThan(usize, 3),
            .offset = random.uintLessThan(u64, 4000),
            .size = random.intRangeAtMost(u64, 1, 300),
            .gap = random.uintLessThan(u64, 64),
        };
        try plan.make(testing.allocator, &wanted, 16);
        for (wanted, plan.positions.items) |want, position| {
            const range = for (plan.ranges.items) |range| {
                if (position >= range.position and position < range.position + range.size) break range;
            } else return error.TestUnexpectedResult;
            try testing.expectEqual(want.source, range.source);
            try testing.expectEqual(want.offset, range.offset + (position - range.position));
            try testing.expect(position + want.size <= range.position + range.size);
        }
    }
}

test "ranges at the end of the number range do not overflow" {
    var plan: Plan = .{};
    defer plan.deinit(testing.allocator);
    const huge = [_]Wanted{
        .{ .source = 0, .offset = 0, .size = 1 << 62, .gap = 100 },
        .{ .source = 1, .offset = std.math.maxInt(u64) - 5, .size = 5, .gap = 100 },
        .{ .source = 2, .offset = 0, .size = 1 << 63, .gap = 100 },
    };
    try testing.expectError(error.TooLarge, plan.make(testing.allocator, &huge, 64));
}
