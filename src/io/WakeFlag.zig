//! Whether the engine thread sleeps, and whether somebody wants it awake: one
//! word, so that a wake-up can be neither lost nor cost a system call when
//! nobody sleeps. How to sleep and how to rouse is each backend's own.
const WakeFlag = @This();

const std = @import("std");

state: std.atomic.Value(u32) = .init(awake),

const awake: u32 = 0;
const asleep: u32 = 1;
/// A wake-up that the engine thread has not seen.
const woken: u32 = 2;

/// What a tick does when nothing is ready.
pub const Wait = enum {
    /// Return.
    poll,
    /// Sleep until a read is answered or somebody wakes the thread.
    block,
};

/// From any thread. True when the engine thread is asleep and must be roused
/// by the caller.
pub fn raise(flag: *WakeFlag) bool {
    return flag.state.swap(woken, .seq_cst) == asleep;
}

/// The engine thread is about to sleep. False when it must not, for a wake-up
/// came before.
pub fn arm(flag: *WakeFlag) bool {
    return flag.state.cmpxchgStrong(awake, asleep, .seq_cst, .seq_cst) == null;
}

/// The engine thread does not sleep any more. True when a wake-up came; it
/// counts as seen.
pub fn disarm(flag: *WakeFlag) bool {
    return flag.state.swap(awake, .seq_cst) == woken;
}

pub fn isAsleep(flag: *const WakeFlag) bool {
    return flag.state.load(.seq_cst) == asleep;
}

/// For backends that have nothing else to sleep on: until `rouse` or a signal.
pub fn sleep(flag: *WakeFlag) void {
    _ = std.os.linux.futex_4arg(&flag.state.raw, .{ .cmd = .WAIT, .private = true }, asleep, null);
}

pub fn rouse(flag: *WakeFlag) void {
    _ = std.os.linux.futex_3arg(&flag.state.raw, .{ .cmd = .WAKE, .private = true }, 1);
}

test "a wake-up before the sleep keeps it from happening" {
    var flag: WakeFlag = .{};
    try std.testing.expect(!flag.raise());
    try std.testing.expect(!flag.arm());
    try std.testing.expect(flag.disarm());
    try std.testing.expect(flag.arm());
    try std.testing.expect(flag.raise()); // The first one has to rouse,
    try std.testing.expect(!flag.raise()); // the second finds it done.
    try std.testing.expect(flag.disarm());
    try std.testing.expect(!flag.disarm());
}
