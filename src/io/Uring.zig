//! Backend: io_uring. One ring, one thread. Everything that is ready goes to
//! the kernel in one system call, and waiting happens in that same call.
//!
//! What the page cache has is copied in that call, too, on the one thread: where more
//! are wanted, a pool of threads takes all reads first and hands back those that have
//! to wait for storage, which are the ring's.
//!
//! Nothing here can overflow: at most `in_flight_max` reads, one read of the
//! eventfd and one cancellation are outstanding, and both queues hold more.
//! The kernel is given the number of a slot, never a pointer of the caller's,
//! so no answer, however late, can lead to memory that is gone.
const Uring = @This();

const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const Completion = @import("Completion.zig");
const ReadPool = @import("ReadPool.zig");
const ring_setup = @import("ring_setup.zig");
const WakeFlag = @import("WakeFlag.zig");
const Wait = WakeFlag.Wait;

ring: linux.IoUring,
/// Waits for a place in flight.
queued: Completion.Queue = .{},
in_flight: u32 = 0,
slots: [slots_count]?*Completion = @splat(null),
/// Numbers of the free slots, in the first `slots_count - in_flight` places.
free: [slots_count]Slot = free_all,
/// Callbacks that ran in this tick.
answered: u32 = 0,
ticking: bool = false,
/// From `cancelAll` until nothing is in flight.
canceling: bool = false,
/// The kernel has a cancellation whose answer is still to come.
cancel_asked: bool = false,
/// The kernel's number for why the ring cannot be used any more, or 0.
broken: std.atomic.Value(os.Errno) = .init(0),
/// Times in a row that the kernel refused to take anything.
refusals: u32 = 0,
/// Has work only if there is more than one thread to copy.
pool: ReadPool,
/// In its hands.
helped: u32 = 0,
/// What it handed back and direct reads, which wait for a place in flight.
slow: Completion.Queue = .{},

wake_flag: WakeFlag = .{},
wake_fd: os.fd_t,
/// Where the kernel puts the eventfd's counter. Nobody reads it.
wake_value: u64 = 0,
/// Times in a row that the read of the eventfd failed.
wake_failures: u32 = 0,

const Slot = u16;
const slots_count = limits.in_flight_max;
/// The read of the eventfd and the cancellation.
const outstanding_max = slots_count + 2;
const entries_count = std.math.ceilPowerOfTwoAssert(u16, outstanding_max);
const user_data_wake: u64 = std.math.maxInt(u64);
const user_data_cancel: u64 = user_data_wake - 1;

const free_all: [slots_count]Slot = blk: {
    var numbers: [slots_count]Slot = undefined;
    for (&numbers, 0..) |*slot, index| slot.* = slots_count - 1 - index;
    break :blk numbers;
};

/// On the thread that will tick. Answers with the kernel's number where it
/// refuses; ENOSYS also stands for an io_uring that is too old.
///
/// `threads` copy what is cached: one is the engine's, more are a pool's.
pub fn init(uring: *Uring, threads: u32) os.Result(void) {
    const ring = switch (ring_setup.open(entries_count)) {
        .ok => |ring| ring,
        .err => |errno| return .{ .err = errno },
    };
    // Blocking: io_uring gives up at once on files that are not.
    const wake_fd = std.c.eventfd(0, linux.EFD.CLOEXEC);
    if (wake_fd < 0) {
        const errno = os.errno();
        var opened = ring;
        opened.deinit();
        return .{ .err = errno };
    }
    const helpers = if (threads <= 1) 0 else @min(threads, limits.read_threads_max);
    const pool: ReadPool = .{ .notify = notify, .waits = false, .threads_max = helpers, .copying_max = @max(1, helpers) };
    uring.* = .{ .ring = ring, .wake_fd = wake_fd, .pool = pool };
    uring.listen();
    // A sandbox may allow the set-up and forbid the use: find out here, while
    // there still is a choice.
    uring.enter(.poll);
    const errno = uring.broken.load(.monotonic);
    if (errno == 0) return .{ .ok = {} };
    uring.deinit();
    return .{ .err = errno };
}

/// Nothing may be in flight and nobody may still call `wake`.
pub fn deinit(uring: *Uring) void {
    assert(!uring.ticking);
    assert(uring.inFlight() == 0);
    uring.pool.deinit();
    uring.ring.deinit();
    os.close(uring.wake_fd);
    uring.* = undefined;
}

pub fn inFlight(uring: *const Uring) u32 {
    return uring.queued.count + uring.helped + uring.slow.count + uring.in_flight;
}

pub fn submit(uring: *Uring, completion: *Completion) void {
    completion.start();
    uring.queued.push(completion);
}

