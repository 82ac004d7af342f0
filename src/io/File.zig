//! A file to read ranges from: regular, open and measured.
const File = @This();

const std = @import("std");
const c = std.c;
const Completion = @import("Completion.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const os = @import("../base/os.zig");

fd: os.fd_t,
/// Bytes when it was opened; 0 also for procfs and the like, where size says
/// nothing about what can be read: see `sizeKnown`.
size: u64,

/// The report says which file and why.
pub const Error = error{ReadFailed};

pub fn open(path: [:0]const u8, diag: *Diagnostics) Error!File {
    // Non-blocking, as opening a fifo would wait for a writer.
    const flags: c.O = .{ .ACCMODE = .RDONLY, .CLOEXEC = true, .NONBLOCK = true, .NOCTTY = true };
    const fd = switch (os.open(path.ptr, flags, 0)) {
        .ok => |fd| fd,
        .err => |errno| return failOpen(diag, path, errno, ""),
    };
    errdefer os.close(fd);
    const stat = switch (os.fstat(fd)) {
        .ok => |stat| stat,
        .err => |errno| return failOpen(diag, path, errno, ""),
    };
    switch (stat.kind) {
        .regular => {},
        .directory => return failOpen(diag, path, Completion.number(.ISDIR), ""),
        .fifo => return failOpen(diag, path, Completion.number(.SPIPE), "it is a fifo, and only regular files can be read at an offset"),
        .other => return failOpen(diag, path, Completion.number(.INVAL), "it is a device or the like, and only regular files can be read"),
    }
    // Off again: io_uring takes it as "never wait", and on NFS or FUSE every
    // read would come back with EAGAIN.
    if (c.fcntl(fd, c.F.SETFL, @as(c_int, 0)) != 0) return failOpen(diag, path, os.errno(), "");
    return .{ .fd = fd, .size = stat.size };
}

pub fn close(file: *File) void {
    os.close(file.fd);
    file.* = undefined;
}

/// False where a size of 0 may mean that nobody knows.
pub fn sizeKnown(file: *const File) bool {
    return file.size != 0;
}

/// Fill the whole buffer from `offset`, on the calling thread. `path` is for
/// the message.
pub fn readAll(file: *const File, buffer: []u8, offset: u64, path: []const u8, diag: *Diagnostics) Error!void {
    var read: Completion = .{ .fd = file.fd, .target = buffer, .offset = offset, .callback = undefined };
    const result = read.answerEarly() orelse while (true) {
        const returned: i64 = switch (os.pread(read.fd, read.rest(), read.restOffset())) {
            .ok => |count| @intCast(count),
            .err => |errno| -@as(i64, errno),
        };
        break read.answer(returned) orelse continue;
    };
    switch (result) {
        .ok => {},
        .failed => |failed| {
            setReadFailure(diag, path, offset, buffer.len, failed);
            return error.ReadFailed;
        },
    }
}

/// Report a failed read: `shard.tar: wanted 4096 bytes at offset 1536, got 512 (end of file)`.
pub fn setReadFailure(diag: *Diagnostics, path: []const u8, offset: u64, size: u64, failed: Completion.Failure) void {
    var text: [128]u8 = undefined;
    const reason = if (failed.errno == 0) "end of file" else os.describe(failed.errno, &text);
    diag.set(.read, "{s}: wanted {d} bytes at offset {d}, got {d} ({s})", .{ path, size, offset, failed.got, reason });
    diag.errno = failed.errno;
    diag.setPath(path);
    diag.setRange(offset, size);
}

/// `reason`: our own words, or empty for the kernel's.
fn failOpen(diag: *Diagnostics, path: []const u8, errno: os.Errno, reason: []const u8) Error {
    var text: [128]u8 = undefined;
    const shown = if (reason.len > 0) reason else os.describe(errno, &text);
    diag.set(.read, "cannot open {s}: {s}", .{ path, shown });
    diag.errno = errno;
    diag.setPath(path);
    return error.ReadFailed;
}

const testing = std.testing;

/// A file in memory, by a path that can be opened; gone with `fd`.
fn testFile(content: []const u8, path_buffer: []u8) !struct { fd: os.fd_t, path: [:0]const u8 } {
    const fd = c.memfd_create("file-test", c.MFD.CLOEXEC);
    if (fd < 0) return error.SkipZigTest;
    errdefer os.close(fd);
    if (os.writeAll(fd, content) != .ok) return error.SkipZigTest;
    return .{ .fd = fd, .path = try std.fmt.bufPrintZ(path_buffer, "/proc/self/fd/{d}", .{fd}) };
}

test "a regular file opens with its size and can be read whole and in part" {
    var path: [64]u8 = undefined;
    const made = try testFile("0123456789", &path);
    defer os.close(made.fd);
    var diag: Diagnostics = .{};
    var file = try open(made.path, &diag);
    defer file.close();
    try testing.expectEqual(10, file.size);
    try testing.expect(file.sizeKnown());
    var buffer: [10]u8 = undefined;
    try file.readAll(&buffer, 0, made.path, &diag);
    try testing.expectEqualStrings("0123456789", &buffer);
    try file.readAll(buffer[0..3], 7, made.path, &diag);
    try testing.expectEqualStrings("789", buffer[0..3]);
    try file.readAll(buffer[0..0], 1 << 63, made.path, &diag);
}

test "a descriptor is close-on-exec, and not non-blocking, which io_uring would obey" {
    var diag: Diagnostics = .{};
    var file = try open("/proc/self/status", &diag);
    defer file.close();
    try testing.expectEqual(0, file.size);
    try testing.expect(!file.sizeKnown());
    try testing.expectEqual(c.FD_CLOEXEC, c.fcntl(file.fd, c.F.GETFD));
    const flags: c.O = @bitCast(c.fcntl(file.fd, c.F.GETFL));
    try testing.expect(!flags.NONBLOCK);
}

test "a read beyond the end says wanted, place and got" {
    var path: [64]u8 = undefined;
    const made = try testFile("0123456789", &path);
    defer os.close(made.fd);
    var diag: Diagnostics = .{};
    var file = try open(made.path, &diag);
    defer file.close();
    var buffer: [8]u8 = undefined;
    try testing.expectError(error.ReadFailed, file.readAll(&buffer, 6, "shard.tar", &diag));
    try testing.expectEqualStrings("shard.tar: wanted 8 bytes at offset 6, got 4 (end of file)", diag.message());
    try testing.expectEqualStrings("shard.tar", diag.path());
    try testing.expectEqual(6, diag.offset.?);
    try testing.expectError(error.ReadFailed, file.readAll(&buffer, std.math.maxInt(u64), "shard.tar", &diag));
    try testing.expectEqual(Completion.number(.INVAL), diag.errno);
}

test "what is no regular file is refused by name" {
    var path_buffer: [64]u8 = undefined;
    const fifo = try std.fmt.bufPrintZ(&path_buffer, "/tmp/ultar-fifo-{d}", .{c.getpid()});
    if (std.os.linux.errno(std.os.linux.mknod(fifo, std.os.linux.S.IFIFO | 0o600, 0)) != .SUCCESS) return error.SkipZigTest;
    defer _ = c.unlink(fifo);
    const cases = [_]struct { [:0]const u8, c.E, []const u8 }{
        .{ "/nonexistent/shard.tar", .NOENT, "cannot open /nonexistent/shard.tar: No such file or directory" },
        .{ "", .NOENT, "cannot open : No such file or directory" },
        .{ "/tmp", .ISDIR, "cannot open /tmp: Is a directory" },
        .{ "/dev/null", .INVAL, "cannot open /dev/null: it is a device or the like" },
        .{ fifo, .SPIPE, "it is a fifo" },
        .{ "/" ++ "x" ** 5000, .NAMETOOLONG, "File name too long" },
    };
    for (cases) |case| {
        var diag: Diagnostics = .{};
        try testing.expectError(error.ReadFailed, open(case[0], &diag));
        try testing.expectEqual(Completion.number(case[1]), diag.errno);
        try testing.expectEqual(.read, diag.kind);
        try testing.expect(std.mem.indexOf(u8, diag.message(), case[2]) != null);
    }
}
