//! Keeps the process alive when a mapped file becomes shorter or its storage
//! fails. The kernel then raises SIGBUS in whoever touches the page. Our handler
//! puts a page of zeros there and notes the loss in the mapping, which becomes
//! a `ReadError`; a fault anywhere else goes to the handler that was there before.
//!
//! The handler takes no lock and calls nothing but `mmap`. Slots are taken and left, and
//! the handler is installed, under the lock that spans forks.

const std = @import("std");
const linux = std.os.linux;
const Mapping = @import("Mapping.zig");
const limits = @import("../base/limits.zig");
const fork_lock = &@import("../base/sync.zig").fork_lock;

const page = std.heap.page_size_min;

const Slot = struct {
    /// 0 while nobody has it. Read before `mapping` is looked at.
    end: std.atomic.Value(usize) = .init(0),
    start: std.atomic.Value(usize) = .init(0),
    mapping: ?*Mapping = null,
};

var slots: [limits.mappings_max]Slot = @splat(.{});
/// Slots that were ever used, so that the handler need not look at all.
var used = std.atomic.Value(usize).init(0);
var before: linux.Sigaction = undefined;
var is_passing_on: std.atomic.Value(bool) = .init(false);

/// Before a mapping is touched by whom nobody else could warn: others may have put
/// a handler over ours.
pub fn ensure() void {
    fork_lock.lock();
    defer fork_lock.unlock();
    install();
}

/// False when there are too many. The mapping must be whole already.
pub fn watch(mapping: *Mapping) bool {
    fork_lock.lock();
    defer fork_lock.unlock();
    install();
    for (&slots, 0..) |*slot, i| {
        if (slot.end.raw != 0) continue;
        slot.mapping = mapping;
        slot.start.store(@intFromPtr(mapping.bytes.ptr), .release);
        slot.end.store(@intFromPtr(mapping.bytes.ptr) + mapping.bytes.len, .release);
        if (i >= used.raw) used.store(i + 1, .release);
        return true;
    }
    return false;
}

/// Nobody may touch the mapping any more. Nothing if it is not watched.
pub fn unwatch(mapping: *Mapping) void {
    fork_lock.lock();
    defer fork_lock.unlock();
    for (slots[0..used.raw]) |*slot| {
        if (slot.end.raw != 0 and slot.mapping == mapping) return slot.end.store(0, .release);
    }
}

/// Also when somebody else has put a handler over ours meanwhile.
fn install() void {
    var current: linux.Sigaction = undefined;
    _ = linux.sigaction(.BUS, null, &current);
    if (current.handler.sigaction == &handle) return;
    before = current;
    const ours: linux.Sigaction = .{
        .handler = .{ .sigaction = &handle },
        .mask = linux.sigemptyset(),
        // On the stack for signals where a thread has one, as it may be short of stack.
        .flags = linux.SA.SIGINFO | linux.SA.ONSTACK | linux.SA.RESTART,
    };
    _ = linux.sigaction(.BUS, &ours, null);
}

fn handle(signal: linux.SIG, info: *const linux.siginfo_t, context: ?*anyopaque) callconv(.c) void {
    // A positive code is a fault; others are signals that somebody sent.
    if (info.code > 0 and repair(@intFromPtr(info.fields.sigfault.addr))) return;
    if (!is_passing_on.swap(true, .acq_rel)) {
        defer is_passing_on.store(false, .release);
        if (before.handler.handler != linux.SIG.DFL and before.handler.handler != linux.SIG.IGN) {
            if (before.flags & linux.SA.SIGINFO != 0) {
                before.handler.sigaction.?(signal, info, context);
            } else before.handler.handler.?(signal);
            return;
        }
    }
    // As if we were not here: the same access raises the signal again.
    const default: linux.Sigaction = .{ .handler = .{ .handler = linux.SIG.DFL }, .mask = linux.sigemptyset(), .flags = 0 };
    _ = linux.sigaction(.BUS, &default, null);
    if (info.code <= 0) _ = linux.tgkill(linux.getpid(), linux.gettid(), signal);
}

/// Whether the address was one of ours; if so it can be read now.
fn repair(address: usize) bool {
    for (slots[0..used.load(.acquire)]) |*slot| {
        const end = slot.end.load(.acquire);
        const start = slot.start.load(.acquire);
        // Twice, as the slot may be changing hands.
        if (slot.end.load(.acquire) != end) continue;
        if (address < start or address >= std.mem.alignForward(usize, end, page)) continue;
        const place = std.mem.alignBackward(usize, address, page);
        const flags: linux.MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .FIXED = true };
        // Known before it can be seen: another thread may be reading the page, too.
        slot.mapping.?.lose(place - start);
        const returned = linux.mmap(@ptrFromInt(place), page, .{ .READ = true, .WRITE = true }, flags, -1, 0);
        return linux.errno(returned) == .SUCCESS;
    }
    return false;
}
