//! Arrays for other libraries, by Arrow's C data interface:
//! https://arrow.apache.org/docs/format/CDataInterface.html
//! Two structures, each with one child a further dimension. Whoever receives them
//! may move a child elsewhere, so each level owns what it needs.

const std = @import("std");
const Array = @import("../dataset/Array.zig");
const abi = @import("abi.zig");
const raise = @import("raise.zig");

const gpa = std.heap.c_allocator;

const ArrowSchema = extern struct {
    format: [*:0]const u8,
    name: [*:0]const u8,
    metadata: ?[*]const u8 = null,
    flags: i64 = nullable,
    children_count: i64,
    children: ?[*]*ArrowSchema,
    dictionary: ?*ArrowSchema = null,
    /// Null when it was released, or moved elsewhere.
    release: ?*const fn (*ArrowSchema) callconv(.c) void,
    private: ?*anyopaque,

    /// As most have it, so that types are equal; there are no nulls.
    const nullable = 2;
    const name_of_capsule = "arrow_schema";
};

const ArrowArray = extern struct {
    length: i64,
    null_count: i64 = 0,
    offset: i64 = 0,
    buffers_count: i64,
    children_count: i64,
    buffers: [*]?*const anyopaque,
    children: ?[*]*ArrowArray,
    dictionary: ?*ArrowArray = null,
    release: ?*const fn (*ArrowArray) callconv(.c) void,
    private: ?*anyopaque,

    const name_of_capsule = "arrow_array";
};

/// What one level of a structure owns.
fn Level(comptime T: type) type {
    return struct {
        array: *Array,
        format: [32:0]u8 = undefined,
        /// Validity, of which there is none, and the elements.
        buffers: [2]?*const anyopaque = .{ null, null },
        child: T = undefined,
        children: [1]*T = undefined,

        const This = @This();

        fn create(array: *Array) error{OutOfMemory}!*This {
            const level = try gpa.create(This);
            array.retain();
            level.* = .{ .array = array };
            level.children = .{&level.child};
            return level;
        }

        fn destroy(level: *This) void {
            level.array.release();
            gpa.destroy(level);
        }

        fn release(structure: *T) callconv(.c) void {
            const level: *This = @ptrCast(@alignCast(structure.private.?));
            if (structure.children_count > 0) {
                if (level.child.release) |releaseChild| releaseChild(&level.child);
            }
            structure.release = null;
            level.destroy();
        }
    };
}

fn fillSchema(schema: *ArrowSchema, array: *Array, dim: usize, format: [:0]const u8) error{OutOfMemory}!void {
    const level: *Level(ArrowSchema) = try .create(array);
    errdefer level.destroy();
    const is_list = dim + 1 < array.shape.len;
    if (is_list) {
        _ = std.fmt.bufPrintSentinel(&level.format, "+w:{d}", .{array.shape[dim + 1]}, 0) catch unreachable; // 20 digits.
        try fillSchema(&level.child, array, dim + 1, format);
    }
    schema.* = .{
        .format = if (is_list) &level.format else format.ptr,
        .name = if (dim == 0) "" else "item",
        .children_count = @intFromBool(is_list),
        .children = if (is_list) &level.children else null,
        .release = &Level(ArrowSchema).release,
        .private = level,
    };
}

fn fillArray(target: *ArrowArray, array: *Array, dim: usize, count: i64) error{OutOfMemory}!void {
    const level: *Level(ArrowArray) = try .create(array);
    errdefer level.destroy();
    const is_list = dim + 1 < array.shape.len;
    if (is_list) {
        try fillArray(&level.child, array, dim + 1, count * array.shape[dim + 1]);
    } else level.buffers[1] = array.bytes.ptr;
    target.* = .{
        .length = count,
        .buffers_count = if (is_list) 1 else 2,
        .children_count = @intFromBool(is_list),
        .buffers = &level.buffers,
        .children = if (is_list) &level.children else null,
        .release = &Level(ArrowArray).release,
        .private = level,
    };
}

/// A new tuple of two capsules; the arguments are those of `__arrow_c_array__`.
pub fn export_(array: *Array, arguments: *abi.Object, keywords: ?*abi.Object) raise.Error!*abi.Object {
    // What type is wanted is a wish, which need not be met.
    var requested: ?*abi.Object = null;
    const names = [_]?[*:0]const u8{ "requested_schema", null };
    if (abi.PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:__arrow_c_array__", &names, &requested) == 0) return error.Raised;
    const format = array.element.arrowFormat() orelse {
        return raise.builtin(abi.PyExc_BufferError, "Arrow has no type for elements as they are in {s}", .{array.element.typestr()});
    };
    const schema = try capsule(ArrowSchema);
    defer abi.Py_DecRef(schema.object);
    fillSchema(schema.content, array, 0, format) catch return raise.memory();
    const content = try capsule(ArrowArray);
    defer abi.Py_DecRef(content.object);
    fillArray(content.content, array, 0, array.shape[0]) catch return raise.memory();
    return abi.Py_BuildValue("(OO)", schema.object, content.object) orelse error.Raised;
}

fn Capsule(comptime T: type) type {
    return struct { object: *abi.Object, content: *T };
}

/// With a structure that is as good as released.
fn capsule(comptime T: type) raise.Error!Capsule(T) {
    const content = gpa.create(T) catch return raise.memory();
    errdefer gpa.destroy(content);
    content.release = null;
    const destructor = struct {
        fn call(object: *abi.Object) callconv(.c) void {
            const left: *T = @ptrCast(@alignCast(abi.PyCapsule_GetPointer(object, T.name_of_capsule) orelse return));
            if (left.release) |release| release(left);
            gpa.destroy(left);
        }
    };
    const object = abi.PyCapsule_New(content, T.name_of_capsule, &destructor.call) orelse return error.Raised;
    return .{ .object = object, .content = content };
}
