//! Reads msgpack from a slice that may be the beginning of something longer.
//!
//! Input is not trusted: lengths are checked against what there can be before
//! anything is done with them, and nesting is bounded. After an error `at` is
//! at the value that was wrong.
const Reader = @This();

const std = @import("std");
const limits = @import("../base/limits.zig");

bytes: []const u8,
at: usize = 0,
/// Bytes that follow `bytes` where these come from, such as the rest of a file.
more: u64 = 0,

pub const Error = error{
    /// The value goes on behind `bytes`: get more of them and start again.
    NeedMore,
    /// The value goes on behind the end.
    CutShort,
    WrongType,
    TooDeep,
};

pub const Kind = enum {
    nil,
    boolean,
    uint,
    negative,
    float,
    str,
    bin,
    array,
    map,
    ext,
    /// The one byte that msgpack never uses.
    invalid,

    /// With its article, for messages.
    pub fn describe(kind: Kind) []const u8 {
        return switch (kind) {
            .nil => "nil",
            .boolean => "a boolean",
            .uint => "an unsigned integer",
            .negative => "a negative integer",
            .float => "a float",
            .str => "a string",
            .bin => "binary",
            .array => "an array",
            .map => "a map",
            .ext => "an extension type",
            .invalid => "the byte 0xc1, which no msgpack value begins with",
        };
    }
};

/// Of the value at `at`.
pub fn peek(reader: *const Reader) Error!Kind {
    const byte = try reader.tag();
    return switch (byte) {
        0x00...0x7f, 0xcc...0xcf => .uint,
        0x80...0x8f, 0xde, 0xdf => .map,
        0x90...0x9f, 0xdc, 0xdd => .array,
        0xa0...0xbf, 0xd9...0xdb => .str,
        0xc0 => .nil,
        0xc1 => .invalid,
        0xc2, 0xc3 => .boolean,
        0xc4...0xc6 => .bin,
        0xc7...0xc9, 0xd4...0xd8 => .ext,
        0xca, 0xcb => .float,
        // A signed form may hold what is not negative.
        0xd0...0xd3 => if (try reader.signed() < 0) .negative else .uint,
        0xe0...0xff => .negative,
    };
}

/// An integer of any width that is not negative.
pub fn uint(reader: *Reader) Error!u64 {
    const byte = try reader.tag();
    if (byte < 0x80) {
        reader.at += 1;
        return byte;
    }
    const value: u64 = switch (byte) {
        0xcc => try reader.intAfterTag(u8),
        0xcd => try reader.intAfterTag(u16),
        0xce => try reader.intAfterTag(u32),
        0xcf => try reader.intAfterTag(u64),
        0xd0...0xd3 => std.math.cast(u64, try reader.signed()) orelse return error.WrongType,
        else => return error.WrongType,
    };
    reader.at += 1 + (@as(usize, 1) << @intCast(byte & 3));
    return value;
}

/// A negative integer.
pub fn negative(reader: *Reader) Error!i64 {
    const byte = try reader.tag();
    const value: i64 = switch (byte) {
        0xe0...0xff => @as(i8, @bitCast(byte)),
        0xd0...0xd3 => try reader.signed(),
        else => return error.WrongType,
    };
    if (value >= 0) return error.WrongType;
    reader.at += if (byte >= 0xe0) 1 else 1 + (@as(usize, 1) << @intCast(byte & 3));
    return value;
}

pub fn float(reader: *Reader) Error!f64 {
    switch (try reader.tag()) {
        0xca => {
            const value: f32 = @bitCast(try reader.intAfterTag(u32));
            reader.at += 5;
            return value;
        },
        0xcb => {
            const value: f64 = @bitCast(try reader.intAfterTag(u64));
            reader.at += 9;
            return value;
        },
        else => return error.WrongType,
    }
}

pub fn boolean(reader: *Reader) Error!bool {
    const byte = try reader.tag();
    if (byte != 0xc2 and byte != 0xc3) return error.WrongType;
    reader.at += 1;
    return byte == 0xc3;
}

/// Text or, from writers that knew no text, binary. Any bytes.
pub fn str(reader: *Reader) Error![]const u8 {
    const byte = try reader.tag();
    const header: usize, const size: u64 = switch (byte) {
        0xa0...0xbf => .{ 1, byte & 0x1f },
        0xd9, 0xc4 => .{ 2, try reader.intAfterTag(u8) },
        0xda, 0xc5 => .{ 3, try reader.intAfterTag(u16) },
        0xdb, 0xc6 => .{ 5, try reader.intAfterTag(u32) },
        else => return error.WrongType,
    };
    try reader.expect(header + size);
    const bytes = reader.bytes[reader.at + header ..][0..@intCast(size)];
    reader.at += header + bytes.len;
    return bytes;
}

