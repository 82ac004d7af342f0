//! Tests of the parsers of containers, on small ones made here, and what makes them.

const std = @import("std");
const testing = std.testing;
const Diagnostics = @import("../base/Diagnostics.zig");
const crc32c = @import("../base/crc32c.zig");
const container = @import("container.zig");

/// Bytes that grow, with little-endian integers among them.
pub const Bytes = struct {
    list: std.ArrayList(u8) = .empty,

    pub fn deinit(bytes: *Bytes) void {
        bytes.list.deinit(testing.allocator);
    }

    pub fn text(bytes: *Bytes, value: []const u8) !void {
        try bytes.list.appendSlice(testing.allocator, value);
    }

    pub fn int(bytes: *Bytes, comptime T: type, value: T) !void {
        try bytes.text(std.mem.asBytes(&std.mem.nativeToLittle(T, value)));
    }

    pub fn len(bytes: *const Bytes) usize {
        return bytes.list.items.len;
    }
};

pub const payloads = [_][]const u8{ "one", "", "three and more" };

pub fn roxxel() !Bytes {
    var bytes: Bytes = .{};
    errdefer bytes.deinit();
    for (payloads) |payload| try bytes.text(payload);
    const data_size: i64 = @intCast(bytes.len());
    var end: i64 = 0;
    for (payloads) |payload| {
        end += @intCast(payload.len);
        try bytes.int(i64, end);
    }
    try bytes.int(i64, payloads.len);
    try bytes.int(i64, data_size);
    try bytes.text("ROXXEL01");
    return bytes;
}

pub fn zeroCopy() !Bytes {
    var bytes: Bytes = .{};
    errdefer bytes.deinit();
    const metadata =
        \\{"samples": [{"offset": 0, "size": 3}, {"size": 0, "offset": 3, "x": [1]},
        \\ {"offset": 3, "size": 14}], "num_samples": 3, "y": null}
    ;
    try bytes.int(u32, 0x5a434c44);
    try bytes.int(u16, 1);
    try bytes.int(u64, 24);
    try bytes.int(u64, 24 + 8 + metadata.len);
    try bytes.text("??"); // Offsets need not be tight.
    try bytes.int(u64, metadata.len);
    try bytes.text(metadata);
    for (payloads) |payload| try bytes.text(payload);
    return bytes;
}

pub fn tfRecord() !Bytes {
    var bytes: Bytes = .{};
    errdefer bytes.deinit();
    for (payloads) |payload| {
        const begin = bytes.len();
        try bytes.int(u64, payload.len);
        try bytes.int(u32, masked(bytes.list.items[begin..]));
        try bytes.text(payload);
        try bytes.int(u32, masked(payload));
    }
    return bytes;
}

pub fn masked(bytes: []const u8) u32 {
    var crc: crc32c.Crc = .{};
    crc.add(bytes);
    return crc.masked();
}

/// Members a.npy, b.npy (64-bit sizes) and c.npy (deflated); headers at the end are in
/// another order.
pub fn npz() !Bytes {
    var bytes: Bytes = .{};
    errdefer bytes.deinit();
    const names = [_][]const u8{ "a.npy", "b.npy", "c.npy" };
    var at: [3]u32 = undefined;
    for (payloads, names, &at) |payload, name, *place| {
        place.* = @intCast(bytes.len());
        try bytes.text("PK\x03\x04" ++ "\x00" ** 22);
        try bytes.int(u16, @intCast(name.len));
        try bytes.int(u16, 4);
        try bytes.text(name);
        try bytes.text("\x09\x00\x00\x00");
        try bytes.text(payload);
    }
    const begin = bytes.len();
    for ([_]usize{ 1, 0, 2 }) |i| {
        const is_large = i == 1;
        const size: u32 = if (is_large) 0xffff_ffff else @intCast(payloads[i].len);
        try bytes.text("PK\x01\x02" ++ "\x00" ** 6);
        try bytes.int(u16, if (i == 2) 8 else 0);
        try bytes.text("\x00" ** 8);
        try bytes.int(u32, size);
        try bytes.int(u32, if (i == 2) 99 else size);
        try bytes.int(u16, @intCast(names[i].len));
        try bytes.int(u16, if (is_large) 4 + 20 else 0);
        try bytes.text("\x00" ** 10);
        try bytes.int(u32, at[i]);
        try bytes.text(names[i]);
        if (!is_large) continue;
        try bytes.text("\x09\x00\x00\x00\x01\x00\x10\x00");
        for (0..2) |_| try bytes.int(u64, payloads[i].len);
    }
    const size = bytes.len() - begin;
    try bytes.text("PK\x05\x06\x00\x00\x00\x00\x03\x00");
    try bytes.int(u16, 3);
    try bytes.int(u32, @intCast(size));
    try bytes.int(u32, @intCast(begin));
    try bytes.int(u16, 2);
    try bytes.text("hi");
    return bytes;
}

