//! What the parsers of containers have in common. They are used like `tar/Scanner`:
//! ask `want` for a range, hand its bytes to `feed`, and get a member now and then.

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const Parts = @import("../tar/sample.zig").Parts;

pub const Error = error{ BadShard, OutOfMemory };

/// A range of the file; with a size of 0 nothing is to be read before `feed`.
pub const Want = struct { offset: u64, size: usize };

/// Names are valid until the next `feed`.
pub const Member = struct {
    /// For messages.
    name: []const u8,
    /// What it is in an index.
    parts: Parts,
    offset: u64,
    size: u64,
};

/// Names for payloads that have none: the record's number, and one key for all.
pub const Numbered = struct {
    buffer: [32]u8 = undefined,

    pub const key = ".bin";

    pub fn member(numbered: *Numbered, number: u64, offset: u64, size: u64) Member {
        const name = std.fmt.bufPrint(&numbered.buffer, "{d}" ++ key, .{number}) catch unreachable; // 24 bytes at most.
        const stem = name[0 .. name.len - key.len];
        return .{ .name = name, .parts = .{ .stem = stem, .key = name[stem.len..] }, .offset = offset, .size = size };
    }
};

/// Report what is wrong with `size` bytes at `offset`.
pub fn bad(diag: *Diagnostics, path: []const u8, offset: u64, size: u64, comptime fmt: []const u8, args: anytype) error{BadShard} {
    diag.set(.shard_format, "{s}: at offset {d}: " ++ fmt, .{ path, offset } ++ args);
    diag.setPath(path);
    diag.setRange(offset, size);
    return error.BadShard;
}

/// An integer of a header, little-endian.
pub fn int(comptime T: type, bytes: []const u8, at: usize) T {
    return std.mem.readInt(T, bytes[at..][0..@sizeOf(T)], .little);
}

test "a payload without a name is known by its number" {
    var numbered: Numbered = .{};
    const member = numbered.member(std.math.maxInt(u64), 3, 4);
    try std.testing.expectEqualStrings("18446744073709551615.bin", member.name);
    try std.testing.expectEqualStrings("18446744073709551615", member.parts.stem);
    try std.testing.expectEqualStrings(".bin", member.parts.key);
}
