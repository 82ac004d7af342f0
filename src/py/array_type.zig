//! `Array`: native memory with a type and a shape, lent to whoever speaks the buffer
//! protocol, DLPack or Arrow. All of them may write into it: it is the user's alone.

const std = @import("std");
const Array = @import("../dataset/Array.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const arrow = @import("arrow.zig");
const dlpack = @import("dlpack.zig");
const instance = @import("instance.zig");
const raise = @import("raise.zig");

const ArrayObject = extern struct {
    head: abi.Object,
    /// A reference. Null only while it is made.
    native: ?*Array,
};

const methods = [_]abi.Method{
    .{ .name = "__dlpack__", .function = @ptrCast(&toDlpack), .flags = abi.Method.var_args | abi.Method.keywords, .doc =
    \\__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)
    \\--
    \\
    \\A capsule for `from_dlpack`, without a copy unless one is asked for.
    },
    .{ .name = "__dlpack_device__", .function = &dlpackDevice, .flags = abi.Method.no_args, .doc =
    \\__dlpack_device__($self, /)
    \\--
    \\
    \\That it is in the memory of the CPU.
    },
    .{ .name = "__arrow_c_array__", .function = @ptrCast(&toArrow), .flags = abi.Method.var_args | abi.Method.keywords, .doc =
    \\__arrow_c_array__($self, /, requested_schema=None)
    \\--
    \\
    \\Capsules with an Arrow array, without a copy; what has several dimensions is a fixed-size list.
    },
    .{},
};

const getset = [_]abi.GetSet{
    .{ .name = "shape", .get = &getShape, .doc = "A tuple of ints." },
    .{ .name = "dtype", .get = &getDtype, .doc = "NumPy's typestr, as \"<u2\"." },
    .{ .name = "nbytes", .get = &getBytes, .doc = "Bytes of all elements." },
    .{},
};

pub const spec = instance.spec(ArrayObject, "ultar_dataloader._native.Array", &.{
    .{ .id = abi.slot.tp_dealloc, .value = &dealloc },
    .{ .id = abi.slot.tp_new, .value = &refuseNew },
    .{ .id = abi.slot.tp_repr, .value = &repr },
    .{ .id = abi.slot.sq_length, .value = &length },
    .{ .id = abi.slot.bf_getbuffer, .value = &getBuffer },
    .{ .id = abi.slot.tp_methods, .value = &methods },
    .{ .id = abi.slot.tp_getset, .value = &getset },
    .{ .id = abi.slot.tp_doc, .value = "Elements of one type in native memory, in C order." },
    .{},
});

/// Takes the reference over, also on an error.
pub fn new(state: *const State, native: *Array) raise.Error!*abi.Object {
    errdefer native.release();
    const array = try instance.create(ArrayObject, try state.getType(.array_type));
    array.native = native;
    return &array.head;
}

fn refuseNew(_: *abi.Type, _: *abi.Object, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return raise.builtin(abi.PyExc_TypeError, "an Array cannot be made: it comes from a batch", .{}) catch null;
}

fn dealloc(array: *ArrayObject) callconv(.c) void {
    if (array.native) |native| native.release();
    instance.destroy(&array.head);
}

fn length(array: *ArrayObject) callconv(.c) isize {
    return @intCast(array.native.?.shape[0]);
}

fn getBuffer(array: *ArrayObject, buffer: *abi.Buffer, flags: c_int) callconv(.c) c_int {
    tryGetBuffer(array, buffer, flags) catch {
        buffer.object = null;
        return -1;
    };
    return 0;
}

fn tryGetBuffer(array: *ArrayObject, buffer: *abi.Buffer, flags: c_int) raise.Error!void {
    const native = array.native.?;
    if (flags & abi.Buffer.nd == 0) {
        // Plain bytes.
        if (abi.PyBuffer_FillInfo(buffer, &array.head, native.bytes.ptr, @intCast(native.bytes.len), 0, flags) != 0) return error.Raised;
        return;
    }
    if (flags & abi.Buffer.f_contiguous == abi.Buffer.f_contiguous and native.shape.len > 1) {
        return raise.builtin(abi.PyExc_BufferError, "the array is in C order, not in Fortran's", .{});
    }
    buffer.* = .{
        .bytes = native.bytes.ptr,
        .object = abi.newRef(&array.head),
        .size = @intCast(native.bytes.len),
        .item_size = native.element.size,
        .read_only = 0,
        .dimension_count = @intCast(native.shape.len),
        .format = if (flags & abi.Buffer.with_format != 0) @constCast(native.element.format().ptr) else null,
        .shape = @ptrCast(@constCast(native.shape.ptr)), // The C signature predates const.
        .strides = if (flags & abi.Buffer.with_strides == abi.Buffer.with_strides) @ptrCast(@constCast(native.byte_strides.ptr)) else null,
        .suboffsets = null,
        .internal = null,
    };
}

fn getShape(array: *ArrayObject, _: ?*anyopaque) callconv(.c) ?*abi.Object {
    const shape = array.native.?.shape;
    const tuple = abi.PyTuple_New(@intCast(shape.len)) orelse return null;
    for (shape, 0..) |size, i| {
        const number = abi.PyLong_FromLongLong(size) orelse {
            abi.Py_DecRef(tuple);
            return null;
        };
        _ = abi.PyTuple_SetItem(tuple, @intCast(i), number); // A tuple of our own: cannot fail.
    }
    return tuple;
}

fn getDtype(array: *ArrayObject, _: ?*anyopaque) callconv(.c) ?*abi.Object {
    return raise.decode(array.native.?.element.typestr(), .readable);
}

fn getBytes(array: *ArrayObject, _: ?*anyopaque) callconv(.c) ?*abi.Object {
    return abi.PyLong_FromUnsignedLongLong(array.native.?.bytes.len);
}

fn repr(array: *ArrayObject) callconv(.c) ?*abi.Object {
    const native = array.native.?;
    var buffer: [2048]u8 = undefined; // Of 64 dimensions.
    var writer: std.Io.Writer = .fixed(&buffer);
    writer.print("<Array {s} (", .{native.element.typestr()}) catch {};
    for (native.shape, 0..) |size, i| writer.print("{s}{d}", .{ if (i == 0) "" else ", ", size }) catch {};
    writer.print("{s}), {d} bytes>", .{ if (native.shape.len == 1) "," else "", native.bytes.len }) catch {};
    return raise.decode(writer.buffered(), .readable);
}

fn toDlpack(array: *ArrayObject, arguments: *abi.Object, keywords: ?*abi.Object) callconv(.c) ?*abi.Object {
    return dlpack.export_(array.native.?, arguments, keywords) catch null;
}

fn dlpackDevice(_: *ArrayObject, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return abi.Py_BuildValue("(ii)", @as(c_int, dlpack.device_cpu), @as(c_int, 0));
}

fn toArrow(array: *ArrayObject, arguments: *abi.Object, keywords: ?*abi.Object) callconv(.c) ?*abi.Object {
    return arrow.export_(array.native.?, arguments, keywords) catch null;
}
