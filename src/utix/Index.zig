//! A whole `.utix` in memory, read from the file in one go and checked as it is
//! read. No map of the file: one that shrinks must not kill the process.
const Index = @This();

const std = @import("std");
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const limits = @import("../base/limits.zig");
const Reader = @import("../msgpack/Reader.zig");
const Columns = @import("Columns.zig");
const RecordReader = @import("RecordReader.zig");
const Source = @import("Source.zig");
const json = @import("json.zig");

gpa: Allocator,
columns: Columns,
/// Of records.
count: usize = 0,

pub const Record = Columns.Record;
pub const Error = error{ BadIndex, ReadFailed, OutOfMemory };

/// Read the index at `path`, in either form of the format. On an error the
/// report in `diag` names the file, the place and the record.
pub fn open(gpa: Allocator, path: [:0]const u8, diag: *Diagnostics) Error!*Index {
    return openLike(gpa, path, null, diag);
}

/// As `open`. Shares the memory of keys with another that is open, where they are the same.
pub fn openLike(gpa: Allocator, path: [:0]const u8, like: ?*const Index, diag: *Diagnostics) Error!*Index {
    return tryOpen(gpa, path, like, diag) catch |err| {
        if (err == error.OutOfMemory) diag.set(.memory, "{s}: out of memory while reading the index", .{path});
        return err;
    };
}

fn tryOpen(gpa: Allocator, path: [:0]const u8, like: ?*const Index, diag: *Diagnostics) Error!*Index {
    var source: Source = try .open(gpa, path, limits.index_window_bytes, diag);
    defer source.close();
    const index = try gpa.create(Index);
    index.* = .{ .gpa = gpa, .columns = .init(gpa, source.size, if (like) |other| &other.columns else null) };
    errdefer index.close();
    try index.load(&source, diag);
    try index.columns.finish();
    index.count = index.columns.count;
    return index;
}

pub fn close(index: *Index) void {
    const gpa = index.gpa;
    index.columns.deinit();
    gpa.destroy(index);
}

/// Record `i`, which must be below `count`. Valid while the index is open.
pub fn record(index: *const Index, i: usize) Record {
    return index.columns.get(i);
}

/// Have the memory of record `i`, which must be below `count`, on its way.
pub fn prefetch(index: *const Index, i: usize) void {
    index.columns.prefetchRecord(i);
}

/// A key by the id that records have for it, which must be one of those.
pub fn keyText(index: *const Index, id: u32) []const u8 {
    return index.columns.keys()[id];
}

/// Whether `keyText` knows the id.
pub fn hasKey(index: *const Index, id: u32) bool {
    return id < index.columns.keys().len;
}

fn load(index: *Index, source: *Source, diag: *Diagnostics) Error!void {
    if (source.size == 0) return fail(source.path, 0, 0, diag, "the index is empty", .{});
    try source.more(diag);
    var reader: RecordReader = .{ .gpa = index.gpa };
    defer reader.deinit();
    var shape: ?u32 = null;
    if (isJson(source.bytes()[0])) {
        var lines: Lines = .{ .gpa = index.gpa };
        defer lines.packed_record.deinit(index.gpa);
        while (try lines.next(&reader, source, index.columns.count, diag)) try index.take(&reader, &shape);
        if (index.columns.count == 0) return fail(source.path, 0, 0, diag, "the index is empty but for white space", .{});
        return;
    }
    while (try nextPacked(&reader, source, index.columns.count, diag)) try index.take(&reader, &shape);
}

/// A msgpack map never begins with these, and a line of JSON always does.
fn isJson(byte: u8) bool {
    return switch (byte) {
        '{', ' ', '\t', '\r', '\n', 0xef => true,
        else => false,
    };
}

/// Keep the record that `reader` has read, and tell it which keys are likely next.
fn take(index: *Index, reader: *RecordReader, shape: *?u32) Allocator.Error!void {
    const columns = &index.columns;
    if (shape.* == null or reader.keys.ptr != reader.likely_keys.ptr) {
        const id = try columns.shapeOf(reader.keys);
        shape.* = id;
        reader.likely_keys = columns.shapes()[id].raw;
        reader.likely_keys_count = reader.keys_count;
    }
    try columns.append(reader.iidx, reader.offset, reader.stem, shape.*.?, reader.offsets.items, reader.sizes.items, reader.metadata);
}

