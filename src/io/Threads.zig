//! Backend: a few threads that call `pread`, for where io_uring is missing or
//! forbidden. What the page cache has, few threads copy, many reads at a time; one
//! that has to wait for storage leaves its place, and the reads that it has not
//! begun, to the next. Threads start when there is work for them; where none can
//! be started, the engine thread reads by itself.
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
threads: [limits.read_threads_max]std.Thread = undefined,
threads_count: u32 = 0,
threads_max: u32,
/// Threads that wait for work.
idle: u32 = 0,
/// Threads that copy what is cached, and how many may.
copying: u32 = 0,
copying_max: u32 = 1,
stopping: bool = false,

pub const reason_max = 192;

/// `pread` needs little, but the thread-local memory of every library in the
/// host's process comes out of the same stack.
const stack_bytes = 1024 * 1024;

/// So many threads copy, and wait for storage. 0: one copies, and as many as are usual wait.
pub fn init(threads: *Threads, threads_max: u32, why_not_uring: []const u8) void {
    threads.* = .{ .threads_max = if (threads_max == 0) limits.read_threads_default else @min(threads_max, limits.read_threads_max) };
    threads.copying_max = @max(1, @min(threads_max, limits.read_threads_max));
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
    defer threads.mutex.unlock();
    while (batch.pop()) |completion| threads.work.push(completion);
    threads.rouse();
}

/// Have one more thread begin, if there is work that it may do. With the lock.
fn rouse(threads: *Threads) void {
    if (threads.work.count == 0 or threads.copying >= threads.copying_max) return;
    if (threads.idle > 0) return threads.work_came.signal();
    if (threads.threads_count == threads.threads_max or threads.stopping) return;
    const thread = std.Thread.spawn(.{ .stack_size = stack_bytes }, run, .{threads}) catch return;
    threads.threads[threads.threads_count] = thread;
    threads.threads_count += 1;
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

/// Of a thread of the pool.
fn run(threads: *Threads) void {
    os.blockSignals();
    threads.mutex.lock();
    defer threads.mutex.unlock();
    while (true) {
        while (threads.work.count > 0 and threads.copying < threads.copying_max) threads.readSome();
        if (threads.stopping) return;
        threads.idle += 1;
        threads.work_came.wait(&threads.mutex);
        threads.idle -= 1;
    }
}

/// Take a share of the work, up to the first read that waits for storage, and that one.
/// The lock is held at first and in the end, and not while anything is read.
fn readSome(threads: *Threads) void {
    var share = threads.takeShare();
    threads.copying += 1;
    threads.rouse(); // For what is left.
    threads.mutex.unlock();
    var done: Completion.Queue = .{};
    const slow: ?*Completion = while (share.pop()) |completion| {
        if (!threads.readCached(completion)) break completion;
        done.push(completion);
    } else null;
    threads.mutex.lock();
    threads.copying -= 1;
    threads.work.pushFront(&share);
    threads.finish(&done);
    const completion = slow orelse return;
    threads.rouse();
    threads.mutex.unlock();
    threads.read(completion);
    threads.mutex.lock();
    done.push(completion);
    threads.finish(&done);
}

/// What one thread reads before it hands over: enough to be worth waking the engine
/// thread, and no more than all who may copy can have at the same time.
fn takeShare(threads: *Threads) Completion.Queue {
    const reads_max = @min(limits.read_share_max, (threads.work.count - 1) / threads.copying_max + 1);
    var share: Completion.Queue = .{};
    var bytes: u64 = 0;
    while (share.count < reads_max and bytes < limits.group_bytes_target) {
        const completion = threads.work.pop() orelse break;
        bytes += completion.target.len;
        share.push(completion);
    }
    return share;
}

fn finish(threads: *Threads, done: *Completion.Queue) void {
    if (done.count == 0) return;
    while (done.pop()) |completion| threads.done.push(completion);
    threads.engine_wanted.signal();
}

/// Until the target is full or something is wrong. False where bytes are to come from
/// storage, or nobody knows.
fn readCached(threads: *Threads, completion: *Completion) bool {
    if (completion.direct) return false;
    while (true) {
        if (threads.isCanceled(completion)) return true;
        const count = switch (os.preadCached(completion.fd, completion.rest(), completion.restOffset())) {
            .ok => |count| count,
            .err => return false,
        };
        const result = completion.answer(@intCast(count)) orelse continue;
        completion.keep(result);
        return true;
    }
}

/// The same, waiting for what is missing.
fn read(threads: *Threads, completion: *Completion) void {
    while (true) {
        if (threads.isCanceled(completion)) return;
        const returned: i64 = switch (os.pread(completion.fd, completion.rest(), completion.restOffset())) {
            .ok => |count| @intCast(count),
            .err => |errno| -@as(i64, errno),
        };
        if (completion.answer(returned)) |result| return completion.keep(result);
    }
}

fn isCanceled(threads: *const Threads, completion: *Completion) bool {
    if (!threads.canceling.load(.monotonic)) return false;
    completion.errno = Completion.number(.CANCELED);
    return true;
}
