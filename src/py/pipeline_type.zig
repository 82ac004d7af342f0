//! `Pipeline`: one epoch, as an iterator of rows.
//!
//! Every field is read and written with the GIL held. A call counts itself in
//! `users` for as long as it is inside, so that `native` stays when it gives the
//! GIL away: whoever is last to leave a closed pipeline frees it.

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const Pipeline = @import("../loader/Pipeline.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const fork = @import("fork.zig");
const gil = @import("gil.zig");
const instance = @import("instance.zig");
const lent = @import("lent.zig");
const log = @import("log.zig");
const options = @import("pipeline_options.zig");
const raise = @import("raise.zig");
const row_type = @import("row_type.zig");

const PipelineObject = extern struct {
    head: abi.Object,
    /// CPython's list of weak references.
    weak_references: ?*abi.Object,
    /// A dict, empty until the pipeline is freed: then its statistics.
    last_stats: ?*abi.Object,
    /// What `start` was given; null before, and where there are no states.
    progress: ?*abi.Object,
    /// Null before it is made and when it is freed.
    native: ?*Pipeline,
    log_level: c_long,
    /// Owned reference, which keeps the servers of stores; or None.
    stores: ?*abi.Object,
    /// Where its threads are: the process that started it, or else made it.
    generation: u32,
    users: u32,
    is_started: bool,
    is_closed: bool,
};

pub const spec = instance.spec(PipelineObject, "ultar_dataloader._native.Pipeline", &.{
    .{ .id = abi.slot.tp_dealloc, .value = &dealloc },
    .{ .id = abi.slot.tp_new, .value = &new },
    .{ .id = abi.slot.tp_iter, .value = &abi.PyObject_SelfIter },
    .{ .id = abi.slot.tp_iternext, .value = &next },
    .{ .id = abi.slot.tp_methods, .value = &methods },
    .{ .id = abi.slot.tp_members, .value = &members },
    .{ .id = abi.slot.tp_getset, .value = &getset },
    .{ .id = abi.slot.tp_doc, .value = "One epoch: a script's state and the thread that runs it. An iterator of rows." },
    .{},
});

const members = [_]abi.Member{
    .{
        .name = "__weaklistoffset__",
        .type = abi.Member.size_type,
        .offset = @offsetOf(PipelineObject, "weak_references"),
        .flags = abi.Member.read_only,
    },
    .{},
};

const getset = [_]abi.GetSet{
    .{ .name = "last_stats", .get = &lastStats, .doc = "A dict: what `stats` said last, once the pipeline is closed or lost; empty before." },
    .{},
};

const methods = [_]abi.Method{
    .{ .name = "start", .function = &start, .flags = abi.Method.var_args, .doc =
    \\start($self, progress=None, /)
    \\--
    \\
    \\Start the thread now, behind the first `progress.position` rows; None: with the first.
    },
    .{ .name = "state_dict", .function = &stateDict, .flags = abi.Method.no_args, .doc =
    \\state_dict($self, /)
    \\--
    \\
    \\Where it is: behind the rows that were delivered.
    },
    .{ .name = "load_state_dict", .function = &loadStateDict, .flags = abi.Method.one_arg, .doc =
    \\load_state_dict($self, state_dict, /)
    \\--
    \\
    \\Go on where the state was taken, instead of here.
    },
    .{ .name = "stats", .function = &stats, .flags = abi.Method.no_args, .doc =
    \\stats($self, /)
    \\--
    \\
    \\Counts, bytes, nanoseconds since the start, and the name of the backend.
    },
    .{ .name = "close", .function = &close, .flags = abi.Method.no_args, .doc =
    \\close($self, /)
    \\--
    \\
    \\Stop the thread and free what it had. Rows stay valid. May be called twice.
    },
    .{},
};

/// How long a waiting thread is deaf to signals that another thread received.
const wait_ns = 50 * std.time.ns_per_ms;

fn new(of: *abi.Type, arguments: *abi.Object, keywords: ?*abi.Object) callconv(.c) ?*abi.Object {
    return create(of, arguments, keywords) catch null;
}

fn create(of: *abi.Type, arguments: *abi.Object, keywords: ?*abi.Object) raise.Error!*abi.Object {
    const gpa = std.heap.c_allocator;
    const state: *State = try .ofType(of);
    var given: options.Given = .{};
    defer given.deinit(gpa);
    try given.parse(gpa, state, arguments, keywords);
    return make(state, given.native, given.log_level, given.stores.?);
}

/// A new reference. Copies what it keeps of the options. `stores` is None, or has the
/// options' `remote` and a `start` for its servers.
pub fn make(state: *State, native_options: Pipeline.Options, log_level: c_long, stores: *abi.Object) raise.Error!*abi.Object {
    const pipeline = try instance.create(PipelineObject, try state.getType(.pipeline_type));
    errdefer abi.Py_DecRef(&pipeline.head); // Ends `native`, too.
    pipeline.last_stats = abi.PyDict_New() orelse return error.Raised;
    pipeline.log_level = log_level;
    pipeline.stores = abi.newRef(stores);
    pipeline.generation = fork.generation();
    const native = Pipeline.create(std.heap.c_allocator, native_options) catch return raise.memory();
    pipeline.native = native;
    try prepare(state, native, log_level, stores);
    return &pipeline.head;
}

/// Until `init_ctx` is done. Nobody else may have `native` yet.
fn prepare(state: *State, native: *Pipeline, log_level: c_long, stores: *abi.Object) raise.Error!void {
    native.prepare() catch |err| return raiseStart(state, err);
    while (true) switch (native.take()) {
        .prepared => return,
        .log => |line| try log.forward(state, line, log_level),
        .pending => try wait(native, stores),
        .failed => |diag| return raise.diagnostics(state, diag),
        // Only what is started has rows and an end.
        .row => |row| row.release(),
        .done => return raise.ours(state, "the script ended before it was started", .{}),
    };
}

fn raiseStart(state: *State, err: Pipeline.StartError) raise.Error {
    return switch (err) {
        error.OutOfMemory => raise.memory(),
        error.SystemResources => raise.ours(state, "cannot start a thread: the system refuses to give one more", .{}),
    };
}

/// The one place that waits, and so the one that lets other threads run.
fn wait(native: *Pipeline, stores: *abi.Object) raise.Error!void {
    if (native.wantsServers()) {
        const result = abi.PyObject_CallMethod(stores, "start", null) orelse return error.Raised;
        abi.Py_DecRef(result);
    }
    {
        const released = gil.release();
        defer released.takeBack();
        native.wait(wait_ns);
    }
    if (abi.PyErr_CheckSignals() != 0) return error.Raised;
}

/// Begin a call. Ends with `leave`, whatever happens in between.
fn enter(pipeline: *PipelineObject, state: *State) raise.Error!*Pipeline {
    const native = try open(pipeline, state);
    pipeline.users += 1;
    return native;
}

fn open(pipeline: *PipelineObject, state: *State) raise.Error!*Pipeline {
    if (!pipeline.is_closed) {
        if (pipeline.native) |native| return native;
    }
    return raise.ours(state, "the iterator is closed", .{});
}

fn leave(pipeline: *PipelineObject) void {
    pipeline.users -= 1;
    if (pipeline.is_closed and pipeline.users == 0) free(pipeline);
}

/// Keeps a pending exception, and runs no Python code in this thread.
fn free(pipeline: *PipelineObject) void {
    const native = pipeline.native orelse return;
    keepLast(pipeline, native);
    pipeline.native = null;
    end(native, pipeline.generation);
}

/// Also in the child of a fork, where its threads are not.
fn end(native: *Pipeline, generation: u32) void {
    if (generation != fork.generation()) return native.forget();
    const released = gil.release();
    native.destroy();
    released.takeBack();
    lent.letGo();
}

/// Statistics and position. Best effort: somebody who is being freed has nobody to raise to.
fn keepLast(pipeline: *PipelineObject, native: *Pipeline) void {
    var pending: [3]?*abi.Object = .{ null, null, null };
    abi.PyErr_Fetch(&pending[0], &pending[1], &pending[2]);
    if (pipeline.last_stats) |dict| fillStats(dict, native) catch abi.PyErr_Clear();
    if (pipeline.progress) |progress| keepPosition(progress, native) catch abi.PyErr_Clear();
    abi.PyErr_Restore(pending[0], pending[1], pending[2]);
}

fn keepPosition(progress: *abi.Object, native: *const Pipeline) raise.Error!void {
    const position = abi.PyLong_FromUnsignedLongLong(native.position()) orelse return error.Raised;
    defer abi.Py_DecRef(position);
    if (abi.PyObject_SetAttrString(progress, "position", position) != 0) return error.Raised;
}

fn dealloc(pipeline: *PipelineObject) callconv(.c) void {
    if (pipeline.weak_references != null) abi.PyObject_ClearWeakRefs(&pipeline.head);
    free(pipeline);
    if (pipeline.last_stats) |dict| abi.Py_DecRef(dict);
    if (pipeline.stores) |stores| abi.Py_DecRef(stores);
    if (pipeline.progress) |progress| abi.Py_DecRef(progress);
    instance.destroy(&pipeline.head);
}

fn next(pipeline: *PipelineObject) callconv(.c) ?*abi.Object {
    // Waiting gives the GIL away, and another thread may drop what the caller has us in:
    // `itertools.chain` does so at the end.
    abi.Py_IncRef(&pipeline.head);
    defer abi.Py_DecRef(&pipeline.head);
    // Null with nothing raised is StopIteration: the script is done.
    return tryNext(pipeline) catch null;
}

fn tryNext(pipeline: *PipelineObject) raise.Error!?*abi.Object {
    const state: *State = try .ofInstance(&pipeline.head);
    const native = try enter(pipeline, state);
    defer leave(pipeline);
    while (true) {
        // Each time: Python code that ran in between may have closed it, or forked.
        _ = try open(pipeline, state);
        try ensureStarted(pipeline, state, native, 0);
        // Nothing between here and the use of the answer gives the GIL away.
        switch (native.take()) {
            .row => |row| return try row_type.new(state, row),
            .log => |line| try log.forward(state, line, pipeline.log_level),
            .pending => try wait(native, pipeline.stores.?),
            .done => return null,
            .failed => |diag| return raise.diagnostics(state, diag),
            .prepared => {}, // Seen while it was made.
        }
    }
}

fn ensureStarted(pipeline: *PipelineObject, state: *State, native: *Pipeline, position: u64) raise.Error!void {
    const generation = fork.generation();
    if (pipeline.is_started) {
        if (pipeline.generation == generation) return;
        return raise.ours(state, "this iterator was started in another process, before a fork; " ++
            "its thread is not here: call iter(loader) in this process", .{});
    }
    native.start(position) catch |err| return raiseStart(state, err);
    pipeline.is_started = true;
    pipeline.generation = generation;
}

fn start(pipeline: *PipelineObject, arguments: *abi.Object) callconv(.c) ?*abi.Object {
    tryStart(pipeline, arguments) catch return null;
    return abi.none();
}

fn tryStart(pipeline: *PipelineObject, arguments: *abi.Object) raise.Error!void {
    var given: ?*abi.Object = null;
    if (abi.PyArg_ParseTuple(arguments, "|O:start", &given) == 0) return error.Raised;
    const state: *State = try .ofInstance(&pipeline.head);
    const native = try enter(pipeline, state);
    defer leave(pipeline);
    const progress = given orelse &abi._Py_NoneStruct;
    if (progress == &abi._Py_NoneStruct) return ensureStarted(pipeline, state, native, 0);
    if (pipeline.is_started) return raise.ours(state, "the iterator is started already", .{});
    try ensureStarted(pipeline, state, native, try positionOf(progress));
    pipeline.progress = abi.newRef(progress);
}

fn positionOf(progress: *abi.Object) raise.Error!u64 {
    return number(abi.PyObject_GetAttrString(progress, "position"));
}

/// Takes over a reference to an int, or passes an exception on.
fn number(object: ?*abi.Object) raise.Error!u64 {
    const held = object orelse return error.Raised;
    defer abi.Py_DecRef(held);
    return args.int(u64, held, "position");
}

/// Also of a closed iterator, and in the child of a fork.
fn stateDict(pipeline: *PipelineObject, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return tryStateDict(pipeline) catch null;
}

fn tryStateDict(pipeline: *PipelineObject) raise.Error!*abi.Object {
    const progress = try progressOf(pipeline);
    if (pipeline.native) |native| try keepPosition(progress, native);
    return abi.PyObject_CallMethod(progress, "state_dict", null) orelse error.Raised;
}

fn progressOf(pipeline: *PipelineObject) raise.Error!*abi.Object {
    return pipeline.progress orelse raise.ours(try .ofInstance(&pipeline.head), "this iterator has no state: " ++
        "what reads a Dataset with one is a stream, as ds.stream() gives it", .{});
}

fn loadStateDict(pipeline: *PipelineObject, state_dict: *abi.Object) callconv(.c) ?*abi.Object {
    tryLoadStateDict(pipeline, state_dict) catch return null;
    return abi.none();
}

/// Begins anew, with a script of its own, and changes nothing before that has come far
/// enough to be started.
fn tryLoadStateDict(pipeline: *PipelineObject, state_dict: *abi.Object) raise.Error!void {
    const state: *State = try .ofInstance(&pipeline.head);
    const progress = try progressOf(pipeline);
    const native = try enter(pipeline, state);
    defer leave(pipeline);
    const position = try number(abi.PyObject_CallMethod(progress, "position_in", "O", state_dict));
    const generation = fork.generation();
    const fresh = Pipeline.create(std.heap.c_allocator, native.options) catch return raise.memory();
    errdefer end(fresh, generation);
    try prepare(state, fresh, pipeline.log_level, pipeline.stores.?);
    _ = try open(pipeline, state); // Not closed meanwhile.
    if (pipeline.users > 1) return raise.ours(state, "another thread is taking rows from the iterator: its state cannot be changed now", .{});
    if (generation != fork.generation()) return raise.ours(state, "the process forked while a state was loaded", .{});
    fresh.start(position) catch |err| return raiseStart(state, err);

    const generation_before = pipeline.generation;
    pipeline.native = fresh;
    pipeline.is_started = true;
    pipeline.generation = generation;
    end(native, generation_before);
}

fn close(pipeline: *PipelineObject, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    pipeline.is_closed = true;
    if (pipeline.users == 0) free(pipeline);
    return abi.none();
}

/// Also in the child of a fork: what is left in memory can be counted.
fn stats(pipeline: *PipelineObject, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return tryStats(pipeline) catch null;
}

fn tryStats(pipeline: *PipelineObject) raise.Error!*abi.Object {
    const state: *State = try .ofInstance(&pipeline.head);
    const native = try enter(pipeline, state);
    defer leave(pipeline);
    const dict = abi.PyDict_New() orelse return error.Raised;
    errdefer abi.Py_DecRef(dict);
    try fillStats(dict, native);
    return dict;
}

fn lastStats(pipeline: *PipelineObject, _: ?*anyopaque) callconv(.c) ?*abi.Object {
    const dict = pipeline.last_stats orelse return abi.PyDict_New();
    abi.Py_IncRef(dict);
    return dict;
}

fn fillStats(dict: *abi.Object, native: *Pipeline) raise.Error!void {
    const counts = native.stats();
    inline for (@typeInfo(Pipeline.Stats).@"struct".fields) |field| {
        const value = @field(counts, field.name);
        const object = switch (field.type) {
            u64 => abi.PyLong_FromUnsignedLongLong(value),
            []const u8 => raise.decode(value, .readable),
            else => @compileError("no Python type for " ++ field.name),
        } orelse return error.Raised;
        defer abi.Py_DecRef(object);
        if (abi.PyDict_SetItemString(dict, field.name, object) != 0) return error.Raised;
    }
}
