//! Extended headers of POSIX ("pax"): records that override fields of the
//! header that follows.
//!
//!     25 path=a/name/that/is/long\n
//!     ^^ size of the record in decimal, itself and the newline included

const std = @import("std");

/// What a member's extended headers say. Slices point into the payload parsed.
pub const Overrides = struct {
    path: ?[]const u8 = null,
    size: ?u64 = null,
    /// Some `GNU.sparse.` keyword was there: the payload is not a plain range.
    sparse: bool = false,
};

pub const Error = error{ BadRecord, BadSize };

/// Parse all records. On an error `at` is the offset of the bad one in `bytes`.
/// A keyword that comes twice counts as its last; an empty value takes back.
pub fn parse(bytes: []const u8, at: *usize) Error!Overrides {
    var overrides: Overrides = .{};
    var sparse_name: ?[]const u8 = null;
    var rest = bytes;
    while (rest.len > 0) {
        at.* = bytes.len - rest.len;
        // Some writers round the payload up to a block and declare it so.
        if (std.mem.allEqual(u8, rest, 0)) break;
        const record = try takeRecord(&rest);
        if (std.mem.eql(u8, record.keyword, "path")) {
            overrides.path = if (record.value.len > 0) record.value else null;
        } else if (std.mem.eql(u8, record.keyword, "size")) {
            overrides.size = if (record.value.len > 0) try parseDecimal(record.value) else null;
        } else if (std.mem.startsWith(u8, record.keyword, "GNU.sparse.")) {
            overrides.sparse = true;
            if (std.mem.eql(u8, record.keyword, "GNU.sparse.name")) sparse_name = record.value;
        }
    }
    // `path` is a made-up name then, and messages want the real one.
    if (sparse_name) |name| overrides.path = name;
    return overrides;
}

const Record = struct { keyword: []const u8, value: []const u8 };

fn takeRecord(rest: *[]const u8) Error!Record {
    const bytes = rest.*;
    const space = std.mem.indexOfScalar(u8, bytes[0..@min(bytes.len, 21)], ' ') orelse return error.BadRecord;
    const size_wide = parseDecimal(bytes[0..space]) catch return error.BadRecord;
    const size = std.math.cast(usize, size_wide) orelse return error.BadRecord;
    if (size > bytes.len or size < space + 3) return error.BadRecord;
    if (bytes[size - 1] != '\n') return error.BadRecord;
    const body = bytes[space + 1 .. size - 1];
    const equals = std.mem.indexOfScalar(u8, body, '=') orelse return error.BadRecord;
    if (equals == 0) return error.BadRecord;
    rest.* = bytes[size..];
    return .{ .keyword = body[0..equals], .value = body[equals + 1 ..] };
}

fn parseDecimal(text: []const u8) error{BadSize}!u64 {
    if (text.len == 0) return error.BadSize;
    var value: u64 = 0;
    for (text) |byte| {
        if (!std.ascii.isDigit(byte)) return error.BadSize;
        value = std.math.mul(u64, value, 10) catch return error.BadSize;
        value = std.math.add(u64, value, byte - '0') catch return error.BadSize;
    }
    return value;
}

fn testParse(bytes: []const u8) Error!Overrides {
    var at: usize = 0;
    return parse(bytes, &at);
}

test "path and size" {
    const overrides = try testParse("12 path=a.b\n20 size=12345678901\n21 mtime=1234.567890\n");
    try std.testing.expectEqualStrings("a.b", overrides.path.?);
    try std.testing.expectEqual(12345678901, overrides.size);
    try std.testing.expect(!overrides.sparse);
}

test "values may hold newlines, equals signs and any bytes" {
    const overrides = try testParse("15 path=a\n=\xff\x00b\n");
    try std.testing.expectEqualStrings("a\n=\xff\x00b", overrides.path.?);
}

test "sparse members are known by their keywords, and by their real name" {
    const overrides = try testParse("22 GNU.sparse.major=1\n27 GNU.sparse.name=big.bin\n12 path=x/y\n");
    try std.testing.expect(overrides.sparse);
    try std.testing.expectEqualStrings("big.bin", overrides.path.?);
}

test "malformed records are errors" {
    const bad = [_][]const u8{
        "x",          "12 path=a.b",    "13 path=a.b\n",         "11 path=a.b\n",
        "0 path=a\n", "99 path=a.b\n",  "-2 path=a\n",           "12 patha.bc\n",
        "6 =abc\n",   "3 \n",           "18446744073709551616 ", "99999999999999999999999 a=b\n",
        " path=a\n",  "12 path=a.b\nx",
    };
    for (bad) |bytes| try std.testing.expectError(error.BadRecord, testParse(bytes));
    try std.testing.expectError(error.BadSize, testParse("11 size=-1\n"));
    try std.testing.expectError(error.BadSize, testParse("29 size=18446744073709551616\n"));
}
