//! A file that a script opened. It stays open until the script has closed it
//! and no read needs it; its path stays for as long as a row may name it.
const OpenFile = @This();

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const os = @import("../base/os.zig");
const File = @import("../io/File.zig");
const Mapping = @import("../io/Mapping.zig");
const Remote = @import("../io/Remote.zig");
const limits = @import("../base/limits.zig");
const assert = std.debug.assert;

gpa: std.mem.Allocator,
path: [:0]const u8,
/// -1 for an object in a store.
fd: os.fd_t,
/// What is fetched rather than read. Its table outlives the engine.
remote: ?*Remote.Object = null,
/// What is decoded of it, once that is wanted: in use for as long as this is.
decoded: ?*OpenFile = null,
/// It is that.
is_decoded: bool = false,
/// Bytes as of the last look; 0 where the kernel does not say (procfs).
size: u64,
/// With `Access.mmap`, where the file allows it: rows are views of it.
mapping: ?*Mapping = null,
/// With `Access.direct`, where the file allows it.
direct: ?Direct = null,
/// Who needs the descriptor: the file table and unfinished groups. Engine's thread.
users: u32 = 1,
/// How the script goes through it, which the kernel is told.
order: Order = .sequential,
/// Where the last range ended, and how many followed closely one on the other.
order_end: u64 = 0,
order_streak: u32 = 0,
/// Of the engine: how many files there are.
open_count: *usize,
/// Who needs this memory: the above and finished groups. Any thread.
refs: std.atomic.Value(u32) = .init(1),

/// How the bytes of files reach rows.
pub const Access = enum {
    /// What measurement supports for files that anybody may change: `read`.
    auto,
    /// Read into buffers of ours, by way of the page cache.
    read,
    /// Views of the page cache, without a copy.
    mmap,
    /// Read into buffers of ours, past the page cache.
    direct,
};

pub const Order = enum { sequential, random };

/// A second descriptor. What it cannot read in whole blocks, the first one does.
pub const Direct = struct { fd: os.fd_t, alignment: u32 };

/// `open_count` goes up by one, and down again when the descriptor is closed.
pub fn open(gpa: std.mem.Allocator, path: []const u8, open_count: *usize, diag: *Diagnostics) error{ ReadFailed, OutOfMemory }!*OpenFile {
    const terminated = try gpa.dupeZ(u8, path);
    defer gpa.free(terminated);
    var file = try File.open(terminated, diag);
    errdefer file.close();
    return own(gpa, path, file, open_count);
}

/// The same for one that is open. On an error it is the caller's.
pub fn own(gpa: std.mem.Allocator, path: []const u8, file: File, open_count: *usize) error{OutOfMemory}!*OpenFile {
    const owned = try gpa.dupeZ(u8, path);
    errdefer gpa.free(owned);
    const open_file = try gpa.create(OpenFile);
    open_file.* = .{ .gpa = gpa, .path = owned, .fd = file.fd, .size = file.size, .open_count = open_count };
    open_count.* += 1;
    return open_file;
}

/// The same for an object of that size, which has no descriptor.
pub fn openRemote(gpa: std.mem.Allocator, object: *Remote.Object, size: u64, open_count: *usize) error{OutOfMemory}!*OpenFile {
    const owned = try gpa.dupeZ(u8, object.name);
    errdefer gpa.free(owned);
    const open_file = try gpa.create(OpenFile);
    open_file.* = .{ .gpa = gpa, .path = owned, .fd = -1, .remote = object, .size = size, .open_count = open_count };
    return open_file;
}

/// The same for what is decoded of a file or an object. Who serves knows where it ends.
pub fn openDecoded(gpa: std.mem.Allocator, object: *Remote.Object, open_count: *usize) error{OutOfMemory}!*OpenFile {
    const open_file = try openRemote(gpa, object, std.math.maxInt(u64), open_count);
    open_file.is_decoded = true;
    return open_file;
}

