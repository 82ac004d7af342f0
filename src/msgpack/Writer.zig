//! Writes msgpack to a growing buffer, each value in its smallest form. What is
//! called `put` needs room that `reserve` made, for whoever writes much.
const Writer = @This();

const std = @import("std");
const Allocator = std.mem.Allocator;

gpa: Allocator,
out: *std.ArrayList(u8),

pub const Error = Allocator.Error;

/// The largest header of a string, array or map.
pub const header_bytes_max = 5;
/// The largest number.
pub const number_bytes_max = 9;

/// Make room for `size` bytes that are `put` then.
pub fn reserve(writer: Writer, size: usize) Error!void {
    try writer.out.ensureUnusedCapacity(writer.gpa, size);
}

pub fn nil(writer: Writer) Error!void {
    try writer.out.append(writer.gpa, 0xc0);
}

pub fn boolean(writer: Writer, value: bool) Error!void {
    try writer.out.append(writer.gpa, if (value) 0xc3 else 0xc2);
}

pub fn uint(writer: Writer, value: u64) Error!void {
    try writer.reserve(number_bytes_max);
    writer.putUint(value);
}

pub fn putUint(writer: Writer, value: u64) void {
    if (value < 0x80) return writer.putBytes(1, .{@intCast(value)});
    if (value <= std.math.maxInt(u8)) return writer.putTagged(0xcc, u8, @intCast(value));
    if (value <= std.math.maxInt(u16)) return writer.putTagged(0xcd, u16, @intCast(value));
    if (value <= std.math.maxInt(u32)) return writer.putTagged(0xce, u32, @intCast(value));
    return writer.putTagged(0xcf, u64, value);
}

pub fn int(writer: Writer, value: i64) Error!void {
    if (value >= 0) return writer.uint(@intCast(value));
    if (value >= -32) return writer.out.append(writer.gpa, @bitCast(@as(i8, @intCast(value))));
    if (value >= std.math.minInt(i8)) return writer.tagged(0xd0, i8, @intCast(value));
    if (value >= std.math.minInt(i16)) return writer.tagged(0xd1, i16, @intCast(value));
    if (value >= std.math.minInt(i32)) return writer.tagged(0xd2, i32, @intCast(value));
    return writer.tagged(0xd3, i64, value);
}

pub fn float(writer: Writer, value: f64) Error!void {
    try writer.tagged(0xcb, u64, @bitCast(value));
}

pub fn str(writer: Writer, bytes: []const u8) error{ OutOfMemory, TooLong }!void {
    try writer.reserve(header_bytes_max + bytes.len);
    try writer.putStr(bytes);
}

pub fn putStr(writer: Writer, bytes: []const u8) error{TooLong}!void {
    const size = std.math.cast(u32, bytes.len) orelse return error.TooLong;
    if (size < 32) {
        writer.putBytes(1, .{0xa0 | @as(u8, @intCast(size))});
    } else {
        var header: [header_bytes_max]u8 = undefined;
        writer.out.appendSliceAssumeCapacity(strHeader(&header, size));
    }
    writer.out.appendSliceAssumeCapacity(bytes);
}

/// Bytes that are known now, so that no copying function is called for them.
pub fn putBytes(writer: Writer, comptime size: usize, bytes: [size]u8) void {
    writer.out.addManyAsArrayAssumeCapacity(size).* = bytes;
}

pub fn array(writer: Writer, count: u32) Error!void {
    try writer.reserve(header_bytes_max);
    writer.putArray(count);
}

pub fn putArray(writer: Writer, count: u32) void {
    if (count < 16) return writer.putBytes(1, .{0x90 | @as(u8, @intCast(count))});
    var header: [header_bytes_max]u8 = undefined;
    writer.out.appendSliceAssumeCapacity(arrayHeader(&header, count));
}

pub fn map(writer: Writer, count: u32) Error!void {
    var header: [header_bytes_max]u8 = undefined;
    try writer.out.appendSlice(writer.gpa, mapHeader(&header, count));
}

/// A value that is msgpack already.
pub fn raw(writer: Writer, bytes: []const u8) Error!void {
    try writer.out.appendSlice(writer.gpa, bytes);
}

pub fn strHeader(buffer: *[header_bytes_max]u8, size: u32) []const u8 {
    if (size < 32) return fill(buffer, 0xa0 | @as(u8, @intCast(size)), u0, 0);
    if (size <= std.math.maxInt(u8)) return fill(buffer, 0xd9, u8, @intCast(size));
    if (size <= std.math.maxInt(u16)) return fill(buffer, 0xda, u16, @intCast(size));
    return fill(buffer, 0xdb, u32, size);
}

