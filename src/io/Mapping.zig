//! A file mapped for reading, whole. What is touched beyond the end of a file
//! that became shorter, or where the storage fails, would end the process
//! (SIGBUS); here it reads as zeros and is noted in `lost`: see `bus_fault`.
//!
//! Owners: the open file, and each group with rows in it.
const Mapping = @This();

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const bus_fault = @import("bus_fault.zig");
const os = @import("../base/os.zig");

gpa: std.mem.Allocator,
path: []const u8,
bytes: []align(page) const u8,
refs: std.atomic.Value(u32) = .init(1),
/// Offset from which on bytes were asked for and could not be had; all ones: none.
lost: std.atomic.Value(u64) = .init(nothing),
/// Where the first mapping that loses bytes puts itself, with a reference.
first_lost: *First,
/// Bytes brought in since the pages were last given up; the engine's thread.
resident_bytes: u64 = 0,

pub const First = std.atomic.Value(?*Mapping);

const page = std.heap.page_size_min;
const nothing = std.math.maxInt(u64);

/// Copies `path`. `first_lost` must outlive the mapping. The kernel's number
/// where it refuses; the file must have bytes.
pub fn create(gpa: std.mem.Allocator, fd: os.fd_t, size: u64, path: []const u8, first_lost: *First) error{OutOfMemory}!os.Result(*Mapping) {
    const length = std.math.cast(usize, size) orelse return .{ .err = @intFromEnum(std.c.E.OVERFLOW) };
    const own_path = try gpa.dupe(u8, path);
    errdefer gpa.free(own_path);
    const mapping = try gpa.create(Mapping);
    errdefer gpa.destroy(mapping);
    const bytes = switch (os.mapFile(fd, length)) {
        .ok => |bytes| bytes,
        .err => |errno| {
            gpa.free(own_path);
            gpa.destroy(mapping);
            return .{ .err = errno };
        },
    };
    mapping.* = .{ .gpa = gpa, .path = own_path, .bytes = bytes, .first_lost = first_lost };
    if (bus_fault.watch(mapping)) return .{ .ok = mapping };
    mapping.release();
    return .{ .err = @intFromEnum(std.c.E.NFILE) };
}

pub fn retain(mapping: *Mapping) void {
    _ = mapping.refs.fetchAdd(1, .monotonic);
}

/// Any thread.
pub fn release(mapping: *Mapping) void {
    if (mapping.refs.fetchSub(1, .acq_rel) != 1) return;
    bus_fault.unwatch(mapping);
    os.unmap(mapping.bytes);
    mapping.gpa.free(mapping.path);
    mapping.gpa.destroy(mapping);
}

/// Whether a range, which is not beyond 2^64, can be had from here.
pub fn has(mapping: *const Mapping, offset: u64, size: u64) bool {
    const end = offset + size;
    return end <= mapping.bytes.len and !mapping.isLost(end);
}

/// Whether bytes before `end` turned out to be gone.
pub fn isLost(mapping: *const Mapping, end: u64) bool {
    return mapping.lost.load(.monotonic) < end;
}

/// Called where a page could not be had, even in a signal handler.
pub fn lose(mapping: *Mapping, offset: u64) void {
    _ = mapping.lost.fetchMin(offset, .monotonic);
    mapping.retain();
    // Never the last one: whoever touched the page holds a reference.
    if (mapping.first_lost.cmpxchgStrong(null, mapping, .release, .monotonic) != null) {
        _ = mapping.refs.fetchSub(1, .monotonic);
    }
}

/// Report it, as an error of the file.
pub fn describeLoss(mapping: *const Mapping, diag: *Diagnostics) void {
    const offset = mapping.lost.load(.monotonic);
    diag.set(.read, "{s}: the bytes from offset {d} on were lost while the file was mapped: it became shorter, or its storage failed", .{
        mapping.path, offset,
    });
    diag.setPath(mapping.path);
    diag.setRange(offset, mapping.bytes.len - offset);
}

/// Touch a range, so that nobody who does so later waits. One byte brings in
/// all cached pages around it, which costs half of asking for each by madvise.
pub fn bringIn(mapping: *Mapping, start: u64, end: u64) void {
    const bytes: []const volatile u8 = mapping.bytes;
    const last: usize = @intCast(end);
    var place = std.mem.alignBackward(usize, @intCast(start), page);
    mapping.resident_bytes += std.mem.alignForward(usize, last, page) - place;
    while (place < last) {
        _ = bytes[place];
        place = std.mem.alignBackward(usize, @intFromPtr(bytes.ptr) + place + fault_around, fault_around) - @intFromPtr(bytes.ptr);
    }
}

/// Linux maps the pages that lie in one aligned stretch of this size (the
/// default of fault_around_bytes) with the one that is touched.
const fault_around = 64 * 1024;

/// Give up the pages, all at once as that is several times cheaper than range by
/// range. What is still in use comes back from the page cache when it is touched.
pub fn giveUpPages(mapping: *Mapping) void {
    os.dropPages(mapping.bytes);
    mapping.resident_bytes = 0;
}

const testing = std.testing;

fn testFile(size: usize) !os.fd_t {
    const fd = std.c.memfd_create("mapping-test", std.c.MFD.CLOEXEC);
    if (fd < 0 or std.c.ftruncate(fd, @intCast(size)) != 0) return error.SkipZigTest;
    return fd;
}

test "what a file loses reads as zeros and is known" {
    const fd = try testFile(3 * page);
    defer os.close(fd);
    var first: First = .init(null);
    const mapping = (try create(testing.allocator, fd, 3 * page, "a.tar", &first)).ok;
    defer mapping.release();
    try testing.expect(mapping.has(0, 3 * page));
    try testing.expect(!mapping.has(1, 3 * page));
    try testing.expectEqual(0, std.c.ftruncate(fd, page));
    const volatile_bytes: []const volatile u8 = mapping.bytes;
    try testing.expectEqual(0, volatile_bytes[2 * page + 5]);
    try testing.expectEqual(mapping, first.swap(null, .acquire).?);
    mapping.release(); // The reference of `first`.
    try testing.expect(mapping.has(0, 2 * page));
    try testing.expect(!mapping.has(0, 2 * page + 1));
    mapping.bringIn(page, page + 1);
    try testing.expect(!mapping.has(page, 1));
    first.swap(null, .acquire).?.release();
}

test "mappings are refused where there is nothing to map" {
    var first: First = .init(null);
    try testing.expect((try create(testing.allocator, -1, 100, "a.tar", &first)) == .err);
}
