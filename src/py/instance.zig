//! The beginning and the end of an instance of a type of ours. Our types cannot
//! be derived from and hold no reference that could be part of a cycle, so the
//! garbage collector need not know their instances.

const abi = @import("abi.zig");
const raise = @import("raise.zig");

/// A new reference, zeroed but for its head.
pub fn create(comptime T: type, of: *abi.Type) raise.Error!*T {
    const object = abi.PyType_GenericAlloc(of, 0) orelse return error.Raised;
    return @ptrCast(@alignCast(object));
}

/// The last step of a dealloc.
pub fn destroy(object: *abi.Object) void {
    const of = object.type;
    abi.PyObject_Free(object);
    abi.Py_DecRef(@ptrCast(@alignCast(of))); // Heap types are counted per instance.
}

/// The description of a final type.
pub fn spec(comptime T: type, comptime name: [:0]const u8, slots: []const abi.Slot) abi.TypeSpec {
    const flags_default = 0; // Py_TPFLAGS_DEFAULT is 0 in the stable ABI of 3.11.
    return .{ .name = name, .basic_size = @sizeOf(T), .flags = flags_default, .slots = slots.ptr };
}
