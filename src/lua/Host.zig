//! What a running script talks to: the engine, the last failure, and the words
//! for what a script did wrong.
const Host = @This();

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const Engine = @import("../engine/Engine.zig");
const Index = @import("../utix/Index.zig");
const Scan = @import("Scan.zig");
const fetching = @import("../engine/fetching.zig");
const OpenIndex = @import("OpenIndex.zig");
const Status = @import("ffi.zig").Status;
const View = @import("../dataset/View.zig");
const limits = @import("../base/limits.zig");

gpa: std.mem.Allocator,
engine: *Engine,
/// Of the last call that answered `failed`. A script may catch it, so it only
/// counts when the script dies of it.
failure: Diagnostics = .{},
/// Rows that the script is to judge.
view: ?View = null,
/// Rows can be made: `row_generator` runs, and not `init_ctx`.
may_emit: bool = false,
/// The Lua state is being closed, and these are freed after it.
is_closing: bool = false,
set_aside: ?*OpenIndex = null,

pub const Error = error{
    /// `failure` says what.
    Failed,
    ReadFailed,
    BadIndex,
    Stopped,
    OutOfMemory,
};

/// Free what `__gc` functions might still have used. The Lua state is gone.
pub fn deinit(host: *Host) void {
    while (host.set_aside) |opened| {
        host.set_aside = opened.next;
        opened.destroy();
    }
}

/// Turn an error into what the Lua side understands.
pub fn statusOf(host: *Host, err: Error) Status {
    switch (err) {
        error.Stopped => return .stopped,
        error.OutOfMemory => host.failure.set(.memory, "out of memory", .{}),
        error.Failed, error.ReadFailed, error.BadIndex => {},
    }
    return .failed;
}

/// `object_size`: of an object in a store, where the script knows it.
pub fn openFile(host: *Host, path: []const u8, object_size: ?u64) Error!f64 {
    try host.checkPath(path);
    try host.engine.poll();
    if (object_size) |size| try fetching.expectSize(host.engine, path, size);
    return host.engine.openFile(path, &host.failure) catch |err| switch (err) {
        error.ReadFailed, error.OutOfMemory, error.Stopped => |known| known,
        error.TooManyFiles => host.failure.fail(error.Failed, .script, "cannot open {s}: the script has {d} files open already", .{
            path, limits.open_files_max,
        }),
    };
}

pub fn openScan(host: *Host, path: []const u8) Error!*Scan {
    try host.engine.poll();
    const listed = try fetching.list(host.engine, path, &host.failure) orelse return Scan.open(host.gpa, path, &host.failure);
    errdefer listed.giveBack();
    return Scan.ofStore(host.gpa, listed);
}

pub fn openIndex(host: *Host, path: []const u8) Error!*OpenIndex {
    try host.checkPath(path);
    try host.engine.poll();
    if (try fetching.localIndex(host.engine, path, &host.failure)) |local| return OpenIndex.open(host, local);
    const terminated = try host.gpa.dupeZ(u8, path);
    defer host.gpa.free(terminated);
    return OpenIndex.open(host, terminated);
}

/// Before entries are added: is a row allowed here, and has it room?
pub fn checkEntry(host: *Host, key_size: usize, count: usize) Error!void {
    try host.checkMayEmit();
    if (key_size > limits.key_bytes_max) {
        return host.failure.fail(error.Failed, .script, "the key has {d} bytes, and may have {d}", .{ key_size, limits.key_bytes_max });
    }
    if (host.engine.rowEntryCount() + count > limits.row_entries_max) {
        return host.failure.fail(error.Failed, .script, "the row has {d} entries already", .{host.engine.rowEntryCount()});
    }
}

pub fn checkMayEmit(host: *Host) Error!void {
    if (host.may_emit) return;
    return host.failure.fail(error.Failed, .script, "rows are made in row_generator, not in init_ctx or while the script is loaded", .{});
}

fn checkPath(host: *Host, path: []const u8) Error!void {
    if (path.len == 0) return host.failure.fail(error.Failed, .script, "the path is empty", .{});
    if (path.len >= Diagnostics.path_max) {
        return host.failure.fail(error.Failed, .script, "the path has {d} bytes, and may have {d}", .{ path.len, Diagnostics.path_max - 1 });
    }
    if (std.mem.indexOfScalar(u8, path, 0)) |at| {
        return host.failure.fail(error.Failed, .script, "the path has a NUL byte at {d}: {s}", .{ at, path[0..at] });
    }
}

pub fn badHandle(host: *Host, handle: f64) Status {
    var buffer: [40]u8 = undefined;
    host.failure.set(.script, "{s} is not an open file: closed already, or never opened", .{number(handle, &buffer)});
    return .failed;
}

pub fn badNumber(host: *Host, what: []const u8, value: f64) Status {
    var buffer: [40]u8 = undefined;
    host.failure.set(.script, "{s} must be a whole number from 0 to 2^53, got {s}", .{ what, number(value, &buffer) });
    return .failed;
}

pub fn badRecord(host: *Host, index: *const Index, value: f64) Status {
    var buffer: [40]u8 = undefined;
    host.failure.set(.script, "there is no record {s}: the index has {d}", .{ number(value + 1, &buffer), index.count });
    return .failed;
}

pub fn noSuchKey(host: *Host, index: *const Index, record: Index.Record, key: []const u8) Status {
    var list: [512]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&list);
    for (record.keys, 0..) |id, i| {
        writer.print("{s}\"{s}\"", .{ if (i > 0) ", " else "", index.keyText(id) }) catch break; // A cut-off list will do.
    }
    host.failure.set(.script, "sample \"{s}\" has no \"{s}\"; it has {s}", .{ record.stem, key, writer.buffered() });
    return .failed;
}

/// As Lua would print it, more or less: whole numbers whole, others short.
fn number(value: f64, buffer: *[40]u8) []const u8 {
    if (@abs(value) < 1e17) return std.fmt.bufPrint(buffer, "{d}", .{value}) catch "a number";
    return std.fmt.bufPrint(buffer, "{e}", .{value}) catch "a number";
}
