//! One 512-byte block of a tar: the header of a member.
//!
//!      offset  size  field
//!           0   100  name, NUL-terminated when shorter
//!         124    12  payload size, octal text or base-256
//!         148     8  checksum, octal text
//!         156     1  kind of member ("typeflag")
//!         257     6  "ustar\0" (POSIX) or "ustar " (GNU); anything else is v7
//!         345   155  prefix, joined to the name with a slash (POSIX only)
//!
//! All other fields (mode, times, owners, link target) do not matter here.
const Header = @This();

const std = @import("std");

/// As it stands in the block, so valid as long as the block is.
name: []const u8,
prefix: []const u8,
size: u64,
kind: u8,

pub const block_bytes = 512;

pub const Error = error{ BadChecksum, BadSize, NegativeSize };

const Field = struct { start: usize, size: usize };
const name_field: Field = .{ .start = 0, .size = 100 };
const size_field: Field = .{ .start = 124, .size = 12 };
const checksum_field: Field = .{ .start = 148, .size = 8 };
const kind_start = 156;
const magic_field: Field = .{ .start = 257, .size = 6 };
const prefix_field: Field = .{ .start = 345, .size = 155 };

pub fn parse(block: *const [block_bytes]u8) Error!Header {
    if (!checksumMatches(block)) return error.BadChecksum;
    const size = parseSize(fieldOf(block, size_field)) catch |err| return switch (err) {
        error.BadNumber => error.BadSize,
        error.Negative => error.NegativeSize,
    };
    // GNU keeps times and sparse maps where POSIX has the prefix.
    const is_posix = std.mem.eql(u8, fieldOf(block, magic_field), "ustar\x00");
    return .{
        .name = untilNul(fieldOf(block, name_field)),
        .prefix = if (is_posix) untilNul(fieldOf(block, prefix_field)) else "",
        .size = size,
        .kind = block[kind_start],
    };
}

pub fn isZero(bytes: []const u8) bool {
    return std.mem.allEqual(u8, bytes, 0);
}

/// The bytes of the size field, for messages.
pub fn rawSize(block: *const [block_bytes]u8) []const u8 {
    return fieldOf(block, size_field);
}

/// Size of a payload with the padding that fills its last block; null when that
/// is beyond 64 bits.
pub fn paddedSize(size: u64) ?u64 {
    const up = std.math.add(u64, size, block_bytes - 1) catch return null;
    return up & ~@as(u64, block_bytes - 1);
}

/// The sum of all bytes with the checksum field read as spaces. Some old
/// writers summed signed bytes; both are right.
fn checksumMatches(block: *const [block_bytes]u8) bool {
    const field = fieldOf(block, checksum_field);
    const stored = parseChecksum(field) orelse return false;
    var sum: u32 = checksum_field.size * ' ';
    sum += sumOf(block);
    for (field) |byte| sum -= byte;
    if (stored == sum) return true;
    var high_count: u32 = 0;
    for (block) |byte| high_count += byte >> 7;
    for (field) |byte| high_count -= byte >> 7;
    const signed_sum = @as(i64, sum) - 256 * @as(i64, high_count);
    return signed_sum >= 0 and stored == @as(u64, @intCast(signed_sum));
}

/// The sum of the bytes. Half of indexing tiny members was this, byte by byte;
/// this form becomes one instruction for 16 bytes on x86.
fn sumOf(block: *const [block_bytes]u8) u32 {
    const step = 64;
    var sum: u32 = 0;
    inline for (0..block_bytes / step) |i| {
        const bytes: @Vector(step, u8) = block[i * step ..][0..step].*;
        sum += @reduce(.Add, @as(@Vector(step, u32), bytes));
    }
    return sum;
}

/// Today's writers all put six digits, NUL and a space.
fn parseChecksum(field: *const [checksum_field.size]u8) ?u64 {
    if (field[6] == 0) if (octal8("00".* ++ field[0..6].*)) |value| return value;
    return parseNumber(field) catch null;
}

/// As `parseNumber`, which takes all that is not eleven digits and an end.
fn parseSize(field: *const [size_field.size]u8) error{ BadNumber, Negative }!u64 {
    switch (field[11]) {
        0, ' ' => {
            const high = octal8(field[0..8].*) orelse return parseNumber(field);
            const low = octal8(field[3..11].*) orelse return parseNumber(field);
            return (@as(u64, high) << 9) | (low & 0o777);
        },
        else => return parseNumber(field),
    }
}

/// Eight octal digits at once: pairs of digits are joined, then pairs of pairs.
fn octal8(digits: [8]u8) ?u32 {
    var value = std.mem.readInt(u64, &digits, .little);
    if (value & 0xf8f8f8f8f8f8f8f8 != 0x3030303030303030) return null;
    value &= 0x0707070707070707;
    value = (value << 3 | value >> 8) & 0x003f003f003f003f;
    value = (value << 6 | value >> 16) & 0x00000fff00000fff;
    return @truncate((value << 12 | value >> 32) & 0xffffff);
}

/// Octal text, padded with spaces or NULs, or, when the top bit is set, a
/// big-endian two's complement number ("base-256").
pub fn parseNumber(field: []const u8) error{ BadNumber, Negative }!u64 {
    if (field[0] & 0x80 != 0) return parseBase256(field);
    const text = std.mem.trim(u8, untilNul(field), " \t");
    if (text.len > 0 and text[0] == '-') return error.Negative;
    var value: u64 = 0;
    for (text) |byte| {
        if (byte < '0' or byte > '7') return error.BadNumber;
        value = std.math.mul(u64, value, 8) catch return error.BadNumber;
        value |= byte - '0';
    }
    return value;
}

