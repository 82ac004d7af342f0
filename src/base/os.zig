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

/// How many descriptors this process may have, as of now.
pub fn descriptorsMax() u64 {
    var limit: linux.rlimit = undefined;
    return if (c.getrlimit(.NOFILE, &limit) == 0) limit.cur else 1024;
}

/// Bytes of memory in the machine.
pub fn memoryBytes() u64 {
    var info: linux.Sysinfo = undefined;
    if (linux.errno(linux.sysinfo(&info)) != .SUCCESS) return 0;
    return @as(u64, info.totalram) * info.mem_unit;
}

/// Times that this thread had to wait for storage or the like, ever.
pub fn waits() u64 {
    var usage: c.rusage = undefined;
    if (c.getrusage(linux.rusage.THREAD, &usage) != 0) return 0;
    return @intCast(usage.nvcsw);
}

/// The size of a file as of now, cheaper than by `fstat`. Moves the position of the
/// descriptor, which `pread` does not know.
pub fn sizeNow(fd: fd_t) Result(u64) {
    const size = c.lseek(fd, 0, c.SEEK.END);
    return if (size < 0) .{ .err = errno() } else .{ .ok = @intCast(size) };
}

/// Bytes read into pieces of memory, one after the other; 0 at the end of the file.
/// Retries EINTR.
pub fn preadv(fd: fd_t, pieces: []const std.posix.iovec, offset: u64) Result(usize) {
    const position = std.math.cast(i64, offset) orelse return .{ .err = @intFromEnum(c.E.INVAL) };
    while (true) {
        const got = c.preadv(fd, pieces.ptr, @intCast(pieces.len), position);
        if (got >= 0) return .{ .ok = @intCast(got) };
        if (errno() != @intFromEnum(c.E.INTR)) return .{ .err = errno() };
    }
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

/// The same for what the page cache has; EAGAIN where it has none of it. Other errors say
/// nothing about the file: file systems and sandboxes may not know this call.
pub fn preadCached(fd: fd_t, buffer: []u8, offset: u64) Result(usize) {
    const position = std.math.cast(i64, offset) orelse return .{ .err = @intFromEnum(c.E.INVAL) };
    const piece: [1]std.posix.iovec = .{.{ .base = buffer.ptr, .len = @min(buffer.len, transfer_max) }};
    const got = linux.preadv2(fd, &piece, piece.len, position, linux.RWF.NOWAIT);
    return switch (linux.errno(got)) {
        .SUCCESS => .{ .ok = got },
        else => |code| .{ .err = @intFromEnum(code) },
    };
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

pub const Mtime = struct { s: i64, ns: u32 };

pub const Stat = struct {
    kind: Kind,
    size: u64,
    mtime: Mtime,
    /// Offsets, sizes and memory of direct reads are multiples of this; 0 where
    /// there are none.
    direct_alignment: u32,

    pub const Kind = enum { regular, directory, fifo, other };
};

pub fn fstat(fd: fd_t) Result(Stat) {
    var raw: linux.Statx = undefined;
    const mask: linux.STATX = .{ .TYPE = true, .SIZE = true, .MTIME = true, .DIOALIGN = true };
    if (c.statx(fd, "", linux.AT.EMPTY_PATH, mask, &raw) != 0) return .{ .err = errno() };
    return .{
        .ok = .{
            .kind = switch (raw.mode & linux.S.IFMT) {
                linux.S.IFREG => .regular,
                linux.S.IFDIR => .directory,
                linux.S.IFIFO => .fifo,
                else => .other,
            },
            .size = raw.size,
            .mtime = .{ .s = raw.mtime.sec, .ns = raw.mtime.nsec },
            // Before Linux 6.1 nobody says; 4096 suits every disk.
            .direct_alignment = if (raw.mask.DIOALIGN) @max(raw.dio_mem_align, raw.dio_offset_align) else 4096,
        },
    };
}

/// The file behind a descriptor once more, for reads past the page cache.
pub fn openDirect(fd: fd_t) Result(fd_t) {
    var buffer: [32]u8 = undefined;
    const path = std.fmt.bufPrintSentinel(&buffer, "/proc/self/fd/{d}", .{fd}, 0) catch return .{ .err = @intFromEnum(c.E.NAMETOOLONG) };
    return open(path, .{ .ACCMODE = .RDONLY, .CLOEXEC = true, .DIRECT = true }, 0);
}

/// All of a file, to read: the page cache's own pages. A consumer that writes into a
/// view all the same (PyTorch has no tensors that refuse it) gets a page of its own
/// instead of a signal, and the file does not change.
pub fn mapFile(fd: fd_t, size: usize) Result([]align(std.heap.page_size_min) const u8) {
    const flags: linux.MAP = .{ .TYPE = .PRIVATE, .NORESERVE = true };
    const returned = linux.mmap(null, size, .{ .READ = true, .WRITE = true }, flags, fd, 0);
    return switch (linux.errno(returned)) {
        .SUCCESS => .{ .ok = @as([*]align(std.heap.page_size_min) const u8, @ptrFromInt(returned))[0..size] },
        else => |code| .{ .err = @intFromEnum(code) },
    };
}

/// Zeroed memory that begins at a multiple of `alignment`, which is one of pages, as is `size`.
pub fn mapMemory(size: usize, alignment: usize) ?[]align(std.heap.page_size_min) u8 {
    const first = mapAnywhere(size) orelse return null;
    if (std.mem.isAligned(@intFromPtr(first.ptr), alignment)) return first;
    // Newer kernels align large mappings on their own. Here the rest is cut off.
    unmap(first);
    const wider = mapAnywhere(std.math.add(usize, size, alignment) catch return null) orelse return null;
    const before = std.mem.alignForward(usize, @intFromPtr(wider.ptr), alignment) - @intFromPtr(wider.ptr);
    if (before > 0) unmap(wider[0..before]);
    const aligned: []align(std.heap.page_size_min) u8 = @alignCast(wider[before..]);
    if (aligned.len > size) unmap(@alignCast(aligned[size..]));
    return aligned[0..size];
}

fn mapAnywhere(size: usize) ?[]align(std.heap.page_size_min) u8 {
    const flags: linux.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true };
    const returned = linux.mmap(null, size, .{ .READ = true, .WRITE = true }, flags, -1, 0);
    if (linux.errno(returned) != .SUCCESS) return null;
    return @as([*]align(std.heap.page_size_min) u8, @ptrFromInt(returned))[0..size];
}

/// Give a mapping back, or a part of one. Where the kernel refuses, as the process has
/// as many mappings as it may and this one would become two, the addresses stay in use
/// but have no memory any more.
pub fn unmap(bytes: []align(std.heap.page_size_min) const u8) void {
    if (linux.errno(linux.munmap(bytes.ptr, bytes.len)) != .SUCCESS) dropPages(bytes);
}

/// Let the kernel back memory by huge pages. A hint.
pub fn adviseHuge(bytes: []align(std.heap.page_size_min) u8) void {
    _ = linux.madvise(bytes.ptr, bytes.len, linux.MADV.HUGEPAGE);
}

/// Waits for storage that page faults of this thread led to, ever.
pub fn majorFaults() u64 {
    var usage: c.rusage = undefined;
    if (c.getrusage(linux.rusage.THREAD, &usage) != 0) return 0;
    return @intCast(usage.majflt);
}

/// Give up the pages of a mapping; touched again, those of a file come from the page
/// cache and others are zeros.
pub fn dropPages(bytes: []align(std.heap.page_size_min) const u8) void {
    _ = linux.madvise(@constCast(bytes.ptr), bytes.len, linux.MADV.DONTNEED);
}

/// Tell the kernel whether to guess what will be read next, or that each read says
/// all that is wanted. Hints.
pub fn adviseFile(fd: fd_t, is_random: bool) void {
    _ = linux.fadvise(fd, 0, 0, if (is_random) linux.POSIX_FADV.RANDOM else linux.POSIX_FADV.NORMAL);
}

pub fn adviseMapping(bytes: []align(std.heap.page_size_min) const u8, is_random: bool) void {
    _ = linux.madvise(@constCast(bytes.ptr), bytes.len, if (is_random) linux.MADV.RANDOM else linux.MADV.NORMAL);
}

/// Have the kernel start reading a range into the page cache. A hint.
pub fn readAhead(fd: fd_t, offset: u64, size: u64) void {
    const start = std.math.cast(i64, offset) orelse return;
    const length = std.math.cast(i64, size) orelse return;
    _ = linux.fadvise(fd, start, length, linux.POSIX_FADV.WILLNEED);
}

/// Nanoseconds of a clock that never goes back.
pub fn monotonicNs() u64 {
    var now: c.timespec = undefined;
    _ = c.clock_gettime(.MONOTONIC, &now); // libc's, which makes no system call.
    return @as(u64, @intCast(now.sec)) * std.time.ns_per_s + @as(u64, @intCast(now.nsec));
}

/// Keep signals away from the calling thread: Python handles them, on its own.
/// Not those that are the thread's own doing: the kernel would end the process.
pub fn blockSignals() void {
    var all: c.sigset_t = undefined;
    @memset(std.mem.asBytes(&all), 0xff);
    for ([_]linux.SIG{ .BUS, .SEGV, .FPE, .ILL, .TRAP, .SYS, .ABRT }) |own| _ = c.sigdelset(&all, own);
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
