//! Payload memory: page-aligned buffers that are recycled, because touching
//! fresh pages costs several times as much as copying into warm ones.
//!
//! Taken on the engine's thread and given back on any. Sizes are rounded up to
//! powers of two; pages that nothing touches cost no memory.
const BufferPool = @This();

const std = @import("std");
const fork_lock = &@import("../base/sync.zig").fork_lock;
const assert = std.debug.assert;

gpa: std.mem.Allocator,
/// Who takes buffers from it, or may do so later.
refs: std.atomic.Value(u32) = .init(1),
/// Free buffers by class, as lists threaded through their first bytes. This and the
/// next two under the lock that spans forks, as rows may be given up on either side.
free: [class_count]?*Free = @splat(null),
free_bytes: usize = 0,
/// More than this is not kept but given back to the system.
free_bytes_max: usize,
/// Bytes in buffers that somebody uses.
used_bytes: std.atomic.Value(usize) = .init(0),

pub const alignment = std.heap.page_size_min;
pub const Buffer = []align(alignment) u8;

const size_min = 64 * 1024;
const class_min = std.math.log2_int(usize, size_min);
const class_count = 48 - class_min;

const Free = struct { next: ?*Free };

pub fn create(gpa: std.mem.Allocator, free_bytes_max: usize) error{OutOfMemory}!*BufferPool {
    const pool = try gpa.create(BufferPool);
    pool.* = .{ .gpa = gpa, .free_bytes_max = free_bytes_max };
    return pool;
}

pub fn retain(pool: *BufferPool) void {
    _ = pool.refs.fetchAdd(1, .monotonic);
}

/// Any thread. Who drops a reference has given its buffers back.
pub fn drop(pool: *BufferPool) void {
    if (pool.refs.fetchSub(1, .acq_rel) != 1) return;
    assert(pool.used_bytes.load(.monotonic) == 0);
    pool.trim(0);
    pool.gpa.destroy(pool);
}

/// A buffer of at least `size` bytes, its content undefined.
pub fn acquire(pool: *BufferPool, size: usize) error{OutOfMemory}!Buffer {
    const class = try classOf(size);
    const capacity = @as(usize, size_min) << class;
    const buffer = pool.takeFree(class) orelse try map(capacity);
    _ = pool.used_bytes.fetchAdd(capacity, .monotonic);
    return buffer;
}

/// Give back what `acquire` gave. Any thread.
pub fn release(pool: *BufferPool, buffer: Buffer) void {
    _ = pool.used_bytes.fetchSub(buffer.len, .monotonic);
    {
        fork_lock.lock();
        defer fork_lock.unlock();
        if (pool.free_bytes + buffer.len <= pool.free_bytes_max) {
            const class = std.math.log2_int(usize, buffer.len) - class_min;
            const node: *Free = @ptrCast(buffer.ptr);
            node.next = pool.free[class];
            pool.free[class] = node;
            pool.free_bytes += buffer.len;
            return;
        }
    }
    std.posix.munmap(buffer);
}

/// Keep at most `bytes_max` of free memory from here on.
pub fn trim(pool: *BufferPool, bytes_max: usize) void {
    {
        fork_lock.lock();
        defer fork_lock.unlock();
        pool.free_bytes_max = bytes_max;
    }
    // One by one: others wait for the lock while it is held.
    for (0..class_count) |class| {
        while (pool.takeExcess(class)) |buffer| std.posix.munmap(buffer);
    }
}

/// Keep at least so many bytes of free memory from here on, where there are so many.
pub fn keep(pool: *BufferPool, bytes: usize) void {
    fork_lock.lock();
    defer fork_lock.unlock();
    pool.free_bytes_max = @max(pool.free_bytes_max, bytes);
}

/// A free buffer of a class, when more is free than may be.
fn takeExcess(pool: *BufferPool, class: usize) ?Buffer {
    fork_lock.lock();
    defer fork_lock.unlock();
    return if (pool.free_bytes > pool.free_bytes_max) pool.popFree(class) else null;
}

fn takeFree(pool: *BufferPool, class: usize) ?Buffer {
    fork_lock.lock();
    defer fork_lock.unlock();
    return pool.popFree(class);
}

fn popFree(pool: *BufferPool, class: usize) ?Buffer {
    const node = pool.free[class] orelse return null;
    pool.free[class] = node.next;
    const capacity = @as(usize, size_min) << @intCast(class);
    pool.free_bytes -= capacity;
    const start: [*]align(alignment) u8 = @ptrCast(@alignCast(node));
    return start[0..capacity];
}

fn classOf(size: usize) error{OutOfMemory}!u6 {
    const rounded = std.math.ceilPowerOfTwo(usize, @max(size, size_min)) catch return error.OutOfMemory;
    const class = std.math.log2_int(usize, rounded) - class_min;
    if (class >= class_count) return error.OutOfMemory;
    return @intCast(class);
}

fn map(capacity: usize) error{OutOfMemory}!Buffer {
    const protection: std.posix.PROT = .{ .READ = true, .WRITE = true };
    return std.posix.mmap(null, capacity, protection, .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true }, -1, 0) catch
        error.OutOfMemory;
}

test "a buffer that comes back is used again" {
    const pool: *BufferPool = try .create(std.testing.allocator, 1 << 20);
    defer pool.drop();
    const first = try pool.acquire(100);
    try std.testing.expectEqual(size_min, first.len);
    pool.release(first);
    const second = try pool.acquire(size_min);
    try std.testing.expectEqual(first.ptr, second.ptr);
    pool.release(second);
}

test "more than the bound is given back to the system" {
    const pool: *BufferPool = try .create(std.testing.allocator, 3 * size_min);
    defer pool.drop();
    var buffers: [8]Buffer = undefined;
    for (&buffers) |*buffer| buffer.* = try pool.acquire(1);
    for (buffers) |buffer| pool.release(buffer);
    try std.testing.expectEqual(3 * size_min, pool.free_bytes);
    pool.trim(size_min);
    try std.testing.expectEqual(size_min, pool.free_bytes);
}

test "an absurd size is out of memory, not a crash" {
    const pool: *BufferPool = try .create(std.testing.allocator, 0);
    defer pool.drop();
    try std.testing.expectError(error.OutOfMemory, pool.acquire(1 << 60));
    try std.testing.expectError(error.OutOfMemory, pool.acquire(std.math.maxInt(usize)));
}
