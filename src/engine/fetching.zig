//! The engine's side of objects in stores: it asks `Remote` for what it would ask the
//! kernel for, and takes what is done in its ticks, so that rows go one way.

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const Engine = @import("Engine.zig");
const OpenFile = @import("OpenFile.zig");
const Read = @import("Read.zig");
const Remote = @import("../io/Remote.zig");
const reading = @import("reading.zig");
const waiting = @import("waiting.zig");

pub const Error = error{ ReadFailed, Stopped, OutOfMemory };

/// What a client calls, from any thread.
pub fn wake(client: *Remote.Client) void {
    const engine: *Engine = @fieldParentPtr("client", client);
    engine.wake();
}

/// Null for a path that is no URL.
pub fn openRemote(engine: *Engine, path: []const u8, diag: *Diagnostics) Error!?*OpenFile {
    const remote = engine.options.remote orelse return null;
    if (!Remote.isUrl(path)) return null;
    const object = try remote.objectOf(path);
    if (remote.sizeOf(object) == null) _ = try ask(engine, object, .size, diag);
    const file: *OpenFile = try .openRemote(engine.gpa, object, remote.sizeOf(object).?, &engine.open_count);
    expectLate(engine);
    return file;
}

/// What is decoded of a file, as a file of its own, which is served like an object. The file
/// itself where nobody serves: it ends before such offsets.
pub fn decodedOf(engine: *Engine, file: *OpenFile) error{OutOfMemory}!*OpenFile {
    if (file.decoded) |known| return known;
    const remote = engine.options.remote orelse return file;
    file.decoded = try .openDecoded(engine.gpa, try remote.objectOf(file.path), &engine.open_count);
    expectLate(engine);
    return file.decoded.?;
}

/// Who serves answers late, however fast it is: all of the budget is wanted.
fn expectLate(engine: *Engine) void {
    if (engine.has_remote) return;
    engine.has_remote = true;
    engine.queue.window_bytes.store(engine.options.bytes_max, .monotonic);
}

/// The path of a file with the content of an index in a store; null for a path that is
/// no URL. Borrowed from the table of objects.
pub fn localIndex(engine: *Engine, path: []const u8, diag: *Diagnostics) Error!?[:0]const u8 {
    const remote = engine.options.remote orelse return null;
    if (!Remote.isUrl(path)) return null;
    const object = try remote.objectOf(path);
    if (object.local == null) _ = try ask(engine, object, .local, diag);
    return object.local.?;
}

/// What lies directly below a URL: URLs, each with a NUL behind, to be given back. Null for
/// a path that is none.
pub fn list(engine: *Engine, path: []const u8, diag: *Diagnostics) Error!?Remote.Lent {
    const remote = engine.options.remote orelse return null;
    if (!Remote.isUrl(path)) return null;
    return try ask(engine, try remote.objectOf(path), .list, diag);
}

/// Say how large an object should be, so that nobody asks. Nothing for a path that is no URL.
pub fn expectSize(engine: *Engine, path: []const u8, size: u64) error{OutOfMemory}!void {
    const remote = engine.options.remote orelse return;
    if (Remote.isUrl(path)) remote.expectSize(try remote.objectOf(path), size);
}

/// Hand over a request for a read.
pub fn submit(engine: *Engine, request: *Remote.Request) void {
    const remote = engine.options.remote.?; // It gave the object that is read.
    engine.client.remote = remote;
    remote.submit(request);
    // Servers are started by the consumer, who may be asleep.
    if (remote.wantsServers()) engine.queue.event.notify();
}

/// Take what is done.
pub fn takeDone(engine: *Engine) void {
    if (engine.client.pending == 0) return;
    while (engine.options.remote.?.takeDone(&engine.client)) |request| {
        reading.completeRemote(@fieldParentPtr("request", request));
    }
}

/// Give up what is asked for. Late answers go nowhere.
pub fn cancel(engine: *Engine) void {
    if (engine.options.remote) |remote| remote.cancel(&engine.client);
}

/// A question with an answer that the object keeps, or that is lent. Waits for it; what
/// else goes on meanwhile is taken care of.
fn ask(engine: *Engine, object: *Remote.Object, kind: Remote.Kind, diag: *Diagnostics) Error!?Remote.Lent {
    const remote = engine.options.remote.?;
    var asking: Asking = .{ .engine = engine, .client = .{ .remote = remote, .wake = Asking.wakeEngine } };
    defer remote.cancel(&asking.client);
    var request: Remote.Request = .{ .client = &asking.client, .object = object, .kind = kind, .may_lend = kind == .list };
    remote.submit(&request);
    if (remote.wantsServers()) engine.queue.event.notify();
    while (true) {
        const ticket = engine.idle.ticket();
        if (remote.takeDone(&asking.client) != null) break;
        if (engine.isStopping()) return error.Stopped;
        if (engine.backend_ready.raw) waiting.tick(engine, .block) else engine.idle.wait(ticket, std.time.ns_per_s);
    }
    const failure = request.failure orelse return request.lent;
    defer remote.gpa.free(failure.text);
    diag.set(.read, "cannot {s} {s}: {s}", .{ if (kind == .list) "list" else "open", object.name, failure.text });
    diag.errno = failure.errno;
    diag.setPath(object.name);
    return error.ReadFailed;
}

const Asking = struct {
    engine: *Engine,
    client: Remote.Client,

    fn wakeEngine(client: *Remote.Client) void {
        const asking: *Asking = @fieldParentPtr("client", client);
        asking.engine.wake();
    }
};
