//! Buffers of Python objects that rows are views of. Who gives one back may be any thread,
//! with the GIL or without; only with it can the object be let go. So they are set aside, and
//! let go by the next call that has the GIL: that which lost a row, for one.

const std = @import("std");
const Remote = @import("../io/Remote.zig");
const abi = @import("abi.zig");
const raise = @import("raise.zig");

const gpa = std.heap.c_allocator;

const Holder = struct {
    buffer: abi.Buffer,
    next: ?*Holder = null,
};

/// Given back and not let go, last first. Of the process, as is the GIL.
var returned: std.atomic.Value(?*Holder) = .init(null);

/// The bytes of an object. Given back at last by whoever has them.
pub fn lend(object: *abi.Object) raise.Error!Remote.Lent {
    const holder = gpa.create(Holder) catch return raise.memory();
    errdefer gpa.destroy(holder);
    holder.* = .{ .buffer = undefined };
    if (abi.PyObject_GetBuffer(object, &holder.buffer, 0) != 0) return error.Raised;
    const bytes: [*]const u8 = if (holder.buffer.bytes) |start| @ptrCast(start) else "";
    return .{ .bytes = bytes[0..@intCast(holder.buffer.size)], .owner = holder, .return_to = setAside };
}

fn setAside(owner: *anyopaque) void {
    const holder: *Holder = @ptrCast(@alignCast(owner));
    var head = returned.load(.monotonic);
    while (true) {
        holder.next = head;
        head = returned.cmpxchgWeak(head, holder, .release, .monotonic) orelse return;
    }
}

/// With the GIL. A load, where there is nothing.
pub fn letGo() void {
    if (returned.load(.monotonic) == null) return;
    var first = returned.swap(null, .acquire);
    while (first) |holder| {
        first = holder.next;
        abi.PyBuffer_Release(&holder.buffer);
        gpa.destroy(holder);
    }
}
