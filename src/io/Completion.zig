//! One read on its way through a backend. The caller owns the memory and keeps
//! it in place from `submit` until `callback` runs; nothing here allocates.
//!
//! What the kernel answers is judged here, in `answer`, for every backend: a
//! short read goes on with the rest, EINTR and EAGAIN try again (a bounded
//! number of times), end of file and all other errors end the read.
const Completion = @This();

const std = @import("std");
const assert = std.debug.assert;
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");

/// Link of the queue that holds this completion.
next: ?*Completion = null,
state: State = .idle,
fd: os.fd_t,
/// The bytes wanted. All of them are there when the result is `ok`.
target: []u8,
/// From the start of the file.
offset: u64,
/// It goes past the page cache, so that storage is waited for in any case.
direct: bool = false,
/// Runs on the engine thread, once, with the completion already `.idle`, so the
/// callback may reuse or free it. It may submit and cancel, but not tick.
callback: *const fn (completion: *Completion, result: Result) void,
/// Bytes of `target` filled so far; the backend's.
got: u64 = 0,
/// Times in a row that the kernel said "try again"; the backend's.
retries: u32 = 0,
/// What ended a read that came up short, while it is on its way back from
/// another thread; the backend's.
errno: os.Errno = 0,
/// The ring broke while the kernel held this read, so it may write to `target`
/// at any later time: that memory must never be freed or used again.
abandoned: bool = false,

pub const State = enum {
    /// The caller's.
    idle,
    /// Submitted, and waits for a place among those in flight.
    queued,
    /// The kernel's or a thread's: do not touch, not even to free.
    in_flight,
};

pub const Result = union(enum) { ok: void, failed: Failure };

pub const Failure = struct {
    /// The kernel's number; 0 when the file ended before the target was full.
    errno: os.Errno,
    /// Bytes of the target that were read before.
    got: u64,
};

/// Begin a read: what an earlier one left is forgotten.
pub fn start(completion: *Completion) void {
    assert(completion.state == .idle);
    completion.next = null;
    completion.state = .queued;
    completion.got = 0;
    completion.retries = 0;
    completion.errno = 0;
    completion.abandoned = false;
}

/// The result of a read that the kernel need not see, or must not: an offset
/// of -1 would mean "at the file's own position" to io_uring.
pub fn answerEarly(completion: *const Completion) ?Result {
    if (completion.target.len == 0) return .ok;
    const end = std.math.add(u64, completion.offset, completion.target.len) catch
        return completion.failure(number(.INVAL));
    if (end > std.math.maxInt(i64)) return completion.failure(number(.INVAL));
    return null;
}

/// The part of the target for the next call, and where it starts in the file.
pub fn rest(completion: *const Completion) []u8 {
    const all = completion.target[@intCast(completion.got)..];
    return all[0..@min(all.len, os.transfer_max)];
}

pub fn restOffset(completion: *const Completion) u64 {
    return completion.offset + completion.got;
}

/// Account for what a read call of `rest` returned: a count of bytes, or the
/// error number below zero. Null: the read goes on.
pub fn answer(completion: *Completion, returned: i64) ?Result {
    if (returned > 0) {
        const count: u64 = @intCast(returned);
        if (count > completion.rest().len) return completion.failure(number(.IO)); // A kernel out of its mind.
        completion.got += count;
        completion.retries = 0;
        return if (completion.got == completion.target.len) .ok else null;
    }
    if (returned == 0) return completion.failure(0);
    // One bound for both: signals are blocked here, so neither is common, but
    // some file systems answer EAGAIN for blocking files.
    const errno = std.math.cast(os.Errno, 0 -| returned) orelse number(.IO);
    if (errno == number(.INTR) or errno == number(.AGAIN)) {
        completion.retries += 1;
        if (completion.retries <= limits.read_retries_max) return null;
    }
    return completion.failure(errno);
}

pub fn failure(completion: *const Completion, errno: os.Errno) Result {
    return .{ .failed = .{ .errno = errno, .got = completion.got } };
}

/// Lay the result aside, and find it again.
pub fn keep(completion: *Completion, result: Result) void {
    completion.errno = switch (result) {
        .ok => 0,
        .failed => |failed| failed.errno,
    };
}

pub fn kept(completion: *const Completion) Result {
    if (completion.got == completion.target.len) return .ok;
    return completion.failure(completion.errno);
}

/// Give the completion back to its owner. It may be gone when this returns.
pub fn finish(completion: *Completion, result: Result) void {
    assert(completion.state != .idle);
    completion.next = null;
    completion.state = .idle;
    completion.callback(completion, result);
}

