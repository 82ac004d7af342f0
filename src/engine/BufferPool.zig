//! Payload memory: buffers that are recycled, because touching fresh pages costs
//! several times as much as copying into warm ones.
//!
//! Taken on the engine's thread and given back on any. Sizes are rounded up to
//! powers of two; buffers up to half a slab share slabs of 2 MiB, which the kernel
//! may back by huge pages: a fifth of the cost of as many small ones, where rows are
//! held and nothing can be recycled.
const BufferPool = @This();

const std = @import("std");
const Slab = @import("Slab.zig");
const fork_lock = &@import("../base/sync.zig").fork_lock;

gpa: std.mem.Allocator,
/// Who takes buffers from it, or may do so later.
refs: std.atomic.Value(u32) = .init(1),
/// By the address of each slab's first byte, as `Slab.baseOf` has it. This and all that
/// follows under the lock that spans forks, as rows may be given up on either side.
slabs: std.AutoHashMapUnmanaged(usize, *Slab) = .empty,
/// Free buffers of each class that have memory, the last one given back first: threaded
/// through their first bytes.
warm: [class_count]std.DoublyLinkedList = @splat(.{}),
/// Slabs of each class with pieces that have no memory.
cold: [class_count]std.DoublyLinkedList = @splat(.{}),
/// In free buffers that have memory.
free_bytes: usize = 0,
/// More than this is not kept but given back to the system.
free_bytes_max: usize,
/// Bytes in buffers that somebody uses.
used_bytes: std.atomic.Value(usize) = .init(0),

/// Each begins at a multiple of its own size, or of 2 MiB.
pub const Buffer = []align(size_min) u8;

/// Of single tiny rows, each with a buffer of its own, many may be held.
const size_min = Slab.piece_bytes_min;
const class_min = std.math.log2_int(usize, size_min);
const class_count = 48 - class_min;

/// Where rows are held one by one, or few are, huge pages would only waste memory.
const huge_from_bytes = 8 * 1024 * 1024;

pub fn create(gpa: std.mem.Allocator, free_bytes_max: usize) error{OutOfMemory}!*BufferPool {
    const pool = try gpa.create(BufferPool);
    pool.* = .{ .gpa = gpa, .free_bytes_max = free_bytes_max };
    return pool;
}

pub fn retain(pool: *BufferPool) void {
    _ = pool.refs.fetchAdd(1, .monotonic);
}

/// Any thread. Who drops a reference has given its buffers back, but for those that are
/// lost: the kernel may still write to them, so their slabs stay for ever.
pub fn drop(pool: *BufferPool) void {
    if (pool.refs.fetchSub(1, .acq_rel) != 1) return;
    var slabs = pool.slabs.valueIterator();
    while (slabs.next()) |slab| if (slab.*.takenCount() == 0) slab.*.destroy(pool.gpa);
    pool.slabs.deinit(pool.gpa);
    pool.gpa.destroy(pool);
}

/// A buffer of at least `size` bytes, its content undefined.
pub fn acquire(pool: *BufferPool, size: usize) error{OutOfMemory}!Buffer {
    const class = try classOf(size);
    const buffer = pool.takeFree(class) orelse try pool.grow(class);
    _ = pool.used_bytes.fetchAdd(buffer.len, .monotonic);
    return buffer;
}

/// Give back what `acquire` gave. Any thread.
pub fn release(pool: *BufferPool, buffer: Buffer) void {
    _ = pool.used_bytes.fetchSub(buffer.len, .monotonic);
    fork_lock.lock();
    const slab, const piece = pool.find(buffer.ptr);
    if (pool.free_bytes + buffer.len > pool.free_bytes_max) return pool.giveUp(slab, piece);
    defer fork_lock.unlock();
    slab.warm.set(piece);
    pool.warm[classIn(slab)].prepend(slab.node(piece));
    pool.free_bytes += buffer.len;
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
        while (pool.giveUpExcess(class)) {}
    }
}

