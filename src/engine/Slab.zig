//! A range of memory from the system, cut into pieces of one size. Books only: which
//! pieces are free is written here by the pool, under its lock.
const Slab = @This();

const std = @import("std");
const os = @import("../base/os.zig");
const page = std.heap.page_size_min;

/// Of all but those of one piece: a huge page, of x86-64 and of ARM with small pages.
const size = 2 * 1024 * 1024;
/// Of which a slab has at most this many.
pub const piece_bytes_min = 512;

memory: []align(page) u8,
piece_bytes: usize,
/// Free pieces without memory, as nothing has touched them yet, or since.
cold: Set,
/// Free pieces with memory.
warm: Set = .empty,
/// Of the pool's list of slabs with cold pieces.
link: std.DoublyLinkedList.Node = .{},

const Set = std.bit_set.ArrayBitSet(usize, size / piece_bytes_min);

/// All of it cold. `piece_bytes` is a power of two.
pub fn create(gpa: std.mem.Allocator, piece_bytes: usize, huge: bool) error{OutOfMemory}!*Slab {
    std.debug.assert(piece_bytes >= piece_bytes_min);
    const slab = try gpa.create(Slab);
    errdefer gpa.destroy(slab);
    const memory = os.mapMemory(@max(size, piece_bytes), size) orelse return error.OutOfMemory;
    if (huge) os.adviseHuge(memory);
    slab.* = .{ .memory = memory, .piece_bytes = piece_bytes, .cold = .empty };
    slab.cold.setRangeValue(.{ .start = 0, .end = memory.len / piece_bytes }, true);
    return slab;
}

pub fn destroy(slab: *Slab, gpa: std.mem.Allocator) void {
    os.unmap(slab.memory);
    gpa.destroy(slab);
}

/// What identifies the slab that a piece is of.
pub fn baseOf(piece: *const anyopaque) usize {
    return std.mem.alignBackward(usize, @intFromPtr(piece), size);
}

pub fn pieceAt(slab: *const Slab, address: *const anyopaque) usize {
    return (@intFromPtr(address) - @intFromPtr(slab.memory.ptr)) / slab.piece_bytes;
}

pub fn bytes(slab: *const Slab, piece: usize) []align(piece_bytes_min) u8 {
    return @alignCast(slab.memory[piece * slab.piece_bytes ..][0..slab.piece_bytes]);
}

/// The link that a free piece with memory begins with.
pub fn node(slab: *const Slab, piece: usize) *std.DoublyLinkedList.Node {
    return @ptrCast(slab.bytes(piece).ptr);
}

/// Pieces that are not free.
pub fn takenCount(slab: *const Slab) usize {
    return slab.memory.len / slab.piece_bytes - slab.cold.count() - slab.warm.count();
}

/// Give the memory of a piece back, if it has whole pages; its addresses stay.
pub fn empty(slab: *const Slab, piece: usize) void {
    if (slab.piece_bytes >= page) os.dropPages(@alignCast(slab.bytes(piece)));
}
