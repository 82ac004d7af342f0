//! Threads that read for a backend. What the page cache has, few of them copy, many
//! reads at a time. A read that has to wait for storage is handed back where the
//! backend can do better; else its thread waits, and leaves its place and the reads
//! that it has not begun to the next. Threads start when there is work for them.
//!
//! A completion is the backend's, then in `work`, then one thread's, then in `done` or
//! `slow`, then the backend's again. `mutex` guards these lists and all that follows it.
const ReadPool = @This();

const std = @import("std");
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const sync = @import("../base/sync.zig");
const Completion = @import("Completion.zig");

/// Set by the backend until nothing is with threads; they look at it between calls.
canceling: std.atomic.Value(bool) = .init(false),
/// Called with the lock when something is there for the backend.
notify: *const fn (pool: *ReadPool) void,
/// Whether threads wait for storage.
waits: bool,
threads_max: u32,
/// How many of them may copy at the same time.
copying_max: u32,

mutex: sync.Mutex = .{},
/// Work came, or the end.
work_came: sync.Condition = .{},
work: Completion.Queue = .{},
/// With their results kept.
done: Completion.Queue = .{},
/// Handed back.
slow: Completion.Queue = .{},
threads: [limits.read_threads_max]std.Thread = undefined,
threads_count: u32 = 0,
/// Threads that wait for work.
idle: u32 = 0,
copying: u32 = 0,
stopping: bool = false,

/// `pread` needs little, but the thread-local memory of every library in the
/// host's process comes out of the same stack.
const stack_bytes = 1024 * 1024;

/// Nothing may be with it.
pub fn deinit(pool: *ReadPool) void {
    pool.mutex.lock();
    pool.stopping = true;
    pool.mutex.unlock();
    pool.work_came.broadcast();
    for (pool.threads[0..pool.threads_count]) |thread| thread.join();
    pool.* = undefined;
}

/// Whether anybody is there to read, then. The queue is empty if so.
pub fn give(pool: *ReadPool, batch: *Completion.Queue) bool {
    if (batch.count == 0) return true;
    pool.mutex.lock();
    defer pool.mutex.unlock();
    const first = pool.work.count == 0;
    while (batch.pop()) |completion| pool.work.push(completion);
    pool.rouse();
    if (pool.threads_count > 0) return true;
    std.debug.assert(first); // Without threads nothing stays here.
    batch.* = pool.work.take();
    return false;
}

/// Have one more thread begin, if there is work that it may do. With the lock.
fn rouse(pool: *ReadPool) void {
    if (pool.work.count == 0 or pool.copying >= pool.copying_max) return;
    if (pool.idle > 0) return pool.work_came.signal();
    if (pool.threads_count == pool.threads_max or pool.stopping) return;
    const thread = std.Thread.spawn(.{ .stack_size = stack_bytes }, run, .{pool}) catch return;
    pool.threads[pool.threads_count] = thread;
    pool.threads_count += 1;
}

fn run(pool: *ReadPool) void {
    os.blockSignals();
    pool.mutex.lock();
    defer pool.mutex.unlock();
    while (true) {
        while (pool.work.count > 0 and pool.copying < pool.copying_max) pool.readSome();
        if (pool.stopping) return;
        pool.idle += 1;
        pool.work_came.wait(&pool.mutex);
        pool.idle -= 1;
    }
}

/// Read a share of the work. The lock is held at first and in the end, and not while
/// anything is read.
fn readSome(pool: *ReadPool) void {
    var share = pool.takeShare();
    pool.copying += 1;
    pool.rouse(); // For what is left.
    pool.mutex.unlock();
    var done: Completion.Queue = .{};
    var slow: Completion.Queue = .{};
    while (share.pop()) |completion| {
        if (pool.readCached(completion)) {
            done.push(completion);
        } else {
            slow.push(completion);
            if (pool.waits) break;
        }
    }
    pool.mutex.lock();
    pool.copying -= 1;
    pool.work.pushFront(&share);
    if (!pool.waits) while (slow.pop()) |completion| pool.slow.push(completion);
    while (done.pop()) |completion| pool.done.push(completion);
    if (pool.done.count + pool.slow.count > 0) pool.notify(pool);
    const completion = slow.pop() orelse return;
    pool.rouse();
    pool.mutex.unlock();
    pool.read(completion);
    pool.mutex.lock();
    pool.done.push(completion);
    pool.notify(pool);
}

/// What one thread reads before it hands over: enough to be worth waking the engine
/// thread, and no more than all who may copy can have at the same time.
fn takeShare(pool: *ReadPool) Completion.Queue {
    const reads_max = @min(limits.read_share_max, (pool.work.count - 1) / pool.copying_max + 1);
    var share: Completion.Queue = .{};
    var bytes: u64 = 0;
    while (share.count < reads_max and bytes < limits.group_bytes_target) {
        const completion = pool.work.pop() orelse break;
        bytes += completion.target.len;
        share.push(completion);
    }
    return share;
}

/// Until the target is full or something is wrong. False where bytes are to come from
/// storage, or nobody knows.
fn readCached(pool: *ReadPool, completion: *Completion) bool {
    if (completion.direct) return false;
    while (true) {
        if (pool.isCanceled(completion)) return true;
        const count = switch (os.preadCached(completion.fd, completion.rest(), completion.restOffset())) {
            .ok => |count| count,
            .err => return false,
        };
        const result = completion.answer(@intCast(count)) orelse continue;
        completion.keep(result);
        return true;
    }
}

/// The same, waiting for what is missing. Any thread.
pub fn read(pool: *ReadPool, completion: *Completion) void {
    while (true) {
        if (pool.isCanceled(completion)) return;
        const returned: i64 = switch (os.pread(completion.fd, completion.rest(), completion.restOffset())) {
            .ok => |count| @intCast(count),
            .err => |errno| -@as(i64, errno),
        };
        if (completion.answer(returned)) |result| return completion.keep(result);
    }
}

fn isCanceled(pool: *const ReadPool, completion: *Completion) bool {
    if (!pool.canceling.load(.monotonic)) return false;
    completion.errno = Completion.number(.CANCELED);
    return true;
}
