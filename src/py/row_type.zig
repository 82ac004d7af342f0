//! `LoadedRow`: a mapping of keys to payloads, over a row of the engine. It
//! holds one reference to the row's group and nothing of Python's.

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const Row = @import("../engine/Row.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const entry_type = @import("entry_type.zig");
const instance = @import("instance.zig");
const lent = @import("lent.zig");
const raise = @import("raise.zig");

const LoadedRow = extern struct {
    head: abi.Object,
    /// A `Row`: of a layout that C does not know.
    storage: [@sizeOf(Row)]u8 align(@alignOf(Row)),

    fn row(object: *LoadedRow) *Row {
        return @ptrCast(&object.storage);
    }
};

pub const spec = instance.spec(LoadedRow, "ultar_dataloader._native.LoadedRow", &.{
    .{ .id = abi.slot.tp_dealloc, .value = &dealloc },
    .{ .id = abi.slot.tp_new, .value = &refuseNew },
    .{ .id = abi.slot.tp_repr, .value = &repr },
    .{ .id = abi.slot.tp_hash, .value = &abi.PyObject_HashNotImplemented },
    .{ .id = abi.slot.tp_richcompare, .value = &compare },
    .{ .id = abi.slot.tp_iter, .value = &iterate },
    .{ .id = abi.slot.mp_length, .value = &length },
    .{ .id = abi.slot.mp_subscript, .value = &subscript },
    .{ .id = abi.slot.sq_contains, .value = &contains },
    .{ .id = abi.slot.tp_methods, .value = &methods },
    .{ .id = abi.slot.tp_getset, .value = &properties },
    .{ .id = abi.slot.tp_doc, .value = "One row: entries under keys, as the script made them." },
    .{},
});

const methods = [_]abi.Method{
    .{ .name = "keys", .function = &keys, .flags = abi.Method.no_args, .doc =
    \\keys($self, /)
    \\--
    \\
    \\The keys, one an entry, in the script's order.
    },
    .{ .name = "values", .function = &values, .flags = abi.Method.no_args, .doc =
    \\values($self, /)
    \\--
    \\
    \\The payloads, one an entry.
    },
    .{ .name = "items", .function = &items, .flags = abi.Method.no_args, .doc =
    \\items($self, /)
    \\--
    \\
    \\Keys with payloads, one an entry.
    },
    .{ .name = "to_dict", .function = &toDict, .flags = abi.Method.no_args, .doc =
    \\to_dict($self, /)
    \\--
    \\
    \\Keys with payloads. Of a key given twice the first counts, as in row[key].
    },
    .{ .name = "get", .function = &get, .flags = abi.Method.var_args, .doc =
    \\get($self, key, default=None, /)
    \\--
    \\
    \\The payload of an entry, or the default where there is no such entry.
    },
    .{ .name = "view", .function = &view, .flags = abi.Method.one_arg, .doc =
    \\view($self, key, /)
    \\--
    \\
    \\A read-only view of an entry's bytes, without a copy. It keeps them alive.
    },
    .{ .name = "sources", .function = &sources, .flags = abi.Method.no_args, .doc =
    \\sources($self, /)
    \\--
    \\
    \\Where each entry comes from: path, offset and size in bytes.
    },
    .{ .name = "__reduce__", .function = &refusePickle, .flags = abi.Method.no_args },
    .{},
};

const properties = [_]abi.GetSet{
    .{ .name = "nbytes", .get = &nbytes, .doc = "Payload bytes of all entries together." },
    .{},
};

/// A new reference. Takes the row over, in any case.
pub fn new(state: *const State, row: Row) raise.Error!*abi.Object {
    errdefer row.release();
    const object = try instance.create(LoadedRow, try state.getType(.row_type));
    object.row().* = row;
    return &object.head;
}

fn refuseNew(_: *abi.Type, _: *abi.Object, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return raise.builtin(abi.PyExc_TypeError, "a LoadedRow cannot be made: rows come from iterating a DataLoader", .{}) catch null;
}

fn dealloc(object: *LoadedRow) callconv(.c) void {
    object.row().release();
    lent.letGo();
    instance.destroy(&object.head);
}

/// The place of the entry that a key or a place stands for, null when there is
/// none; and of what is neither.
fn find(row: Row, key: *abi.Object) raise.Error!?u32 {
    if (abi.isA(key, .str)) {
        const name = args.Text.init(key, "key") catch |err| {
            if (abi.PyErr_ExceptionMatches(abi.PyExc_UnicodeEncodeError) == 0) return err;
            abi.PyErr_Clear(); // Surrogates that no bytes decode to.
            return null;
        };
        defer name.deinit();
        return findKey(row, name.bytes);
    }
    if (abi.PyIndex_Check(key) == 0) return null;
    const place = abi.PyNumber_AsSsize_t(key, null); // Clipped where it is too large.
    if (place == -1 and abi.PyErr_Occurred() != null) return error.Raised;
    const count = row.count();
    const from_start = if (place < 0) place +| @as(isize, count) else place;
    return if (from_start >= 0 and from_start < count) @intCast(from_start) else null;
}

/// The first entry of that very key, else of that key behind a dot.
fn findKey(row: Row, name: []const u8) ?u32 {
    const count = row.count();
    for (0..count) |i| {
        if (std.mem.eql(u8, row.entry(@intCast(i)).key, name)) return @intCast(i);
    }
    for (0..count) |i| {
        const key = row.entry(@intCast(i)).key;
        if (key.len == name.len + 1 and key[0] == '.' and std.mem.eql(u8, key[1..], name)) return @intCast(i);
    }
    return null;
}

fn findOrRaise(row: Row, key: *abi.Object) raise.Error!Row.Entry {
    if (try find(row, key)) |i| return row.entry(i);
    if (abi.isA(key, .str)) {
        abi.PyErr_SetObject(abi.PyExc_KeyError, key);
        return error.Raised;
    }
    if (abi.PyIndex_Check(key) != 0) {
        const s = if (row.count() == 1) "y" else "ies";
        return raise.builtin(abi.PyExc_IndexError, "place out of range: the row has {d} entr{s}", .{ row.count(), s });
    }
    var buffer: args.TypeName = undefined;
    return raise.builtin(abi.PyExc_TypeError, "keys of a row are str or int, not {s}", .{args.typeName(key, &buffer)});
}

fn subscript(object: *LoadedRow, key: *abi.Object) callconv(.c) ?*abi.Object {
    const entry = findOrRaise(object.row().*, key) catch return null;
    return intact(object, toBytes(entry));
}

fn get(object: *LoadedRow, arguments: *abi.Object) callconv(.c) ?*abi.Object {
    var key: ?*abi.Object = null;
    var default: ?*abi.Object = null;
    if (abi.PyArg_ParseTuple(arguments, "O|O:get", &key, &default) == 0) return null;
    const found = find(object.row().*, key.?) catch return null;
    if (found) |i| return intact(object, toBytes(object.row().entry(i)));
    return if (default) |value| abi.newRef(value) else abi.none();
}

fn view(object: *LoadedRow, key: *abi.Object) callconv(.c) ?*abi.Object {
    return tryView(object, key) catch null;
}

fn tryView(object: *LoadedRow, key: *abi.Object) raise.Error!*abi.Object {
    const entry = try findOrRaise(object.row().*, key);
    return entry_type.view(try State.ofInstance(&object.head), &object.head, entry.bytes);
}

fn length(object: *LoadedRow) callconv(.c) isize {
    return object.row().count();
}

fn contains(object: *LoadedRow, key: *abi.Object) callconv(.c) c_int {
    if (!abi.isA(key, .str)) return 0;
    const found = find(object.row().*, key) catch return -1;
    return @intFromBool(found != null);
}

fn iterate(object: *LoadedRow) callconv(.c) ?*abi.Object {
    const names = keys(object, null) orelse return null;
    defer abi.Py_DecRef(names);
    return abi.PyObject_GetIter(names);
}

fn keys(object: *LoadedRow, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return tuple(object.row().*, toKey);
}

fn values(object: *LoadedRow, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return intact(object, tuple(object.row().*, toBytes));
}

fn items(object: *LoadedRow, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return intact(object, tuple(object.row().*, toItem));
}

fn sources(object: *LoadedRow, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return tuple(object.row().*, toSource);
}

fn tuple(row: Row, comptime make: fn (Row.Entry) ?*abi.Object) ?*abi.Object {
    const made = abi.PyTuple_New(row.count()) orelse return null;
    for (0..row.count()) |i| {
        const element = make(row.entry(@intCast(i))) orelse {
            abi.Py_DecRef(made);
            return null;
        };
        // Takes the element over, even where it fails, which here it cannot.
        _ = abi.PyTuple_SetItem(made, @intCast(i), element);
    }
    return made;
}

fn toKey(entry: Row.Entry) ?*abi.Object {
    return raise.decode(entry.key, .exact);
}

fn toBytes(entry: Row.Entry) ?*abi.Object {
    return abi.PyBytes_FromStringAndSize(entry.bytes.ptr, @intCast(entry.bytes.len));
}

fn toItem(entry: Row.Entry) ?*abi.Object {
    return abi.Py_BuildValue("(NN)", toKey(entry), toBytes(entry));
}

/// `made` holds copies of the row's bytes: an error instead, if those were gone.
fn intact(object: *LoadedRow, made: ?*abi.Object) ?*abi.Object {
    const mapping = object.row().lostMapping() orelse return made;
    var diag: Diagnostics = .{};
    mapping.describeLoss(&diag);
    if (made) |copies| abi.Py_DecRef(copies) else return null;
    const state = State.ofInstance(&object.head) catch return null;
    return raise.diagnostics(state, &diag) catch null;
}

fn toSource(entry: Row.Entry) ?*abi.Object {
    const path = raise.decode(entry.path, .exact);
    return abi.Py_BuildValue("(NKK)", path, @as(c_ulonglong, entry.offset), @as(c_ulonglong, entry.size));
}

fn toDict(object: *LoadedRow, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    const dict = abi.PyDict_New() orelse return null;
    fillDict(dict, object.row().*) catch {
        abi.Py_DecRef(dict);
        return null;
    };
    return intact(object, dict);
}

fn fillDict(dict: *abi.Object, row: Row) raise.Error!void {
    for (0..row.count()) |i| {
        const entry = row.entry(@intCast(i));
        const key = toKey(entry) orelse return error.Raised;
        defer abi.Py_DecRef(key);
        switch (abi.PyDict_Contains(dict, key)) {
            0 => {},
            1 => continue,
            else => return error.Raised,
        }
        const bytes = toBytes(entry) orelse return error.Raised;
        defer abi.Py_DecRef(bytes);
        if (abi.PyDict_SetItem(dict, key, bytes) != 0) return error.Raised;
    }
}

fn compare(object: *LoadedRow, other: *abi.Object, operation: c_int) callconv(.c) ?*abi.Object {
    return tryCompare(object, other, operation) catch null;
}

fn tryCompare(object: *LoadedRow, other: *abi.Object, operation: c_int) raise.Error!*abi.Object {
    const is_mapping = operation == abi.compare_equal or operation == abi.compare_not_equal;
    const state = try State.ofInstance(&object.head);
    switch (if (is_mapping) abi.PyObject_IsInstance(other, try state.get(.mapping)) else 0) {
        0 => return abi.newRef(&abi._Py_NotImplementedStruct),
        1 => {},
        else => return error.Raised,
    }
    const mine = toDict(object, null) orelse return error.Raised;
    defer abi.Py_DecRef(mine);
    const theirs = abi.PyDict_New() orelse return error.Raised;
    defer abi.Py_DecRef(theirs);
    if (abi.PyDict_Update(theirs, other) != 0) return error.Raised;
    return abi.PyObject_RichCompare(mine, theirs, operation) orelse error.Raised;
}

fn nbytes(object: *LoadedRow, _: ?*anyopaque) callconv(.c) ?*abi.Object {
    return abi.PyLong_FromUnsignedLongLong(totalSize(object.row().*));
}

fn totalSize(row: Row) u64 {
    var total: u64 = 0;
    for (0..row.count()) |i| total +|= row.entry(@intCast(i)).size;
    return total;
}

/// `<LoadedRow 3 entries, 1234 bytes: .jpg .json .cls>`, of a bounded length.
fn repr(object: *LoadedRow) callconv(.c) ?*abi.Object {
    const row = object.row().*;
    const count = row.count();
    const total = totalSize(row);
    var buffer: [64 + keys_shown_max * (key_shown_max + 8)]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    writer.print("<LoadedRow {d} entr{s}, {d} byte{s}", .{
        count,
        if (count == 1) "y" else "ies",
        total,
        if (total == 1) "" else "s",
    }) catch {};
    for (0..@min(count, keys_shown_max)) |i| {
        const key = row.entry(@intCast(i)).key;
        const is_cut = key.len > key_shown_max;
        const shown = if (is_cut) key[0..key_shown_max] else key;
        writer.print("{s} {s}{s}", .{ if (i == 0) ":" else "", shown, if (is_cut) "..." else "" }) catch {};
    }
    writer.writeAll(if (count > keys_shown_max) " ...>" else ">") catch {};
    return raise.decode(writer.buffered(), .readable);
}

const keys_shown_max = 10;
const key_shown_max = 40;

fn refusePickle(_: *abi.Object, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return raise.builtin(abi.PyExc_TypeError, "a LoadedRow cannot be pickled or copied: " ++
        "it is a handle on memory of this process; use row.to_dict()", .{}) catch null;
}
