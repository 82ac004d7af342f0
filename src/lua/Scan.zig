//! The names in a directory, or in a folder of a store, for `ultar.scandir`.
const Scan = @This();

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const Remote = @import("../io/Remote.zig");
const os = @import("../base/os.zig");

gpa: std.mem.Allocator,
dir: ?*std.c.DIR = null,
/// The directory, a slash, and the name found last.
path: std.ArrayList(u8) = .empty,
prefix_size: usize = 0,
/// Instead of all these: URLs, each with a NUL behind.
listed: ?Remote.Lent = null,
/// Bytes of them that were given.
given: usize = 0,

pub const Error = error{ ReadFailed, OutOfMemory };

pub fn open(gpa: std.mem.Allocator, path: []const u8, diag: *Diagnostics) Error!*Scan {
    const terminated = try gpa.dupeZ(u8, path);
    defer gpa.free(terminated);
    const scan = try gpa.create(Scan);
    errdefer gpa.destroy(scan);
    scan.* = .{ .gpa = gpa };
    errdefer scan.path.deinit(gpa);
    try scan.path.appendSlice(gpa, path);
    if (path.len > 0 and path[path.len - 1] != '/') try scan.path.append(gpa, '/');
    scan.prefix_size = scan.path.items.len;
    scan.dir = std.c.opendir(terminated) orelse return readFailed(path, os.errno(), diag);
    return scan;
}

/// Takes over what a store has answered, unless it fails.
pub fn ofStore(gpa: std.mem.Allocator, listed: Remote.Lent) error{OutOfMemory}!*Scan {
    const scan = try gpa.create(Scan);
    scan.* = .{ .gpa = gpa, .listed = listed };
    return scan;
}

pub fn close(scan: *Scan) void {
    if (scan.dir) |dir| _ = std.c.closedir(dir);
    if (scan.listed) |listed| listed.giveBack();
    scan.path.deinit(scan.gpa);
    scan.gpa.destroy(scan);
}

/// The next full path; valid until the next call. Null at the end.
pub fn next(scan: *Scan, diag: *Diagnostics) Error!?[]const u8 {
    if (scan.listed) |listed| return scan.nextListed(listed.bytes);
    while (true) {
        std.c._errno().* = 0; // The only way to tell the end from an error.
        const found = std.c.readdir(scan.dir.?) orelse {
            if (os.errno() == 0) return null;
            return readFailed(scan.path.items[0..scan.prefix_size], os.errno(), diag);
        };
        const name = std.mem.sliceTo(@as([*:0]const u8, @ptrCast(&found.name)), 0);
        if (std.mem.eql(u8, name, ".") or std.mem.eql(u8, name, "..")) continue;
        scan.path.shrinkRetainingCapacity(scan.prefix_size);
        try scan.path.appendSlice(scan.gpa, name);
        return scan.path.items;
    }
}

fn nextListed(scan: *Scan, names: []const u8) ?[]const u8 {
    const rest = names[scan.given..];
    const end = std.mem.indexOfScalar(u8, rest, 0) orelse return null;
    scan.given += end + 1;
    return rest[0..end];
}

fn readFailed(path: []const u8, errno: os.Errno, diag: *Diagnostics) Error {
    var buffer: [128]u8 = undefined;
    diag.set(.read, "cannot list {s}: {s}", .{ path, os.describe(errno, &buffer) });
    diag.setPath(path);
    diag.errno = errno;
    return error.ReadFailed;
}