pub fn arrayHeader(buffer: *[header_bytes_max]u8, count: u32) []const u8 {
    if (count < 16) return fill(buffer, 0x90 | @as(u8, @intCast(count)), u0, 0);
    if (count <= std.math.maxInt(u16)) return fill(buffer, 0xdc, u16, @intCast(count));
    return fill(buffer, 0xdd, u32, count);
}

pub fn mapHeader(buffer: *[header_bytes_max]u8, count: u32) []const u8 {
    if (count < 16) return fill(buffer, 0x80 | @as(u8, @intCast(count)), u0, 0);
    if (count <= std.math.maxInt(u16)) return fill(buffer, 0xde, u16, @intCast(count));
    return fill(buffer, 0xdf, u32, count);
}

fn fill(buffer: *[header_bytes_max]u8, tag: u8, comptime Int: type, value: Int) []const u8 {
    buffer[0] = tag;
    const size = @bitSizeOf(Int) / 8;
    if (size > 0) std.mem.writeInt(Int, buffer[1..][0..size], value, .big);
    return buffer[0 .. 1 + size];
}

fn tagged(writer: Writer, tag: u8, comptime Int: type, value: Int) Error!void {
    try writer.reserve(1 + @sizeOf(Int));
    writer.putTagged(tag, Int, value);
}

fn putTagged(writer: Writer, tag: u8, comptime Int: type, value: Int) void {
    const bytes = writer.out.addManyAsArrayAssumeCapacity(1 + @sizeOf(Int));
    bytes[0] = tag;
    std.mem.writeInt(Int, bytes[1..], value, .big);
}

test "the bytes that Python's msgpack gives" {
    const gpa = std.testing.allocator;
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(gpa);
    const writer: Writer = .{ .gpa = gpa, .out = &out };
    for ([_]u64{ 0, 127, 128, 255, 256, 65535, 65536, 0xffffffff, 0x100000000, std.math.maxInt(u64) }) |value| try writer.uint(value);
    for ([_]i64{ -1, -32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649, std.math.minInt(i64) }) |value| try writer.int(value);
    try writer.nil();
    try writer.boolean(true);
    try writer.boolean(false);
    try writer.float(1.5);
    try writer.str("a");
    try writer.array(2);
    try writer.map(1);
    try std.testing.expectEqualSlices(u8, "\x00\x7f\xcc\x80\xcc\xff\xcd\x01\x00\xcd\xff\xff\xce\x00\x01\x00\x00\xce\xff\xff\xff\xff" ++
        "\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xcf\xff\xff\xff\xff\xff\xff\xff\xff" ++
        "\xff\xe0\xd0\xdf\xd0\x80\xd1\xff\x7f\xd1\x80\x00\xd2\xff\xff\x7f\xff\xd2\x80\x00\x00\x00" ++
        "\xd3\xff\xff\xff\xff\x7f\xff\xff\xff\xd3\x80\x00\x00\x00\x00\x00\x00\x00" ++
        "\xc0\xc3\xc2\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xa1a\x92\x81", out.items);
}

test "headers grow with the count" {
    var buffer: [header_bytes_max]u8 = undefined;
    try std.testing.expectEqualSlices(u8, "\xbf", strHeader(&buffer, 31));
    try std.testing.expectEqualSlices(u8, "\xd9\x20", strHeader(&buffer, 32));
    try std.testing.expectEqualSlices(u8, "\xda\x01\x00", strHeader(&buffer, 256));
    try std.testing.expectEqualSlices(u8, "\xdb\x00\x01\x00\x00", strHeader(&buffer, 65536));
    try std.testing.expectEqualSlices(u8, "\x9f", arrayHeader(&buffer, 15));
    try std.testing.expectEqualSlices(u8, "\xdc\x00\x10", arrayHeader(&buffer, 16));
    try std.testing.expectEqualSlices(u8, "\xdd\x00\x01\x00\x00", arrayHeader(&buffer, 65536));
    try std.testing.expectEqualSlices(u8, "\xde\x00\x10", mapHeader(&buffer, 16));
    try std.testing.expectEqualSlices(u8, "\xdf\x00\x01\x00\x00", mapHeader(&buffer, 65536));
}
