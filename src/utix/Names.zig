//! The keys that records of an index have. Lists of keys repeat, so each distinct
//! one is kept once, as a *shape*. The indexes of a dataset mostly have the same
//! lists, found in the same order: those share one of these.
const Names = @This();

const std = @import("std");
const Allocator = std.mem.Allocator;
const Reader = @import("../msgpack/Reader.zig");

gpa: Allocator,
/// Indexes that have it. Unchanged once a second one has.
refs: std.atomic.Value(usize) = .init(1),
shapes: std.ArrayList(Shape) = .empty,
/// From a list of keys, as msgpack, to its shape; `shape + 1` has no offsets
/// where there is one key.
shape_ids: std.StringHashMapUnmanaged(u32) = .empty,
keys: std.ArrayList([]const u8) = .empty,
key_ids: std.StringHashMapUnmanaged(u32) = .empty,
/// Holds what shapes and keys point to.
arena: std.heap.ArenaAllocator,

pub const Shape = struct {
    /// The list as msgpack.
    raw: []const u8,
    keys: []const u32,
    has_offsets: bool,

    pub fn valuesCount(shape: Shape) usize {
        return if (shape.has_offsets) 2 * shape.keys.len else shape.keys.len;
    }
};

pub fn create(gpa: Allocator) Allocator.Error!*Names {
    const names = try gpa.create(Names);
    names.* = .{ .gpa = gpa, .arena = .init(gpa) };
    return names;
}

/// Those of the first so many shapes, to which more may be added.
pub fn copy(names: *const Names, shapes_count: usize) Allocator.Error!*Names {
    const copied = try create(names.gpa);
    errdefer copied.release();
    for (names.shapes.items[0..shapes_count]) |shape| _ = try copied.add(shape.raw);
    return copied;
}

pub fn retain(names: *Names) void {
    _ = names.refs.fetchAdd(1, .monotonic);
}

/// Any thread.
pub fn release(names: *Names) void {
    if (names.refs.fetchSub(1, .acq_rel) != 1) return;
    const gpa = names.gpa;
    names.shapes.deinit(gpa);
    names.shape_ids.deinit(gpa);
    names.keys.deinit(gpa);
    names.key_ids.deinit(gpa);
    names.arena.deinit();
    gpa.destroy(names);
}

/// The shape of a msgpack array of strings.
pub fn add(names: *Names, raw: []const u8) Allocator.Error!u32 {
    if (names.shape_ids.get(raw)) |id| return id;
    const arena = names.arena.allocator();
    var reader: Reader = .{ .bytes = raw };
    const count = reader.array() catch unreachable; // `RecordReader` has read it.
    const ids = try arena.alloc(u32, count);
    for (ids) |*id| id.* = try names.keyId(reader.str() catch unreachable); // Likewise.
    const id = std.math.cast(u32, names.shapes.items.len) orelse return error.OutOfMemory;
    const shape: Shape = .{ .raw = try arena.dupe(u8, raw), .keys = ids, .has_offsets = true };
    try names.shapes.append(names.gpa, shape);
    if (count == 1) {
        var single = shape;
        single.has_offsets = false;
        try names.shapes.append(names.gpa, single);
    }
    try names.shape_ids.put(names.gpa, shape.raw, id);
    return id;
}

/// The shape of a list, as long as the lists come as they came here. `used` is
/// how many shapes that took so far; null when there is another list.
pub fn find(names: *const Names, raw: []const u8, used: *u32) ?u32 {
    const shapes = names.shapes.items;
    // Few as a rule. Where lists are many, a table of one's own is faster.
    if (used.* <= searched_max) for (shapes[0..used.*], 0..) |shape, id| {
        if (shape.has_offsets and std.mem.eql(u8, shape.raw, raw)) return @intCast(id);
    };
    const next = used.*;
    if (next > searched_max or next == shapes.len or !std.mem.eql(u8, shapes[next].raw, raw)) return null;
    used.* += if (shapes[next].keys.len == 1) 2 else 1;
    return next;
}

const searched_max = 16;

/// After the last `add`: gives back what only that needed.
pub fn finish(names: *Names) Allocator.Error!void {
    names.shape_ids.clearAndFree(names.gpa);
    names.key_ids.clearAndFree(names.gpa);
    names.shapes = .fromOwnedSlice(try names.shapes.toOwnedSlice(names.gpa));
    names.keys = .fromOwnedSlice(try names.keys.toOwnedSlice(names.gpa));
}

fn keyId(names: *Names, key: []const u8) Allocator.Error!u32 {
    if (names.key_ids.get(key)) |id| return id;
    const id = std.math.cast(u32, names.keys.items.len) orelse return error.OutOfMemory;
    const own = try names.arena.allocator().dupe(u8, key);
    try names.keys.append(names.gpa, own);
    try names.key_ids.put(names.gpa, own, id);
    return id;
}

test "lists that come as they came have the same shapes, others do not" {
    const gpa = std.testing.allocator;
    const names = try create(gpa);
    defer names.release();
    const lists = [_][]const u8{ "\x91\xa1a", "\x92\xa1a\xa1b", "\x90", "\x91\xa1b" };
    const ids = [_]u32{ 0, 2, 3, 4 };
    for (lists, ids) |list, id| try std.testing.expectEqual(id, try names.add(list));
    try names.finish();
    try std.testing.expectEqual(2, names.keys.items.len);

    var used: u32 = 0;
    for (lists[0..3], ids[0..3]) |list, id| {
        try std.testing.expectEqual(id, names.find(list, &used));
        try std.testing.expectEqual(0, names.find(lists[0], &used));
    }
    try std.testing.expectEqual(null, names.find("\x91\xa1c", &used));
    const other = try names.copy(used);
    defer other.release();
    try std.testing.expectEqual(4, try other.add("\x91\xa1c"));
    for (lists[0..3], ids[0..3]) |list, id| try std.testing.expectEqual(id, try other.add(list));
    used = 0;
    try std.testing.expectEqual(null, names.find(lists[1], &used));
}
