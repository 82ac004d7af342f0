//! Backend: a few threads that call `pread`, for where io_uring is missing or
//! forbidden. Threads start when there is work for them; where none can be
//! started, the engine thread reads by itself.
//!
//! A completion is the engine thread's, then in `work`, then one thread's, then
//! in `done`, then the engine thread's again. `mutex` guards the two lists.
const Threads = @This();

const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const sync = @import("../base/sync.zig");
const Completion = @import("Completion.zig");
const WakeFlag = @import("WakeFlag.zig");
const Wait = WakeFlag.Wait;

// Of the engine thread.
queued: Completion.Queue = .{},
/// In `work`, with a thread, or in `done`.
in_flight: u32 = 0,
threads: [limits.read_threads_max]std.Thread = undefined,
threads_count: u32 = 0,
threads_max: u32,
ticking: bool = false,
/// Why it is not io_uring; empty when it was asked for.
reason_buffer: [reason_max]u8 = undefined,
reason_len: usize = 0,

wake_flag: WakeFlag = .{},
/// From `cancelAll` until nothing is in flight; threads look at it between calls.
canceling: std.atomic.Value(bool) = .init(false),

mutex: sync.Mutex = .{},
/// Work came, or the end.
work_came: sync.Condition = .{},
/// Something is done, or somebody wants the engine thread awake.
engine_wanted: sync.Condition = .{},
work: Completion.Queue = .{},
done: Completion.Queue = .{},
/// Threads that wait for work.
idle: u32 = 0,
stopping: bool = false,

pub const reason_max = 192;

/// `pread` needs little, but the thread-local memory of every library in the
/// host's process comes out of the same stack.
const stack_bytes = 1024 * 1024;

/// `threads_max` of 0: as many as are usual.
pub fn init(threads: *Threads, threads_max: u32, why_not_uring: []const u8) void {
    threads.* = .{ .threads_max = if (threads_max == 0) limits.read_threads_default else @min(threads_max, limits.read_threads_max) };
    threads.reason_len = @min(why_not_uring.len, reason_max);
    @memcpy(threads.reason_buffer[0..threads.reason_len], why_not_uring[0..threads.reason_len]);
}

/// No threads at all: who ticks reads.
pub fn initHere(threads: *Threads) void {
    threads.* = .{ .threads_max = 0 };
}

/// Nothing may be in flight and nobody may still call `wake`.
pub fn deinit(threads: *Threads) void {
    assert(!threads.ticking);
    assert(threads.inFlight() == 0);
    threads.mutex.lock();
    threads.stopping = true;
    threads.mutex.unlock();
    threads.work_came.broadcast();
    for (threads.threads[0..threads.threads_count]) |thread| thread.join();
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
    threads.canceling.store(true, .seq_cst);
}

/// From any thread, until `deinit`.
pub fn wake(threads: *Threads) void {
    if (!threads.wake_flag.raise()) return;
    // With the lock, as the engine thread may be between its last look and its
    // sleep, and only the lock says that it has got there.
    threads.mutex.lock();
    defer threads.mutex.unlock();
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
    if (threads.inFlight() == 0) threads.canceling.store(false, .seq_cst);
}

/// Queued reads take the free places, in their order. What needs no thread is
/// handed back.
fn handOver(threads: *Threads) Completion.Queue {
    var answers: Completion.Queue = .{};
    var batch: Completion.Queue = .{};
    const canceling = threads.canceling.load(.monotonic);
    while (canceling or threads.in_flight < limits.in_flight_max) {
        const completion = threads.queued.pop() orelse break;
        if (canceling) {
            completion.errno = Completion.number(.CANCELED);
            answers.push(completion);
        } else if (completion.answerEarly()) |result| {
            completion.keep(result);
            answers.push(completion);
        } else {
            completion.state = .in_flight;
            threads.in_flight += 1;
            batch.push(completion);
        }
    }
    if (batch.count > 0) threads.give(&batch);
    return answers;
}

fn give(threads: *Threads, batch: *Completion.Queue) void {
    threads.mutex.lock();
    while (batch.pop()) |completion| threads.work.push(completion);
    const wanted = threads.work.count -| threads.idle;
    const rouse = @min(threads.work.count, threads.idle);
    threads.mutex.unlock();

    for (0..rouse) |_| threads.work_came.signal();
    for (0..wanted) |_| {
        if (threads.threads_count == threads.threads_max) return;
        const thread = std.Thread.spawn(.{ .stack_size = stack_bytes }, run, .{threads}) catch return;
        threads.threads[threads.threads_count] = thread;
        threads.threads_count += 1;
    }
}

/// What threads have finished; with `.block`, some of it or a wake-up.
fn takeDone(threads: *Threads, wait: Wait) Completion.Queue {
    threads.mutex.lock();
    defer threads.mutex.unlock();
    if (threads.threads_count == 0) {
        // None is wanted, or the machine grants none, so nobody misses the lock. One read a
        // tick, for the engine has other duties too.
        if (threads.work.pop()) |completion| {
            threads.read(completion);
            threads.done.push(completion);
        }
    }
    if (wait == .block and threads.done.count == 0 and threads.wake_flag.arm()) {
        while (threads.done.count == 0 and threads.wake_flag.isAsleep()) threads.engine_wanted.wait(&threads.mutex);
    }
    return threads.done.take();
}

/// On a thread of the pool: until the target is full or something is wrong.
fn read(threads: *Threads, completion: *Completion) void {
    while (true) {
        if (threads.canceling.load(.monotonic)) {
            completion.errno = Completion.number(.CANCELED);
            return;
        }
        const returned: i64 = switch (os.pread(completion.fd, completion.rest(), completion.restOffset())) {
            .ok => |count| @intCast(count),
            .err => |errno| -@as(i64, errno),
        };
        if (completion.answer(returned)) |result| return completion.keep(result);
    }
}

fn run(threads: *Threads) void {
    os.blockSignals();
    threads.mutex.lock();
    defer threads.mutex.unlock();
    while (true) {
        while (threads.work.pop()) |completion| {
            threads.mutex.unlock();
            threads.read(completion);
            threads.mutex.lock();
            threads.done.push(completion);
            threads.engine_wanted.signal();
        }
        if (threads.stopping) return;
        threads.idle += 1;
        threads.work_came.wait(&threads.mutex);
        threads.idle -= 1;
    }
}
