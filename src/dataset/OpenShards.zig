//! The shards that a walk through a dataset holds open, the least recently used
//! of which gives way to a new one.
const OpenShards = @This();

const std = @import("std");
const OpenFile = @import("../engine/OpenFile.zig");
const limits = @import("../base/limits.zig");
const assert = std.debug.assert;

gpa: std.mem.Allocator,
/// How many may be open; at least 1.
max: u32,
slots: std.ArrayList(Slot) = .empty,
/// From a shard to its slot.
places: std.AutoHashMapUnmanaged(u32, u32) = .empty,
/// Used last, and longest ago.
newest: u32 = none,
oldest: u32 = none,

pub const File = struct { handle: f64, file: *OpenFile };

const Slot = struct { shard: u32, file: File, newer: u32, older: u32 };

const none = std.math.maxInt(u32);

/// So many that rows at random seldom find their shard closed, and so few that
/// a process which has several walks under way has descriptors left.
pub fn maxFor(descriptors: u64, access: OpenFile.Access) u32 {
    const each: u64 = if (access == .direct) 2 else 1;
    const share = descriptors / limits.dataset_files_share / each;
    return @intCast(std.math.clamp(share, limits.dataset_files_min, limits.dataset_files_max));
}

pub fn deinit(open: *OpenShards) void {
    open.slots.deinit(open.gpa);
    open.places.deinit(open.gpa);
}

/// The file of a shard, which counts as used.
pub fn get(open: *OpenShards, shard: u32) ?File {
    if (open.newest != none and open.slots.items[open.newest].shard == shard) return open.slots.items[open.newest].file;
    const place = open.places.get(shard) orelse return null;
    open.unlink(place);
    open.linkNewest(place);
    return open.slots.items[place].file;
}

/// When there is no room: takes out the file that was used longest ago, for the
/// caller to close.
pub fn evict(open: *OpenShards) ?File {
    if (open.places.count() < open.max) return null;
    const place = open.oldest;
    assert(place != none);
    const slot = open.slots.items[place];
    open.unlink(place);
    assert(open.places.remove(slot.shard));
    // The last slot moves into the gap, so that slots need no list of free ones.
    const last: u32 = @intCast(open.slots.items.len - 1);
    if (place != last) open.move(last, place);
    open.slots.items.len = last;
    return slot.file;
}

/// So that `put` cannot fail.
pub fn reserve(open: *OpenShards) error{OutOfMemory}!void {
    try open.slots.ensureUnusedCapacity(open.gpa, 1);
    try open.places.ensureUnusedCapacity(open.gpa, 1);
}

/// A shard that `get` does not know. Needs `reserve`.
pub fn put(open: *OpenShards, shard: u32, file: File) void {
    const place: u32 = @intCast(open.slots.items.len); // At most `max`.
    open.slots.appendAssumeCapacity(.{ .shard = shard, .file = file, .newer = none, .older = none });
    open.places.putAssumeCapacityNoClobber(shard, place);
    open.linkNewest(place);
}

fn linkNewest(open: *OpenShards, place: u32) void {
    const slot = &open.slots.items[place];
    slot.newer = none;
    slot.older = open.newest;
    if (open.newest == none) open.oldest = place else open.slots.items[open.newest].newer = place;
    open.newest = place;
}

fn unlink(open: *OpenShards, place: u32) void {
    const slot = open.slots.items[place];
    if (slot.newer == none) open.newest = slot.older else open.slots.items[slot.newer].older = slot.older;
    if (slot.older == none) open.oldest = slot.newer else open.slots.items[slot.older].newer = slot.newer;
}

fn move(open: *OpenShards, from: u32, to: u32) void {
    const slot = open.slots.items[from];
    open.slots.items[to] = slot;
    if (slot.newer == none) open.newest = to else open.slots.items[slot.newer].older = to;
    if (slot.older == none) open.oldest = to else open.slots.items[slot.older].newer = to;
    open.places.putAssumeCapacity(slot.shard, to);
}

const testing = std.testing;

test "as many as there may be, and those used last" {
    var prng: std.Random.DefaultPrng = .init(7);
    const random = prng.random();
    for ([_]u32{ 1, 2, 5, 16 }) |max| {
        var open: OpenShards = .{ .gpa = testing.allocator, .max = max };
        defer open.deinit();
        // The shards that should be open, used last first.
        var expected: std.ArrayList(u32) = .empty;
        defer expected.deinit(testing.allocator);
        for (0..2000) |_| {
            const shard = random.uintLessThan(u32, 24);
            const at = std.mem.indexOfScalar(u32, expected.items, shard);
            const found = open.get(shard);
            try testing.expectEqual(at != null, found != null);
            if (found) |file| {
                try testing.expectEqual(@as(f64, @floatFromInt(shard)), file.handle);
                _ = expected.orderedRemove(at.?);
            } else {
                const evicted = open.evict();
                try testing.expectEqual(expected.items.len == max, evicted != null);
                if (evicted) |file| try testing.expectEqual(@as(f64, @floatFromInt(expected.pop().?)), file.handle);
                try open.reserve();
                open.put(shard, .{ .handle = @floatFromInt(shard), .file = undefined });
            }
            try expected.insert(testing.allocator, 0, shard);
        }
    }
}

test "how many, by the descriptors that a process may have" {
    try testing.expectEqual(128, maxFor(1024, .auto));
    try testing.expectEqual(64, maxFor(1024, .direct));
    try testing.expectEqual(limits.dataset_files_min, maxFor(0, .auto));
    try testing.expectEqual(limits.dataset_files_max, maxFor(std.math.maxInt(u64), .auto));
}
