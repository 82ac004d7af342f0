//! Between engine and consumer: finished groups in the script's order, the
//! budget, and the way in which each wakes the other.
//!
//! The engine's thread calls `waitsForRoom`, `push` and `finish`; the consumer
//! (one call at a time) calls `take`, and `wait` when there is nothing.
const RowQueue = @This();

const std = @import("std");
const Group = @import("Group.zig");
const GroupList = @import("GroupList.zig");
const Row = @import("Row.zig");
const Stats = @import("Stats.zig");
const limits = @import("../base/limits.zig");
const sync = @import("../base/sync.zig");

rows_max: u64,
bytes_max: u64,
mutex: sync.Mutex = .{},
ready: GroupList = .{},
/// The script is done or has failed, and everything before that is pushed.
finished: std.atomic.Value(bool) = .init(false),
/// Raised when a group comes and when the queue is finished.
event: sync.Event = .{},

/// Ever admitted by the engine, and ever finished with by the consumer: the
/// difference is what is ahead.
rows_in: std.atomic.Value(u64) = .init(0),
bytes_in: std.atomic.Value(u64) = .init(0),
rows_out: std.atomic.Value(u64) = .init(0),
bytes_out: std.atomic.Value(u64) = .init(0),
/// How much of `bytes_max` is used: as little as the consumer can do with, as
/// memory costs most when it is touched first. The engine's to change.
window_bytes: std.atomic.Value(u64),
/// The window was full since it last grew.
was_full: bool = false,
/// The consumer found nothing since then.
ran_dry: std.atomic.Value(bool) = .init(false),
/// The engine sleeps until no more than this is ahead; not set: it does not.
room_wanted: std.atomic.Value(bool) = .init(false),

/// The consumer's place.
current: ?*Group = null,
next_row: u32 = 0,
next_log: u32 = 0,

pub const Taken = union(enum) {
    row: Row,
    log: Group.Log,
    /// The row cannot be had. Only valid until the next `take`.
    failed: struct { group: *const Group, failure: Group.Failure },
    /// The script is done and everything has been taken.
    finished,
    /// Nothing yet.
    empty,
};

pub fn init(rows_max: u64, bytes_max: u64) RowQueue {
    return .{ .rows_max = rows_max, .bytes_max = bytes_max, .window_bytes = .init(@min(bytes_max, limits.window_bytes_first)) };
}

/// Free what nobody took. The engine must be gone.
pub fn deinit(queue: *RowQueue) void {
    if (queue.current) |group| group.release();
    while (queue.pop()) |group| group.release();
}

/// Count a group that is about to be read. See `hasRoom`.
pub fn admit(queue: *RowQueue, rows: u64, bytes: u64) void {
    _ = queue.rows_in.fetchAdd(rows, .seq_cst);
    _ = queue.bytes_in.fetchAdd(bytes, .seq_cst);
}

/// Whether so much more fits into the budget. What is larger than the whole
/// budget fits when it is alone.
pub fn hasRoom(queue: *const RowQueue, rows: u64, bytes: u64) bool {
    const rows_now = queue.rowsAhead();
    const bytes_now = queue.bytesAhead();
    if (rows_now == 0 and bytes_now == 0) return true;
    return rows_now + rows <= queue.rows_max and bytes_now +| bytes <= queue.window_bytes.raw;
}

/// The engine found no room. If the consumer finds nothing all the same, the
/// window is too small for the storage, or for how much it takes at once.
pub fn noteFull(queue: *RowQueue) void {
    if (queue.was_full) return;
    queue.was_full = true;
    queue.ran_dry.store(false, .monotonic);
}

/// Have the window grow if that was so.
pub fn adapt(queue: *RowQueue) void {
    if (!queue.was_full or !queue.ran_dry.load(.monotonic)) return;
    queue.was_full = false;
    queue.window_bytes.store(@min(queue.window_bytes.raw *| 2, queue.bytes_max), .monotonic);
}

/// Whether the consumer has caught up enough to be worth waking for: it would
/// otherwise wake the engine for each group.
pub fn isRoomy(queue: *const RowQueue) bool {
    return queue.rowsAhead() <= queue.rows_max / 4 * 3 and queue.bytesAhead() <= queue.window_bytes.load(.monotonic) / 4 * 3;
}

pub fn rowsAhead(queue: *const RowQueue) u64 {
    return queue.rows_in.load(.seq_cst) -| queue.rows_out.load(.seq_cst);
}

pub fn bytesAhead(queue: *const RowQueue) u64 {
    return queue.bytes_in.load(.seq_cst) -| queue.bytes_out.load(.seq_cst);
}

/// Hand a finished group over, with its reference.
pub fn push(queue: *RowQueue, group: *Group) void {
    {
        queue.mutex.lock();
        defer queue.mutex.unlock();
        queue.ready.push(group);
    }
    queue.event.notify();
}

/// Nothing comes any more.
pub fn finish(queue: *RowQueue) void {
    queue.finished.store(true, .release);
    queue.event.notify();
}

/// Whether `take` would find something, as far as groups go.
pub fn hasSomething(queue: *RowQueue) bool {
    if (queue.finished.load(.acquire)) return true;
    queue.mutex.lock();
    defer queue.mutex.unlock();
    return queue.ready.first != null;
}

/// Whether the consumer sleeps because nothing is there.
pub fn isStarving(queue: *const RowQueue) bool {
    return queue.event.sleepers.load(.monotonic) != 0;
}

/// Never blocks. `wakes` is set when the engine waits for the room that this
/// call made: then wake it.
pub fn take(queue: *RowQueue, wakes: *bool) Taken {
    while (true) {
        const group = queue.current orelse next: {
            // First look whether it is over, then for a group: a group that
            // came before the end is then surely seen.
            const finished = queue.finished.load(.acquire);
            const group = queue.pop() orelse {
                queue.ran_dry.store(true, .monotonic);
                return if (finished) .finished else .empty;
            };
            queue.current = group;
            queue.next_row = 0;
            queue.next_log = 0;
            break :next group;
        };
        if (queue.next_log < group.logs.items.len and group.logs.items[queue.next_log].row <= queue.next_row) {
            queue.next_log += 1;
            return .{ .log = group.logs.items[queue.next_log - 1] };
        }
        if (queue.next_row < group.rowCount()) {
            const row = queue.next_row;
            if (group.failures.items.len > 0 or group.out_of_memory) {
                if (group.failureOf(row)) |failure| {
                    queue.next_row += 1;
                    return .{ .failed = .{ .group = group, .failure = failure } };
                }
            }
            queue.next_row += 1;
            if (queue.isLast(group)) {
                // The row takes over the queue's reference.
                queue.leave(group, wakes);
            } else {
                _ = group.refs.fetchAdd(1, .monotonic);
            }
            return .{ .row = .{ .group = group, .index = row } };
        }
        queue.leave(group, wakes);
        group.release();
    }
}

fn isLast(queue: *const RowQueue, group: *const Group) bool {
    return queue.next_row == group.rowCount() and queue.next_log == group.logs.items.len;
}

/// All of the group has been taken.
fn leave(queue: *RowQueue, group: *Group, wakes: *bool) void {
    queue.current = null;
    _ = queue.rows_out.fetchAdd(group.rowCount(), .seq_cst);
    _ = queue.bytes_out.fetchAdd(group.cost_bytes, .seq_cst);
    if (queue.room_wanted.load(.seq_cst) and queue.isRoomy()) wakes.* = true;
}

fn pop(queue: *RowQueue) ?*Group {
    queue.mutex.lock();
    defer queue.mutex.unlock();
    return queue.ready.pop();
}
