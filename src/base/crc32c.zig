//! CRC-32C (Castagnoli), eight bytes a step, as TFRecord files have it: by the instruction for it
//! where an x86-64 processor has it (SSE 4.2, four times as fast), else by tables.

const std = @import("std");
const builtin = @import("builtin");

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
        const end = bytes.len - bytes.len % 8;
        const state = if (instruction.isThere()) byInstruction(crc.state, bytes[0..end]) else byTables(crc.state, bytes[0..end]);
        crc.state = byBytes(state, bytes[end..]);
    }

    pub fn value(crc: Crc) u32 {
        return ~crc.state;
    }

    /// As TFRecord files store it.
    pub fn masked(crc: Crc) u32 {
        return std.math.rotr(u32, crc.value(), 15) +% 0xa282_ead8;
    }
};

/// Whole words.
fn byTables(before: u32, bytes: []const u8) u32 {
    var state = before;
    var rest = bytes;
    while (rest.len >= 8) : (rest = rest[8..]) {
        const word = std.mem.readInt(u64, rest[0..8], .little) ^ state;
        state = 0;
        inline for (0..8) |i| state ^= tables[7 - i][@as(u8, @truncate(word >> (8 * i)))];
    }
    return state;
}

/// The same.
fn byInstruction(before: u32, bytes: []const u8) u32 {
    if (builtin.cpu.arch != .x86_64) unreachable; // `instruction` is not there.
    var state: u64 = before;
    var rest = bytes;
    while (rest.len >= 8) : (rest = rest[8..]) {
        state = asm ("crc32q %[word], %[state]"
            : [state] "=r" (-> u64),
            : [_] "0" (state),
              [word] "r" (std.mem.readInt(u64, rest[0..8], .little)),
        );
    }
    return @truncate(state); // The upper half is zero.
}

fn byBytes(before: u32, bytes: []const u8) u32 {
    var state = before;
    for (bytes) |byte| state = state >> 8 ^ tables[0][@as(u8, @truncate(state)) ^ byte];
    return state;
}

/// Whether the processor has it. Asked once, as the answer of a virtual one takes microseconds.
const instruction = struct {
    const Answer = enum(u8) { unknown, no, yes };

    var answer: std.atomic.Value(Answer) = .init(.unknown);

    fn isThere() bool {
        if (builtin.cpu.arch != .x86_64) return false;
        if (answer.load(.monotonic) == .unknown) answer.store(if (ask()) .yes else .no, .monotonic);
        return answer.load(.monotonic) == .yes;
    }

    fn ask() bool {
        var eax: u32 = 1;
        var ecx: u32 = 0;
        asm volatile ("cpuid"
            : [_] "+{eax}" (eax),
              [_] "+{ecx}" (ecx),
            :
            : .{ .ebx = true, .edx = true });
        return ecx & 1 << 20 != 0; // SSE 4.2
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

test "both ways come to the same" {
    if (!instruction.isThere()) return error.SkipZigTest;
    var prng: std.Random.DefaultPrng = .init(0);
    var bytes: [4096]u8 = undefined;
    prng.random().bytes(&bytes);
    for (0..bytes.len / 8) |words| {
        const state = prng.random().int(u32);
        try std.testing.expectEqual(byTables(state, bytes[0 .. 8 * words]), byInstruction(state, bytes[0 .. 8 * words]));
    }
}
