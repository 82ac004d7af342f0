//! Tells whether this process is still the one that made something: threads do
//! not follow into the child of a fork. What they share with it does, whole.

const std = @import("std");
const fork_lock = &@import("../base/sync.zig").fork_lock;

/// Forks between the first process and this one. Of the process, and so the
/// same for every interpreter in it.
var generation_count: std.atomic.Value(u32) = .init(0);
var is_watching: std.atomic.Value(bool) = .init(false);

/// Compare with what an earlier call gave.
pub fn generation() u32 {
    return generation_count.load(.monotonic);
}

/// Count forks, and hold the lock around them, from here on; false when there is no memory to do so.
pub fn watch() bool {
    if (is_watching.swap(true, .acq_rel)) return true;
    if (std.c.pthread_atfork(before, afterInParent, afterInChild) == 0) return true;
    is_watching.store(false, .release);
    return false;
}

fn before() callconv(.c) void {
    fork_lock.lock();
}

fn afterInParent() callconv(.c) void {
    fork_lock.unlock();
}

fn afterInChild() callconv(.c) void {
    fork_lock.unlock();
    _ = generation_count.fetchAdd(1, .monotonic);
}

test "what another thread is in the middle of is whole in the child" {
    if (!watch()) return error.SkipZigTest;
    const Holder = struct {
        var has_it: std.atomic.Value(bool) = .init(false);

        fn run() void {
            fork_lock.lock();
            has_it.store(true, .release);
            // Time for the fork to begin. Were it over too late, the test would see nothing.
            var pause: std.c.timespec = .{ .sec = 0, .nsec = 20 * std.time.ns_per_ms };
            _ = std.c.nanosleep(&pause, null);
            fork_lock.unlock();
        }
    };
    const before_fork = generation();
    const thread = try std.Thread.spawn(.{}, Holder.run, .{});
    while (!Holder.has_it.load(.acquire)) std.atomic.spinLoopHint();
    const child = std.c.fork();
    if (child == 0) std.c._exit(if (fork_lock.tryLock() and generation() == before_fork + 1) 0 else 1);
    thread.join();
    try std.testing.expect(child > 0);
    var status: c_int = 0;
    try std.testing.expectEqual(child, std.c.waitpid(child, &status, 0));
    try std.testing.expectEqual(0, status);
    try std.testing.expectEqual(before_fork, generation());
    try std.testing.expect(fork_lock.tryLock());
    fork_lock.unlock();
}
