//! What the engine counts, always: cheap enough to be on, and the first thing
//! to look at when a loader is slower than hoped. Written by one thread each,
//! read by any.
const Stats = @This();

const std = @import("std");

/// Rows handed to the consumer.
rows: Counter = .{},
/// Rows left out because they could not be read, with `on_error="skip"`.
rows_skipped: Counter = .{},
/// Payload bytes handed to the consumer.
bytes: Counter = .{},
/// Reads submitted, and the bytes they asked for (with the gaps between entries).
reads: Counter = .{},
read_bytes: Counter = .{},
/// Time the engine spent in the script, waiting for storage, and waiting for
/// the consumer to make room.
script_ns: Counter = .{},
storage_ns: Counter = .{},
consumer_ns: Counter = .{},
/// Time the consumer waited for a row.
stall_ns: Counter = .{},

/// One writer, any readers.
pub const Counter = struct {
    value: std.atomic.Value(u64) = .init(0),

    pub fn add(counter: *Counter, n: u64) void {
        counter.value.store(counter.value.raw +% n, .monotonic);
    }

    pub fn get(counter: *const Counter) u64 {
        return counter.value.load(.monotonic);
    }
};
