//! Backend: io_uring. One ring, one thread. Everything that is ready goes to
//! the kernel in one system call, and waiting happens in that same call.
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
/// Of so many large reads, all but one go to workers.
threads: u32,
large_reads: u32 = 0,

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
/// With more than one of `threads`, the kernel's workers take their share of the
/// large reads: what is cached would else be copied in the engine's thread.
pub fn init(uring: *Uring, threads: u32) os.Result(void) {
    const ring = switch (openRing()) {
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
    uring.* = .{ .ring = ring, .wake_fd = wake_fd, .threads = if (boundWorkers(&ring, threads)) threads else 1 };
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
    uring.ring.deinit();
    os.close(uring.wake_fd);
    uring.* = undefined;
}

/// Flags from best to plainest; older kernels know fewer.
const flag_sets = [_]u32{
    linux.IORING_SETUP_SINGLE_ISSUER | linux.IORING_SETUP_DEFER_TASKRUN | linux.IORING_SETUP_COOP_TASKRUN,
    linux.IORING_SETUP_COOP_TASKRUN,
    0,
};

/// Done with our own `io_uring_setup`: `IoUring.init` writes to stderr about
/// numbers that it does not know, and keeps them to itself.
fn openRing() os.Result(linux.IoUring) {
    for (flag_sets) |flags| {
        var params = std.mem.zeroInit(linux.io_uring_params, .{ .flags = flags });
        const returned = linux.io_uring_setup(entries_count, &params);
        switch (linux.errno(returned)) {
            .SUCCESS => return mapRing(@intCast(returned), params),
            .INVAL => continue,
            else => |code| return .{ .err = @intFromEnum(code) },
        }
    }
    return .{ .err = Completion.number(.INVAL) };
}

/// False when there is nothing to bound, or a kernel older than 5.15 cannot.
fn boundWorkers(ring: *const linux.IoUring, threads: u32) bool {
    if (threads <= 1) return false;
    // For files, and for all else.
    const most = [2]u32{ threads - 1, threads - 1 };
    return linux.errno(linux.io_uring_register(ring.fd, .REGISTER_IOWQ_MAX_WORKERS, &most, most.len)) == .SUCCESS;
}

/// The kernel opened `fd` close-on-exec. Takes it over.
fn mapRing(fd: os.fd_t, params: linux.io_uring_params) os.Result(linux.IoUring) {
    // FAST_POLL came with 5.7, later than all else that is used here.
    const wanted = linux.IORING_FEAT_SINGLE_MMAP | linux.IORING_FEAT_NODROP | linux.IORING_FEAT_FAST_POLL;
    if (params.features & wanted != wanted or params.sq_entries < outstanding_max or params.cq_entries < outstanding_max) {
        os.close(fd);
        return .{ .err = Completion.number(.NOSYS) };
    }
    const sq = linux.IoUring.SubmissionQueue.init(fd, params) catch |err| {
        os.close(fd);
        return .{ .err = Completion.number(switch (err) {
            error.AccessDenied, error.PermissionDenied => .PERM,
            else => .NOMEM,
        }) };
    };
    const cq = linux.IoUring.CompletionQueue.init(fd, params, sq) catch |err| switch (err) {};
    return .{ .ok = .{ .fd = fd, .sq = sq, .cq = cq, .flags = params.flags, .features = params.features } };
}

pub fn inFlight(uring: *const Uring) u32 {
    return uring.queued.count + uring.in_flight;
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

/// One turn: hand over, perhaps wait, run the callbacks.
pub fn tick(uring: *Uring, wait: Wait) void {
    assert(!uring.ticking); // A callback may not tick.
    uring.ticking = true;
    defer uring.ticking = false;
    uring.answered = 0;
    uring.handOver();
    while (true) {
        const sleeps = wait == .block and uring.answered == 0 and uring.wake_flag.arm();
        if (uring.isBroken()) {
            if (sleeps) uring.wake_flag.sleep();
        } else uring.enter(if (sleeps) .block else .poll);
        const woken = wait == .block and uring.wake_flag.disarm();
        uring.reap();
        if (uring.isBroken()) uring.failAll();
        if (uring.inFlight() == 0) uring.canceling = false;
        if (wait == .poll or woken or uring.answered > 0) return;
    }
}

/// Queued reads take the free places, in their order. Only those of before this
/// call: a callback that always submits must not hold up the loop.
fn handOver(uring: *Uring) void {
    var left = uring.queued.count;
    while (left > 0) : (left -= 1) {
        const hopeless = uring.canceling or uring.isBroken();
        if (!hopeless and uring.in_flight == slots_count) return;
        const completion = uring.queued.pop().?; // Only this loop takes any.
        if (hopeless) {
            const errno = if (uring.canceling) Completion.number(.CANCELED) else uring.broken.load(.monotonic);
            uring.finish(completion, completion.failure(errno));
        } else if (completion.answerEarly()) |result| {
            uring.finish(completion, result);
        } else {
            const slot = uring.free[slots_count - 1 - uring.in_flight];
            assert(uring.slots[slot] == null);
            uring.slots[slot] = completion;
            uring.in_flight += 1;
            completion.state = .in_flight;
            uring.prepare(slot);
        }
    }
}

fn prepare(uring: *Uring, slot: Slot) void {
    const completion = uring.slots[slot].?;
    const sqe = uring.ring.get_sqe() catch unreachable; // `outstanding_max`.
    sqe.prep_read(completion.fd, completion.rest(), completion.restOffset());
    sqe.user_data = slot;
    if (uring.threads <= 1 or completion.rest().len < limits.async_bytes_min) return;
    uring.large_reads +%= 1;
    if (uring.large_reads % uring.threads != 0) sqe.flags |= linux.IOSQE_ASYNC;
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
    var queued = uring.queued.take();
    while (queued.pop()) |completion| uring.finish(completion, completion.failure(errno));
}

comptime {
    assert(entries_count <= 32768);
    assert(slots_count <= std.math.maxInt(Slot));
}
