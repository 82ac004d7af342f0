//! One record of an index, from msgpack: fields in any order, unknown ones
//! passed over, every one of ours checked.
const RecordReader = @This();

const std = @import("std");
const Allocator = std.mem.Allocator;
const limits = @import("../base/limits.zig");
const Reader = @import("../msgpack/Reader.zig");
const Field = @import("format.zig").Field;
const usual = @import("usual.zig");

gpa: Allocator,

// Of the record read last. Slices of bytes point into what it was read from.
iidx: u64 = 0,
offset: u64 = 0,
stem: []const u8 = "",
/// The list of keys as it stands there; its strings are known to be whole.
keys: []const u8 = "",
keys_count: u32 = 0,
offsets: std.ArrayList(u64) = .empty,
sizes: std.ArrayList(u64) = .empty,
/// A msgpack map, empty when there is none.
metadata: []const u8 = "",

/// A list of keys that is likely to come, with its count: usually the one of
/// the record before.
likely_keys: []const u8 = "",
likely_keys_count: u32 = 0,

/// Of `BadRecord`: what, and where in the reader's bytes.
problem: [problem_bytes_max]u8 = undefined,
problem_len: usize = 0,
problem_at: usize = 0,

const problem_bytes_max = 512;

pub const Error = error{ BadRecord, NeedMore, OutOfMemory };

const Seen = std.enums.EnumSet(Field);
const required: Seen = Seen.initFull().differenceWith(.initOne(.metadata));

pub fn deinit(record: *RecordReader) void {
    record.offsets.deinit(record.gpa);
    record.sizes.deinit(record.gpa);
    record.* = undefined;
}

/// Read the record at `reader.at`. After `NeedMore` start again at the same
/// place with more bytes.
pub fn read(record: *RecordReader, reader: *Reader) Error!void {
    const start = reader.at;
    if (try record.readUsual(reader)) return record.check(start);
    reader.at = start;
    const field_count = reader.map() catch |err| return record.explain(reader, err, "the record", "a map");
    record.metadata = "";
    var seen: Seen = .initEmpty();
    for (0..field_count) |i| {
        const name_at = reader.at;
        const field = takeLikelyName(reader, i) orelse blk: {
            const name = reader.str() catch |err| return record.explain(reader, err, "the name of a field", "a string");
            break :blk std.meta.stringToEnum(Field, name) orelse {
                _ = reader.skip() catch |err| return record.explain(reader, err, "the value of an unknown field", "a value");
                continue;
            };
        };
        if (seen.contains(field)) return record.bad(name_at, "field {t} is there twice", .{field});
        seen.insert(field);
        record.readField(reader, field) catch |err| switch (err) {
            error.OutOfMemory, error.BadRecord => |e| return e,
            error.NeedMore, error.CutShort, error.WrongType, error.TooDeep => |e| return record.explain(reader, e, @tagName(field), wantedOf(field)),
        };
    }
    if (!required.subsetOf(seen)) {
        var missing = required.differenceWith(seen).iterator();
        return record.bad(start, "field {t} is missing", .{missing.next().?}); // Not empty: see the line above.
    }
    try record.check(start);
}

/// False for what is not in the usual form, and for what is wrong or not whole.
fn readUsual(record: *RecordReader, reader: *Reader) Allocator.Error!bool {
    if (record.sizes.capacity < usual.members_max) {
        try record.offsets.ensureTotalCapacity(record.gpa, usual.members_max);
        try record.sizes.ensureTotalCapacity(record.gpa, usual.members_max);
    }
    const done = usual.read(record, reader.bytes[reader.at..]) orelse return false;
    reader.at += done.size;
    record.metadata = "";
    if (!done.has_metadata) return true;
    if (takeLikelyName(reader, @intFromEnum(Field.metadata)) != .metadata) return false;
    record.readField(reader, .metadata) catch |err| switch (err) {
        error.OutOfMemory => return error.OutOfMemory,
        error.BadRecord, error.NeedMore, error.CutShort, error.WrongType, error.TooDeep => return false,
    };
    return true;
}

fn readField(record: *RecordReader, reader: *Reader, field: Field) (Reader.Error || error{ OutOfMemory, BadRecord })!void {
    switch (field) {
        .iidx => record.iidx = try reader.uint(),
        .offset => record.offset = try reader.uint(),
        .str_idx => record.stem = try reader.str(),
        .keys => try record.readKeys(reader),
        .offsets => try record.readNumbers(reader, &record.offsets),
        .sizes => try record.readNumbers(reader, &record.sizes),
        .metadata => {
            const at = reader.at;
            const kind = try reader.peek();
            if (kind != .map and kind != .nil) return error.WrongType;
            const value = try reader.skip();
            if (kind == .map) {
                std.debug.assert(reader.at == at + value.len);
                record.metadata = value;
            }
        },
    }
}

