//! `RowReader`: single rows of a dataset, read in the calling thread.

const std = @import("std");
const Dataset = @import("../dataset/Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const OpenFile = @import("../engine/OpenFile.zig");
const Remote = @import("../io/Remote.zig");
const RowReader = @import("../dataset/RowReader.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const fork = @import("fork.zig");
const gil = @import("gil.zig");
const instance = @import("instance.zig");
const raise = @import("raise.zig");
const row_type = @import("row_type.zig");

const ReaderObject = extern struct {
    head: abi.Object,
    /// Null only while it is made.
    native: ?*RowReader,
    /// Where it was made. Threads of another process may have had its locks.
    generation: u32,
};

const methods = [_]abi.Method{
    .{ .name = "read", .function = &read, .flags = abi.Method.one_arg, .doc =
    \\read($self, row, /)
    \\--
    \\
    \\The row of that number.
    },
    .{},
};

pub const spec = instance.spec(ReaderObject, "ultar_dataloader._native.RowReader", &.{
    .{ .id = abi.slot.tp_dealloc, .value = &dealloc },
    .{ .id = abi.slot.tp_new, .value = &refuseNew },
    .{ .id = abi.slot.tp_methods, .value = &methods },
    .{ .id = abi.slot.tp_doc, .value = "Single rows of a dataset, read in the calling thread." },
    .{},
});

fn refuseNew(_: *abi.Type, _: *abi.Object, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return raise.builtin(abi.PyExc_TypeError, "a RowReader comes from Dataset.reader", .{}) catch null;
}

/// A new reference.
pub fn make(state: *State, dataset: *Dataset, keys: ?[]const []const u8, access: OpenFile.Access, remote: ?*Remote) raise.Error!*abi.Object {
    const reader = try instance.create(ReaderObject, try state.getType(.reader_type));
    errdefer abi.Py_DecRef(&reader.head);
    reader.generation = fork.generation();
    reader.native = RowReader.create(std.heap.c_allocator, dataset, keys, access, remote) catch return raise.memory();
    return &reader.head;
}

fn dealloc(reader: *ReaderObject) callconv(.c) void {
    if (reader.native) |native| if (reader.generation == fork.generation()) native.destroy();
    instance.destroy(&reader.head);
}

fn read(reader: *ReaderObject, row: *abi.Object) callconv(.c) ?*abi.Object {
    return tryRead(reader, row) catch null;
}

fn tryRead(reader: *ReaderObject, object: *abi.Object) raise.Error!*abi.Object {
    const state: *State = try .ofInstance(&reader.head);
    const native = reader.native.?;
    const number = try args.int(u64, object, "row");
    if (reader.generation != fork.generation()) return raise.ours(state, "a RowReader does not follow into the child of a fork", .{});
    const count = native.dataset.count;
    if (number >= count) return raise.builtin(abi.PyExc_IndexError, "row out of range: the dataset has {d}", .{count});
    var diag: Diagnostics = undefined;
    const result = blk: {
        const released = gil.release();
        defer released.takeBack();
        diag = .{};
        break :blk native.read(number, &diag);
    };
    const row = result catch |err| switch (err) {
        error.ReadFailed => return raise.diagnostics(state, &diag),
        error.OutOfMemory => return raise.memory(),
        error.Stopped => return raise.ours(state, "the reader was stopped", .{}), // Nobody does.
    };
    return row_type.new(state, row);
}
