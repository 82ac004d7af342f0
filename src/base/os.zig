//! The system calls that we use, each with the kernel's error number as an
//! ordinary value. Everything here is Linux; a port starts with this file.

const std = @import("std");
const c = std.c;
const linux = std.os.linux;

pub const fd_t = c.fd_t;

/// The kernel's error number, never 0.
pub const Errno = i32;

pub fn Result(comptime T: type) type {
    return union(enum) { ok: T, err: Errno };
}

/// Of the last libc call of this thread that failed.
pub fn errno() Errno {
    return c._errno().*;
}

/// "No such file or directory" for 2.
pub fn describe(number: Errno, buffer: *[128]u8) []const u8 {
    // The GNU flavour returns the text, which may lie outside `buffer`.
    const text = strerror_r(number, buffer, buffer.len) orelse return "unknown error";
    return std.mem.span(text);
}
extern "c" fn strerror_r(number: c_int, buffer: [*]u8, size: usize) ?[*:0]const u8;

pub fn open(path: [*:0]const u8, flags: c.O, mode: c.mode_t) Result(fd_t) {
    while (true) {
        const fd = c.open(path, flags, mode);
        if (fd >= 0) return .{ .ok = fd };
        if (errno() != @intFromEnum(c.E.INTR)) return .{ .err = errno() };
    }
}

pub fn close(fd: fd_t) void {
    _ = c.close(fd); // Not retried: Linux has closed it even on EINTR.
}

/// Bytes read, 0 at the end of the file. Retries EINTR.
pub fn pread(fd: fd_t, buffer: []u8, offset: u64) Result(usize) {
    const position = std.math.cast(i64, offset) orelse return .{ .err = @intFromEnum(c.E.INVAL) };
    while (true) {
        const got = c.pread(fd, buffer.ptr, @min(buffer.len, transfer_max), position);
        if (got >= 0) return .{ .ok = @intCast(got) };
        if (errno() != @intFromEnum(c.E.INTR)) return .{ .err = errno() };
    }
}

pub const Pattern = enum { sequential, random };

/// Tell the kernel how a file will be read through this descriptor: ahead of us
/// and in large pieces, or only what we ask for.
pub fn advise(fd: fd_t, pattern: Pattern) void {
    // It is advice: where it cannot be taken, reading is only slower.
    _ = linux.fadvise(fd, 0, 0, switch (pattern) {
        .sequential => linux.POSIX_FADV.SEQUENTIAL,
        .random => linux.POSIX_FADV.RANDOM,
    });
}

/// The most that Linux moves in one call, on every architecture.
pub const transfer_max = 0x7ffff000;

/// Write all of `bytes`, or say why not.
pub fn writeAll(fd: fd_t, bytes: []const u8) Result(void) {
    var rest = bytes;
    while (rest.len > 0) {
        const put = c.write(fd, rest.ptr, @min(rest.len, transfer_max));
        if (put > 0) {
            rest = rest[@intCast(put)..];
        } else if (put == 0) {
            return .{ .err = @intFromEnum(c.E.IO) };
        } else if (errno() != @intFromEnum(c.E.INTR)) {
            return .{ .err = errno() };
        }
    }
    return .{ .ok = {} };
}

pub const Stat = struct {
    kind: Kind,
    size: u64,
    mtime_ns: i128,

    pub const Kind = enum { regular, directory, fifo, other };
};

pub fn fstat(fd: fd_t) Result(Stat) {
    var raw: linux.Statx = undefined;
    const mask: linux.STATX = .{ .TYPE = true, .SIZE = true, .MTIME = true };
    if (c.statx(fd, "", linux.AT.EMPTY_PATH, mask, &raw) != 0) return .{ .err = errno() };
    return .{ .ok = .{
        .kind = switch (raw.mode & linux.S.IFMT) {
            linux.S.IFREG => .regular,
            linux.S.IFDIR => .directory,
            linux.S.IFIFO => .fifo,
            else => .other,
        },
        .size = raw.size,
        .mtime_ns = @as(i128, raw.mtime.sec) * std.time.ns_per_s + raw.mtime.nsec,
    } };
}

/// Nanoseconds of a clock that never goes back.
pub fn monotonicNs() u64 {
    var now: linux.timespec = undefined;
    _ = linux.clock_gettime(.MONOTONIC, &now);
    return @as(u64, @intCast(now.sec)) * std.time.ns_per_s + @as(u64, @intCast(now.nsec));
}

/// Keep signals away from the calling thread: Python handles them, on its own.
pub fn blockSignals() void {
    var all: c.sigset_t = undefined;
    @memset(std.mem.asBytes(&all), 0xff);
    var old: c.sigset_t = undefined;
    _ = c.pthread_sigmask(linux.SIG.SETMASK, &all, &old);
}

test "an error number has a text" {
    var buffer: [128]u8 = undefined;
    try std.testing.expectEqualStrings("No such file or directory", describe(2, &buffer));
}

test "opening what is not there gives the number" {
    const result = open("/nonexistent/file", .{ .ACCMODE = .RDONLY }, 0);
    try std.testing.expectEqual(@as(Errno, @intFromEnum(c.E.NOENT)), result.err);
}
