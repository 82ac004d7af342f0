//! A shard that is indexed: a file, or an object in a store.
const Input = @This();

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const Indexer = @import("Indexer.zig");
const Remote = @import("../io/Remote.zig");
const Source = @import("../utix/Source.zig");
const Waiter = @import("../io/Waiter.zig");
const Window = @import("Window.zig");
const os = @import("../base/os.zig");

bytes: Window.Bytes,
size: u64,
waiter: Waiter,

/// In place, as requests keep its address.
pub fn open(input: *Input, path: [:0]const u8, options: *const Indexer.Options, diag: *Diagnostics) Window.Error!void {
    if (options.remote) |remote| if (Remote.isUrl(path)) return input.openObject(remote, path, options, diag);
    const fd, const size = try Source.openRegular(path, diag);
    input.* = .{ .bytes = .{ .file = fd }, .size = size, .waiter = undefined };
}

fn openObject(input: *Input, remote: *Remote, url: []const u8, options: *const Indexer.Options, diag: *Diagnostics) Window.Error!void {
    const object = try remote.objectOf(url);
    input.waiter.init(remote);
    if (remote.sizeOf(object) == null) {
        var request: Remote.Request = .{ .client = &input.waiter.client, .object = object, .kind = .size };
        try input.waiter.wait(&request, options.stop);
        if (request.failure) |failure| {
            defer remote.gpa.free(failure.text);
            diag.set(.read, "cannot open {s}: {s}", .{ url, failure.text });
            diag.errno = failure.errno;
            diag.setPath(url);
            return error.ReadFailed;
        }
    }
    input.bytes = .{ .object = .{ .waiter = &input.waiter, .object = object, .stop = options.stop } };
    input.size = remote.sizeOf(object).?;
}

pub fn close(input: *Input) void {
    switch (input.bytes) {
        .file => |fd| os.close(fd),
        .object => {},
    }
}

/// What changes when somebody writes to it. Reads of objects are all of one version.
pub fn modified(input: *const Input) ?struct { u64, os.Mtime } {
    return switch (input.bytes) {
        .file => |fd| switch (os.fstat(fd)) {
            .ok => |stat| .{ stat.size, stat.mtime },
            .err => null,
        },
        .object => null,
    };
}
