//! Records to bytes, in either form of the format.

const std = @import("std");
const Allocator = std.mem.Allocator;
const Reader = @import("../msgpack/Reader.zig");
const Packer = @import("../msgpack/Writer.zig");
const format = @import("format.zig");
const json = @import("json.zig");
const Field = format.Field;

/// `TooLong`: a string beyond what msgpack can hold, which is 4 GiB.
pub const Error = error{ OutOfMemory, TooLong };

pub fn append(gpa: Allocator, out: *std.ArrayList(u8), form: format.Format, record: format.Record) Error!void {
    std.debug.assert(record.offsets.len == record.keys.len);
    std.debug.assert(record.sizes.len == record.keys.len);
    switch (form) {
        .msgpack => try appendMsgpack(.{ .gpa = gpa, .out = out }, record),
        .jsonl => try appendJson(gpa, out, record),
    }
}

fn appendMsgpack(packer: Packer, record: format.Record) Error!void {
    const count = std.math.cast(u32, record.keys.len) orelse return error.TooLong;
    const field_count: u8 = @typeInfo(Field).@"enum".fields.len;
    try packer.reserve(mostBytes(record));
    packer.putBytes(1, .{0x80 | if (record.metadata.len > 0) field_count else field_count - 1});
    putName(packer, .iidx);
    packer.putUint(record.iidx);
    putName(packer, .offset);
    packer.putUint(record.offset);
    putName(packer, .str_idx);
    try packer.putStr(record.stem);
    putName(packer, .keys);
    packer.putArray(count);
    for (record.keys) |key| try packer.putStr(key);
    putName(packer, .offsets);
    packer.putArray(count);
    for (record.offsets) |offset| packer.putUint(offset);
    putName(packer, .sizes);
    packer.putArray(count);
    for (record.sizes) |size| packer.putUint(size);
    if (record.metadata.len == 0) return;
    putName(packer, .metadata);
    try packer.raw(record.metadata);
}

/// Room for a record without its metadata. Asking once a record instead of once
/// a value makes writing twice as fast.
fn mostBytes(record: format.Record) usize {
    // The map, seven names, two numbers, and the headers of the stem and three lists.
    var total: usize = 1 + 7 * max_name + 2 * Packer.number_bytes_max + 4 * Packer.header_bytes_max + record.stem.len;
    for (record.keys) |key| total += key.len;
    return total + record.keys.len * (Packer.header_bytes_max + 2 * Packer.number_bytes_max);
}

const max_name = blk: {
    var most: usize = 0;
    for (@typeInfo(Field).@"enum".fields) |field| most = @max(most, 1 + field.name.len);
    break :blk most;
};

fn putName(packer: Packer, comptime field: Field) void {
    const name = @tagName(field);
    packer.putBytes(1 + name.len, [_]u8{0xa0 | name.len} ++ name.*);
}

fn appendJson(gpa: Allocator, out: *std.ArrayList(u8), record: format.Record) Error!void {
    try out.print(gpa, "{{\"iidx\":{d},\"offset\":{d},\"str_idx\":", .{ record.iidx, record.offset });
    try json.printString(gpa, out, record.stem);
    try out.appendSlice(gpa, ",\"keys\":[");
    for (record.keys, 0..) |key, i| {
        if (i > 0) try out.append(gpa, ',');
        try json.printString(gpa, out, key);
    }
    try out.appendSlice(gpa, "],\"offsets\":");
    try appendNumbers(gpa, out, record.offsets);
    try out.appendSlice(gpa, ",\"sizes\":");
    try appendNumbers(gpa, out, record.sizes);
    if (record.metadata.len > 0) {
        try out.appendSlice(gpa, ",\"metadata\":");
        var reader: Reader = .{ .bytes = record.metadata };
        json.print(gpa, out, &reader) catch |err| switch (err) {
            error.OutOfMemory => return error.OutOfMemory,
            // It was made from JSON, so JSON has a form for all of it.
            error.NeedMore, error.CutShort, error.WrongType, error.TooDeep => unreachable,
        };
    }
    try out.appendSlice(gpa, "}\n");
}

fn appendNumbers(gpa: Allocator, out: *std.ArrayList(u8), numbers: []const u64) Error!void {
    try out.append(gpa, '[');
    for (numbers, 0..) |number, i| {
        if (i > 0) try out.append(gpa, ',');
        try out.print(gpa, "{d}", .{number});
    }
    try out.append(gpa, ']');
}

/// A record and its bytes, which the format promises.
pub const golden = struct {
    pub const record: format.Record = .{
        .iidx = 3,
        .offset = 5120,
        .stem = "d/a",
        .keys = &.{ ".jpg", ".json" },
        .offsets = &.{ 0, 66560 },
        .sizes = &.{ 65537, 200 },
        .metadata = "\x82\xa6.width\xcd\x02\x80\xa6.label\xc0",
    };
    pub const msgpack = "\x87" ++
        "\xa4iidx\x03" ++
        "\xa6offset\xcd\x14\x00" ++
        "\xa7str_idx\xa3d/a" ++
        "\xa4keys\x92\xa4.jpg\xa5.json" ++
        "\xa7offsets\x92\x00\xce\x00\x01\x04\x00" ++
        "\xa5sizes\x92\xce\x00\x01\x00\x01\xcc\xc8" ++
        "\xa8metadata\x82\xa6.width\xcd\x02\x80\xa6.label\xc0";
    pub const jsonl =
        \\{"iidx":3,"offset":5120,"str_idx":"d/a","keys":[".jpg",".json"],"offsets":[0,66560],"sizes":[65537,200],"metadata":{".width":640,".label":null}}
    ++ "\n";
};

test "golden bytes, msgpack" {
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(std.testing.allocator);
    try append(std.testing.allocator, &out, .msgpack, golden.record);
    try std.testing.expectEqualSlices(u8, golden.msgpack, out.items);
}

test "golden bytes, jsonl" {
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(std.testing.allocator);
    try append(std.testing.allocator, &out, .jsonl, golden.record);
    try std.testing.expectEqualStrings(golden.jsonl, out.items);
}

test "without metadata there is no such field" {
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(std.testing.allocator);
    try append(std.testing.allocator, &out, .msgpack, .{ .iidx = 0, .offset = 512, .stem = "a", .keys = &.{""}, .offsets = &.{0}, .sizes = &.{0} });
    try std.testing.expectEqualSlices(u8, "\x86\xa4iidx\x00\xa6offset\xcd\x02\x00\xa7str_idx\xa1a\xa4keys\x91\xa0\xa7offsets\x91\x00\xa5sizes\x91\x00", out.items);
}