/// Keep at least so many bytes of free memory from here on, where there are so many.
pub fn keep(pool: *BufferPool, bytes: usize) void {
    fork_lock.lock();
    defer fork_lock.unlock();
    pool.free_bytes_max = @max(pool.free_bytes_max, bytes);
}

/// Give up a free buffer of a class when more is free than may be; whether it was so.
fn giveUpExcess(pool: *BufferPool, class: usize) bool {
    fork_lock.lock();
    if (pool.free_bytes > pool.free_bytes_max) if (pool.warm[class].last) |node| {
        const slab, const piece = pool.find(node);
        pool.unlinkWarm(slab, piece);
        pool.giveUp(slab, piece);
        return true;
    };
    fork_lock.unlock();
    return false;
}

/// The piece that begins at an address, which is one of ours.
fn find(pool: *const BufferPool, address: *const anyopaque) struct { *Slab, usize } {
    const slab = pool.slabs.get(Slab.baseOf(address)).?;
    return .{ slab, slab.pieceAt(address) };
}

fn takeFree(pool: *BufferPool, class: u6) ?Buffer {
    fork_lock.lock();
    defer fork_lock.unlock();
    if (pool.warm[class].first) |node| {
        const slab, const piece = pool.find(node);
        pool.unlinkWarm(slab, piece);
        return slab.bytes(piece);
    }
    if (pool.cold[class].first) |link| return pool.takeCold(@fieldParentPtr("link", link));
    return null;
}

fn takeCold(pool: *BufferPool, slab: *Slab) Buffer {
    const piece = slab.cold.findFirstSet().?;
    slab.cold.unset(piece);
    if (slab.cold.findFirstSet() == null) pool.cold[classIn(slab)].remove(&slab.link);
    return slab.bytes(piece);
}

fn unlinkWarm(pool: *BufferPool, slab: *Slab, piece: usize) void {
    slab.warm.unset(piece);
    pool.warm[classIn(slab)].remove(slab.node(piece));
    pool.free_bytes -= slab.piece_bytes;
}

/// A buffer of a slab that is new.
fn grow(pool: *BufferPool, class: u6) error{OutOfMemory}!Buffer {
    const huge = pool.used_bytes.load(.monotonic) >= huge_from_bytes;
    // Not under the lock: the kernel takes its time.
    const slab: *Slab = try .create(pool.gpa, @as(usize, size_min) << class, huge);
    errdefer slab.destroy(pool.gpa);
    fork_lock.lock();
    defer fork_lock.unlock();
    try pool.slabs.putNoClobber(pool.gpa, Slab.baseOf(slab.memory.ptr), slab);
    pool.cold[class].prepend(&slab.link);
    return pool.takeCold(slab);
}

/// Give the memory of a piece that is neither used nor free back to the system: with
/// that of its slab if nothing of it is used. The lock is held at first, and not after.
fn giveUp(pool: *BufferPool, slab: *Slab, piece: usize) void {
    if (slab.takenCount() > 1) {
        fork_lock.unlock();
        slab.empty(piece);
        fork_lock.lock();
        if (slab.cold.findFirstSet() == null) pool.cold[classIn(slab)].prepend(&slab.link);
        slab.cold.set(piece);
        if (slab.takenCount() > 0) return fork_lock.unlock();
    }
    while (slab.warm.findFirstSet()) |free| pool.unlinkWarm(slab, free);
    if (slab.cold.findFirstSet() != null) pool.cold[classIn(slab)].remove(&slab.link);
    _ = pool.slabs.remove(Slab.baseOf(slab.memory.ptr));
    fork_lock.unlock();
    slab.destroy(pool.gpa);
}

fn classIn(slab: *const Slab) u6 {
    return @intCast(std.math.log2_int(usize, slab.piece_bytes) - class_min);
}

