//! The parts of a shard that indexing looks at. Where members are small it
//! reads everything in large pieces; where payloads are large it reads small
//! pieces around the headers and leaves the payloads alone.
const Window = @This();

const std = @import("std");
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const Source = @import("../utix/Source.zig");

gpa: Allocator,
path: []const u8,
fd: os.fd_t,
file_size: u64,
buffer: []u8 = &.{},
/// `buffer[0..filled]` is the file from `base` on.
base: u64 = 0,
filled: usize = 0,
/// Requests since the last read.
served: u64 = 0,

pub const Error = error{ ReadFailed, OutOfMemory };

/// Headers that lie farther apart than this are not worth reading what is
/// between: a small read costs about as much as 32 KiB more of a large one.
const stride_max = 32 * 1024;

pub fn deinit(window: *Window) void {
    window.gpa.free(window.buffer);
    window.* = undefined;
}

/// The bytes of a range that lies within the file. Valid until the next call.
pub fn get(window: *Window, offset: u64, size: usize, diag: *Diagnostics) Error![]const u8 {
    std.debug.assert(size <= window.file_size and offset <= window.file_size - size);
    const is_there = offset >= window.base and offset - window.base <= window.filled and
        size <= window.filled - @as(usize, @intCast(offset - window.base));
    if (!is_there) try window.fill(offset, size, diag);
    window.served += 1;
    return window.buffer[@intCast(offset - window.base)..][0..size];
}

fn fill(window: *Window, offset: u64, size: usize, diag: *Diagnostics) Error!void {
    const stride = (offset -| window.base) / @max(window.served, 1);
    const window_bytes: usize = if (stride > stride_max) limits.header_window_bytes else limits.index_window_bytes;
    const wanted: usize = @intCast(@min(@max(size, window_bytes), window.file_size - offset));
    window.filled = 0;
    if (window.buffer.len < wanted) {
        window.gpa.free(window.buffer);
        window.buffer = &.{};
        window.buffer = try window.gpa.alloc(u8, wanted);
    }
    try Source.readAll(window.path, window.fd, window.buffer[0..wanted], offset, diag);
    window.base = offset;
    window.filled = wanted;
    window.served = 0;
}
