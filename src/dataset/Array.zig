//! Elements one after the other, in C order, and what shape they have.
const Array = @This();

const std = @import("std");
const Block = @import("Block.zig");
const Element = @import("Element.zig");
const limits = @import("../base/limits.zig");

gpa: std.mem.Allocator,
/// The Python object, and whoever took the memory over by DLPack or Arrow. Any thread.
refs: std.atomic.Value(u32) = .init(1),
/// A reference of ours.
block: *Block,
bytes: []align(line_bytes) u8,
element: Element,
/// As long as each other. Never none.
shape: []const i64,
/// In elements, and in bytes.
strides: []const i64,
byte_strides: []const i64,

/// Where arrays begin: at a line of the cache, as vector instructions like it.
pub const line_bytes = 64;

/// Takes a reference to `block`, where the array begins at `start`. Copies the shape.
pub fn create(gpa: std.mem.Allocator, block: *Block, start: usize, element: Element, first: usize, inner: []const u64) error{OutOfMemory}!*Array {
    const array = try gpa.create(Array);
    errdefer gpa.destroy(array);
    const numbers = try gpa.alloc(i64, 3 * (inner.len + 1));
    const shape = numbers[0 .. inner.len + 1];
    shape[0] = @intCast(first);
    for (shape[1..], inner) |*to, from| to.* = @intCast(from);
    const strides = numbers[inner.len + 1 ..][0 .. inner.len + 1];
    const byte_strides = numbers[2 * (inner.len + 1) ..];
    // Whatever stride an array of no elements has, it fits.
    var stride: i64 = 1;
    var i = shape.len;
    while (i > 0) {
        i -= 1;
        strides[i] = stride;
        byte_strides[i] = stride *| element.size;
        stride *|= shape[i];
    }
    const size = @as(usize, @intCast(stride)) * element.size;
    block.retain();
    array.* = .{
        .gpa = gpa,
        .block = block,
        .bytes = @alignCast(block.buffer[start..][0..size]),
        .element = element,
        .shape = shape,
        .strides = strides,
        .byte_strides = byte_strides,
    };
    return array;
}

/// A copy, in memory of its own.
pub fn copy(array: *const Array) error{OutOfMemory}!*Array {
    const gpa = array.gpa;
    const block: *Block = try .create(gpa, array.block.pool, array.bytes.len);
    defer block.release();
    var inner: [limits.array_dims_max]u64 = undefined;
    for (inner[0 .. array.shape.len - 1], array.shape[1..]) |*to, from| to.* = @intCast(from);
    const copied = try create(gpa, block, 0, array.element, @intCast(array.shape[0]), inner[0 .. array.shape.len - 1]);
    @memcpy(copied.bytes, array.bytes);
    return copied;
}

pub fn retain(array: *Array) void {
    _ = array.refs.fetchAdd(1, .monotonic);
}

pub fn release(array: *Array) void {
    if (array.refs.fetchSub(1, .acq_rel) != 1) return;
    array.block.release();
    array.gpa.free(array.shape.ptr[0 .. 3 * array.shape.len]);
    array.gpa.destroy(array);
}

test "shape and strides, also of nothing" {
    const gpa = std.testing.allocator;
    const BufferPool = @import("../engine/BufferPool.zig");
    const pool: *BufferPool = try .create(gpa, 0);
    defer pool.drop();
    const block: *Block = try .create(gpa, pool, 1000);
    defer block.release();
    const array: *Array = try .create(gpa, block, 64, .{ .kind = .uint, .size = 2 }, 5, &.{ 3, 4 });
    defer array.release();
    try std.testing.expectEqualSlices(i64, &.{ 5, 3, 4 }, array.shape);
    try std.testing.expectEqualSlices(i64, &.{ 12, 4, 1 }, array.strides);
    try std.testing.expectEqual(120, array.bytes.len);
    @memset(array.bytes, 7);
    const copied = try array.copy();
    defer copied.release();
    try std.testing.expectEqualSlices(u8, array.bytes, copied.bytes);
    const none: *Array = try .create(gpa, block, 0, .{ .kind = .uint, .size = 8 }, 0, &.{ 1 << 40, 1 << 40 });
    defer none.release();
    try std.testing.expectEqual(0, none.bytes.len);
}
