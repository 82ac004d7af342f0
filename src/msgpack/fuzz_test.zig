//! Random bytes by seed: the reader passes over whole values or fails, and what
//! it accepts does not depend on where the bytes are cut.

const std = @import("std");
const testing = std.testing;
const Reader = @import("Reader.zig");

const rounds = 20_000;

test "fuzz: random bytes are skipped or refused" {
    for (0..rounds) |round| {
        const seed = testing.random_seed +% round;
        errdefer std.debug.print("seed {d}\n", .{seed});
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        var buffer: [64]u8 = undefined;
        random.bytes(&buffer);
        // Containers and short values, else most of it is one long string.
        for (&buffer) |*byte| if (random.boolean()) {
            byte.* = random.intRangeAtMost(u8, 0x80, 0x9f);
        };
        const bytes = buffer[0..random.uintAtMost(usize, buffer.len)];
        var reader: Reader = .{ .bytes = bytes };
        const value = reader.skip() catch |err| {
            try testing.expect(err != error.NeedMore); // Nothing follows.
            try testing.expect(reader.at <= bytes.len);
            continue;
        };
        try testing.expectEqual(value.len, reader.at);
        for (0..value.len) |size| {
            var cut: Reader = .{ .bytes = value[0..size], .more = value.len - size };
            try testing.expectError(error.NeedMore, cut.skip());
        }
    }
}
