//! URLs of objects in stores, as text.

const std = @import("std");

/// Whether a path names an object rather than a file.
pub fn isUrl(path: []const u8) bool {
    const end = std.mem.indexOf(u8, path, "://") orelse return false;
    if (end == 0 or !std.ascii.isAlphabetic(path[0])) return false;
    for (path[0..end]) |char| if (!std.ascii.isAlphanumeric(char) and char != '+' and char != '-' and char != '.') return false;
    return true;
}

/// `https://user:password@host/path?signature` without what is secret in it.
pub fn nameOf(gpa: std.mem.Allocator, url: []const u8) error{OutOfMemory}![]const u8 {
    const is_web = std.ascii.startsWithIgnoreCase(url, "http");
    const start = if (std.mem.indexOf(u8, url, "://")) |at| at + 3 else return gpa.dupe(u8, url);
    const end = std.mem.indexOfAnyPos(u8, url, start, "/?#") orelse url.len;
    const host = if (std.mem.lastIndexOfScalar(u8, url[start..end], '@')) |at| start + at + 1 else start;
    const query = if (is_web) std.mem.indexOfAnyPos(u8, url, end, "?#") orelse url.len else url.len;
    return std.mem.concat(gpa, u8, &.{ url[0..start], url[host..query] });
}

test "what is secret in a URL is not in its name" {
    const gpa = std.testing.allocator;
    for ([_][2][]const u8{
        .{ "https://user:pa%20ss@host:81/a@b/c.tar", "https://host:81/a@b/c.tar" },
        .{ "https://a@b:c@host?x@y", "https://host" },
        .{ "s3://bucket/what?/x", "s3://bucket/what?/x" },
        .{ "https://host/a.tar?signature=x#y", "https://host/a.tar" },
        .{ "s3://bucket/user@host/x", "s3://bucket/user@host/x" },
        .{ "https://token@host", "https://host" },
        .{ "a/path@x", "a/path@x" },
    }) |case| {
        const name = try nameOf(gpa, case[0]);
        defer gpa.free(name);
        try std.testing.expectEqualStrings(case[1], name);
    }
}
