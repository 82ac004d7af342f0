//! Memory of arrays, from a pool and back to it with the last array. Whoever holds
//! one may be anywhere, also in other libraries, in any thread.
const Block = @This();

const std = @import("std");
const BufferPool = @import("../engine/BufferPool.zig");

gpa: std.mem.Allocator,
refs: std.atomic.Value(u32) = .init(1),
pool: *BufferPool,
buffer: BufferPool.Buffer,

pub fn create(gpa: std.mem.Allocator, pool: *BufferPool, size: usize) error{OutOfMemory}!*Block {
    const block = try gpa.create(Block);
    errdefer gpa.destroy(block);
    const buffer = try pool.acquire(size);
    pool.retain();
    block.* = .{ .gpa = gpa, .pool = pool, .buffer = buffer };
    return block;
}

pub fn retain(block: *Block) void {
    _ = block.refs.fetchAdd(1, .monotonic);
}

pub fn release(block: *Block) void {
    if (block.refs.fetchSub(1, .acq_rel) != 1) return;
    block.pool.release(block.buffer);
    block.pool.drop();
    block.gpa.destroy(block);
}

test "memory comes back to its pool, which may be gone for all others" {
    const pool: *BufferPool = try .create(std.testing.allocator, 1 << 20);
    const block: *Block = try .create(std.testing.allocator, pool, 1000);
    const first = block.buffer.ptr;
    block.retain();
    block.release();
    block.release();
    const again: *Block = try .create(std.testing.allocator, pool, 1000);
    try std.testing.expectEqual(first, again.buffer.ptr);
    pool.drop();
    again.release();
}
