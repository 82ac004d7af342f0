//! The parts of a shard that indexing looks at. Where members are small it
//! reads everything in large pieces; where payloads are large it reads small
//! pieces around the headers and leaves the payloads alone, and has the kernel
//! do the same: it would read ahead over the payloads.
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
/// Where the requests of the moment began: those that one small read serves.
cluster_at: u64 = 0,
/// From one cluster of requests to the next, a mean of the latest few.
stride: u64 = 0,
/// What the kernel was told last.
pattern: ?os.Pattern = null,

pub const Error = error{ ReadFailed, OutOfMemory };

/// Where clusters lie farther apart than this it is not worth reading what is
/// between: a small read costs about as much as 32 KiB more of a large one.
const stride_max = 32 * 1024;

pub fn deinit(window: *Window) void {
    window.gpa.free(window.buffer);
    window.* = undefined;
}

/// The bytes of a range that lies within the file. Valid until the next call.
pub fn get(window: *Window, offset: u64, size: usize, diag: *Diagnostics) Error![]const u8 {
    std.debug.assert(size <= window.file_size and offset <= window.file_size - size);
    window.note(offset, size);
    const is_there = offset >= window.base and offset - window.base <= window.filled and
        size <= window.filled - @as(usize, @intCast(offset - window.base));
    if (!is_there) try window.fill(offset, size, diag);
    return window.buffer[@intCast(offset - window.base)..][0..size];
}

/// Sample by sample the distance may vary tenfold, and a sample is one large
/// member among small ones; so single requests say nothing.
fn note(window: *Window, offset: u64, size: usize) void {
    if (offset < window.cluster_at -| limits.header_window_bytes) {
        // Back, as from the end of a file to its table: what was before says nothing.
        window.stride = 0;
        window.cluster_at = offset;
    }
    const distance = offset -| window.cluster_at;
    if (distance >= limits.header_window_bytes) {
        window.stride = window.stride - window.stride / 4 + distance / 4;
        window.cluster_at = offset;
    }
    // A payload that is wanted is nothing to jump over.
    window.cluster_at = @max(window.cluster_at, (offset + size) -| limits.header_window_bytes);
}

fn isSparse(window: *const Window) bool {
    return window.stride > stride_max;
}

fn fill(window: *Window, offset: u64, size: usize, diag: *Diagnostics) Error!void {
    const is_sparse = window.isSparse();
    const window_bytes: usize = if (is_sparse) limits.header_window_bytes else limits.index_window_bytes;
    // Nothing is known at the first read, so it is all that is read then.
    window.advise(if (is_sparse or window.pattern == null) .random else .sequential);
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
}

fn advise(window: *Window, pattern: os.Pattern) void {
    if (window.pattern == pattern) return;
    os.advise(window.fd, pattern);
    window.pattern = pattern;
}

test "large members among small ones are jumped over, small ones and wanted payloads are not" {
    var window: Window = .{ .gpa = std.testing.allocator, .path = "", .fd = -1, .file_size = 1 << 40 };
    var at: u64 = 0;
    for (0..300) |i| { // Samples of a label, an image and a caption.
        for ([_]u64{ 512, 40_000 + i * 7717 % 140_000, 1024 }) |payload_bytes| {
            window.note(at, 512);
            at += 512 + payload_bytes;
        }
        if (i > 5) try std.testing.expect(window.isSparse());
    }
    for (0..200) |_| {
        window.note(at, 512);
        at += 1024;
    }
    try std.testing.expect(!window.isSparse());
    for (0..20) |_| {
        window.note(at, 512);
        window.note(at + 512, 100_000);
        at += 512 + 100_352;
        try std.testing.expect(!window.isSparse());
    }
}
