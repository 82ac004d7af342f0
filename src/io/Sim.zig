//! Backend for tests: files in memory, and a seed that decides order, delay,
//! short reads and faults. The engine cannot tell it from a kernel, and a seed
//! that makes a test fail makes it fail again.
const Sim = @This();

const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const Completion = @import("Completion.zig");
const WakeFlag = @import("WakeFlag.zig");
const Wait = WakeFlag.Wait;

options: Options,
prng: std.Random.DefaultPrng,
queued: Completion.Queue = .{},
/// In flight, in no order.
pending: [limits.in_flight_max]*Completion = undefined,
pending_count: u32 = 0,
answered: u32 = 0,
ticking: bool = false,
canceling: bool = false,
wake_flag: WakeFlag = .{},

pub const Options = struct {
    seed: u64 = 0,
    /// What can be read: the descriptor is the place in this table, and any
    /// other descriptor is a bad one. Borrowed.
    files: []const []const u8 = &.{},
    /// Of a read call, that it fails with `fail_errno`.
    fail_percent: u8 = 0,
    fail_errno: os.Errno = Completion.number(.IO),
    /// Of a read call, that it gives less than was asked, and the read goes on.
    short_percent: u8 = 0,
    /// Of a read, that it gets no call in a tick.
    delay_percent: u8 = 0,
};

pub fn init(options: Options) Sim {
    assert(options.fail_percent <= 100);
    assert(options.short_percent <= 100);
    assert(options.delay_percent <= 100);
    return .{ .options = options, .prng = .init(options.seed) };
}

pub fn deinit(sim: *Sim) void {
    assert(!sim.ticking);
    assert(sim.inFlight() == 0);
    sim.* = undefined;
}

pub fn inFlight(sim: *const Sim) u32 {
    return sim.queued.count + sim.pending_count;
}

pub fn submit(sim: *Sim, completion: *Completion) void {
    completion.start();
    sim.queued.push(completion);
}

/// As with a kernel, some reads are stopped and some run to their end.
pub fn cancelAll(sim: *Sim) void {
    if (sim.inFlight() > 0) sim.canceling = true;
}

/// From any thread, until `deinit`.
pub fn wake(sim: *Sim) void {
    if (sim.wake_flag.raise()) sim.wake_flag.rouse();
}

pub fn tick(sim: *Sim, wait: Wait) void {
    assert(!sim.ticking); // A callback may not tick.
    sim.ticking = true;
    defer sim.ticking = false;
    sim.answered = 0;
    while (true) {
        sim.handOver();
        sim.turn();
        if (sim.inFlight() == 0) sim.canceling = false;
        const sleeps = wait == .block and sim.answered == 0 and sim.wake_flag.arm();
        // With reads in flight a kernel would answer at some time: the next turn.
        while (sleeps and sim.inFlight() == 0 and sim.wake_flag.isAsleep()) sim.wake_flag.sleep();
        const woken = wait == .block and sim.wake_flag.disarm();
        if (wait == .poll or woken or sim.answered > 0) return;
    }
}

fn handOver(sim: *Sim) void {
    var left = sim.queued.count;
    while (left > 0 and sim.pending_count < limits.in_flight_max) : (left -= 1) {
        const completion = sim.queued.pop().?; // Only this loop takes any.
        if (sim.canceling) {
            sim.finish(completion, completion.failure(Completion.number(.CANCELED)));
        } else if (completion.answerEarly()) |result| {
            sim.finish(completion, result);
        } else {
            completion.state = .in_flight;
            sim.pending[sim.pending_count] = completion;
            sim.pending_count += 1;
        }
    }
}

/// One look at each pending read, in an order of the seed's.
fn turn(sim: *Sim) void {
    const random = sim.prng.random();
    random.shuffle(*Completion, sim.pending[0..sim.pending_count]);
    var left = sim.pending_count;
    while (left > 0) {
        left -= 1;
        if (sim.chance(@min(sim.options.delay_percent, 99))) continue;
        const completion = sim.pending[left];
        const result = sim.call(completion) orelse continue;
        sim.pending_count -= 1;
        sim.pending[left] = sim.pending[sim.pending_count];
        sim.finish(completion, result);
    }
}

/// What one read call of a kernel would do.
fn call(sim: *Sim, completion: *Completion) ?Completion.Result {
    const random = sim.prng.random();
    if (sim.canceling and random.boolean()) return completion.failure(Completion.number(.CANCELED));
    if (sim.chance(sim.options.fail_percent)) return completion.answer(-@as(i64, sim.options.fail_errno));
    const file = std.math.cast(usize, completion.fd) orelse sim.options.files.len;
    if (file >= sim.options.files.len) return completion.answer(-@as(i64, Completion.number(.BADF)));
    const content = sim.options.files[file];
    const from: usize = @intCast(@min(completion.restOffset(), content.len));
    const target = completion.rest();
    var count = @min(target.len, content.len - from);
    if (count > 1 and sim.chance(sim.options.short_percent)) count = random.intRangeLessThan(usize, 1, count);
    @memcpy(target[0..count], content[from..][0..count]);
    return completion.answer(@intCast(count));
}

fn chance(sim: *Sim, percent: u8) bool {
    return sim.prng.random().uintLessThan(u8, 100) < percent;
}

fn finish(sim: *Sim, completion: *Completion, result: Completion.Result) void {
    sim.answered += 1;
    completion.finish(result);
}