fn parseBase256(field: []const u8) error{ BadNumber, Negative }!u64 {
    if (field[0] & 0x40 != 0) return error.Negative;
    var value: u64 = field[0] & 0x3f;
    for (field[1..]) |byte| {
        if (value >> 56 != 0) return error.BadNumber;
        value = value << 8 | byte;
    }
    return value;
}

fn fieldOf(block: *const [block_bytes]u8, comptime field: Field) *const [field.size]u8 {
    return block[field.start..][0..field.size];
}

pub fn untilNul(bytes: []const u8) []const u8 {
    return bytes[0 .. std.mem.indexOfScalar(u8, bytes, 0) orelse bytes.len];
}

/// A header as a test wants it, with a right checksum.
pub fn testBlock(name: []const u8, kind: u8, size: u64) [block_bytes]u8 {
    var block: [block_bytes]u8 = @splat(0);
    @memcpy(block[0..name.len], name);
    _ = std.fmt.bufPrint(block[124..135], "{o:0>11}", .{size}) catch unreachable; // Tests keep to 8 GiB.
    block[kind_start] = kind;
    @memcpy(block[257..265], "ustar\x0000");
    testSeal(&block);
    return block;
}

/// Put the right checksum into a block that a test has changed.
pub fn testSeal(block: *[block_bytes]u8) void {
    @memset(block[148..156], ' ');
    var sum: u32 = 0;
    for (block) |byte| sum += byte;
    _ = std.fmt.bufPrint(block[148..154], "{o:0>6}", .{sum}) catch unreachable; // At most 0o377000.
    block[154] = 0;
}

test "an ordinary header" {
    const header = try Header.parse(&testBlock("a.jpg", '0', 1234));
    try std.testing.expectEqualStrings("a.jpg", header.name);
    try std.testing.expectEqual(1234, header.size);
    try std.testing.expectEqual('0', header.kind);
}

test "a name that fills its field, with a prefix" {
    var block = testBlock("n" ** 100, '0', 0);
    @memcpy(block[345..350], "dir/x");
    testSeal(&block);
    const header = try Header.parse(&block);
    try std.testing.expectEqual(100, header.name.len);
    try std.testing.expectEqualStrings("dir/x", header.prefix);
    @memcpy(block[257..265], "ustar  \x00");
    testSeal(&block);
    try std.testing.expectEqualStrings("", (try Header.parse(&block)).prefix);
}

test "the checksum may be of signed bytes, and must match" {
    var block = testBlock("\xe9\xe8.jpg", '0', 0);
    var sum: i64 = 0;
    @memset(block[148..156], ' ');
    for (block) |byte| sum += @as(i8, @bitCast(byte));
    _ = try std.fmt.bufPrint(block[148..154], "{o:0>6}", .{@as(u64, @intCast(sum))});
    _ = try Header.parse(&block);
    block[0] += 1;
    try std.testing.expectError(error.BadChecksum, Header.parse(&block));
}

test "numbers as writers put them, and as they must not" {
    try std.testing.expectEqual(8, parseNumber("00000000010\x00"));
    try std.testing.expectEqual(8, parseNumber("         10 "));
    try std.testing.expectEqual(8, parseNumber("10 \x00garbage."));
    try std.testing.expectEqual(0, parseNumber(&@as([12]u8, @splat(0))));
    try std.testing.expectEqual(0o777777777777, parseNumber("777777777777"));
    try std.testing.expectEqual(9 << 30, parseNumber("\x80\x00\x00\x00\x00\x00\x00\x02\x40\x00\x00\x00"));
    try std.testing.expectError(error.BadNumber, parseNumber("\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"));
    try std.testing.expectError(error.Negative, parseNumber("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"));
    try std.testing.expectError(error.Negative, parseNumber("-0000000001\x00"));
    try std.testing.expectError(error.BadNumber, parseNumber("0000000009\x00\x00"));
    try std.testing.expectError(error.BadNumber, parseNumber("1 1         "));
}

test "numbers in their usual form are read as all others are" {
    var prng: std.Random.DefaultPrng = .init(1);
    const random = prng.random();
    for (0..20_000) |_| {
        var field: [12]u8 = undefined;
        const bytes = "0123456701234567012345670123456701234567\x00 89-\x80/\t";
        for (&field) |*byte| byte.* = if (random.uintLessThan(u8, 30) == 0) bytes[random.uintLessThan(usize, bytes.len)] else '0' + random.uintLessThan(u8, 8);
        if (random.boolean()) field[11] = 0;
        if (random.boolean()) field[6] = 0;
        try std.testing.expectEqual(parseNumber(&field), parseSize(&field));
        const checksum: ?u64 = parseNumber(field[0..8]) catch null;
        try std.testing.expectEqual(checksum, parseChecksum(field[0..8]));
    }
}

test "the sum of the bytes" {
    var block: [block_bytes]u8 = @splat(0xff);
    try std.testing.expectEqual(512 * 255, sumOf(&block));
    for (&block, 0..) |*byte, i| byte.* = @truncate(i *% 37);
    var sum: u32 = 0;
    for (block) |byte| sum += byte;
    try std.testing.expectEqual(sum, sumOf(&block));
}
