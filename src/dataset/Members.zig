//! Which members of a row are those of the fields. Rows with the same keys share one
//! list of keys, so it is looked at once, as a rule.
const Members = @This();

const std = @import("std");
const Field = @import("Field.zig");
const Index = @import("../utix/Index.zig");

/// The lists that were looked at last.
lists: [lists_max]?[*]const u32 = @splat(null),
/// For each of them, and each field, a place in it.
places: []u32,

pub const missing = std.math.maxInt(u32);

/// Each shard has lists of its own, and rows at random are of many shards.
const lists_max = 256;

pub fn init(gpa: std.mem.Allocator, fields_count: usize) error{OutOfMemory}!Members {
    return .{ .places = try gpa.alloc(u32, lists_max * fields_count) };
}

pub fn deinit(members: *Members, gpa: std.mem.Allocator) void {
    gpa.free(members.places);
}

/// For each field the place among `keys`, which are of a record of `index`, or
/// `missing`. Valid until the next call. Always for the same fields.
pub fn find(members: *Members, index: *const Index, keys: []const u32, fields: []const Field) []const u32 {
    const slot = (@intFromPtr(keys.ptr) >> 2) *% 0x9E3779B97F4A7C15 >> 56;
    const places = members.places[slot * fields.len ..][0..fields.len];
    // Empty lists may be anywhere, also where another one is.
    if (members.lists[slot] == keys.ptr and keys.len > 0) return places;
    members.lists[slot] = if (keys.len > 0) keys.ptr else null;
    for (fields, places) |*field, *place| {
        place.* = missing;
        for (keys, 0..) |key, i| {
            const name = index.keyText(key);
            if (!field.isCalled(name)) continue;
            const is_exact = name.len == field.key.len;
            if (place.* == missing or is_exact) place.* = @intCast(i);
            if (is_exact) break; // Of a key given twice the first counts.
        }
    }
    return places;
}