/// Ranges that lie at most this far apart share a read.
pub fn gapMax(file: *const OpenFile) u64 {
    return if (file.remote == null or file.is_decoded) limits.read_gap_max else limits.remote_gap_max;
}

/// One read of it, at most.
pub fn readMax(file: *const OpenFile) u64 {
    return if (file.remote == null) limits.read_bytes_max else limits.remote_read_bytes_max;
}

/// Make the file readable in the wanted way. The kernel's number where that
/// cannot be: the file is then read plainly.
pub fn allow(file: *OpenFile, access: Access, first_lost: *Mapping.First) error{OutOfMemory}!os.Result(void) {
    if (file.remote != null) return .{ .ok = {} };
    switch (access) {
        .auto, .read => {},
        .mmap => if (file.size > 0) switch (try Mapping.create(file.gpa, file.fd, file.size, file.path, first_lost)) {
            .ok => |mapping| file.mapping = mapping,
            .err => |errno| return .{ .err = errno },
        },
        .direct => switch (openDirect(file.fd)) {
            .ok => |direct| file.direct = direct,
            .err => |errno| return .{ .err = errno },
        },
    }
    return .{ .ok = {} };
}

fn openDirect(fd: os.fd_t) os.Result(Direct) {
    const alignment = switch (os.fstat(fd)) {
        .ok => |stat| stat.direct_alignment,
        .err => |errno| return .{ .err = errno },
    };
    if (alignment == 0 or alignment > limits.direct_alignment_max or !std.math.isPowerOfTwo(alignment)) {
        return .{ .err = @intFromEnum(std.c.E.INVAL) };
    }
    return switch (os.openDirect(fd)) {
        .ok => |direct| .{ .ok = .{ .fd = direct, .alignment = alignment } },
        .err => |errno| .{ .err = errno },
    };
}

/// Note that a range is about to be read. The kernel guesses what comes next: in
/// order that is the fastest, and it reads several times too much otherwise.
pub fn expect(file: *OpenFile, offset: u64, size: u64) void {
    if (file.remote != null) return;
    const gap_max = @max(limits.read_gap_max, size / 4);
    const follows = offset >= file.order_end and offset - file.order_end <= gap_max;
    file.order_end = offset +| size;
    file.order_streak = if (follows) file.order_streak +| 1 else 0;
    const order: Order = if (!follows) .random else if (file.order_streak >= limits.sequential_streak_min) .sequential else file.order;
    if (order == file.order) return;
    file.order = order;
    os.adviseFile(file.fd, order == .random);
    if (file.mapping) |mapping| os.adviseMapping(mapping.bytes, order == .random);
}

/// One more unfinished group reads from it.
pub fn use(file: *OpenFile) void {
    assert(file.users > 0);
    file.users += 1;
    _ = file.refs.fetchAdd(1, .monotonic);
}

/// The descriptor is no longer needed by one of its users, who may keep its
/// reference to the path.
pub fn endUse(file: *OpenFile) void {
    file.users -= 1;
    if (file.users > 0) return;
    if (file.decoded) |decoded| {
        decoded.endUse();
        decoded.release();
        file.decoded = null;
    }
    if (file.remote != null) return;
    os.close(file.fd);
    if (file.direct) |direct| os.close(direct.fd);
    if (file.mapping) |mapping| mapping.release();
    file.mapping = null;
    file.open_count.* -= 1;
}

/// Drop a reference to the memory. Any thread.
pub fn release(file: *OpenFile) void {
    if (file.refs.fetchSub(1, .acq_rel) != 1) return;
    file.gpa.free(file.path);
    file.gpa.destroy(file);
}

/// Whether all of the range is there, looking again if the file has grown.
pub fn contains(file: *OpenFile, offset: u64, size: u64) bool {
    const end = offset +| size;
    if (file.remote != null) return end <= file.size;
    if (file.size == 0 or end > file.size) {
        switch (os.fstat(file.fd)) {
            .ok => |stat| file.size = stat.size,
            .err => {}, // The read itself will say what is wrong.
        }
    }
    return file.size == 0 or end <= file.size;
}
