//! Queries: which part of a JSON document a metadata rule wants.
//!
//!     .            the whole document
//!     .a.b         member b of member a
//!     .a[0]        the first element of a
//!
//! Documents are msgpack here, made by `utix/json.zig`.

const std = @import("std");
const Allocator = std.mem.Allocator;
const limits = @import("../base/limits.zig");
const Reader = @import("../msgpack/Reader.zig");

pub const Step = union(enum) { name: []const u8, index: u32 };

pub const Query = struct {
    text: []const u8,
    steps: []const Step,

    /// What it selects, null when there is no such thing.
    pub fn select(query: Query, document: []const u8) ?[]const u8 {
        return find(query.steps, document) catch null;
    }
};

/// `text` must outlive the query.
pub fn parse(arena: Allocator, text: []const u8) error{ BadQuery, OutOfMemory }!Query {
    if (text.len == 0 or text.len > limits.key_bytes_max or text[0] != '.') return error.BadQuery;
    var steps: std.ArrayList(Step) = .empty;
    var at: usize = if (text.len == 1) 1 else 0;
    while (at < text.len) {
        if (text[at] == '.' and at + 1 < text.len and text[at + 1] == '[') at += 1;
        const start = at + 1;
        switch (text[at]) {
            '.' => {
                at = std.mem.indexOfAnyPos(u8, text, start, ".[") orelse text.len;
                if (at == start) return error.BadQuery;
                try steps.append(arena, .{ .name = text[start..at] });
            },
            '[' => {
                const close = std.mem.indexOfScalarPos(u8, text, start, ']') orelse return error.BadQuery;
                for (text[start..close]) |byte| if (!std.ascii.isDigit(byte)) return error.BadQuery;
                const index = std.fmt.parseInt(u32, text[start..close], 10) catch return error.BadQuery;
                try steps.append(arena, .{ .index = index });
                at = close + 1;
            },
            else => return error.BadQuery,
        }
    }
    return .{ .text = text, .steps = try steps.toOwnedSlice(arena) };
}

/// An error of the reader means: not there, for the document is of another form.
fn find(steps: []const Step, document: []const u8) Reader.Error!?[]const u8 {
    var value = document;
    for (steps) |step| {
        var reader: Reader = .{ .bytes = value };
        value = switch (step) {
            .name => |name| try reader.member(name),
            .index => |index| try element(&reader, index),
        } orelse return null;
    }
    return value;
}

fn element(reader: *Reader, index: u32) Reader.Error!?[]const u8 {
    if (index >= try reader.array()) return null;
    for (0..index) |_| _ = try reader.skip();
    return try reader.skip();
}

fn expectSelect(wanted: ?[]const u8, text: []const u8) !void {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    const query = try parse(arena.allocator(), text);
    // {"a": {"b": [1, 2]}, "c": null, "a b": 3}
    const got = query.select("\x83\xa1a\x81\xa1b\x92\x01\x02\xa1c\xc0\xa3a b\x03");
    if (wanted) |bytes| try std.testing.expectEqualStrings(bytes, got.?) else try std.testing.expectEqual(null, got);
}

test "what queries select" {
    try expectSelect("\x92\x01\x02", ".a.b");
    try expectSelect("\x02", ".a.b[1]");
    try expectSelect("\x03", ".a b");
    try expectSelect("\xc0", ".c");
    try expectSelect(null, ".a.b[2]");
    try expectSelect(null, ".a.x");
    try expectSelect(null, ".c.x");
    try expectSelect(null, ".a[0]");
    try expectSelect(null, ".[0]");
    try expectSelect("\x83\xa1a\x81\xa1b\x92\x01\x02\xa1c\xc0\xa3a b\x03", ".");
}

test "what is no query" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    for ([_][]const u8{ "", "a", ".a.", "..a", ".a[", ".a[]", ".a[x]", ".a[-1]", ".a[0]b", ".a[99999999999]", ".a[1_0]", "[0]" }) |text| {
        try std.testing.expectError(error.BadQuery, parse(arena.allocator(), text));
    }
}
