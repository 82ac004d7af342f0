//! An index on its way to disk: a temporary file beside its final place, which
//! takes that place whole or not at all.
const Output = @This();

const std = @import("std");
const c = std.c;
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const os = @import("../base/os.zig");

gpa: Allocator,
fd: os.fd_t,
path: [:0]u8,
temporary: [:0]u8,
pending: std.ArrayList(u8) = .empty,

pub const Error = error{ WriteFailed, OutOfMemory };

const pending_bytes = 256 * 1024;
/// Names are unique within a process; leftovers of others are passed over.
const attempts_max = 100;
var name_counter: std.atomic.Value(u32) = .init(0);

/// Begin the index that will lie at `index_path`.
pub fn create(gpa: Allocator, index_path: []const u8, diag: *Diagnostics) Error!Output {
    const path = try gpa.dupeZ(u8, index_path);
    errdefer gpa.free(path);
    const dir = index_path[0..if (std.mem.lastIndexOfScalar(u8, index_path, '/')) |slash| slash + 1 else 0];
    for (0..attempts_max) |_| {
        // Short, since the shard's name may be as long as names can be.
        const number = name_counter.fetchAdd(1, .monotonic);
        const temporary = try std.fmt.allocPrintSentinel(gpa, "{s}.utix-{d}-{d}.tmp", .{ dir, c.getpid(), number }, 0);
        errdefer gpa.free(temporary);
        const flags: c.O = .{ .ACCMODE = .WRONLY, .CREAT = true, .EXCL = true, .CLOEXEC = true };
        switch (os.open(temporary, flags, 0o666)) {
            .ok => |fd| return .{ .gpa = gpa, .fd = fd, .path = path, .temporary = temporary },
            .err => |number_of| if (number_of != @intFromEnum(c.E.EXIST)) return fail(path, number_of, diag, "cannot create the index"),
        }
        gpa.free(temporary);
    }
    return fail(path, @intFromEnum(c.E.EXIST), diag, "cannot create the index");
}

/// Free everything; a file that was not committed is removed.
pub fn deinit(output: *Output) void {
    if (output.fd >= 0) {
        os.close(output.fd);
        _ = c.unlink(output.temporary);
    }
    output.pending.deinit(output.gpa);
    output.gpa.free(output.path);
    output.gpa.free(output.temporary);
    output.* = undefined;
}

/// Write `pending` when there is enough of it.
pub fn flushSome(output: *Output, diag: *Diagnostics) Error!void {
    if (output.pending.items.len >= pending_bytes) try output.flush(diag);
}

fn flush(output: *Output, diag: *Diagnostics) Error!void {
    switch (os.writeAll(output.fd, output.pending.items)) {
        .ok => output.pending.items.len = 0, // Clearing would fill the memory in safe builds.
        .err => |number| return fail(output.path, number, diag, "cannot write the index"),
    }
}

/// Put the file in its place. On an error it is still to be removed.
pub fn commit(output: *Output, diag: *Diagnostics) Error!void {
    try output.flush(diag);
    // A crash of the machine must not leave an empty file under the final name.
    if (c.fsync(output.fd) != 0) return fail(output.path, os.errno(), diag, "cannot write the index");
    if (c.rename(output.temporary, output.path) != 0) return fail(output.path, os.errno(), diag, "cannot put the index in its place");
    os.close(output.fd);
    output.fd = -1;
}

fn fail(path: []const u8, number: os.Errno, diag: *Diagnostics, comptime doing: []const u8) error{WriteFailed} {
    var buffer: [128]u8 = undefined;
    diag.set(.write, "{s}: " ++ doing ++ ": {s}", .{ path, os.describe(number, &buffer) });
    diag.errno = number;
    diag.setPath(path);
    return error.WriteFailed;
}
