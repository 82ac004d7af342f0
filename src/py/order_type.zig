//! `Order`: the rows of an epoch in the order of their visits, as a sequence of
//! ints that are computed when they are asked for.

const std = @import("std");
const Order = @import("../base/Order.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const gil = @import("gil.zig");
const instance = @import("instance.zig");
const order_iterator = @import("order_iterator.zig");
const raise = @import("raise.zig");

pub const OrderObject = extern struct {
    head: abi.Object,
    seed: u64,
    epoch: u64,
    /// 0 for none.
    window: u64,
    storage: [@sizeOf(Order)]u8 align(@alignOf(Order)),

    pub fn native(object: *OrderObject) *Order {
        return @ptrCast(&object.storage);
    }
};

/// Numbers that are computed between two looks at signals: some 20 ms.
const slice_chunk = 1 << 20;
/// Fewer take less time than it takes to give the GIL away.
const slice_min_without_gil = 512;

const methods = [_]abi.Method{
    .{ .name = "index", .function = &index, .flags = abi.Method.one_arg, .doc =
    \\index($self, row, /)
    \\--
    \\
    \\The place of a row, computed and not searched for.
    },
    .{ .name = "count", .function = &count, .flags = abi.Method.one_arg, .doc =
    \\count($self, row, /)
    \\--
    \\
    \\1 for a row of the order, else 0.
    },
    .{ .name = "__getnewargs_ex__", .function = &newArguments, .flags = abi.Method.no_args },
    .{},
};

const properties = [_]abi.GetSet{
    .{ .name = "seed", .get = &getSeed, .doc = "As given." },
    .{ .name = "epoch", .get = &getEpoch, .doc = "As given." },
    .{ .name = "window", .get = &getWindow, .doc = "As given, or None where the whole order is one window." },
    .{ .name = "block", .get = &getBlock, .doc = "Rows in a block, which the order keeps near; None without a window." },
    .{},
};

pub const spec = instance.spec(OrderObject, "ultar_dataloader._native.Order", &.{
    .{ .id = abi.slot.tp_dealloc, .value = &dealloc },
    .{ .id = abi.slot.tp_new, .value = &new },
    .{ .id = abi.slot.tp_iter, .value = &iterate },
    .{ .id = abi.slot.tp_repr, .value = &repr },
    .{ .id = abi.slot.tp_hash, .value = &hash },
    .{ .id = abi.slot.tp_richcompare, .value = &compare },
    .{ .id = abi.slot.tp_methods, .value = &methods },
    .{ .id = abi.slot.tp_getset, .value = &properties },
    .{ .id = abi.slot.sq_length, .value = &length },
    .{ .id = abi.slot.sq_item, .value = &item },
    .{ .id = abi.slot.sq_contains, .value = &contains },
    .{ .id = abi.slot.mp_length, .value = &length },
    .{ .id = abi.slot.mp_subscript, .value = &subscript },
    .{ .id = abi.slot.tp_doc, .value =
    \\Order(n, seed, epoch=0, *, window=None)
    \\--
    \\
    \\The numbers from 0 to n-1 in shuffled order, computed when they are asked for.
    },
    .{},
});

fn new(of: *abi.Type, arguments: *abi.Object, keywords: ?*abi.Object) callconv(.c) ?*abi.Object {
    return create(of, arguments, keywords) catch null;
}

fn create(of: *abi.Type, arguments: *abi.Object, keywords: ?*abi.Object) raise.Error!*abi.Object {
    var n_object: ?*abi.Object = null;
    var seed_object: ?*abi.Object = null;
    var epoch_object: ?*abi.Object = null;
    var window_object: ?*abi.Object = null;
    const names = [_]?[*:0]const u8{ "n", "seed", "epoch", "window", null };
    if (abi.PyArg_ParseTupleAndKeywords(arguments, keywords, "OO|O$O:Order", &names, &n_object, &seed_object, &epoch_object, &window_object) == 0) {
        return error.Raised;
    }
    const n = try exactInt(n_object.?, "n", 0);
    const seed = try exactInt(seed_object.?, "seed", 0);
    const epoch = if (epoch_object) |object| try exactInt(object, "epoch", 0) else 0;
    const window = if (window_object) |object| try windowOf(object) else null;

    const object = try instance.create(OrderObject, of);
    object.native().* = .init(n, seed, epoch, window);
    object.seed = seed;
    object.epoch = epoch;
    // Orders that are the same are equal, however the window was given.
    object.window = if (window) |size| (if (size < n) size else 0) else 0;
    return &object.head;
}

fn windowOf(object: *abi.Object) raise.Error!?u64 {
    if (object == &abi._Py_NoneStruct) return null;
    return try exactInt(object, "window", 1);
}

/// What Lua numbers hold exactly. True is no count of rows.
fn exactInt(object: *abi.Object, name: []const u8, min: u64) raise.Error!u64 {
    if (abi.PyIndex_Check(object) == 0 or abi.isBool(object)) {
        var buffer: args.TypeName = undefined;
        return raise.builtin(abi.PyExc_TypeError, "{s} must be an int, not {s}", .{ name, args.typeName(object, &buffer) });
    }
    if (try args.asI64(object)) |value| {
        if (value >= min and value <= Order.n_max) return @intCast(value);
    }
    return raise.builtin(abi.PyExc_ValueError, "{s} must be from {d} to {d}", .{ name, min, Order.n_max });
}

fn dealloc(object: *OrderObject) callconv(.c) void {
    instance.destroy(&object.head);
}

fn length(object: *OrderObject) callconv(.c) isize {
    return @intCast(object.native().n);
}

fn iterate(object: *OrderObject) callconv(.c) ?*abi.Object {
    return order_iterator.create(object) catch null;
}

/// Python has added the length to a negative `i` already.
fn item(object: *OrderObject, i: isize) callconv(.c) ?*abi.Object {
    return tryItem(object.native(), i) catch null;
}

fn tryItem(order: *const Order, i: isize) raise.Error!*abi.Object {
    if (i < 0 or i >= order.n) {
        return raise.builtin(abi.PyExc_IndexError, "place out of range: the order has {d}", .{order.n});
    }
    return abi.PyLong_FromUnsignedLongLong(order.at(@intCast(i))) orelse error.Raised;
}

fn subscript(object: *OrderObject, key: *abi.Object) callconv(.c) ?*abi.Object {
    return trySubscript(object, key) catch null;
}

fn trySubscript(object: *OrderObject, key: *abi.Object) raise.Error!*abi.Object {
    const order = object.native();
    if (key.type == abi.typeAt(&abi.PySlice_Type)) return slice(object, key);
    if (abi.PyIndex_Check(key) == 0) {
        var buffer: args.TypeName = undefined;
        return raise.builtin(abi.PyExc_TypeError, "an order is indexed by int or slice, not {s}", .{args.typeName(key, &buffer)});
    }
    const i = try args.asI64(key) orelse return tryItem(order, -1);
    // Of at most 2^53 places, so that nothing overflows.
    return tryItem(order, if (i < 0) i + @as(i64, @intCast(order.n)) else i);
}

/// A new `array.array("Q")`.
fn slice(object: *OrderObject, key: *abi.Object) raise.Error!*abi.Object {
    const order = object.native();
    var first: isize = 0;
    var stop: isize = 0;
    var step: isize = 0;
    if (abi.PySlice_Unpack(key, &first, &stop, &step) != 0) return error.Raised;
    const size = abi.PySlice_AdjustIndices(@intCast(order.n), &first, &stop, step);

    const array = try newArray(try .ofInstance(&object.head), size);
    errdefer abi.Py_DecRef(array);
    if (size == 0) return array;
    var buffer: abi.Buffer = undefined;
    if (abi.PyObject_GetBuffer(array, &buffer, abi.Buffer.writable) != 0) return error.Raised;
    defer abi.PyBuffer_Release(&buffer);
    const bytes: [*]u64 = @ptrCast(@alignCast(buffer.bytes.?));
    const rows = bytes[0..@divExact(@as(usize, @intCast(buffer.size)), @sizeOf(u64))];
    try fill(order, @intCast(first), step, rows);
    return array;
}

fn fill(order: *const Order, first: u64, step: i64, rows: []u64) raise.Error!void {
    if (rows.len < slice_min_without_gil) return order.fill(first, step, rows);
    var cursor: Order.Cursor = .{};
    var rest = rows;
    var place = first;
    while (rest.len > 0) {
        const some = rest[0..@min(rest.len, slice_chunk)];
        {
            const released = gil.release();
            defer released.takeBack();
            cursor.fill(order, place, step, some);
        }
        rest = rest[some.len..];
        place +%= @as(u64, @bitCast(step)) *% some.len;
        if (abi.PyErr_CheckSignals() != 0) return error.Raised;
    }
}

/// Of zeros.
fn newArray(state: *State, size: isize) raise.Error!*abi.Object {
    const of = try state.array();
    const zero = abi.PyBytes_FromStringAndSize(&@as([8]u8, @splat(0)), 8) orelse return error.Raised;
    defer abi.Py_DecRef(zero);
    const one = abi.PyObject_CallFunction(of, "sO", @as([*:0]const u8, "Q"), zero) orelse return error.Raised;
    defer abi.Py_DecRef(one);
    return abi.PySequence_Repeat(one, size) orelse error.Raised;
}

/// Null for what is no row of the order.
fn rowOf(order: *const Order, object: *abi.Object) raise.Error!?u64 {
    if (abi.PyIndex_Check(object) == 0) return null;
    const value = try args.asI64(object) orelse return null;
    return if (value >= 0 and value < order.n) @intCast(value) else null;
}

fn contains(object: *OrderObject, value: *abi.Object) callconv(.c) c_int {
    const row = rowOf(object.native(), value) catch return -1;
    return @intFromBool(row != null);
}

fn count(object: *OrderObject, value: *abi.Object) callconv(.c) ?*abi.Object {
    const row = rowOf(object.native(), value) catch return null;
    return abi.PyLong_FromLongLong(@intFromBool(row != null));
}

fn index(object: *OrderObject, value: *abi.Object) callconv(.c) ?*abi.Object {
    return tryIndex(object.native(), value) catch null;
}

fn tryIndex(order: *const Order, value: *abi.Object) raise.Error!*abi.Object {
    const row = try rowOf(order, value) orelse {
        return raise.builtin(abi.PyExc_ValueError, "not in the order, which has the ints from 0 to below {d}", .{order.n});
    };
    return abi.PyLong_FromUnsignedLongLong(order.placeOf(row)) orelse error.Raised;
}

fn repr(object: *OrderObject) callconv(.c) ?*abi.Object {
    var buffer: [160]u8 = undefined; // Four numbers of at most 20 digits, and the names.
    var writer: std.Io.Writer = .fixed(&buffer);
    writer.print("order({d}, {d}", .{ object.native().n, object.seed }) catch {};
    if (object.epoch != 0) writer.print(", {d}", .{object.epoch}) catch {};
    if (object.window != 0) writer.print(", window={d}", .{object.window}) catch {};
    writer.writeAll(")") catch {};
    return raise.decode(writer.buffered(), .readable);
}

fn hash(object: *OrderObject) callconv(.c) isize {
    const parameters = [_]u64{ object.native().n, object.seed, object.epoch, object.window };
    const value: isize = @bitCast(std.hash.Wyhash.hash(0, std.mem.asBytes(&parameters)));
    return if (value == -1) -2 else value; // -1 stands for an exception.
}

fn compare(object: *OrderObject, other: *abi.Object, operation: c_int) callconv(.c) ?*abi.Object {
    if (other.type != object.head.type or (operation != abi.compare_equal and operation != abi.compare_not_equal)) {
        return abi.newRef(&abi._Py_NotImplementedStruct);
    }
    const theirs: *OrderObject = @ptrCast(@alignCast(other));
    const equal = object.native().n == theirs.native().n and object.seed == theirs.seed and
        object.epoch == theirs.epoch and object.window == theirs.window;
    return abi.PyBool_FromLong(@intFromBool(equal == (operation == abi.compare_equal)));
}

/// For pickle and copy: the arguments by place, and those by name.
fn newArguments(object: *OrderObject, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    const n: c_ulonglong = object.native().n;
    const window = getWindow(object, null); // "N" passes on a null as the exception that it is.
    return abi.Py_BuildValue("((KKK){sN})", n, @as(c_ulonglong, object.seed), @as(c_ulonglong, object.epoch), @as([*:0]const u8, "window"), window);
}

fn getSeed(object: *OrderObject, _: ?*anyopaque) callconv(.c) ?*abi.Object {
    return abi.PyLong_FromUnsignedLongLong(object.seed);
}

fn getEpoch(object: *OrderObject, _: ?*anyopaque) callconv(.c) ?*abi.Object {
    return abi.PyLong_FromUnsignedLongLong(object.epoch);
}

fn getWindow(object: *OrderObject, _: ?*anyopaque) callconv(.c) ?*abi.Object {
    if (object.window == 0) return abi.none();
    return abi.PyLong_FromUnsignedLongLong(object.window);
}

fn getBlock(object: *OrderObject, _: ?*anyopaque) callconv(.c) ?*abi.Object {
    return abi.PyLong_FromUnsignedLongLong(object.native().blockSize() orelse return abi.none());
}
