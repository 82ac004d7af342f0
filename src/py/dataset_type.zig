//! `Dataset`: the rows of many shards as one sequence, and pipelines over it.

const std = @import("std");
const Dataset = @import("../dataset/Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Order = @import("../base/Order.zig");
const Numbers = @import("../dataset/Numbers.zig");
const Pipeline = @import("../loader/Pipeline.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const gatherer_type = @import("gatherer_type.zig");
const gil = @import("gil.zig");
const index_function = @import("index_function.zig");
const index_type = @import("index_type.zig");
const instance = @import("instance.zig");
const order_type = @import("order_type.zig");
const pipeline_type = @import("pipeline_type.zig");
const Writer = @import("../msgpack/Writer.zig");
const View = @import("../dataset/View.zig");
const fork = @import("fork.zig");
const raise = @import("raise.zig");
const reader_type = @import("reader_type.zig");
const remote_type = @import("remote_type.zig");

const gpa = std.heap.c_allocator;

const DatasetObject = extern struct {
    head: abi.Object,
    /// Null only while it is made.
    native: ?*Dataset,
    /// The process that `native` was last made fit for.
    generation: u32,
};

const methods = [_]abi.Method{
    .{ .name = "counts", .function = &counts, .flags = abi.Method.no_args, .doc =
    \\counts($self, /)
    \\--
    \\
    \\Rows of each shard, in order.
    },
    .{ .name = "has_decoded", .function = &hasDecoded, .flags = abi.Method.no_args, .doc =
    \\has_decoded($self, /)
    \\--
    \\
    \\Whether some rows are decoded when they are asked for, by who serves stores.
    },
    .{ .name = "record", .function = &record, .flags = abi.Method.one_arg, .doc =
    \\record($self, row, /)
    \\--
    \\
    \\The number of a row's shard, and its record there as `Index` has it.
    },
    .{ .name = "reader", .function = &reader, .flags = abi.Method.var_args, .doc =
    \\reader($self, keys, access, stores, /)
    \\--
    \\
    \\What reads single rows in the calling thread.
    },
    .{ .name = "gatherer", .function = @ptrCast(&gatherer), .flags = abi.Method.var_args | abi.Method.keywords, .doc =
    \\gatherer($self, fields, /, *, access, threads, stores)
    \\--
    \\
    \\What reads batches of rows into arrays.
    },
    .{ .name = "where", .function = &where, .flags = abi.Method.var_args, .doc =
    \\where($self, expression, count, start, step, rows, /)
    \\--
    \\
    \\The numbers of the rows for which an expression is true, in pieces.
    },
    .{ .name = "pipeline", .function = @ptrCast(&pipeline), .flags = abi.Method.var_args | abi.Method.keywords, .doc =
    \\pipeline($self, /, *, count, start, step, order, rows, keys, io, access, threads, prefetch_rows, prefetch_bytes, on_error, stores)
    \\--
    \\
    \\An epoch over places of the dataset.
    },
    .{},
};

pub const spec = instance.spec(DatasetObject, "ultar_dataloader._native.Dataset", &.{
    .{ .id = abi.slot.tp_dealloc, .value = &dealloc },
    .{ .id = abi.slot.tp_new, .value = &new },
    .{ .id = abi.slot.tp_methods, .value = &methods },
    .{ .id = abi.slot.sq_length, .value = &length },
    .{ .id = abi.slot.tp_doc, .value = "Dataset(paths, indexes, /)\n--\n\nThe rows of many shards as one sequence. Opens the index of each." },
    .{},
});

fn new(of: *abi.Type, arguments: *abi.Object, keywords: ?*abi.Object) callconv(.c) ?*abi.Object {
    return create(of, arguments, keywords) catch null;
}

fn create(of: *abi.Type, arguments: *abi.Object, keywords: ?*abi.Object) raise.Error!*abi.Object {
    const state: *State = try .ofType(of);
    var paths_object: ?*abi.Object = null;
    var indexes_object: ?*abi.Object = null;
    const names = [_]?[*:0]const u8{ "", "", null };
    if (abi.PyArg_ParseTupleAndKeywords(arguments, keywords, "OO:Dataset", &names, &paths_object, &indexes_object) == 0) return error.Raised;
    var arena: std.heap.ArenaAllocator = .init(gpa);
    defer arena.deinit();
    const paths = try texts(arena.allocator(), paths_object.?, "paths");
    const indexes = try texts(arena.allocator(), indexes_object.?, "indexes");
    if (paths.len != indexes.len) return raise.builtin(abi.PyExc_ValueError, "there are {d} paths and {d} indexes", .{ paths.len, indexes.len });
    for ([_][]const []const u8{ paths, indexes }) |list| for (list) |path| {
        if (std.mem.indexOfScalar(u8, path, 0) != null) return raise.builtin(abi.PyExc_ValueError, "a path has a null byte", .{});
    };

    const dataset = try instance.create(DatasetObject, of);
    errdefer abi.Py_DecRef(&dataset.head);
    dataset.generation = fork.generation();
    var diag: Diagnostics = .{};
    const opened = blk: {
        const released = gil.release();
        defer released.takeBack();
        break :blk Dataset.open(gpa, paths, indexes, &diag);
    };
    dataset.native = opened catch |err| switch (err) {
        error.BadIndex, error.ReadFailed => return raise.diagnostics(state, &diag),
        error.OutOfMemory => return raise.memory(),
    };
    return &dataset.head;
}

/// A sequence of str, copied.
fn texts(arena: std.mem.Allocator, object: *abi.Object, name: []const u8) raise.Error![]const []const u8 {
    if (abi.isA(object, .str)) return raise.builtin(abi.PyExc_TypeError, "{s} must be a sequence of str, not a str", .{name});
    const items = abi.PySequence_Tuple(object) orelse return error.Raised;
    defer abi.Py_DecRef(items);
    const count = abi.PyTuple_Size(items);
    if (count < 0) return error.Raised;
    const copies = arena.alloc([]const u8, @intCast(count)) catch return raise.memory();
    for (copies, 0..) |*copied, i| {
        copied.* = try index_function.copyText(arena, abi.PyTuple_GetItem(items, @intCast(i)) orelse return error.Raised, name);
    }
    return copies;
}

fn dealloc(dataset: *DatasetObject) callconv(.c) void {
    if (dataset.native) |native| if (dataset.generation == fork.generation()) {
        // Many indexes take a while.
        const released = gil.release();
        native.release();
        released.takeBack();
    };
    instance.destroy(&dataset.head);
}

/// What is there, made fit for this process: the child of a fork goes on with
/// the memory of its parent, which no process needs to copy.
fn open(dataset: *DatasetObject) raise.Error!*Dataset {
    const native = dataset.native.?;
    const generation = fork.generation();
    if (dataset.generation == generation) return native;
    native.recover() catch return raise.memory();
    dataset.generation = generation;
    return native;
}

fn length(dataset: *DatasetObject) callconv(.c) isize {
    return @intCast(dataset.native.?.count);
}

fn counts(dataset: *DatasetObject, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    const shards = dataset.native.?.shards.items;
    const list = abi.PyList_New(@intCast(shards.len)) orelse return null;
    for (shards, 0..) |shard, i| {
        const count = abi.PyLong_FromUnsignedLongLong(shard.index.count) orelse {
            abi.Py_DecRef(list);
            return null;
        };
        _ = abi.PyList_SetItem(list, @intCast(i), count); // A list of our own: cannot fail.
    }
    return list;
}

fn hasDecoded(dataset: *DatasetObject, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    return abi.PyBool_FromLong(@intFromBool(dataset.native.?.has_decoded));
}

fn record(dataset: *DatasetObject, row: *abi.Object) callconv(.c) ?*abi.Object {
    return tryRecord(dataset.native.?, row) catch null;
}

fn tryRecord(native: *const Dataset, object: *abi.Object) raise.Error!*abi.Object {
    const row = try args.int(u64, object, "row");
    if (row >= native.count) {
        return raise.builtin(abi.PyExc_IndexError, "row out of range: the dataset has {d}", .{native.count});
    }
    const place = native.locate(row, 0);
    const dict = try index_type.recordDict(native.shards.items[place.shard].index, place.record);
    return abi.Py_BuildValue("(IN)", @as(c_uint, place.shard), dict) orelse error.Raised;
}

fn reader(dataset: *DatasetObject, arguments: *abi.Object) callconv(.c) ?*abi.Object {
    return tryReader(dataset, arguments) catch null;
}

fn tryReader(dataset: *DatasetObject, arguments: *abi.Object) raise.Error!*abi.Object {
    var keys_object: ?*abi.Object = null;
    var access_object: ?*abi.Object = null;
    var stores_object: ?*abi.Object = null;
    if (abi.PyArg_ParseTuple(arguments, "OOO:reader", &keys_object, &access_object, &stores_object) == 0) return error.Raised;
    var arena: std.heap.ArenaAllocator = .init(gpa);
    defer arena.deinit();
    const keys = if (keys_object.? == &abi._Py_NoneStruct) null else try texts(arena.allocator(), keys_object.?, "keys");
    const access = try args.choice(@FieldType(Pipeline.Options, "access"), access_object.?, "access");
    const state: *State = try .ofInstance(&dataset.head);
    return reader_type.make(state, try open(dataset), keys, access, try remote_type.ofStores(state, stores_object.?));
}

fn gatherer(dataset: *DatasetObject, arguments: *abi.Object, keywords: ?*abi.Object) callconv(.c) ?*abi.Object {
    return tryGatherer(dataset, arguments, keywords) catch null;
}

fn tryGatherer(dataset: *DatasetObject, arguments: *abi.Object, keywords: ?*abi.Object) raise.Error!*abi.Object {
    return gatherer_type.make(try State.ofInstance(&dataset.head), try open(dataset), arguments, keywords);
}

const option_names = [_][:0]const u8{
    "count",  "start",  "step",    "order",         "rows",           "keys",
    "io",     "access", "threads", "prefetch_rows", "prefetch_bytes", "on_error",
    "stores",
};

fn pipeline(dataset: *DatasetObject, arguments: *abi.Object, keywords: ?*abi.Object) callconv(.c) ?*abi.Object {
    return tryPipeline(dataset, arguments, keywords) catch null;
}

fn tryPipeline(dataset: *DatasetObject, arguments: *abi.Object, keywords: ?*abi.Object) raise.Error!*abi.Object {
    const state: *State = try .ofInstance(&dataset.head);
    const native = try open(dataset);
    var arena: std.heap.ArenaAllocator = .init(gpa);
    defer arena.deinit();
    var objects: [option_names.len]?*abi.Object = @splat(null);
    var c_names: [option_names.len + 1]?[*:0]const u8 = @splat(null);
    for (c_names[0..option_names.len], option_names) |*c_name, name| c_name.* = name.ptr;
    var places: std.meta.Tuple(&(.{*?*abi.Object} ** option_names.len)) = undefined;
    inline for (&places, &objects) |*place, *object| place.* = object;
    const format = "$" ++ "O" ** option_names.len ++ ":pipeline";
    if (@call(.auto, abi.PyArg_ParseTupleAndKeywords, .{ arguments, keywords, format, &c_names } ++ places) == 0) return error.Raised;
    for (objects, option_names) |object, name| {
        if (object == null) return raise.builtin(abi.PyExc_TypeError, "pipeline() lacks '{s}'", .{name});
    }
    const all: [option_names.len]*abi.Object = @bitCast(objects);

    const view = try viewOf(native, all[0..3], try orderOf(state, all[3]), all[4]);
    defer view.release();
    const keys = if (all[5] == &abi._Py_NoneStruct) null else try texts(arena.allocator(), all[5], "keys");
    return pipeline_type.make(state, .{
        .source = .{ .rows = .{ .view = view, .keys = keys } },
        .io = try args.choice(@FieldType(Pipeline.Options, "io"), all[6], "io"),
        .access = try args.choice(@FieldType(Pipeline.Options, "access"), all[7], "access"),
        .threads = try args.int(u32, all[8], "threads"),
        .prefetch_rows = try args.int(u32, all[9], "prefetch_rows"),
        .prefetch_bytes = try args.int(u64, all[10], "prefetch_bytes"),
        .on_error = try args.choice(@FieldType(Pipeline.Options, "on_error"), all[11], "on_error"),
        .remote = try remote_type.ofStores(state, all[12]),
        .dry = false,
    }, 0, all[12]);
}

/// With references of its own. `places` are count, start and step.
fn viewOf(native: *Dataset, places: *const [3]*abi.Object, order: ?Order, rows: *abi.Object) raise.Error!View {
    var numbers: Numbers = .{
        .count = try args.int(u64, places[0], "count"),
        .start = try args.int(u64, places[1], "start"),
        .step = try args.int(i64, places[2], "step"),
        .order = order,
    };
    if (rows != &abi._Py_NoneStruct) numbers.list = try listOf(rows);
    errdefer if (numbers.list) |list| list.release();
    if (numbers.misfit(native.count)) |why| {
        return raise.builtin(abi.PyExc_IndexError, "{s}", .{switch (why) {
            .place_before_first => "a place lies before the first",
            .place_beyond_all => "a place lies beyond all that there can be",
            .place_beyond_order => "a place lies beyond the end of the order",
            .place_beyond_list => "a place lies beyond the end of the rows",
            .row_beyond_dataset => "a row lies beyond the end of the dataset",
        }});
    }
    native.retain();
    return .{ .dataset = native, .numbers = numbers };
}

fn where(dataset: *DatasetObject, arguments: *abi.Object) callconv(.c) ?*abi.Object {
    return tryWhere(dataset, arguments) catch null;
}

fn tryWhere(dataset: *DatasetObject, arguments: *abi.Object) raise.Error!*abi.Object {
    var objects: [5]?*abi.Object = @splat(null);
    if (abi.PyArg_ParseTuple(arguments, "OOOOO:where", &objects[0], &objects[1], &objects[2], &objects[3], &objects[4]) == 0) return error.Raised;
    const all: [5]*abi.Object = @bitCast(objects);
    const expression: args.Text = try .init(all[0], "expression");
    defer expression.deinit();
    var config: std.ArrayList(u8) = .empty;
    defer config.deinit(gpa);
    const writer: Writer = .{ .gpa = gpa, .out = &config };
    writer.map(1) catch return raise.memory();
    for ([_][]const u8{ "expression", expression.bytes }) |text| writer.str(text) catch |err| switch (err) {
        error.OutOfMemory => return raise.memory(),
        error.TooLong => return raise.builtin(abi.PyExc_ValueError, "the expression is too long", .{}),
    };
    const view = try viewOf(try open(dataset), all[1..4], null, all[4]);
    defer view.release();
    return pipeline_type.make(try State.ofInstance(&dataset.head), .{
        .source = .{ .script = .{
            .text = "return require('ultar.where')",
            .name = "where",
            .search_dir = "",
            .config = config.items,
            .rank = 0,
            .world_size = 1,
            .view = view,
        } },
        .io = .threads, // Which reads nothing here, and needs less than io_uring.
        .access = .auto,
        .threads = 1,
        .prefetch_rows = 64,
        .prefetch_bytes = 1 << 20,
        .on_error = .raise,
        .remote = null,
        .dry = false,
    }, log_level_info, &abi._Py_NoneStruct);
}

/// As in Python's `logging`.
const log_level_info = 20;

fn orderOf(state: *State, object: *abi.Object) raise.Error!?Order {
    if (object == &abi._Py_NoneStruct) return null;
    if (object.type != try state.getType(.order_type)) {
        var buffer: args.TypeName = undefined;
        return raise.builtin(abi.PyExc_TypeError, "order must be an Order or None, not {s}", .{args.typeName(object, &buffer)});
    }
    const order: *order_type.OrderObject = @ptrCast(object);
    return order.native().*;
}

/// Row numbers in a buffer of unsigned 64-bit integers, copied.
fn listOf(object: *abi.Object) raise.Error!*Numbers.List {
    const rows: args.Rows = try .init(object);
    defer rows.deinit();
    return Numbers.List.create(gpa, rows.items) catch raise.memory();
}