pub fn number(code: std.c.E) os.Errno {
    return @intFromEnum(code);
}

/// First in, first out, linked through `next`. Bounded by what the callers own.
pub const Queue = struct {
    head: ?*Completion = null,
    tail: ?*Completion = null,
    count: u32 = 0,

    pub fn push(queue: *Queue, completion: *Completion) void {
        assert(completion.next == null);
        assert(queue.tail != completion);
        if (queue.tail) |tail| tail.next = completion else queue.head = completion;
        queue.tail = completion;
        queue.count += 1;
    }

    pub fn pop(queue: *Queue) ?*Completion {
        const completion = queue.head orelse return null;
        queue.head = completion.next;
        if (queue.head == null) queue.tail = null;
        completion.next = null;
        queue.count -= 1;
        return completion;
    }

    /// Put all of another queue, which is empty then, before what is here.
    pub fn pushFront(queue: *Queue, others: *Queue) void {
        const last = others.tail orelse return;
        last.next = queue.head;
        queue.head = others.head;
        if (queue.tail == null) queue.tail = last;
        queue.count += others.count;
        others.* = .{};
    }

    /// All of it; the queue is empty then.
    pub fn take(queue: *Queue) Queue {
        defer queue.* = .{};
        return queue.*;
    }
};

const testing = std.testing;

fn ignore(_: *Completion, _: Result) void {}

test "a queue keeps its order" {
    var target: [1]u8 = undefined;
    var reads: [3]Completion = @splat(.{ .fd = -1, .target = &target, .offset = 0, .callback = ignore });
    var queue: Queue = .{};
    for (&reads) |*read| queue.push(read);
    try testing.expectEqual(3, queue.count);
    for (&reads) |*read| try testing.expectEqual(read, queue.pop().?);
    try testing.expectEqual(null, queue.pop());
    queue.push(&reads[1]);
    var taken = queue.take();
    try testing.expectEqual(0, queue.count);
    queue.push(&reads[2]);
    queue.pushFront(&taken);
    queue.pushFront(&taken);
    try testing.expectEqual(0, taken.count);
    queue.push(&reads[0]);
    for ([_]usize{ 1, 2, 0 }) |i| try testing.expectEqual(&reads[i], queue.pop().?);
    try testing.expectEqual(null, queue.pop());
    queue.pushFront(&taken);
    try testing.expectEqual(null, queue.pop());
}

test "short reads go on until the target is full, and an early end counts what came" {
    var target: [10]u8 = undefined;
    var read: Completion = .{ .fd = -1, .target = &target, .offset = 100, .callback = ignore };
    read.start();
    try testing.expectEqual(null, read.answer(4));
    try testing.expectEqual(6, read.rest().len);
    try testing.expectEqual(104, read.restOffset());
    try testing.expectEqual(null, read.answer(5));
    try testing.expectEqual(Failure{ .errno = 0, .got = 9 }, read.answer(0).?.failed);
    try testing.expectEqual(Result.ok, read.answer(1).?);
}

test "EAGAIN without end becomes an error, and progress forgives" {
    var target: [2]u8 = undefined;
    var read: Completion = .{ .fd = -1, .target = &target, .offset = 0, .callback = ignore };
    const again = number(.AGAIN);
    for (0..limits.read_retries_max) |_| try testing.expectEqual(null, read.answer(-again));
    try testing.expectEqual(null, read.answer(1));
    for (0..limits.read_retries_max) |_| try testing.expectEqual(null, read.answer(-again));
    try testing.expectEqual(Failure{ .errno = again, .got = 1 }, read.answer(-again).?.failed);
}

test "answers that no kernel should give are errors" {
    var target: [2]u8 = undefined;
    var read: Completion = .{ .fd = -1, .target = &target, .offset = 0, .callback = ignore };
    try testing.expectEqual(number(.IO), read.answer(3).?.failed.errno);
    try testing.expectEqual(number(.IO), read.answer(std.math.minInt(i64)).?.failed.errno);
    try testing.expectEqual(4095, read.answer(-4095).?.failed.errno);
}

test "an offset beyond what files can have never reaches the kernel" {
    var target: [2]u8 = undefined;
    for ([_]u64{ std.math.maxInt(u64), std.math.maxInt(i64), 1 << 63 }) |offset| {
        const read: Completion = .{ .fd = -1, .target = &target, .offset = offset, .callback = ignore };
        try testing.expectEqual(number(.INVAL), read.answerEarly().?.failed.errno);
    }
    const empty: Completion = .{ .fd = -1, .target = &.{}, .offset = 1 << 63, .callback = ignore };
    try testing.expectEqual(Result.ok, empty.answerEarly().?);
}
