//! The bytes of a file from front to back, through a window that grows when one
//! record is larger than it.
const Source = @This();

const std = @import("std");
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const os = @import("../base/os.zig");

gpa: Allocator,
/// The caller's; for messages.
path: [:0]const u8,
fd: os.fd_t,
/// When it was opened.
size: u64,
buffer: []u8,
/// What is at hand: `buffer[start..end]`.
start: usize = 0,
end: usize = 0,
/// Where `buffer[0]` is in the file.
base: u64 = 0,

pub const Error = error{ ReadFailed, OutOfMemory };

pub fn open(gpa: Allocator, path: [:0]const u8, window_bytes: usize, diag: *Diagnostics) Error!Source {
    const fd, const size = try openRegular(path, diag);
    errdefer os.close(fd);
    // One byte more than the file, so that a window is never full at its end.
    const wanted = @min(size +| 1, window_bytes);
    return .{ .gpa = gpa, .path = path, .fd = fd, .size = size, .buffer = try gpa.alloc(u8, @intCast(wanted)) };
}

pub fn close(source: *Source) void {
    source.gpa.free(source.buffer);
    os.close(source.fd);
    source.* = undefined;
}

/// Open a file that can be read at random, and its size. A pipe that nobody
/// writes to must not make us wait.
pub fn openRegular(path: [:0]const u8, diag: *Diagnostics) error{ReadFailed}!struct { os.fd_t, u64 } {
    const fd = switch (os.open(path, .{ .ACCMODE = .RDONLY, .NONBLOCK = true, .CLOEXEC = true, .NOCTTY = true }, 0)) {
        .ok => |fd| fd,
        .err => |number| return failErrno(path, number, diag, "cannot open"),
    };
    errdefer os.close(fd);
    const stat = switch (os.fstat(fd)) {
        .ok => |stat| stat,
        .err => |number| return failErrno(path, number, diag, "cannot stat"),
    };
    switch (stat.kind) {
        .regular => return .{ fd, stat.size },
        .directory => return failErrno(path, @intFromEnum(std.c.E.ISDIR), diag, "cannot read"),
        .fifo, .other => {
            diag.set(.read, "{s}: not a regular file, but {s}", .{ path, if (stat.kind == .fifo) "a pipe" else "a device or socket" });
            diag.setPath(path);
            // What the kernel answers to a read at an offset of such a file.
            diag.errno = @intFromEnum(std.c.E.SPIPE);
            return error.ReadFailed;
        },
    }
}

pub fn bytes(source: *const Source) []const u8 {
    return source.buffer[source.start..source.end];
}

/// The offset of `bytes` in the file.
pub fn at(source: *const Source) u64 {
    return source.base + source.start;
}

/// How much of the file follows `bytes`.
pub fn rest(source: *const Source) u64 {
    return source.size - (source.base + source.end);
}

pub fn consume(source: *Source, count: usize) void {
    std.debug.assert(count <= source.end - source.start);
    source.start += count;
}

/// Have more bytes than now. There must be a `rest`.
pub fn more(source: *Source, diag: *Diagnostics) Error!void {
    std.debug.assert(source.rest() > 0);
    const kept = source.end - source.start;
    std.mem.copyForwards(u8, source.buffer[0..kept], source.bytes());
    source.base += source.start;
    source.start = 0;
    source.end = kept;
    // With little room a large record would be parsed again and again.
    if (source.buffer.len - kept < source.buffer.len / 2) {
        const doubled = try source.gpa.alloc(u8, source.buffer.len * 2);
        @memcpy(doubled[0..kept], source.bytes());
        source.gpa.free(source.buffer);
        source.buffer = doubled;
    }
    const wanted: usize = @intCast(@min(source.buffer.len - source.end, source.rest()));
    try readAll(source.path, source.fd, source.buffer[source.end..][0..wanted], source.base + source.end, diag);
    source.end += wanted;
}

/// Fill `target` from the file, or say why not.
pub fn readAll(path: []const u8, fd: os.fd_t, target: []u8, offset: u64, diag: *Diagnostics) error{ReadFailed}!void {
    var done: usize = 0;
    while (done < target.len) {
        const got = switch (os.pread(fd, target[done..], offset + done)) {
            .ok => |got| got,
            .err => |number| {
                const failure = failErrno(path, number, diag, "cannot read");
                diag.setRange(offset + done, target.len - done);
                return failure;
            },
        };
        if (got == 0) {
            diag.set(.read, "{s}: the file became shorter while it was read: wanted {d} bytes at offset {d}, got {d}", .{ path, target.len, offset, done });
            diag.setPath(path);
            diag.setRange(offset, target.len);
            return error.ReadFailed;
        }
        done += got;
    }
}

pub fn failErrno(path: []const u8, number: os.Errno, diag: *Diagnostics, comptime doing: []const u8) error{ReadFailed} {
    var buffer: [128]u8 = undefined;
    diag.set(.read, "{s}: " ++ doing ++ ": {s}", .{ path, os.describe(number, &buffer) });
    diag.errno = number;
    diag.setPath(path);
    return error.ReadFailed;
}