/// False at the end.
fn nextPacked(record_reader: *RecordReader, source: *Source, number: usize, diag: *Diagnostics) Error!bool {
    while (true) {
        var reader: Reader = .{ .bytes = source.bytes(), .more = source.rest() };
        if (reader.bytes.len == 0 and reader.more == 0) return false;
        record_reader.read(&reader) catch |err| switch (err) {
            error.OutOfMemory => return error.OutOfMemory,
            error.NeedMore => {
                try needMore(source, number, diag);
                continue;
            },
            error.BadRecord => return failRecord(source, number, source.at() + record_reader.problem_at, diag, "{s}", .{record_reader.problemText()}),
        };
        source.consume(reader.at);
        return true;
    }
}

fn needMore(source: *Source, number: usize, diag: *Diagnostics) Error!void {
    if (source.bytes().len >= limits.record_bytes_max) return failRecord(source, number, source.at(), diag, "more than {d} bytes in one record", .{limits.record_bytes_max});
    try source.more(diag);
}

/// Records of the form with a JSON object a line.
const Lines = struct {
    gpa: Allocator,
    /// The line as msgpack, which then takes the same way as everything else.
    packed_record: std.ArrayList(u8) = .empty,

    /// False at the end.
    fn next(lines: *Lines, record_reader: *RecordReader, source: *Source, number: usize, diag: *Diagnostics) Error!bool {
        while (true) {
            const bytes = source.bytes();
            const line_size = std.mem.indexOfScalar(u8, bytes, '\n') orelse blk: {
                if (source.rest() == 0) break :blk bytes.len;
                try needMore(source, number, diag);
                continue;
            };
            if (bytes.len == 0) return false;
            const line = bytes[0..line_size];
            if (std.mem.trim(u8, line, " \t\r").len > 0) {
                try lines.read(record_reader, line, source, number, diag);
                source.consume(@min(line_size + 1, bytes.len));
                return true;
            }
            source.consume(@min(line_size + 1, bytes.len));
        }
    }

    fn read(lines: *Lines, record_reader: *RecordReader, line: []const u8, source: *const Source, number: usize, diag: *Diagnostics) Error!void {
        lines.packed_record.clearRetainingCapacity();
        var parser: json.Parser = .{
            .text = line,
            .writer = .{ .gpa = lines.gpa, .out = &lines.packed_record },
            .depth_max = limits.value_depth_max + 1, // A record around the deepest metadata.
        };
        parser.parse() catch |err| switch (err) {
            error.OutOfMemory => return error.OutOfMemory,
            error.Malformed => {
                var buffer: [16]u8 = undefined;
                return failRecord(source, number, source.at() + parser.at, diag, "malformed JSON: wanted {s}, got {s}", .{ parser.wanted, parser.got(&buffer) });
            },
        };
        var reader: Reader = .{ .bytes = lines.packed_record.items };
        record_reader.read(&reader) catch |err| switch (err) {
            error.OutOfMemory => return error.OutOfMemory,
            error.NeedMore => unreachable, // Nothing follows.
            // The place in what was made of the line says nothing.
            error.BadRecord => return failRecord(source, number, source.at(), diag, "{s}", .{record_reader.problemText()}),
        };
    }
};

fn failRecord(source: *const Source, number: usize, at: u64, diag: *Diagnostics, comptime fmt: []const u8, args: anytype) error{BadIndex} {
    const size = source.size - @min(source.at(), source.size);
    return fail(source.path, source.at(), size, diag, "record {d} at offset {d}: " ++ fmt ++ " (at offset {d})", .{ number, source.at() } ++ args ++ .{at});
}

fn fail(path: []const u8, offset: u64, size: u64, diag: *Diagnostics, comptime fmt: []const u8, args: anytype) error{BadIndex} {
    diag.set(.index_format, "{s}: " ++ fmt, .{path} ++ args);
    diag.setPath(path);
    diag.setRange(offset, size);
    return error.BadIndex;
}