/// Ask the kernel to stop; ticks then go on until nothing is in flight, and
/// what is submitted until then is canceled too.
pub fn cancelAll(uring: *Uring) void {
    if (uring.inFlight() == 0) return;
    uring.canceling = true;
    uring.pool.canceling.store(true, .seq_cst);
    if (uring.in_flight == 0 or uring.cancel_asked or uring.isBroken()) return;
    // Before 5.19 the kernel answers EINVAL, and the reads just run to their end.
    const sqe = uring.ring.get_sqe() catch unreachable; // `outstanding_max`.
    sqe.prep_cancel(0, linux.IORING_ASYNC_CANCEL_ANY);
    sqe.user_data = user_data_cancel;
    uring.cancel_asked = true;
}

/// From any thread, until `deinit`.
pub fn wake(uring: *Uring) void {
    if (!uring.wake_flag.raise()) return;
    if (uring.isBroken()) return uring.wake_flag.rouse();
    const one: u64 = 1;
    // Nothing can go wrong: only this call writes, and once a sleep.
    _ = std.c.write(uring.wake_fd, std.mem.asBytes(&one), @sizeOf(u64));
}

fn notify(pool: *ReadPool) void {
    const uring: *Uring = @fieldParentPtr("pool", pool);
    uring.wake();
}

/// One turn: hand over, perhaps wait, run the callbacks.
pub fn tick(uring: *Uring, wait: Wait) void {
    assert(!uring.ticking); // A callback may not tick.
    uring.ticking = true;
    defer uring.ticking = false;
    uring.answered = 0;
    uring.handOver();
    while (true) {
        uring.takeHelped();
        const sleeps = wait == .block and uring.answered == 0 and uring.wake_flag.arm();
        if (uring.isBroken()) {
            if (sleeps) uring.wake_flag.sleep();
        } else uring.enter(if (sleeps) .block else .poll);
        const woken = wait == .block and uring.wake_flag.disarm();
        uring.reap();
        if (uring.isBroken()) uring.failAll();
        if (uring.inFlight() == 0) {
            uring.canceling = false;
            uring.pool.canceling.store(false, .seq_cst);
        }
        if (wait == .poll or woken or uring.answered > 0) return;
    }
}

/// Queued reads take the free places, in their order. Only those of before this
/// call: a callback that always submits must not hold up the loop.
fn handOver(uring: *Uring) void {
    uring.begin(&uring.slow);
    if (uring.pool.threads_max == 0) return uring.begin(&uring.queued);
    var batch: Completion.Queue = .{};
    var left = uring.queued.count;
    while (left > 0 and uring.helped + batch.count < limits.in_flight_max) : (left -= 1) {
        const completion = uring.queued.pop().?; // Only this loop takes any.
        if (uring.early(completion)) |result| {
            uring.finish(completion, result);
        } else if (completion.direct) {
            uring.slow.push(completion);
        } else {
            completion.state = .in_flight;
            batch.push(completion);
        }
    }
    const count = batch.count;
    if (uring.pool.give(&batch)) uring.helped += count else uring.slow.pushFront(&batch);
    uring.begin(&uring.slow);
}

/// What the pool has done or handed back.
fn takeHelped(uring: *Uring) void {
    if (uring.helped == 0) return;
    uring.pool.mutex.lock();
    var done = uring.pool.done.take();
    var slow = uring.pool.slow.take();
    uring.pool.mutex.unlock();
    uring.helped -= done.count + slow.count;
    while (slow.pop()) |completion| uring.slow.push(completion);
    uring.begin(&uring.slow);
    while (done.pop()) |completion| uring.finish(completion, completion.kept());
}

/// Give reads to the kernel while there is room.
fn begin(uring: *Uring, queue: *Completion.Queue) void {
    var left = queue.count;
    while (left > 0) : (left -= 1) {
        if (uring.in_flight == slots_count and !uring.isHopeless()) return;
        const completion = queue.pop().?; // Only this loop takes any.
        if (uring.early(completion)) |result| {
            uring.finish(completion, result);
            continue;
        }
        const slot = uring.free[slots_count - 1 - uring.in_flight];
        assert(uring.slots[slot] == null);
        uring.slots[slot] = completion;
        uring.in_flight += 1;
        completion.state = .in_flight;
        uring.prepare(slot);
    }
}

fn isHopeless(uring: *const Uring) bool {
    return uring.canceling or uring.isBroken();
}

/// The result of a read that nobody needs to begin.
fn early(uring: *const Uring, completion: *Completion) ?Completion.Result {
    if (uring.canceling) return completion.failure(Completion.number(.CANCELED));
    if (uring.isBroken()) return completion.failure(uring.broken.load(.monotonic));
    return completion.answerEarly();
}

fn prepare(uring: *Uring, slot: Slot) void {
    const completion = uring.slots[slot].?;
    const sqe = uring.ring.get_sqe() catch unreachable; // `outstanding_max`.
    sqe.prep_read(completion.fd, completion.rest(), completion.restOffset());
    sqe.user_data = slot;
}