fn readKeys(record: *RecordReader, reader: *Reader) (Reader.Error || error{BadRecord})!void {
    // A msgpack value is never the beginning of another, so equal bytes are an
    // equal list.
    const likely = record.likely_keys;
    if (likely.len > 0 and std.mem.startsWith(u8, reader.bytes[reader.at..], likely)) {
        record.keys = likely;
        record.keys_count = record.likely_keys_count;
        reader.at += likely.len;
        return;
    }
    const start = reader.at;
    const count = try reader.array();
    if (count > limits.record_members_max) return record.badCount(start, count);
    for (0..count) |_| _ = try reader.str();
    record.keys = reader.bytes[start..reader.at];
    record.keys_count = count;
}

fn readNumbers(record: *RecordReader, reader: *Reader, numbers: *std.ArrayList(u64)) (Reader.Error || error{ OutOfMemory, BadRecord })!void {
    const start = reader.at;
    const count = try reader.array();
    if (count > limits.record_members_max) return record.badCount(start, count);
    // Each takes a byte or more, so a count that lies ends the loop, and what
    // is reserved for it stays in proportion.
    if (count > reader.bytes.len - reader.at) return if (reader.more > 0) error.NeedMore else error.CutShort;
    numbers.items.len = 0; // Clearing would fill the memory in safe builds, for each record.
    try numbers.ensureTotalCapacity(record.gpa, count);
    numbers.items.len = count;
    for (numbers.items) |*number| number.* = try reader.uint();
}

/// The fields of a record must fit each other.
fn check(record: *RecordReader, start: usize) error{BadRecord}!void {
    const offsets = record.offsets.items;
    const sizes = record.sizes.items;
    if (offsets.len != record.keys_count or sizes.len != record.keys_count) return record.bad(start, "keys, offsets and sizes must be as many, got {d}, {d} and {d}", .{ record.keys_count, offsets.len, sizes.len });
    for (offsets, sizes, 0..) |offset, size, i| {
        const from, const start_overflows = @addWithOverflow(record.offset, offset);
        _, const end_overflows = @addWithOverflow(from, size);
        if (start_overflows | end_overflows != 0) return record.bad(start, "member {d} ends beyond 2^64: offset {d}, offsets {d}, sizes {d}", .{ i, record.offset, offset, size });
    }
}

/// The name that writers put in place `i`, where it is that: most names are, and
/// comparing with one is faster than looking among all.
fn takeLikelyName(reader: *Reader, i: usize) ?Field {
    const rest = reader.bytes[reader.at..];
    switch (i) {
        inline 0...@typeInfo(Field).@"enum".fields.len - 1 => |place| {
            const field: Field = @enumFromInt(place);
            const name: [1 + @tagName(field).len]u8 = [_]u8{0xa0 | @tagName(field).len} ++ @tagName(field).*;
            // As one integer, which is one or two instructions.
            const Name = std.meta.Int(.unsigned, 8 * name.len);
            if (rest.len < name.len) return null;
            if (@as(Name, @bitCast(rest[0..name.len].*)) != @as(Name, @bitCast(name))) return null;
            reader.at += name.len;
            return field;
        },
        else => return null,
    }
}

fn wantedOf(field: Field) []const u8 {
    return switch (field) {
        .iidx, .offset => "an unsigned integer",
        .str_idx => "a string",
        .keys => "an array of strings",
        .offsets, .sizes => "an array of unsigned integers",
        .metadata => "a map",
    };
}

fn explain(record: *RecordReader, reader: *const Reader, err: Reader.Error, what: []const u8, wanted: []const u8) Error {
    return switch (err) {
        error.NeedMore => error.NeedMore,
        error.CutShort => record.bad(reader.at, "cut short in {s}: wanted {s}, and there is less than that in the file", .{ what, wanted }),
        error.TooDeep => record.bad(reader.at, "{s} nests deeper than {d}", .{ what, limits.value_depth_max }),
        error.WrongType => record.bad(reader.at, "{s}: wanted {s}, got {s}", .{ what, wanted, describeNext(reader) }),
    };
}

fn describeNext(reader: *const Reader) []const u8 {
    const kind = reader.peek() catch return "less";
    return kind.describe();
}

fn badCount(record: *RecordReader, at: usize, count: u32) error{BadRecord} {
    return record.bad(at, "a list of {d} elements, wanted at most {d}", .{ count, limits.record_members_max });
}

