//! The module `_native`: its types, its function, its state.

const build_options = @import("build_options");
const State = @import("State.zig");
const abi = @import("abi.zig");
const array_type = @import("array_type.zig");
const checksum_function = @import("checksum_function.zig");
const entry_type = @import("entry_type.zig");
const dataset_type = @import("dataset_type.zig");
const example_function = @import("example_function.zig");
const fork = @import("fork.zig");
const gatherer_type = @import("gatherer_type.zig");
const index_function = @import("index_function.zig");
const item_function = @import("item_function.zig");
const index_type = @import("index_type.zig");
const order_iterator = @import("order_iterator.zig");
const order_type = @import("order_type.zig");
const pipeline_type = @import("pipeline_type.zig");
const raise = @import("raise.zig");
const reader_type = @import("reader_type.zig");
const remote_type = @import("remote_type.zig");
const row_type = @import("row_type.zig");

var def: abi.ModuleDef = .{
    .name = "_native",
    .doc = "The native part of ultar_dataloader. Its interface is that of the package.",
    .size = @sizeOf(State),
    .methods = &methods,
    .slots = &slots,
    .traverse = traverse,
    .clear = clear,
    .free = free,
};

const methods = [_]abi.Method{
    index_function.method,
    checksum_function.method,
    example_function.method,
    item_function.method,
    .{},
};

const slots = [_]abi.Slot{
    .{ .id = abi.slot.mod_exec, .value = &exec },
    .{},
};

/// What `PyInit__native` returns.
pub fn init() ?*abi.Object {
    return abi.PyModuleDef_Init(&def);
}

fn exec(module: *abi.Object) callconv(.c) c_int {
    tryExec(module) catch return -1;
    return 0;
}

fn tryExec(module: *abi.Object) raise.Error!void {
    const state: *State = .ofModule(module);
    state.* = .{ .objects = .{} };
    if (!fork.watch()) return raise.memory();

    state.objects.pipeline_type = try addType(module, &pipeline_type.spec, "Pipeline");
    state.objects.row_type = try addType(module, &row_type.spec, "LoadedRow");
    state.objects.index_type = try addType(module, &index_type.spec, "Index");
    state.objects.dataset_type = try addType(module, &dataset_type.spec, "Dataset");
    state.objects.order_type = try addType(module, &order_type.spec, "Order");
    state.objects.entry_type = abi.PyType_FromModuleAndSpec(module, &entry_type.spec, null) orelse return error.Raised;
    state.objects.reader_type = try addType(module, &reader_type.spec, "RowReader");
    state.objects.remote_type = try addType(module, &remote_type.spec, "Remote");
    state.objects.gatherer_type = try addType(module, &gatherer_type.spec, "Gatherer");
    state.objects.array_type = try addType(module, &array_type.spec, "Array");
    state.objects.order_iterator = abi.PyType_FromModuleAndSpec(module, &order_iterator.spec, null) orelse return error.Raised;

    state.objects.mapping = try State.lookUp("collections.abc", "Mapping");
    state.objects.sequence = try State.lookUp("collections.abc", "Sequence");
    state.objects.path_like = try State.lookUp("os", "PathLike");
    // Also what makes `match` treat a row as a mapping.
    try register(try state.get(.mapping), try state.get(.row_type));
    try register(try state.get(.sequence), try state.get(.index_type));

    try register(try state.get(.sequence), try state.get(.order_type));

    if (abi.PyModule_AddStringConstant(module, "__version__", build_options.version ++ "") != 0) return error.Raised;
}

/// A new reference, beside the module's.
fn addType(module: *abi.Object, spec: *const abi.TypeSpec, name: [*:0]const u8) raise.Error!*abi.Object {
    const made = abi.PyType_FromModuleAndSpec(module, spec, null) orelse return error.Raised;
    errdefer abi.Py_DecRef(made);
    if (abi.PyModule_AddObjectRef(module, name, made) != 0) return error.Raised;
    return made;
}

fn register(base: *abi.Object, made: *abi.Object) raise.Error!void {
    const result = abi.PyObject_CallMethod(base, "register", "O", made) orelse return error.Raised;
    abi.Py_DecRef(result);
}

fn traverse(module: *abi.Object, visit: abi.Visit, visit_arg: ?*anyopaque) callconv(.c) c_int {
    return State.ofModule(module).traverse(visit, visit_arg);
}

fn clear(module: *abi.Object) callconv(.c) c_int {
    State.ofModule(module).clear();
    return 0;
}

fn free(module: *abi.Object) callconv(.c) void {
    State.ofModule(module).clear();
}
