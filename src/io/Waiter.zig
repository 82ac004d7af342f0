//! A client of `Remote` for a thread that does nothing else while it waits.
const Waiter = @This();

const std = @import("std");
const assert = std.debug.assert;
const Remote = @import("Remote.zig");
const sync = @import("../base/sync.zig");

client: Remote.Client,
came: sync.Event = .{},

/// In place, as the client's address is kept.
pub fn init(waiter: *Waiter, remote: *Remote) void {
    waiter.* = .{ .client = .{ .remote = remote, .wake = wake } };
}

fn wake(client: *Remote.Client) void {
    const waiter: *Waiter = @fieldParentPtr("client", client);
    waiter.came.notify();
}

/// Until the request is done, or `stop` turns true.
pub fn wait(waiter: *Waiter, request: *Remote.Request, stop: ?*const std.atomic.Value(bool)) error{Stopped}!void {
    const remote = waiter.client.remote;
    assert(request.client == &waiter.client);
    remote.submit(request);
    while (true) {
        const ticket = waiter.came.ticket();
        if (remote.takeDone(&waiter.client) != null) return;
        if (stop) |flag| if (flag.load(.monotonic)) {
            remote.cancel(&waiter.client);
            return error.Stopped;
        };
        waiter.came.wait(ticket, 50 * std.time.ns_per_ms);
    }
}
