//! Damaged containers by seed: whatever the bytes, a parser ends, stays within the
//! file, and either fails with a report or finds members that lie in the file.

const std = @import("std");
const testing = std.testing;
const Diagnostics = @import("../base/Diagnostics.zig");
const mutate = @import("../tar/fuzz_test.zig").mutate;
const container = @import("container.zig");
const parsers_test = @import("parsers_test.zig");

const rounds = 3000;

fn parse(kind: container.Kind, bytes: []const u8) !void {
    var diag: Diagnostics = .{};
    var shard: container.Container = .init(kind, testing.allocator, "t.x", bytes.len, true);
    defer shard.deinit();
    var first: ?u64 = null;
    // Each step reads something, or gives a member of which the bytes speak.
    for (0..4 * bytes.len + 100) |_| {
        const range = shard.want(&diag) catch |err| return expectReport(err, &diag);
        const wanted = range orelse return;
        try testing.expect(wanted.size <= bytes.len and wanted.offset <= bytes.len - wanted.size);
        const slice = bytes[@intCast(wanted.offset)..][0..wanted.size];
        const found = shard.feed(slice, &diag) catch |err| return expectReport(err, &diag);
        const member = found orelse continue;
        try testing.expect(member.size <= bytes.len and member.offset <= bytes.len - member.size);
        // A record begins with its first member.
        if (kind == .npz) {
            if (first == null) first = member.offset;
            try testing.expect(member.offset >= first.?);
        }
    }
    return error.DoesNotEnd;
}

fn expectReport(err: container.Error, diag: *const Diagnostics) !void {
    try testing.expectEqual(error.BadShard, err);
    try testing.expect(diag.offset != null);
    try testing.expect(std.mem.startsWith(u8, diag.message(), "t.x: at offset "));
}

/// Put checksums right, so that damage gets past the first check.
fn seal(bytes: []u8) void {
    var at: usize = 0;
    while (at + 12 <= bytes.len) {
        std.mem.writeInt(u32, bytes[at + 8 ..][0..4], parsers_test.masked(bytes[at..][0..8]), .little);
        const size = std.mem.readInt(u64, bytes[at..][0..8], .little);
        if (size > bytes.len or at + 12 + @as(usize, @intCast(size)) + 4 > bytes.len) return;
        at += 12 + @as(usize, @intCast(size)) + 4;
    }
}

test "fuzz: damaged containers" {
    for (parsers_test.makers) |maker| {
        var whole = try maker[1]();
        defer whole.deinit();
        const copy = try testing.allocator.dupe(u8, whole.list.items);
        defer testing.allocator.free(copy);
        for (0..rounds) |round| {
            const seed = testing.random_seed +% round;
            errdefer std.debug.print("seed {d}, {t}\n", .{ seed, maker[0] });
            var prng: std.Random.DefaultPrng = .init(seed);
            @memcpy(copy, whole.list.items);
            const bytes = mutate(prng.random(), copy);
            if (maker[0] == .tfrecord and prng.random().boolean()) seal(bytes);
            try parse(maker[0], bytes);
        }
    }
}

test "fuzz: all kinds of bytes as each container" {
    for (0..rounds) |round| {
        const seed = testing.random_seed +% round;
        errdefer std.debug.print("seed {d}\n", .{seed});
        var prng: std.Random.DefaultPrng = .init(seed);
        var buffer: [200]u8 = undefined;
        prng.random().bytes(&buffer);
        // Small numbers, else every one is out of range.
        for (&buffer) |*byte| byte.* &= @truncate(@as(u16, 0xff) << prng.random().uintLessThan(u4, 9));
        for (parsers_test.makers) |maker| try parse(maker[0], buffer[0..prng.random().uintAtMost(usize, buffer.len)]);
    }
}
