//! What the module keeps for as long as it lives, one for each interpreter: its
//! types, and the Python objects that it looks up once.
const State = @This();

const abi = @import("abi.zig");
const raise = @import("raise.zig");

objects: Objects,

/// Owned references. Each is null until it is needed, and again when the
/// interpreter ends, while instances of our types may still be there.
pub const Objects = struct {
    pipeline_type: ?*abi.Object = null,
    row_type: ?*abi.Object = null,
    entry_type: ?*abi.Object = null,
    index_type: ?*abi.Object = null,
    dataset_type: ?*abi.Object = null,
    reader_type: ?*abi.Object = null,
    array_type: ?*abi.Object = null,
    gatherer_type: ?*abi.Object = null,
    order_type: ?*abi.Object = null,
    order_iterator: ?*abi.Object = null,
    /// `collections.abc.Mapping` and `.Sequence`, `os.PathLike`.
    mapping: ?*abi.Object = null,
    sequence: ?*abi.Object = null,
    path_like: ?*abi.Object = null,
    /// `ultar_dataloader._errors.from_native`
    from_native: ?*abi.Object = null,
    /// `ultar_dataloader._fields.Ragged`
    ragged: ?*abi.Object = null,
    /// `array.array`
    array: ?*abi.Object = null,
    /// The loggers of scripts and of the engine.
    script_logger: ?*abi.Object = null,
    engine_logger: ?*abi.Object = null,
};

const Name = @import("std").meta.FieldEnum(Objects);

pub fn ofModule(module: *abi.Object) *State {
    return @ptrCast(@alignCast(abi.PyModule_GetState(module).?)); // Never null once it is made.
}

/// Of one of our types, which cannot be derived from.
pub fn ofType(of: *abi.Type) raise.Error!*State {
    const state = abi.PyType_GetModuleState(of) orelse return error.Raised;
    return @ptrCast(@alignCast(state));
}

/// Of an instance of one of our types.
pub fn ofInstance(object: *abi.Object) raise.Error!*State {
    return ofType(object.type);
}

/// Borrowed. Of what `module.zig` sets up.
pub fn get(state: *const State, comptime name: Name) raise.Error!*abi.Object {
    return @field(state.objects, @tagName(name)) orelse
        raise.builtin(abi.PyExc_RuntimeError, "the interpreter is shutting down", .{});
}

pub fn getType(state: *const State, comptime name: Name) raise.Error!*abi.Type {
    return abi.typeAt(try state.get(name));
}

/// Borrowed. Looked up late, as the package that has it imports this module.
pub fn fromNative(state: *State) raise.Error!*abi.Object {
    return state.objects.from_native orelse
        state.keep(.from_native, try lookUp("ultar_dataloader._errors", "from_native"));
}

/// Borrowed. Looked up late, for few need it.
pub fn ragged(state: *State) raise.Error!*abi.Object {
    return state.objects.ragged orelse state.keep(.ragged, try lookUp("ultar_dataloader._fields", "Ragged"));
}

/// Borrowed. Looked up late, for few need it.
pub fn array(state: *State) raise.Error!*abi.Object {
    return state.objects.array orelse state.keep(.array, try lookUp("array", "array"));
}

/// Borrowed.
pub fn logger(state: *State, comptime name: enum { script_logger, engine_logger }) raise.Error!*abi.Object {
    if (@field(state.objects, @tagName(name))) |found| return found;
    const get_logger = try lookUp("logging", "getLogger");
    defer abi.Py_DecRef(get_logger);
    const text = switch (name) {
        .script_logger => "ultar_dataloader.script",
        .engine_logger => "ultar_dataloader",
    };
    const made = abi.PyObject_CallFunction(get_logger, "s", @as([*:0]const u8, text)) orelse return error.Raised;
    return state.keep(@field(Name, @tagName(name)), made);
}

/// Takes the reference over. Another thread may have been quicker.
pub fn keep(state: *State, comptime name: Name, object: *abi.Object) *abi.Object {
    const place = &@field(state.objects, @tagName(name));
    if (place.*) |before| {
        abi.Py_DecRef(object);
        return before;
    }
    place.* = object;
    return object;
}

/// A new reference.
pub fn lookUp(module_name: [*:0]const u8, name: [*:0]const u8) raise.Error!*abi.Object {
    const module = abi.PyImport_ImportModule(module_name) orelse return error.Raised;
    defer abi.Py_DecRef(module);
    return abi.PyObject_GetAttrString(module, name) orelse error.Raised;
}

pub fn traverse(state: *State, visit: abi.Visit, visit_arg: ?*anyopaque) c_int {
    inline for (@typeInfo(Objects).@"struct".fields) |field| {
        if (@field(state.objects, field.name)) |object| {
            const stop = visit(object, visit_arg);
            if (stop != 0) return stop;
        }
    }
    return 0;
}

pub fn clear(state: *State) void {
    inline for (@typeInfo(Objects).@"struct".fields) |field| {
        // Emptied first: to drop an object may run code that looks here.
        const object = @field(state.objects, field.name);
        @field(state.objects, field.name) = null;
        abi.Py_DecRef(object);
    }
}
