//! The iterator of an `Order`, which computes some numbers ahead.

const Order = @import("../base/Order.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const instance = @import("instance.zig");
const OrderObject = @import("order_type.zig").OrderObject;
const raise = @import("raise.zig");

/// A few microseconds' worth, at most.
const chunk_max = 128;

const Iterator = extern struct {
    head: abi.Object,
    /// Owned; null only while it is made.
    order: ?*OrderObject,
    /// The place after those that `rows` has.
    place: u64,
    next: usize,
    count: usize,
    rows: [chunk_max]u64,
};

pub const spec = instance.spec(Iterator, "ultar_dataloader._native.OrderIterator", &.{
    .{ .id = abi.slot.tp_dealloc, .value = &dealloc },
    .{ .id = abi.slot.tp_new, .value = &refuseNew },
    .{ .id = abi.slot.tp_iter, .value = &abi.PyObject_SelfIter },
    .{ .id = abi.slot.tp_iternext, .value = &next },
    .{ .id = abi.slot.tp_methods, .value = &methods },
    .{ .id = abi.slot.tp_doc, .value = "The numbers of an order, one by one." },
    .{},
});

const methods = [_]abi.Method{
    .{ .name = "__length_hint__", .function = &lengthHint, .flags = abi.Method.no_args },
    .{},
};

pub fn create(order: *OrderObject) raise.Error!*abi.Object {
    const state: *State = try .ofInstance(&order.head);
    const iterator = try instance.create(Iterator, try state.getType(.order_iterator));
    iterator.order = @ptrCast(abi.newRef(&order.head));
    return &iterator.head;
}

fn refuseNew(_: *abi.Type, _: *abi.Object, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return raise.builtin(abi.PyExc_TypeError, "an OrderIterator cannot be made: it comes from iter(order)", .{}) catch null;
}

fn dealloc(iterator: *Iterator) callconv(.c) void {
    if (iterator.order) |order| abi.Py_DecRef(&order.head);
    instance.destroy(&iterator.head);
}

/// Null without an exception is the end.
fn next(iterator: *Iterator) callconv(.c) ?*abi.Object {
    if (iterator.next == iterator.count) {
        const order = iterator.order.?.native();
        const count: usize = @min(chunk_max, order.n - iterator.place);
        if (count == 0) return null;
        order.fill(iterator.place, 1, iterator.rows[0..count]);
        iterator.place += count;
        iterator.count = count;
        iterator.next = 0;
    }
    defer iterator.next += 1;
    return abi.PyLong_FromUnsignedLongLong(iterator.rows[iterator.next]);
}

fn lengthHint(iterator: *Iterator, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    const ahead = iterator.count - iterator.next;
    return abi.PyLong_FromUnsignedLongLong(iterator.order.?.native().n - iterator.place + ahead);
}