/// Keep a read of the eventfd in the ring, so that `wake` ends a wait.
fn listen(uring: *Uring) void {
    const sqe = uring.ring.get_sqe() catch unreachable; // `outstanding_max`.
    sqe.prep_read(uring.wake_fd, std.mem.asBytes(&uring.wake_value), 0);
    sqe.user_data = user_data_wake;
}

/// The one system call: takes what is prepared, and with `.block` waits for an
/// answer. May return early.
fn enter(uring: *Uring, wait: Wait) void {
    while (true) {
        const ready = uring.ring.flush_sq();
        if (wait == .poll and ready == 0 and uring.in_flight == 0) return;
        const count_min: u32 = if (wait == .block) 1 else 0;
        // GETEVENTS also without waiting: deferred work runs only with it.
        const taken = linux.io_uring_enter(uring.ring.fd, ready, count_min, linux.IORING_ENTER_GETEVENTS, null);
        switch (linux.errno(taken)) {
            .SUCCESS => {
                uring.refusals = 0;
                // Some but not all: the kernel did not wait. Go on with the rest.
                if (taken >= ready or taken == 0) return;
            },
            .INTR => return,
            .AGAIN, .BUSY => |code| {
                // No memory for requests. A pause, for there is nothing to wait
                // on; all in all a second, then it is an error.
                uring.refusals += 1;
                if (uring.refusals > limits.read_retries_max) uring.broken.store(@intFromEnum(code), .seq_cst);
                const pause: linux.timespec = .{ .sec = 0, .nsec = std.time.ns_per_ms };
                _ = linux.nanosleep(&pause, null);
                return;
            },
            else => |code| return uring.broken.store(@intFromEnum(code), .seq_cst),
        }
    }
}

fn reap(uring: *Uring) void {
    var cqes: [64]linux.io_uring_cqe = undefined;
    while (uring.ring.cq_ready() > 0) {
        const count = uring.ring.copy_cqes(&cqes, 0) catch return; // Cannot fail while some are ready.
        for (cqes[0..count]) |cqe| switch (cqe.user_data) {
            user_data_wake => uring.heard(cqe.res),
            user_data_cancel => uring.cancel_asked = false,
            else => |slot| if (slot < slots_count) uring.complete(@intCast(slot), cqe.res),
        };
    }
}

/// The read of the eventfd came back; a cancellation ends it too.
fn heard(uring: *Uring, returned: i32) void {
    if (returned > 0 or returned == -Completion.number(.CANCELED)) {
        uring.wake_failures = 0;
    } else {
        uring.wake_failures += 1;
        if (uring.wake_failures > limits.read_retries_max) {
            // Somebody closed our descriptors: no wait could be ended any more.
            uring.broken.store(if (returned == 0) Completion.number(.IO) else 0 -| returned, .seq_cst);
            return;
        }
    }
    uring.listen();
}

fn complete(uring: *Uring, slot: Slot, returned: i32) void {
    const completion = uring.slots[slot] orelse return; // Given up when the ring broke.
    const result = completion.answer(returned) orelse if (uring.canceling)
        completion.failure(Completion.number(.CANCELED))
    else if (!uring.isBroken())
        return uring.prepare(slot)
    else
        completion.failure(uring.broken.load(.monotonic));
    uring.release(slot);
    uring.finish(completion, result);
}

fn release(uring: *Uring, slot: Slot) void {
    assert(uring.in_flight > 0);
    uring.slots[slot] = null;
    uring.in_flight -= 1;
    uring.free[slots_count - 1 - uring.in_flight] = slot;
}

fn finish(uring: *Uring, completion: *Completion, result: Completion.Result) void {
    uring.answered += 1;
    completion.finish(result);
}

fn isBroken(uring: *const Uring) bool {
    return uring.broken.load(.seq_cst) != 0;
}

/// The ring is of no use any more: everything pending fails with its number.
/// What callbacks submit meanwhile fails in the next tick.
fn failAll(uring: *Uring) void {
    const errno = uring.broken.load(.monotonic);
    // What the kernel never took is in nobody's hands.
    var ours: std.StaticBitSet(slots_count) = .initEmpty();
    const sq = &uring.ring.sq;
    var place = sq.sqe_tail -% uring.ring.sq_ready();
    while (place != sq.sqe_tail) : (place +%= 1) {
        const user_data = sq.sqes[place & sq.mask].user_data;
        if (user_data < slots_count) ours.set(@intCast(user_data));
    }
    for (0..slots_count) |slot| {
        const completion = uring.slots[slot] orelse continue;
        completion.abandoned = !ours.isSet(slot);
        uring.release(@intCast(slot));
        uring.finish(completion, completion.failure(errno));
    }
    for ([_]*Completion.Queue{ &uring.slow, &uring.queued }) |queue| {
        var hopeless = queue.take();
        while (hopeless.pop()) |completion| uring.finish(completion, completion.failure(errno));
    }
}

comptime {
    assert(entries_count <= 32768);
    assert(slots_count <= std.math.maxInt(Slot));
}
