//! Backend: a few threads that call `pread`, for where io_uring is missing or
//! forbidden. Where no thread can be started, the engine thread reads by itself.
const Threads = @This();

const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../base/limits.zig");
const sync = @import("../base/sync.zig");
const Completion = @import("Completion.zig");
const ReadPool = @import("ReadPool.zig");
const WakeFlag = @import("WakeFlag.zig");
const Wait = WakeFlag.Wait;

queued: Completion.Queue = .{},
/// In the pool's hands.
in_flight: u32 = 0,
ticking: bool = false,
/// Why it is not io_uring; empty when it was asked for.
reason_buffer: [reason_max]u8 = undefined,
reason_len: usize = 0,

wake_flag: WakeFlag = .{},
pool: ReadPool,
/// Something is done, or somebody wants the engine thread awake; with the pool's lock.
engine_wanted: sync.Condition = .{},

pub const reason_max = 192;

/// So many threads copy, and wait for storage. 0: one copies, and as many as are usual wait.
pub fn init(threads: *Threads, threads_max: u32, why_not_uring: []const u8) void {
    const most = if (threads_max == 0) limits.read_threads_default else @min(threads_max, limits.read_threads_max);
    threads.* = .{ .pool = .{ .notify = notify, .waits = true, .threads_max = most, .copying_max = if (threads_max == 0) 1 else most } };
    threads.reason_len = @min(why_not_uring.len, reason_max);
    @memcpy(threads.reason_buffer[0..threads.reason_len], why_not_uring[0..threads.reason_len]);
}

/// No threads at all: who ticks reads.
pub fn initHere(threads: *Threads) void {
    threads.* = .{ .pool = .{ .notify = notify, .waits = true, .threads_max = 0, .copying_max = 1 } };
}

/// Nothing may be in flight and nobody may still call `wake`.
pub fn deinit(threads: *Threads) void {
    assert(!threads.ticking);
    assert(threads.inFlight() == 0);
    threads.pool.deinit();
    threads.* = undefined;
}

pub fn reason(threads: *const Threads) []const u8 {
    return threads.reason_buffer[0..threads.reason_len];
}

pub fn inFlight(threads: *const Threads) u32 {
    return threads.queued.count + threads.in_flight;
}

pub fn submit(threads: *Threads, completion: *Completion) void {
    completion.start();
    threads.queued.push(completion);
}

/// What no thread has begun fails in the next ticks, and so does what is
/// submitted until nothing is in flight; a call that runs is waited for.
pub fn cancelAll(threads: *Threads) void {
    if (threads.inFlight() == 0) return;
    threads.pool.canceling.store(true, .seq_cst);
}

/// From any thread, until `deinit`.
pub fn wake(threads: *Threads) void {
    if (!threads.wake_flag.raise()) return;
    // With the lock, as the engine thread may be between its last look and its
    // sleep, and only the lock says that it has got there.
    threads.pool.mutex.lock();
    defer threads.pool.mutex.unlock();
    threads.engine_wanted.signal();
}

fn notify(pool: *ReadPool) void {
    const threads: *Threads = @fieldParentPtr("pool", pool);
    threads.engine_wanted.signal();
}

/// One turn: hand over, perhaps wait, run the callbacks.
pub fn tick(threads: *Threads, wait: Wait) void {
    assert(!threads.ticking); // A callback may not tick.
    threads.ticking = true;
    defer threads.ticking = false;

    var answers = threads.handOver();
    var done = threads.takeDone(if (answers.count > 0) .poll else wait);
    threads.in_flight -= done.count;
    if (wait == .block) _ = threads.wake_flag.disarm();

    // Without the lock, and only what was there: callbacks submit.
    while (answers.pop()) |completion| completion.finish(completion.kept());
    while (done.pop()) |completion| completion.finish(completion.kept());
    if (threads.inFlight() == 0) threads.pool.canceling.store(false, .seq_cst);
}

/// Queued reads take the free places, in their order. What needs no thread is
/// handed back.
fn handOver(threads: *Threads) Completion.Queue {
    var answers: Completion.Queue = .{};
    var batch: Completion.Queue = .{};
    const canceling = threads.pool.canceling.load(.monotonic);
    while (canceling or threads.in_flight + batch.count < limits.in_flight_max) {
        const completion = threads.queued.pop() orelse break;
        if (canceling) {
            completion.errno = Completion.number(.CANCELED);
            answers.push(completion);
        } else if (completion.answerEarly()) |result| {
            completion.keep(result);
            answers.push(completion);
        } else {
            completion.state = .in_flight;
            batch.push(completion);
        }
    }
    const count = batch.count;
    if (threads.pool.give(&batch)) {
        threads.in_flight += count;
    } else {
        // Nobody is there: one now, for the engine has other duties too.
        const completion = batch.pop().?;
        threads.pool.read(completion);
        answers.push(completion);
        threads.queued.pushFront(&batch);
    }
    return answers;
}

/// What threads have finished; with `.block`, some of it or a wake-up.
fn takeDone(threads: *Threads, wait: Wait) Completion.Queue {
    const pool = &threads.pool;
    pool.mutex.lock();
    defer pool.mutex.unlock();
    if (wait == .block and pool.done.count == 0 and threads.wake_flag.arm()) {
        while (pool.done.count == 0 and threads.wake_flag.isAsleep()) threads.engine_wanted.wait(&pool.mutex);
    }
    return pool.done.take();
}
