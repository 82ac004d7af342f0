//! `Gatherer`: batches of rows as arrays.
//!
//! Every field is read and written with the GIL held. A call counts itself in
//! `users` for as long as it is inside, so that `native` stays when it gives the
//! GIL away: whoever is last to leave a closed gatherer frees it.

const std = @import("std");
const Array = @import("../dataset/Array.zig");
const Batch = @import("../dataset/Batch.zig");
const Dataset = @import("../dataset/Dataset.zig");
const Element = @import("../dataset/Element.zig");
const Field = @import("../dataset/Field.zig");
const Gatherer = @import("../dataset/Gatherer.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const array_type = @import("array_type.zig");
const fork = @import("fork.zig");
const gil = @import("gil.zig");
const instance = @import("instance.zig");
const lent = @import("lent.zig");
const limits = @import("../base/limits.zig");
const raise = @import("raise.zig");
const remote_type = @import("remote_type.zig");

const gpa = std.heap.c_allocator;

const GathererObject = extern struct {
    head: abi.Object,
    /// Null before it is made and when it is freed.
    native: ?*Gatherer,
    /// Where its threads are.
    generation: u32,
    /// Who answers what it asks of stores, or None. Null before it is made.
    stores: ?*abi.Object,
    users: u32,
    is_closed: bool,
};

const methods = [_]abi.Method{
    .{ .name = "submit", .function = &submit, .flags = abi.Method.one_arg, .doc =
    \\submit($self, rows, /)
    \\--
    \\
    \\Begin to read these rows, as the next batch.
    },
    .{ .name = "take", .function = &take, .flags = abi.Method.no_args, .doc =
    \\take($self, /)
    \\--
    \\
    \\The oldest batch that was submitted, one array a field.
    },
    .{ .name = "close", .function = &close, .flags = abi.Method.no_args, .doc =
    \\close($self, /)
    \\--
    \\
    \\Stop the threads and free what they had. Arrays stay valid. May be called twice.
    },
    .{},
};

const getset = [_]abi.GetSet{
    .{ .name = "pending", .get = &pending, .doc = "Batches that were submitted and not taken." },
    .{},
};

pub const spec = instance.spec(GathererObject, "ultar_dataloader._native.Gatherer", &.{
    .{ .id = abi.slot.tp_dealloc, .value = &dealloc },
    .{ .id = abi.slot.tp_new, .value = &refuseNew },
    .{ .id = abi.slot.tp_methods, .value = &methods },
    .{ .id = abi.slot.tp_getset, .value = &getset },
    .{ .id = abi.slot.tp_doc, .value = "Batches of rows as arrays, read by threads in the order of submission." },
    .{},
});

/// How long a waiting thread is deaf to signals that another thread received.
const wait_ns = 50 * std.time.ns_per_ms;

fn refuseNew(_: *abi.Type, _: *abi.Object, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return raise.builtin(abi.PyExc_TypeError, "a Gatherer comes from Dataset.gatherer", .{}) catch null;
}

/// A new reference; the arguments are those of `Dataset.gatherer`.
pub fn make(state: *State, dataset: *Dataset, arguments: *abi.Object, keywords: ?*abi.Object) raise.Error!*abi.Object {
    var fields_object: ?*abi.Object = null;
    var access_object: ?*abi.Object = null;
    var threads_object: ?*abi.Object = null;
    var stores_object: ?*abi.Object = null;
    const names = [_]?[*:0]const u8{ "", "access", "threads", "stores", null };
    if (abi.PyArg_ParseTupleAndKeywords(arguments, keywords, "O$OOO:gatherer", &names, &fields_object, &access_object, &threads_object, &stores_object) == 0) return error.Raised;
    if (access_object == null or threads_object == null or stores_object == null) {
        return raise.builtin(abi.PyExc_TypeError, "gatherer() lacks 'access', 'threads' or 'stores'", .{});
    }
    var arena: std.heap.ArenaAllocator = .init(gpa);
    defer arena.deinit();
    const options: Gatherer.Options = .{
        .fields = try fieldsOf(arena.allocator(), fields_object.?),
        .access = try args.choice(@FieldType(Gatherer.Options, "access"), access_object.?, "access"),
        .threads = try args.int(u32, threads_object.?, "threads"),
        .remote = try remote_type.ofStores(state, stores_object.?),
    };
    const gatherer = try instance.create(GathererObject, try state.getType(.gatherer_type));
    errdefer abi.Py_DecRef(&gatherer.head);
    gatherer.generation = fork.generation();
    gatherer.stores = abi.newRef(stores_object.?);
    gatherer.native = Gatherer.create(gpa, dataset, options) catch |err| switch (err) {
        error.OutOfMemory => return raise.memory(),
        error.SystemResources => return raise.ours(state, "cannot start a thread: the system refuses to give one more", .{}),
    };
    return &gatherer.head;
}

/// Of tuples of key, typestr and shape.
fn fieldsOf(arena: std.mem.Allocator, object: *abi.Object) raise.Error![]const Field {
    const items = abi.PySequence_Tuple(object) orelse return error.Raised;
    defer abi.Py_DecRef(items);
    const count: usize = @intCast(abi.PyTuple_Size(items));
    if (count > limits.gather_fields_max) return raise.builtin(abi.PyExc_ValueError, "there can be {d} fields at most, got {d}", .{ limits.gather_fields_max, count });
    const fields = arena.alloc(Field, count) catch return raise.memory();
    for (fields, 0..) |*field, i| field.* = try fieldOf(arena, abi.PyTuple_GetItem(items, @intCast(i)) orelse return error.Raised);
    return fields;
}

fn fieldOf(arena: std.mem.Allocator, item: *abi.Object) raise.Error!Field {
    if (!abi.isA(item, .tuple)) return raise.builtin(abi.PyExc_TypeError, "a field must be a tuple", .{});
    var key_object: ?*abi.Object = null;
    var typestr_object: ?*abi.Object = null;
    var shape_object: ?*abi.Object = null;
    if (abi.PyArg_ParseTuple(item, "OOO:field", &key_object, &typestr_object, &shape_object) == 0) return error.Raised;
    const key_text: args.Text = try .init(key_object.?, "key");
    defer key_text.deinit();
    const key = arena.dupe(u8, key_text.bytes) catch return raise.memory();
    const typestr: args.Text = try .init(typestr_object.?, "dtype");
    defer typestr.deinit();
    const element = Element.parse(typestr.bytes) orelse {
        return raise.builtin(abi.PyExc_ValueError, "the dtype of \"{s}\" must be one of " ++ Element.all_names ++ ", got \"{s}\"", .{ key, typestr.bytes });
    };

    const dims = abi.PySequence_Tuple(shape_object.?) orelse return error.Raised;
    defer abi.Py_DecRef(dims);
    const count: usize = @intCast(abi.PyTuple_Size(dims));
    if (count >= limits.array_dims_max) return raise.builtin(abi.PyExc_ValueError, "\"{s}\" has too many dimensions: {d} of at most {d}", .{ key, count, limits.array_dims_max - 1 });
    const is_ragged = count > 0 and abi.PyTuple_GetItem(dims, 0) == &abi._Py_NoneStruct;
    const shape = arena.alloc(u64, count - @intFromBool(is_ragged)) catch return raise.memory();
    for (shape, @intFromBool(is_ragged)..) |*size, i| {
        size.* = try args.int(u63, abi.PyTuple_GetItem(dims, @intCast(i)) orelse return error.Raised, "a size in a shape");
    }
    return Field.init(key, element, is_ragged, shape) orelse {
        return raise.builtin(abi.PyExc_ValueError, "an array of \"{s}\" would have more than 2^46 bytes", .{key});
    };
}

/// Begin a call. Ends with `leave`, whatever happens in between.
fn enter(gatherer: *GathererObject, state: *State) raise.Error!*Gatherer {
    const native = try open(gatherer, state);
    gatherer.users += 1;
    return native;
}

fn open(gatherer: *GathererObject, state: *State) raise.Error!*Gatherer {
    if (gatherer.generation != fork.generation()) {
        return raise.ours(state, "this gatherer was made in another process, before a fork; its threads are not here", .{});
    }
    if (!gatherer.is_closed) {
        if (gatherer.native) |native| return native;
    }
    return raise.ours(state, "the gatherer is closed", .{});
}

fn leave(gatherer: *GathererObject) void {
    gatherer.users -= 1;
    if (gatherer.is_closed and gatherer.users == 0) free(gatherer);
}

/// Keeps a pending exception, and runs no Python code in this thread.
fn free(gatherer: *GathererObject) void {
    const native = gatherer.native orelse return;
    gatherer.native = null;
    // In the child of a fork its locks may be held by nobody.
    if (gatherer.generation != fork.generation()) return;
    const released = gil.release();
    native.destroy();
    released.takeBack();
    lent.letGo();
}

fn dealloc(gatherer: *GathererObject) callconv(.c) void {
    free(gatherer);
    if (gatherer.stores) |stores| abi.Py_DecRef(stores);
    instance.destroy(&gatherer.head);
}

fn close(gatherer: *GathererObject, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    gatherer.is_closed = true;
    if (gatherer.users == 0) free(gatherer);
    return abi.none();
}

fn pending(gatherer: *GathererObject, _: ?*anyopaque) callconv(.c) ?*abi.Object {
    const is_here = gatherer.generation == fork.generation() and !gatherer.is_closed;
    const native = gatherer.native orelse return abi.PyLong_FromLongLong(0);
    return abi.PyLong_FromUnsignedLongLong(if (is_here) native.pending() else 0);
}

fn submit(gatherer: *GathererObject, rows: *abi.Object) callconv(.c) ?*abi.Object {
    trySubmit(gatherer, rows) catch return null;
    return abi.none();
}

fn trySubmit(gatherer: *GathererObject, object: *abi.Object) raise.Error!void {
    const rows: args.Rows = try .init(object);
    defer rows.deinit();
    // Last, as what is above may run code of the caller's.
    const native = try open(gatherer, try State.ofInstance(&gatherer.head));
    const count = native.dataset.count;
    for (rows.items) |row| {
        if (row >= count) return raise.builtin(abi.PyExc_IndexError, "row {d} is out of range: the dataset has {d}", .{ row, count });
    }
    native.submit(rows.items) catch return raise.memory();
}

fn take(gatherer: *GathererObject, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return tryTake(gatherer) catch null;
}

fn tryTake(gatherer: *GathererObject) raise.Error!*abi.Object {
    const state: *State = try .ofInstance(&gatherer.head);
    const native = try enter(gatherer, state);
    defer leave(gatherer);
    while (true) {
        // Each time: Python code that ran in between may have closed it, or forked.
        _ = try open(gatherer, state);
        const ticket = native.done.ticket();
        switch (native.take()) {
            .batch => |batch| {
                defer batch.destroy();
                lent.letGo();
                return deliver(state, native.fields, batch);
            },
            .none => return raise.ours(state, "there is no batch to take: submit comes first", .{}),
            .busy => {
                const released = gil.release();
                native.done.wait(ticket, wait_ns);
                released.takeBack();
            },
        }
        if (abi.PyErr_CheckSignals() != 0) return error.Raised;
    }
}

fn deliver(state: *State, fields: []const Field, batch: *const Batch) raise.Error!*abi.Object {
    switch (batch.failure) {
        .none => {},
        .memory => return raise.memory(),
        .report => |report| return raise.diagnostics(state, report),
    }
    const parts = abi.PyTuple_New(@intCast(fields.len)) orelse return error.Raised;
    errdefer abi.Py_DecRef(parts);
    for (fields, 0..) |*field, i| {
        const values, const offsets = batch.arrays(i, field) catch return raise.memory();
        const part = if (offsets) |known| try ragged(state, values, known) else try array_type.new(state, values);
        _ = abi.PyTuple_SetItem(parts, @intCast(i), part); // A tuple of our own: cannot fail.
    }
    return parts;
}

/// Takes the references over.
fn ragged(state: *State, values: *Array, offsets: *Array) raise.Error!*abi.Object {
    const values_object = array_type.new(state, values) catch |err| {
        offsets.release();
        return err;
    };
    defer abi.Py_DecRef(values_object);
    const offsets_object = try array_type.new(state, offsets);
    defer abi.Py_DecRef(offsets_object);
    return abi.PyObject_CallFunction(try state.ragged(), "OO", values_object, offsets_object) orelse error.Raised;
}
