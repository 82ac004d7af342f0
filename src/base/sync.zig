//! Waiting without polling: a lock for what is rarely contended, and an event
//! that a consumer sleeps on and that a signal (Ctrl-C) interrupts.

const std = @import("std");
const linux = std.os.linux;
const c = std.c;

pub const Mutex = struct {
    inner: c.pthread_mutex_t = .{},

    pub fn lock(mutex: *Mutex) void {
        _ = c.pthread_mutex_lock(&mutex.inner);
    }

    pub fn tryLock(mutex: *Mutex) bool {
        return c.pthread_mutex_trylock(&mutex.inner) == .SUCCESS;
    }

    pub fn unlock(mutex: *Mutex) void {
        _ = c.pthread_mutex_unlock(&mutex.inner);
    }
};

/// Guards what parent and child of a fork both go on with, for a few instructions at
/// a time and whoever has it. `py/fork.zig` takes it around each fork, so that no other
/// thread is in the middle of a change whose end the child would never see.
pub var fork_lock: Mutex = .{};

pub const Condition = struct {
    inner: c.pthread_cond_t = .{},

    pub fn wait(condition: *Condition, mutex: *Mutex) void {
        _ = c.pthread_cond_wait(&condition.inner, &mutex.inner);
    }

    pub fn signal(condition: *Condition) void {
        _ = c.pthread_cond_signal(&condition.inner);
    }

    pub fn broadcast(condition: *Condition) void {
        _ = c.pthread_cond_broadcast(&condition.inner);
    }
};

/// A counter to sleep on. Take a `ticket`, look whether what you wait for is
/// there, and if not `wait` with the ticket: a `notify` in between is not lost.
pub const Event = struct {
    generation: std.atomic.Value(u32) = .init(0),
    sleepers: std.atomic.Value(u32) = .init(0),

    pub fn ticket(event: *const Event) u32 {
        return event.generation.load(.seq_cst);
    }

    /// Until the next `notify`, a signal, or the time is over; may also return
    /// early for no reason, so look again.
    pub fn wait(event: *Event, seen: u32, timeout_ns: u64) void {
        _ = event.sleepers.fetchAdd(1, .seq_cst);
        defer _ = event.sleepers.fetchSub(1, .seq_cst);
        const timeout: linux.timespec = .{
            .sec = @intCast(timeout_ns / std.time.ns_per_s),
            .nsec = @intCast(timeout_ns % std.time.ns_per_s),
        };
        _ = linux.futex_4arg(&event.generation.raw, .{ .cmd = .WAIT, .private = true }, seen, &timeout);
    }

    /// Wake everyone who sleeps. Costs no system call when nobody does.
    pub fn notify(event: *Event) void {
        _ = event.generation.fetchAdd(1, .seq_cst);
        if (event.sleepers.load(.seq_cst) == 0) return;
        _ = linux.futex_3arg(&event.generation.raw, .{ .cmd = .WAKE, .private = true }, std.math.maxInt(i32));
    }
};

test "a notification between ticket and wait is not lost" {
    var event: Event = .{};
    const seen = event.ticket();
    event.notify();
    event.wait(seen, std.time.ns_per_s * 60); // Would take a minute if lost.
}

test "a waiter is woken from another thread" {
    const Waker = struct {
        fn run(event: *Event) void {
            event.notify();
        }
    };
    var event: Event = .{};
    const seen = event.ticket();
    const thread = try std.Thread.spawn(.{}, Waker.run, .{&event});
    event.wait(seen, std.time.ns_per_s * 60);
    thread.join();
}
