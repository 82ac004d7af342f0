//! `Entry`: lends one payload of a row through the buffer protocol. Python sees
//! the memoryview of it that `row.view()` gives, never the entry itself.
//!
//! Ownership, one way only:
//!
//!     memoryview -> Entry -> LoadedRow -> group of rows
//!
//! Each arrow is one strong reference, so bytes that a view can see are never
//! recycled, and there is no cycle for the garbage collector to find.

const State = @import("State.zig");
const abi = @import("abi.zig");
const instance = @import("instance.zig");
const raise = @import("raise.zig");

const Entry = extern struct {
    head: abi.Object,
    /// Owned reference to the row that owns `bytes`.
    row: *abi.Object,
    bytes: [*]const u8,
    size: usize,
};

pub const spec = instance.spec(Entry, "ultar_dataloader._native.Entry", &.{
    .{ .id = abi.slot.tp_dealloc, .value = &dealloc },
    .{ .id = abi.slot.tp_new, .value = &refuseNew },
    .{ .id = abi.slot.bf_getbuffer, .value = &getBuffer },
    .{ .id = abi.slot.tp_doc, .value = "The bytes of one entry of a row, which it keeps alive." },
    .{},
});

/// A new, read-only memoryview of `bytes`, which `row` owns.
pub fn view(state: *const State, row: *abi.Object, bytes: []const u8) raise.Error!*abi.Object {
    const entry = try instance.create(Entry, try state.getType(.entry_type));
    defer abi.Py_DecRef(&entry.head); // The view has a reference of its own.
    entry.row = abi.newRef(row);
    entry.bytes = bytes.ptr;
    entry.size = bytes.len;
    return abi.PyMemoryView_FromObject(&entry.head) orelse error.Raised;
}

fn dealloc(entry: *Entry) callconv(.c) void {
    abi.Py_DecRef(entry.row);
    instance.destroy(&entry.head);
}

fn refuseNew(_: *abi.Type, _: *abi.Object, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return raise.builtin(abi.PyExc_TypeError, "an Entry cannot be made: it comes from row.view(key)", .{}) catch null;
}

fn getBuffer(entry: *Entry, buffer: *abi.Buffer, flags: c_int) callconv(.c) c_int {
    const read_only = 1;
    const bytes = @constCast(entry.bytes); // The C signature predates const.
    return abi.PyBuffer_FillInfo(buffer, &entry.head, bytes, @intCast(entry.size), read_only, flags);
}
