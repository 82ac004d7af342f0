//! Compares an index that exists with what its shard says now.
const Checker = @This();

const std = @import("std");
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const Reader = @import("../msgpack/Reader.zig");
const quote = @import("../tar/quote.zig").quote;
const Index = @import("../utix/Index.zig");
const format = @import("../utix/format.zig");
const json = @import("../utix/json.zig");

gpa: Allocator,
/// Of the index.
path: []const u8,
index: *Index,
/// Records compared.
count: usize = 0,
/// Values as JSON, to compare them whatever width their integers have.
texts: [2]std.ArrayList(u8) = .{ .empty, .empty },

pub const Error = error{ BadIndex, OutOfMemory };

pub fn deinit(checker: *Checker) void {
    for (&checker.texts) |*text| text.deinit(checker.gpa);
    checker.index.close();
    checker.* = undefined;
}

/// Compare the next record with what the shard says it should be.
pub fn compare(checker: *Checker, wanted: format.Record, diag: *Diagnostics) Error!void {
    const i = checker.count;
    if (i == checker.index.count) return checker.differs(diag, "the index ends after {d} records, and the shard goes on with sample {f}", .{ i, quote(wanted.stem) });
    const got = checker.index.record(i);
    if (got.iidx != wanted.iidx) return checker.differsIn(diag, .iidx, "{d}", wanted.iidx, got.iidx);
    if (!std.mem.eql(u8, got.stem, wanted.stem)) return checker.differsIn(diag, .str_idx, "{f}", quote(wanted.stem), quote(got.stem));
    if (got.offset != wanted.offset) return checker.differsIn(diag, .offset, "{d}", wanted.offset, got.offset);
    if (got.keys.len != wanted.keys.len) return checker.differs(diag, "record {d}: keys: wanted {d} of them, got {d}", .{ i, wanted.keys.len, got.keys.len });
    for (wanted.keys, got.keys) |key, id| {
        const text = checker.index.keyText(id);
        if (!std.mem.eql(u8, key, text)) return checker.differsIn(diag, .keys, "{f}", quote(key), quote(text));
    }
    for (wanted.offsets, got.offsets) |a, b| if (a != b) return checker.differsIn(diag, .offsets, "{d}", a, b);
    for (wanted.sizes, got.sizes) |a, b| if (a != b) return checker.differsIn(diag, .sizes, "{d}", a, b);
    try checker.compareMetadata(wanted.metadata, got.metadata, diag);
    checker.count += 1;
}

/// After the last sample.
pub fn finish(checker: *Checker, diag: *Diagnostics) Error!void {
    if (checker.count == checker.index.count) return;
    return checker.differs(diag, "the shard has {d} samples, and the index {d} records", .{ checker.count, checker.index.count });
}

/// Every value that the rules give must be there. Without rules there is
/// nothing to compare.
fn compareMetadata(checker: *Checker, wanted: []const u8, got: []const u8, diag: *Diagnostics) Error!void {
    if (wanted.len == 0) return;
    var reader: Reader = .{ .bytes = wanted };
    const count = reader.map() catch unreachable; // Made by `Selector`, like all below.
    for (0..count) |_| {
        const text = reader.str() catch unreachable;
        const value = reader.skip() catch unreachable;
        var stored: Reader = .{ .bytes = if (got.len > 0) got else "\x80" };
        const found = stored.member(text) catch null;
        if (found) |other| if (try checker.sameValue(value, other)) continue;
        const a = try checker.show(0, value);
        const b = if (found) |other| try checker.show(1, other) else "nothing";
        return checker.differs(diag, "record {d}: metadata {f}: wanted {s}, got {s}", .{ checker.count, quote(text), a, b });
    }
}

fn sameValue(checker: *Checker, a: []const u8, b: []const u8) Allocator.Error!bool {
    if (std.mem.eql(u8, a, b)) return true;
    return std.mem.eql(u8, try checker.show(0, a), try checker.show(1, b));
}

fn show(checker: *Checker, which: u1, value: []const u8) Allocator.Error![]const u8 {
    const text = &checker.texts[which];
    text.clearRetainingCapacity();
    var reader: Reader = .{ .bytes = value };
    json.print(checker.gpa, text, &reader) catch |err| switch (err) {
        error.OutOfMemory => return error.OutOfMemory,
        error.NeedMore, error.CutShort, error.WrongType, error.TooDeep => return "something that JSON has no form for",
    };
    return text.items;
}

fn differsIn(checker: *const Checker, diag: *Diagnostics, field: format.Field, comptime form: []const u8, wanted: anytype, got: anytype) error{BadIndex} {
    return checker.differs(diag, "record {d}: {t}: wanted " ++ form ++ ", got " ++ form, .{ checker.count, field, wanted, got });
}

fn differs(checker: *const Checker, diag: *Diagnostics, comptime fmt: []const u8, args: anytype) error{BadIndex} {
    diag.set(.index_format, "{s}: differs from the shard: " ++ fmt, .{checker.path} ++ args);
    diag.setPath(checker.path);
    return error.BadIndex;
}