fn classOf(size: usize) error{OutOfMemory}!u6 {
    const rounded = std.math.ceilPowerOfTwo(usize, @max(size, size_min)) catch return error.OutOfMemory;
    const class = std.math.log2_int(usize, rounded) - class_min;
    if (class >= class_count) return error.OutOfMemory;
    return @intCast(class);
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
    const size = 64 * 1024;
    const pool: *BufferPool = try .create(std.testing.allocator, 3 * size);
    defer pool.drop();
    var buffers: [8]Buffer = undefined;
    for (&buffers) |*buffer| {
        buffer.* = try pool.acquire(size);
        @memset(buffer.*, 1);
    }
    for (buffers[0..6]) |buffer| pool.release(buffer);
    try std.testing.expectEqual(3 * size, pool.free_bytes);
    pool.trim(size);
    try std.testing.expectEqual(size, pool.free_bytes);
    // Those that lost their memory are taken again, after the one that did not.
    for (0..6) |i| {
        buffers[i] = try pool.acquire(size);
        try std.testing.expectEqual(@as(u8, if (i == 0) 1 else 0), buffers[i][size - 1]);
    }
    try std.testing.expectEqual(1, pool.slabs.count());
    for (buffers) |buffer| pool.release(buffer);
    try std.testing.expect(pool.free_bytes <= size);
}

test "a slab goes with the last of its buffers" {
    const pool: *BufferPool = try .create(std.testing.allocator, 0);
    defer pool.drop();
    var buffers: [9]Buffer = undefined;
    for (&buffers) |*buffer| buffer.* = try pool.acquire(512 * 1024);
    try std.testing.expectEqual(3, pool.slabs.count());
    for (buffers[0..3]) |buffer| pool.release(buffer);
    try std.testing.expectEqual(3, pool.slabs.count());
    for (buffers[3..]) |buffer| pool.release(buffer);
    try std.testing.expectEqual(0, pool.slabs.count());
    const large = try pool.acquire(5 << 20);
    try std.testing.expectEqual(8 << 20, large.len);
    pool.release(large);
    try std.testing.expectEqual(0, pool.slabs.count());
}

test "buffers do not overlap, in whatever order they come and go" {
    var prng: std.Random.DefaultPrng = .init(std.testing.random_seed);
    const random = prng.random();
    const pool: *BufferPool = try .create(std.testing.allocator, 4 << 20);
    defer pool.drop();
    var held: std.ArrayList(struct { buffer: Buffer, mark: u8 }) = .empty;
    defer held.deinit(std.testing.allocator);
    for (0..5000) |i| {
        if (held.items.len > 0 and random.uintLessThan(usize, 100) < held.items.len) {
            const one = held.swapRemove(random.uintLessThan(usize, held.items.len));
            try std.testing.expectEqual(one.mark, one.buffer[0]);
            try std.testing.expectEqual(one.mark, one.buffer[one.buffer.len - 1]);
            pool.release(one.buffer);
        } else {
            const size = @as(usize, 1) << random.intRangeAtMost(u6, 0, 22);
            const buffer = try pool.acquire(random.intRangeAtMost(usize, 1, size));
            const mark: u8 = @truncate(i);
            buffer[0] = mark;
            buffer[buffer.len - 1] = mark;
            try held.append(std.testing.allocator, .{ .buffer = buffer, .mark = mark });
        }
        if (i % 1000 == 999) pool.trim(random.uintLessThan(usize, 8 << 20));
    }
    for (held.items) |one| pool.release(one.buffer);
    pool.trim(0);
    try std.testing.expectEqual(0, pool.slabs.count());
    try std.testing.expectEqual(0, pool.free_bytes);
}

test "an absurd size is out of memory, not a crash" {
    const pool: *BufferPool = try .create(std.testing.allocator, 0);
    defer pool.drop();
    try std.testing.expectError(error.OutOfMemory, pool.acquire(1 << 47));
    try std.testing.expectError(error.OutOfMemory, pool.acquire(1 << 60));
    try std.testing.expectError(error.OutOfMemory, pool.acquire(std.math.maxInt(usize)));
}