pub const makers = [_]struct { container.Kind, *const fn () anyerror!Bytes }{
    .{ .roxxel, roxxel }, .{ .zero_copy, zeroCopy }, .{ .tfrecord, tfRecord }, .{ .npz, npz },
};

/// The members of a shard, as lines, or the report.
fn list(kind: container.Kind, bytes: []const u8, diag: *Diagnostics, out: *std.ArrayList(u8)) !void {
    var shard: container.Container = .init(kind, testing.allocator, "dir.v1/s-1.x", bytes.len, true);
    defer shard.deinit();
    while (try shard.want(diag)) |range| {
        const member = try shard.feed(bytes[@intCast(range.offset)..][0..range.size], diag) orelse continue;
        const payload = bytes[@intCast(member.offset)..][0..@intCast(member.size)];
        try out.print(testing.allocator, "{s}|{s}|{s}\n", .{ member.parts.stem, member.parts.key, payload });
    }
}

test "members of each container" {
    for (makers) |maker| {
        var bytes = try maker[1]();
        defer bytes.deinit();
        var out: std.ArrayList(u8) = .empty;
        defer out.deinit(testing.allocator);
        var diag: Diagnostics = .{};
        try list(maker[0], bytes.list.items, &diag, &out);
        try testing.expectEqualStrings(if (maker[0] == .npz)
            "s-1|.a.npy|one\ns-1|.b.npy|\ns-1|.c.npy.deflate|three and more\n"
        else
            "0|.bin|one\n1|.bin|\n2|.bin|three and more\n", out.items);
    }
}

test "each container cut short anywhere is an error that names a place" {
    for (makers) |maker| {
        var bytes = try maker[1]();
        defer bytes.deinit();
        for (0..bytes.len()) |size| {
            // A TFRecord file has no end: where a record ends it is whole, as in every reader.
            if (maker[0] == .tfrecord and (size == 0 or size == 19 or size == 35)) continue;
            // The payloads of a shard may be fewer than its file has, but not so here.
            var out: std.ArrayList(u8) = .empty;
            defer out.deinit(testing.allocator);
            var diag: Diagnostics = .{};
            try testing.expectError(error.BadShard, list(maker[0], bytes.list.items[0..size], &diag, &out));
            try testing.expect(std.mem.startsWith(u8, diag.message(), "dir.v1/s-1.x: at offset "));
            try testing.expectEqual(.shard_format, diag.kind);
        }
    }
}

fn expectReport(kind: container.Kind, bytes: []const u8, wanted: []const u8) !void {
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(testing.allocator);
    var diag: Diagnostics = .{};
    try testing.expectError(error.BadShard, list(kind, bytes, &diag, &out));
    if (std.mem.indexOf(u8, diag.message(), wanted) == null) {
        std.debug.print("wanted: {s}\ngot: {s}\n", .{ wanted, diag.message() });
        return error.TestUnexpectedResult;
    }
}

test "what reports say" {
    var rox = try roxxel();
    defer rox.deinit();
    const table = rox.list.items[17..];
    table[8] = 1; // The second record ends before the first.
    try expectReport(.roxxel, rox.list.items, "at offset 25: record 1 ends at 1, wanted a place from 3 to 17");
    table[8], table[16] = .{ 3, 9 };
    try expectReport(.roxxel, rox.list.items, "at offset 17: the last payload ends at 9, and the payloads at 17");
    table[24] = 4;
    try expectReport(.roxxel, rox.list.items, "the footer tells of 4 records and 17 bytes of payload, which do not fit a file of 65 bytes");
    table[31] = 0x80;
    try expectReport(.roxxel, rox.list.items, "the footer tells of -");

    var records = try tfRecord();
    defer records.deinit();
    records.list.items[32 + 8] ^= 1; // In the third payload: 19, 16 and 12 bytes are before it.
    try expectReport(.tfrecord, records.list.items, "not match");
    records.list.items[32 + 8] ^= 1;
    records.list.items[19 + 16 + 12] ^= 1;
    try expectReport(.tfrecord, records.list.items, "at offset 47: the payload of record 2 is damaged: its checksum is 0x");
    try expectReport(.tfrecord, "\x1f\x8b" ++ "\x00" ** 20, "compressed with gzip");

    var shard = try zeroCopy();
    defer shard.deinit();
    const name = std.mem.indexOf(u8, shard.list.items, "num_samples\": ").? + 14;
    shard.list.items[name] = '2';
    try expectReport(.zero_copy, shard.list.items, "at offset 32: the metadata has 2 for 'num_samples', and 3 samples");
    shard.list.items[name] = 'x';
    try expectReport(.zero_copy, shard.list.items, "the metadata is malformed JSON: wanted a JSON value, got 'x'");
    shard.list.items[4] = 2;
    try expectReport(.zero_copy, shard.list.items, "a zero-copy shard of version 2, wanted 1");
}
