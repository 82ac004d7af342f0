//! CRC-32C (Castagnoli), eight bytes a step, as TFRecord files have it.

const std = @import("std");

/// 0x1edc6f41, bits reversed.
const polynomial = 0x82f63b78;

/// `tables[i][b]`: what the byte b comes to when i more bytes follow.
const tables: [8][256]u32 = blk: {
    @setEvalBranchQuota(100_000);
    var made: [8][256]u32 = undefined;
    for (&made[0], 0..) |*entry, byte| {
        var crc: u32 = byte;
        for (0..8) |_| crc = if (crc & 1 == 1) crc >> 1 ^ polynomial else crc >> 1;
        entry.* = crc;
    }
    for (1..8) |i| {
        for (&made[i], made[i - 1]) |*entry, before| entry.* = before >> 8 ^ made[0][before & 0xff];
    }
    break :blk made;
};

pub const Crc = struct {
    state: u32 = 0xffff_ffff,

    pub fn add(crc: *Crc, bytes: []const u8) void {
        var state = crc.state;
        var rest = bytes;
        while (rest.len >= 8) : (rest = rest[8..]) {
            const word = std.mem.readInt(u64, rest[0..8], .little) ^ state;
            state = 0;
            inline for (0..8) |i| state ^= tables[7 - i][@as(u8, @truncate(word >> (8 * i)))];
        }
        for (rest) |byte| state = state >> 8 ^ tables[0][@as(u8, @truncate(state)) ^ byte];
        crc.state = state;
    }

    pub fn value(crc: Crc) u32 {
        return ~crc.state;
    }

    /// As TFRecord files store it.
    pub fn masked(crc: Crc) u32 {
        return std.math.rotr(u32, crc.value(), 15) +% 0xa282_ead8;
    }
};

test "known values, in one piece and in many" {
    // RFC 3720, B.4, and the check value of the algorithm.
    const ascending = comptime blk: {
        var bytes: [32]u8 = undefined;
        for (&bytes, 0..) |*byte, i| byte.* = i;
        break :blk bytes;
    };
    const cases = [_]struct { []const u8, u32 }{
        .{ "", 0 },                    .{ "123456789", 0xe3069283 },
        .{ "\x00" ** 32, 0x8a9136aa }, .{ "\xff" ** 32, 0x62a8ab43 },
        .{ &ascending, 0x46dd794e },
    };
    for (cases) |case| {
        for (0..case[0].len + 1) |cut| {
            var crc: Crc = .{};
            crc.add(case[0][0..cut]);
            crc.add(case[0][cut..]);
            try std.testing.expectEqual(case[1], crc.value());
        }
    }
}