/// The count of an array whose elements follow.
pub fn array(reader: *Reader) Error!u32 {
    const byte = try reader.tag();
    const header: usize, const count: u32 = switch (byte) {
        0x90...0x9f => .{ 1, byte & 0x0f },
        0xdc => .{ 3, try reader.intAfterTag(u16) },
        0xdd => .{ 5, try reader.intAfterTag(u32) },
        else => return error.WrongType,
    };
    try reader.expectSomewhere(header + @as(u64, count));
    reader.at += header;
    return count;
}

/// The count of pairs in a map, which follow.
pub fn map(reader: *Reader) Error!u32 {
    const byte = try reader.tag();
    const header: usize, const count: u32 = switch (byte) {
        0x80...0x8f => .{ 1, byte & 0x0f },
        0xde => .{ 3, try reader.intAfterTag(u16) },
        0xdf => .{ 5, try reader.intAfterTag(u32) },
        else => return error.WrongType,
    };
    try reader.expectSomewhere(header + 2 * @as(u64, count));
    reader.at += header;
    return count;
}

/// The value of a member of the map that comes, null when there is none. As in most
/// readers of JSON, it is the last of several with one name.
pub fn member(reader: *Reader, name: []const u8) Error!?[]const u8 {
    var found: ?[]const u8 = null;
    for (0..try reader.map()) |_| {
        const key = try reader.str();
        const value = try reader.skip();
        if (std.mem.eql(u8, key, name)) found = value;
    }
    return found;
}

/// Pass over one value of any type, and return its bytes.
pub fn skip(reader: *Reader) Error![]const u8 {
    const start = reader.at;
    var left: [limits.value_depth_max + 1]u64 = undefined;
    left[0] = 1;
    var depth: usize = 0;
    while (true) {
        while (left[depth] == 0) {
            if (depth == 0) return reader.bytes[start..reader.at];
            depth -= 1;
        }
        left[depth] -= 1;
        const at = reader.at;
        const inside = try reader.skipOne();
        if (inside == 0) continue;
        if (depth == limits.value_depth_max) {
            reader.at = at;
            return error.TooDeep;
        }
        depth += 1;
        left[depth] = inside;
    }
}

/// Pass over a value or the header of a container; how many values are inside.
fn skipOne(reader: *Reader) Error!u64 {
    const byte = try reader.tag();
    const size: u64 = switch (byte) {
        0x80...0x8f, 0xde, 0xdf => return 2 * @as(u64, try reader.map()),
        0x90...0x9f, 0xdc, 0xdd => return try reader.array(),
        0x00...0x7f, 0xc0, 0xc2, 0xc3, 0xe0...0xff => 1,
        0xa0...0xbf => 1 + @as(u64, byte & 0x1f),
        0xc1 => return error.WrongType,
        0xcc, 0xd0 => 2,
        0xcd, 0xd1 => 3,
        0xca, 0xce, 0xd2 => 5,
        0xcb, 0xcf, 0xd3 => 9,
        0xd4...0xd8 => 2 + (@as(u64, 1) << @intCast(byte - 0xd4)),
        0xc4, 0xd9 => 2 + @as(u64, try reader.intAfterTag(u8)),
        0xc5, 0xda => 3 + @as(u64, try reader.intAfterTag(u16)),
        0xc6, 0xdb => 5 + @as(u64, try reader.intAfterTag(u32)),
        0xc7 => 3 + @as(u64, try reader.intAfterTag(u8)),
        0xc8 => 4 + @as(u64, try reader.intAfterTag(u16)),
        0xc9 => 6 + @as(u64, try reader.intAfterTag(u32)),
    };
    try reader.expect(size);
    reader.at += @intCast(size);
    return 0;
}

fn tag(reader: *const Reader) Error!u8 {
    if (reader.at < reader.bytes.len) return reader.bytes[reader.at];
    return if (reader.more > 0) error.NeedMore else error.CutShort;
}

/// The value in signed form at `at`, with a tag from 0xd0 to 0xd3.
fn signed(reader: *const Reader) Error!i64 {
    return switch (reader.bytes[reader.at]) {
        0xd0 => try reader.intAfterTag(i8),
        0xd1 => try reader.intAfterTag(i16),
        0xd2 => try reader.intAfterTag(i32),
        else => try reader.intAfterTag(i64),
    };
}

