//! What rows need for as long as they live: buffers, keys and spare groups.
//! The engine and every group in use hold a reference, so rows outlive the
//! engine.
const Core = @This();

const std = @import("std");
const BufferPool = @import("BufferPool.zig");
const Group = @import("Group.zig");
const Keys = @import("Keys.zig");
const Mapping = @import("../io/Mapping.zig");
const limits = @import("../base/limits.zig");

gpa: std.mem.Allocator,
refs: std.atomic.Value(usize) = .init(1),
buffers: *BufferPool,
/// Others take from it, too: what is unused stays for them.
shares_buffers: bool,
keys: Keys,
/// The first mapped file that lost bytes, until the consumer is told.
first_lost: Mapping.First = .init(null),
/// Groups that rows have let go of, to be used again. Any thread pushes; the
/// engine's thread takes the whole list at once, so that a node which goes and
/// comes back cannot be mistaken for one that stayed.
spare: std.atomic.Value(?*Group) = .init(null),
/// Groups in both lists of spare ones.
spare_count: std.atomic.Value(u32) = .init(0),
/// Taken from `spare` already; the engine's thread only.
spare_taken: ?*Group = null,

/// With buffers from `shared`, of which it takes a reference, or else from a pool
/// of its own that keeps at most `free_bytes_max` of unused memory.
pub fn create(gpa: std.mem.Allocator, shared: ?*BufferPool, free_bytes_max: usize) error{OutOfMemory}!*Core {
    const core = try gpa.create(Core);
    errdefer gpa.destroy(core);
    if (shared) |buffers| buffers.retain();
    const buffers = shared orelse try BufferPool.create(gpa, free_bytes_max);
    core.* = .{ .gpa = gpa, .buffers = buffers, .shares_buffers = shared != null, .keys = .init(gpa) };
    return core;
}

/// The engine is gone. Payload memory that rows give back from here on goes to
/// the system; the rest is freed with the last row.
pub fn retire(core: *Core) void {
    if (!core.shares_buffers) core.buffers.trim(0);
    core.release();
}

/// An empty group with one reference, for the engine to fill.
pub fn acquireGroup(core: *Core) error{OutOfMemory}!*Group {
    if (core.spare_taken == null) core.spare_taken = core.spare.swap(null, .acquire);
    const group = core.spare_taken orelse fresh: {
        const group = try core.gpa.create(Group);
        group.* = .{ .core = core };
        break :fresh group;
    };
    if (core.spare_taken == group) _ = core.spare_count.fetchSub(1, .monotonic);
    core.spare_taken = group.next;
    group.next = null;
    group.refs.store(1, .monotonic);
    _ = core.refs.fetchAdd(1, .monotonic);
    return group;
}

/// Take back a group that nobody refers to. Any thread.
pub fn recycleGroup(core: *Core, group: *Group) void {
    defer core.release();
    if (core.spare_count.fetchAdd(1, .monotonic) >= limits.spare_groups_max) {
        _ = core.spare_count.fetchSub(1, .monotonic);
        group.deinit();
        core.gpa.destroy(group);
        return;
    }
    group.clear();
    var head = core.spare.load(.monotonic);
    while (true) {
        group.next = head;
        head = core.spare.cmpxchgWeak(head, group, .release, .monotonic) orelse break;
    }
}

fn release(core: *Core) void {
    if (core.refs.fetchSub(1, .acq_rel) != 1) return;
    if (core.first_lost.raw) |mapping| mapping.release();
    destroyAll(core.spare.raw, core.gpa);
    destroyAll(core.spare_taken, core.gpa);
    core.keys.deinit();
    core.buffers.drop();
    core.gpa.destroy(core);
}

fn destroyAll(first: ?*Group, gpa: std.mem.Allocator) void {
    var next = first;
    while (next) |group| {
        next = group.next;
        group.deinit();
        gpa.destroy(group);
    }
}
