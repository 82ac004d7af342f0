//! `Index`: the records of a `.utix`, as a sequence of dicts.

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const Index = @import("../utix/Index.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const gil = @import("gil.zig");
const instance = @import("instance.zig");
const msgpack_decode = @import("msgpack_decode.zig");
const raise = @import("raise.zig");

const IndexObject = extern struct {
    head: abi.Object,
    /// Null only while it is made.
    native: ?*Index,
};

pub const spec = instance.spec(IndexObject, "ultar_dataloader._native.Index", &.{
    .{ .id = abi.slot.tp_dealloc, .value = &dealloc },
    .{ .id = abi.slot.tp_new, .value = &new },
    // As a sequence, so that Python counts negative places from the end.
    .{ .id = abi.slot.sq_length, .value = &length },
    .{ .id = abi.slot.sq_item, .value = &item },
    .{ .id = abi.slot.tp_doc, .value = "Index(path, /)\n--\n\nThe records of an index, which is read and checked when it is opened." },
    .{},
});

fn new(of: *abi.Type, arguments: *abi.Object, keywords: ?*abi.Object) callconv(.c) ?*abi.Object {
    return create(of, arguments, keywords) catch null;
}

fn create(of: *abi.Type, arguments: *abi.Object, keywords: ?*abi.Object) raise.Error!*abi.Object {
    const gpa = std.heap.c_allocator;
    const state: *State = try .ofType(of);
    var path_object: ?*abi.Object = null;
    const names = [_]?[*:0]const u8{ "", null }; // Without a name: by place only.
    if (abi.PyArg_ParseTupleAndKeywords(arguments, keywords, "O:Index", &names, &path_object) == 0) return error.Raised;
    const path = try args.path(gpa, path_object.?);
    defer gpa.free(path);

    const index = try instance.create(IndexObject, of);
    errdefer abi.Py_DecRef(&index.head);
    var diag: Diagnostics = .{};
    const opened = blk: {
        const released = gil.release();
        defer released.takeBack();
        break :blk Index.open(gpa, path, &diag);
    };
    index.native = opened catch |err| switch (err) {
        error.BadIndex, error.ReadFailed, error.OutOfMemory => return raise.diagnostics(state, &diag),
    };
    return &index.head;
}

fn dealloc(index: *IndexObject) callconv(.c) void {
    if (index.native) |native| native.close();
    instance.destroy(&index.head);
}

fn length(index: *IndexObject) callconv(.c) isize {
    return @intCast(index.native.?.count);
}

/// Python has added the count to a negative `i` already.
fn item(index: *IndexObject, i: isize) callconv(.c) ?*abi.Object {
    return tryItem(index.native.?, i) catch null;
}

fn tryItem(native: *const Index, i: isize) raise.Error!*abi.Object {
    if (i < 0 or i >= native.count) {
        return raise.builtin(abi.PyExc_IndexError, "record out of range: the index has {d}", .{native.count});
    }
    return recordDict(native, @intCast(i));
}

/// A new reference. `i` is below the count.
pub fn recordDict(native: *const Index, i: usize) raise.Error!*abi.Object {
    const record = native.record(i);
    const dict = abi.PyDict_New() orelse return error.Raised;
    errdefer abi.Py_DecRef(dict);
    try put(dict, "iidx", uint(record.iidx));
    try put(dict, "offset", uint(record.offset));
    try put(dict, "str_idx", raise.decode(record.stem, .exact));
    try put(dict, "keys", try keyList(native, record.keys));
    try put(dict, "offsets", try uintList(record.offsets));
    try put(dict, "sizes", try uintList(record.sizes));
    if (record.metadata.len > 0) try put(dict, "metadata", try msgpack_decode.decode(record.metadata));
    return dict;
}

/// Takes the value over; a null one is an exception that is set.
fn put(dict: *abi.Object, name: [*:0]const u8, value: ?*abi.Object) raise.Error!void {
    const object = value orelse return error.Raised;
    defer abi.Py_DecRef(object);
    if (abi.PyDict_SetItemString(dict, name, object) != 0) return error.Raised;
}

fn uint(value: u64) ?*abi.Object {
    return abi.PyLong_FromUnsignedLongLong(value);
}

fn uintList(values: []const u64) raise.Error!*abi.Object {
    const list = abi.PyList_New(@intCast(values.len)) orelse return error.Raised;
    errdefer abi.Py_DecRef(list);
    for (values, 0..) |value, i| {
        if (abi.PyList_SetItem(list, @intCast(i), uint(value) orelse return error.Raised) != 0) return error.Raised;
    }
    return list;
}

fn keyList(native: *const Index, ids: []const u32) raise.Error!*abi.Object {
    const list = abi.PyList_New(@intCast(ids.len)) orelse return error.Raised;
    errdefer abi.Py_DecRef(list);
    for (ids, 0..) |id, i| {
        const key = raise.decode(native.keyText(id), .exact) orelse return error.Raised;
        if (abi.PyList_SetItem(list, @intCast(i), key) != 0) return error.Raised;
    }
    return list;
}