fn intAfterTag(reader: *const Reader, comptime Int: type) Error!Int {
    try reader.expect(1 + @sizeOf(Int));
    return std.mem.readInt(Int, reader.bytes[reader.at + 1 ..][0..@sizeOf(Int)], .big);
}

/// `size` bytes from `at` on must be at hand.
fn expect(reader: *const Reader, size: u64) Error!void {
    const rest = reader.bytes.len - reader.at;
    if (size <= rest) return;
    return if (size - rest <= reader.more) error.NeedMore else error.CutShort;
}

/// `size` bytes from `at` on must exist, at hand or not.
fn expectSomewhere(reader: *const Reader, size: u64) Error!void {
    const rest = reader.bytes.len - reader.at;
    if (size > rest and size - rest > reader.more) return error.CutShort;
}

test "integers of every width" {
    const cases = [_]struct { []const u8, u64 }{
        .{ "\x00", 0 },                                                    .{ "\x7f", 127 },               .{ "\xcc\x05", 5 },
        .{ "\xcd\x01\x00", 256 },                                          .{ "\xce\x00\x00\x00\x01", 1 }, .{ "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", std.math.maxInt(u64) },
        .{ "\xd0\x7f", 127 },                                              .{ "\xd1\x7f\xff", 32767 },     .{ "\xd2\x00\x00\x00\x07", 7 },
        .{ "\xd3\x7f\xff\xff\xff\xff\xff\xff\xff", std.math.maxInt(i64) },
    };
    for (cases) |case| {
        var reader: Reader = .{ .bytes = case[0] };
        try std.testing.expectEqual(.uint, try reader.peek());
        try std.testing.expectEqual(case[1], try reader.uint());
        try std.testing.expectEqual(case[0].len, reader.at);
    }
    for ([_][]const u8{ "\xff", "\xd0\x80", "\xd3\xff\xff\xff\xff\xff\xff\xff\xff" }) |bytes| {
        var reader: Reader = .{ .bytes = bytes };
        try std.testing.expectEqual(.negative, try reader.peek());
        try std.testing.expectError(error.WrongType, reader.uint());
        try std.testing.expectEqual(0, reader.at);
        try std.testing.expect(try reader.negative() < 0);
        try std.testing.expectEqual(bytes.len, reader.at);
    }
}

test "what is at hand, what is to come, and what cannot be" {
    var reader: Reader = .{ .bytes = "\xd9\x05ab", .more = 3 };
    try std.testing.expectError(error.NeedMore, reader.str());
    reader.more = 2;
    try std.testing.expectError(error.CutShort, reader.str());
    reader = .{ .bytes = "\xdb\xff\xff\xff\xff", .more = 1000 };
    try std.testing.expectError(error.CutShort, reader.skip());
    reader = .{ .bytes = "\xdd\xff\xff\xff\xff", .more = 1000 };
    try std.testing.expectError(error.CutShort, reader.array());
    reader = .{ .bytes = "\xdf\x80\x00\x00\x00", .more = 0xffffffff };
    try std.testing.expectError(error.CutShort, reader.map());
    reader = .{ .bytes = "" };
    try std.testing.expectError(error.CutShort, reader.peek());
}

test "skipping every type" {
    const bytes = "\x92\x81\xa1a\x93\xc0\xc3\xca\x00\x00\x00\x00" ++ "\xc4\x01x" ++ "";
    var reader: Reader = .{ .bytes = bytes ++ "\x01" };
    try std.testing.expectEqualStrings(bytes, try reader.skip());
    for ([_][]const u8{ "\xd4\x01\x02", "\xd8\x01" ++ "x" ** 16, "\xc7\x02\x01ab", "\xc8\x00\x01\x01a", "\xc9\x00\x00\x00\x01\x01a", "\xcb12345678" }) |value| {
        reader = .{ .bytes = value };
        try std.testing.expectEqualStrings(value, try reader.skip());
    }
    reader = .{ .bytes = "\xc1" };
    try std.testing.expectError(error.WrongType, reader.skip());
}

test "nesting is bounded" {
    var reader: Reader = .{ .bytes = "\x91" ** limits.value_depth_max ++ "\x01" };
    _ = try reader.skip();
    reader = .{ .bytes = "\x91" ** 200_000 ++ "\x01" };
    try std.testing.expectError(error.TooDeep, reader.skip());
}
