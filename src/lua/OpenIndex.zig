//! An index that a script opened: what its cdata points to.
//!
//! When a state is closed, Lua finalizes all cdata first and then runs the
//! `__gc` functions of the script, which may still use an index. So what is
//! closed then is only set aside, and freed when the state is gone.
const OpenIndex = @This();

const std = @import("std");
const Host = @import("Host.zig");
const Index = @import("../utix/Index.zig");

host: *Host,
index: *Index,
/// The index is a dataset's, and stays open.
is_shared: bool = false,
/// Link of the list of those set aside.
next: ?*OpenIndex = null,

pub fn open(host: *Host, path: [:0]const u8) Index.Error!*OpenIndex {
    const opened = try host.gpa.create(OpenIndex);
    errdefer host.gpa.destroy(opened);
    opened.* = .{ .host = host, .index = try Index.open(host.gpa, path, &host.failure) };
    return opened;
}

/// `index` must outlive the state.
pub fn share(host: *Host, index: *Index) error{OutOfMemory}!*OpenIndex {
    const opened = try host.gpa.create(OpenIndex);
    opened.* = .{ .host = host, .index = index, .is_shared = true };
    return opened;
}

/// The script has lost it, or the state is being closed.
pub fn close(opened: *OpenIndex) void {
    if (!opened.host.is_closing) return opened.destroy();
    opened.next = opened.host.set_aside;
    opened.host.set_aside = opened;
}

pub fn destroy(opened: *OpenIndex) void {
    if (!opened.is_shared) opened.index.close();
    opened.host.gpa.destroy(opened);
}

/// The record with this 0-based number; null when there is none.
pub fn record(opened: *const OpenIndex, i: u64) ?Index.Record {
    if (i >= opened.index.count) return null;
    return opened.index.record(@intCast(i));
}
