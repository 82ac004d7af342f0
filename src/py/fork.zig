//! Tells whether this process is still the one that made something: threads do
//! not follow into the child of a fork.

const std = @import("std");

/// Forks between the first process and this one. Of the process, and so the
/// same for every interpreter in it.
var generation_count: std.atomic.Value(u32) = .init(0);
var is_watching: std.atomic.Value(bool) = .init(false);

/// Compare with what an earlier call gave.
pub fn generation() u32 {
    return generation_count.load(.monotonic);
}

/// Count forks from here on; false when there is no memory to do so.
pub fn watch() bool {
    if (is_watching.swap(true, .acq_rel)) return true;
    if (std.c.pthread_atfork(null, null, countFork) == 0) return true;
    is_watching.store(false, .release);
    return false;
}

fn countFork() callconv(.c) void {
    _ = generation_count.fetchAdd(1, .monotonic);
}
