//! A record in the form that our writer gives it: our fields in their order,
//! with lists and strings of at most 15 elements and 31 bytes. Nearly all are
//! such. Any other is left to `RecordReader`, and so is to say what is wrong.

const std = @import("std");
const Field = @import("format.zig").Field;
const RecordReader = @import("RecordReader.zig");

/// In a list whose header is one byte.
pub const members_max = 15;

/// Read all fields but `metadata` into `record`, whose lists have room for
/// `members_max`. Null when the record is not of this form, or not whole.
pub fn read(record: *RecordReader, bytes: []const u8) ?struct { size: usize, has_metadata: bool } {
    // Each step must know where the one before ended. That place stays in a
    // register because all of this is inline and nothing else gets to see it;
    // with a `Reader` it went through memory, and reading took twice as long.
    var cursor: Cursor = .{ .rest = bytes };
    const map = cursor.take(1) orelse return null;
    if (map[0] != 0x86 and map[0] != 0x87) return null;
    if (!cursor.name(.iidx)) return null;
    record.iidx = cursor.uint() orelse return null;
    if (!cursor.name(.offset)) return null;
    record.offset = cursor.uint() orelse return null;
    if (!cursor.name(.str_idx)) return null;
    record.stem = cursor.str() orelse return null;
    if (!cursor.name(.keys)) return null;
    const likely = record.likely_keys;
    // A msgpack value is never the beginning of another, so equal bytes are an
    // equal list.
    if (likely.len > 0 and std.mem.startsWith(u8, cursor.rest, likely)) {
        record.keys = likely;
        record.keys_count = record.likely_keys_count;
        cursor.rest = cursor.rest[likely.len..];
    } else {
        const list = cursor.rest;
        record.keys_count = cursor.array() orelse return null;
        for (0..record.keys_count) |_| _ = cursor.str() orelse return null;
        record.keys = list[0 .. list.len - cursor.rest.len];
    }
    if (!cursor.name(.offsets) or !cursor.numbers(&record.offsets)) return null;
    if (!cursor.name(.sizes) or !cursor.numbers(&record.sizes)) return null;
    return .{ .size = bytes.len - cursor.rest.len, .has_metadata = map[0] == 0x87 };
}

const Cursor = struct {
    rest: []const u8,

    inline fn take(cursor: *Cursor, size: usize) ?[]const u8 {
        if (size > cursor.rest.len) return null;
        defer cursor.rest = cursor.rest[size..];
        return cursor.rest[0..size];
    }

    inline fn name(cursor: *Cursor, comptime field: Field) bool {
        const wanted: [1 + @tagName(field).len]u8 = [_]u8{0xa0 | @tagName(field).len} ++ @tagName(field).*;
        // As one integer, which is one or two instructions.
        const Name = std.meta.Int(.unsigned, 8 * wanted.len);
        const got = cursor.take(wanted.len) orelse return false;
        return @as(Name, @bitCast(got[0..wanted.len].*)) == @as(Name, @bitCast(wanted));
    }

    /// With 9 bytes at hand, the most that one takes: how wide it is is then only
    /// how far to shift.
    inline fn uint(cursor: *Cursor) ?u64 {
        if (cursor.rest.len < 9) return null;
        const tag = cursor.rest[0];
        if (tag < 0x80) {
            cursor.rest = cursor.rest[1..];
            return tag;
        }
        if (tag & 0xfc != 0xcc) return null;
        const size = @as(u8, 1) << @intCast(tag & 3);
        const value = std.mem.readInt(u64, cursor.rest[1..9], .big) >> @intCast(64 - 8 * size);
        cursor.rest = cursor.rest[1 + size ..];
        return value;
    }

    inline fn str(cursor: *Cursor) ?[]const u8 {
        const tag = (cursor.take(1) orelse return null)[0];
        if (tag & 0xe0 != 0xa0) return null;
        return cursor.take(tag & 0x1f);
    }

    inline fn array(cursor: *Cursor) ?u32 {
        const tag = (cursor.take(1) orelse return null)[0];
        return if (tag & 0xf0 == 0x90) tag & 0x0f else null;
    }

    inline fn numbers(cursor: *Cursor, list: *std.ArrayList(u64)) bool {
        const count = cursor.array() orelse return false;
        list.items.len = 0;
        const into = list.addManyAsSliceAssumeCapacity(count);
        for (into) |*number| number.* = cursor.uint() orelse return false;
        return true;
    }
};

test "what the writer makes comes back, and all but the rare is of this form" {
    const gpa = std.testing.allocator;
    const writer = @import("writer.zig");
    var prng: std.Random.DefaultPrng = .init(7);
    const random = prng.random();
    var record: RecordReader = .{ .gpa = gpa };
    defer record.deinit();
    try record.offsets.ensureTotalCapacity(gpa, members_max);
    try record.sizes.ensureTotalCapacity(gpa, members_max);
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(gpa);
    const keys: [20][]const u8 = @splat(".key");
    const stem: [40]u8 = @splat('s');
    for (0..2000) |i| {
        var values: [2][20]u64 = undefined;
        for (&values) |*list| {
            for (list) |*value| value.* = random.int(u64) >> random.int(u6) >> 1;
        }
        const count = random.uintAtMost(usize, 20);
        const stem_bytes = random.uintAtMost(usize, 40);
        out.clearRetainingCapacity();
        try writer.append(gpa, &out, .msgpack, .{ .iidx = i, .offset = values[0][19], .stem = stem[0..stem_bytes], .keys = keys[0..count], .offsets = values[0][0..count], .sizes = values[1][0..count], .metadata = if (i % 2 == 0) "\x80" else "" });
        const size = out.items.len;
        try out.appendNTimes(gpa, 0x86, 9);
        const is_usual = count <= members_max and stem_bytes < 32;
        const done = read(&record, out.items) orelse {
            try std.testing.expect(!is_usual);
            continue;
        };
        try std.testing.expect(is_usual);
        try std.testing.expectEqual(i % 2 == 0, done.has_metadata);
        try std.testing.expectEqual(size - @as(usize, if (done.has_metadata) "\xa8metadata\x80".len else 0), done.size);
        try std.testing.expectEqual(i, record.iidx);
        try std.testing.expectEqual(values[0][19], record.offset);
        try std.testing.expectEqualStrings(stem[0..stem_bytes], record.stem);
        try std.testing.expectEqual(count, record.keys_count);
        try std.testing.expectEqualSlices(u64, values[0][0..count], record.offsets.items);
        try std.testing.expectEqualSlices(u64, values[1][0..count], record.sizes.items);
        for (0..done.size) |cut| try std.testing.expect(read(&record, out.items[0..cut]) == null);
    }
}