fn bad(record: *RecordReader, at: usize, comptime fmt: []const u8, args: anytype) error{BadRecord} {
    var out: std.Io.Writer = .fixed(&record.problem);
    out.print(fmt, args) catch {}; // Cut when too long.
    record.problem_len = out.end;
    record.problem_at = at;
    return error.BadRecord;
}

pub fn problemText(record: *const RecordReader) []const u8 {
    return record.problem[0..record.problem_len];
}

const golden = @import("writer.zig").golden;

test "the golden record" {
    var record: RecordReader = .{ .gpa = std.testing.allocator };
    defer record.deinit();
    var reader: Reader = .{ .bytes = golden.msgpack };
    try record.read(&reader);
    try std.testing.expectEqual(golden.msgpack.len, reader.at);
    try std.testing.expectEqual(golden.record.iidx, record.iidx);
    try std.testing.expectEqual(golden.record.offset, record.offset);
    try std.testing.expectEqualStrings(golden.record.stem, record.stem);
    try std.testing.expectEqualStrings("\x92\xa4.jpg\xa5.json", record.keys);
    try std.testing.expectEqualSlices(u64, golden.record.offsets, record.offsets.items);
    try std.testing.expectEqualSlices(u64, golden.record.sizes, record.sizes.items);
    try std.testing.expectEqualStrings(golden.record.metadata, record.metadata);
}

test "a record that is not all there asks for more, at every cut" {
    var record: RecordReader = .{ .gpa = std.testing.allocator };
    defer record.deinit();
    for (0..golden.msgpack.len) |size| {
        var reader: Reader = .{ .bytes = golden.msgpack[0..size], .more = golden.msgpack.len - size };
        try std.testing.expectError(error.NeedMore, record.read(&reader));
        reader = .{ .bytes = golden.msgpack[0..size] };
        try std.testing.expectError(error.BadRecord, record.read(&reader));
    }
}

test "any order, any width, unknown fields" {
    var record: RecordReader = .{ .gpa = std.testing.allocator };
    defer record.deinit();
    var reader: Reader = .{ .bytes = "\x88\xa5extra\x91\x81\x01\xc0\xa5sizes\x91\xd3\x00\x00\x00\x00\x00\x00\x00\x05" ++
        "\xa7offsets\xdc\x00\x01\xcf\x00\x00\x00\x00\x00\x00\x00\x00\xa4keys\xdd\x00\x00\x00\x01\xd9\x01." ++
        "\xa8metadata\xc0\xa7str_idx\xc4\x01a\xa6offset\xcf\xff\xff\xff\xff\xff\xff\xff\xf0\xa4iidx\xd0\x07" };
    try record.read(&reader);
    try std.testing.expectEqual(7, record.iidx);
    try std.testing.expectEqual(5, record.sizes.items[0]);
    try std.testing.expectEqual(std.math.maxInt(u64) - 15, record.offset);
    try std.testing.expectEqualStrings("", record.metadata);
}

test "what is wrong is said" {
    var record: RecordReader = .{ .gpa = std.testing.allocator };
    defer record.deinit();
    const good = "\xa7str_idx\xa1a\xa4keys\x91\xa0\xa5sizes\x91\x01\xa4iidx\x00";
    const cases = [_]struct { []const u8, []const u8 }{
        .{ "\x05", "the record: wanted a map, got an unsigned integer" },
        .{ "\x81\x01\x02", "the name of a field: wanted a string" },
        .{ "\x86" ++ good ++ "\xa6offset\x01\xa7offsets\x91\xff", "offsets: wanted an array of unsigned integers, got a negative integer" },
        .{ "\x86" ++ good ++ "\xa6offset\xca\x00\x00\x00\x00\xa7offsets\x91\x00", "offset: wanted an unsigned integer, got a float" },
        .{ "\x86" ++ good ++ "\xa6offset\x01\xa7offsets\x90", "must be as many, got 1, 0 and 1" },
        .{ "\x86" ++ good ++ "\xa6offset\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa7offsets\x91\x00", "ends beyond 2^64" },
        .{ "\x85" ++ good ++ "\xa6offset\x01", "field offsets is missing" },
        .{ "\x81\xa1x" ++ "\x91" ** 2000, "nests deeper" },
        .{ "\x82\xa4iidx\x00\xa4iidx\x00", "field iidx is there twice" },
        .{ "\x81\xa4keys\xdd\xff\xff\xff\xff", "cut short in keys" },
    };
    for (cases) |case| {
        var reader: Reader = .{ .bytes = case[0] };
        try std.testing.expectError(error.BadRecord, record.read(&reader));
        errdefer std.debug.print("{s}\n", .{record.problemText()});
        try std.testing.expect(std.mem.indexOf(u8, record.problemText(), case[1]) != null);
    }
}
