//! Arrays for other libraries, by DLPack: https://dmlc.github.io/dlpack/latest/
//! Both of its structures, the one that has a version and the one from before.

const std = @import("std");
const Array = @import("../dataset/Array.zig");
const Element = @import("../dataset/Element.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const raise = @import("raise.zig");

const gpa = std.heap.c_allocator;

pub const device_cpu = 1;

const Device = extern struct { kind: i32 = device_cpu, id: i32 = 0 };
const DataType = extern struct { code: u8, bits: u8, lanes: u16 = 1 };

const Tensor = extern struct {
    data: *anyopaque,
    device: Device = .{},
    dims_count: i32,
    dtype: DataType,
    shape: [*]const i64,
    strides: [*]const i64,
    byte_offset: u64 = 0,
};

const Managed = extern struct {
    tensor: Tensor,
    context: *Array,
    deleter: ?*const fn (*Managed) callconv(.c) void,

    const name = "dltensor";

    fn delete(managed: *Managed) callconv(.c) void {
        managed.context.release();
        gpa.destroy(managed);
    }
};

const Versioned = extern struct {
    major: u32 = 1,
    minor: u32 = 0,
    context: *Array,
    deleter: ?*const fn (*Versioned) callconv(.c) void,
    flags: u64,
    tensor: Tensor,

    const name = "dltensor_versioned";
    const is_copied = 2;

    fn delete(managed: *Versioned) callconv(.c) void {
        managed.context.release();
        gpa.destroy(managed);
    }
};

/// A new capsule; the arguments are those of `__dlpack__`.
pub fn export_(array: *Array, arguments: *abi.Object, keywords: ?*abi.Object) raise.Error!*abi.Object {
    var stream = &abi._Py_NoneStruct;
    var max_version = &abi._Py_NoneStruct;
    var device = &abi._Py_NoneStruct;
    var copy = &abi._Py_NoneStruct;
    const names = [_]?[*:0]const u8{ "stream", "max_version", "dl_device", "copy", null };
    if (abi.PyArg_ParseTupleAndKeywords(arguments, keywords, "|$OOOO:__dlpack__", &names, &stream, &max_version, &device, &copy) == 0) return error.Raised;
    if (stream != &abi._Py_NoneStruct) return raise.builtin(abi.PyExc_BufferError, "stream must be None: the array is in the memory of the CPU", .{});
    if (try pair(device, "dl_device")) |wanted| {
        if (wanted[0] != device_cpu) return raise.builtin(abi.PyExc_BufferError, "the array is in the memory of the CPU (device 1), wanted device {d}", .{wanted[0]});
    }
    const is_versioned = if (try pair(max_version, "max_version")) |version| version[0] >= 1 else false;
    const dtype = try dataType(array.element);
    const is_copied = copy != &abi._Py_NoneStruct and try args.boolean(copy);

    const exported = if (is_copied) array.copy() catch return raise.memory() else array;
    if (!is_copied) array.retain();
    errdefer exported.release();
    const tensor: Tensor = .{
        .data = exported.bytes.ptr,
        .dims_count = @intCast(exported.shape.len),
        .dtype = dtype,
        .shape = exported.shape.ptr,
        .strides = exported.strides.ptr,
    };
    if (is_versioned) return capsule(Versioned, .{
        .context = exported,
        .deleter = &Versioned.delete,
        .flags = if (is_copied) Versioned.is_copied else 0,
        .tensor = tensor,
    });
    return capsule(Managed, .{ .tensor = tensor, .context = exported, .deleter = &Managed.delete });
}

fn capsule(comptime T: type, content: T) raise.Error!*abi.Object {
    const managed = gpa.create(T) catch return raise.memory();
    errdefer gpa.destroy(managed);
    managed.* = content;
    const destructor = struct {
        /// Whoever takes the tensor gives the capsule another name.
        fn call(object: *abi.Object) callconv(.c) void {
            if (abi.PyCapsule_IsValid(object, T.name) == 0) return;
            const left: *T = @ptrCast(@alignCast(abi.PyCapsule_GetPointer(object, T.name) orelse return));
            if (left.deleter) |delete| delete(left);
        }
    };
    return abi.PyCapsule_New(managed, T.name, &destructor.call) orelse error.Raised;
}

fn dataType(element: Element) raise.Error!DataType {
    if (element.is_swapped) return raise.builtin(abi.PyExc_BufferError, "DLPack has no type for {s}, whose bytes are in another order than this machine's", .{element.typestr()});
    return .{ .bits = 8 * element.size, .code = switch (element.kind) {
        .int => 0,
        .uint => 1,
        .float => 2,
        .complex => 5,
        .boolean => 6,
    } };
}

/// Two ints, or None.
fn pair(object: *abi.Object, name: []const u8) raise.Error!?[2]i64 {
    if (object == &abi._Py_NoneStruct) return null;
    if (!abi.isA(object, .tuple) or abi.PyTuple_Size(object) != 2) {
        return raise.builtin(abi.PyExc_TypeError, "{s} must be a tuple of two ints, or None", .{name});
    }
    var numbers: [2]i64 = undefined;
    for (&numbers, 0..) |*number, i| {
        const item = abi.PyTuple_GetItem(object, @intCast(i)) orelse return error.Raised;
        number.* = try args.int(i64, item, name);
    }
    return numbers;
}
