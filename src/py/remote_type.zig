//! `Remote`: what native code asks of stores, for Python to answer. Threads call `next`,
//! fetch, and answer by the number; nothing here knows how.

const std = @import("std");
const Remote = @import("../io/Remote.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const gil = @import("gil.zig");
const instance = @import("instance.zig");
const lent = @import("lent.zig");
const raise = @import("raise.zig");

const gpa = std.heap.c_allocator;

const RemoteObject = extern struct {
    head: abi.Object,
    /// Null only while it is made.
    native: ?*Remote,
};

const methods = [_]abi.Method{
    .{ .name = "next", .function = &next, .flags = abi.Method.no_args, .doc =
    \\next($self, /)
    \\--
    \\
    \\What to fetch, as soon as there is something: number, kind, URL, offset, size, that of
    \\the object, and whether more waits than there are servers for. None when there will be
    \\nothing any more.
    },
    .{ .name = "answer", .function = &answer, .flags = abi.Method.var_args, .doc =
    \\answer($self, number, data, retries, /)
    \\--
    \\
    \\The bytes that a request of kind "read" wants, all of them. Rows may be views of them.
    \\For one of kind "list", the URLs that lie there, each with a NUL behind.
    },
    .{ .name = "answer_size", .function = &answerSize, .flags = abi.Method.var_args, .doc =
    \\answer_size($self, number, size, retries, /)
    \\--
    \\
    \\The size of an object, for a request of kind "size".
    },
    .{ .name = "answer_local", .function = &answerLocal, .flags = abi.Method.var_args, .doc =
    \\answer_local($self, number, path, retries, /)
    \\--
    \\
    \\A file with the content of an index, for a request of kind "local".
    },
    .{ .name = "fail", .function = &fail, .flags = abi.Method.var_args, .doc =
    \\fail($self, number, errno, text, retries, /)
    \\--
    \\
    \\The request cannot be met.
    },
    .{ .name = "set_size", .function = &setSize, .flags = abi.Method.var_args, .doc =
    \\set_size($self, url, size, /)
    \\--
    \\
    \\Say the size of an object before it is asked for.
    },
    .{ .name = "close", .function = &close, .flags = abi.Method.no_args, .doc =
    \\close($self, /)
    \\--
    \\
    \\There will be nothing to fetch any more.
    },
    .{},
};

pub const spec = instance.spec(RemoteObject, "ultar_dataloader._native.Remote", &.{
    .{ .id = abi.slot.tp_dealloc, .value = &dealloc },
    .{ .id = abi.slot.tp_new, .value = &new },
    .{ .id = abi.slot.tp_methods, .value = &methods },
    .{ .id = abi.slot.tp_doc, .value = "Remote()\n--\n\nWhat native code asks of stores." },
    .{},
});

/// Of what pipelines are given: None, or an object whose `native` is a `Remote`.
/// Borrowed from it.
pub fn ofStores(state: *State, stores: *abi.Object) raise.Error!?*Remote {
    if (stores == &abi._Py_NoneStruct) return null;
    const native = abi.PyObject_GetAttrString(stores, "native") orelse return error.Raised;
    defer abi.Py_DecRef(native);
    if (native.type != try state.getType(.remote_type)) {
        return raise.builtin(abi.PyExc_TypeError, "stores must be None or have a Remote as its native", .{});
    }
    const remote: *RemoteObject = @ptrCast(@alignCast(native));
    return remote.native.?;
}

fn new(of: *abi.Type, arguments: *abi.Object, keywords: ?*abi.Object) callconv(.c) ?*abi.Object {
    const names = [_]?[*:0]const u8{null};
    if (abi.PyArg_ParseTupleAndKeywords(arguments, keywords, ":Remote", &names) == 0) return null;
    const remote = instance.create(RemoteObject, of) catch return null;
    remote.native = Remote.create(gpa) catch {
        abi.Py_DecRef(&remote.head);
        raise.memory() catch return null;
    };
    return &remote.head;
}

fn dealloc(remote: *RemoteObject) callconv(.c) void {
    if (remote.native) |native| native.release();
    instance.destroy(&remote.head);
}

fn next(remote: *RemoteObject, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    const job = blk: {
        const released = gil.release();
        defer released.takeBack();
        break :blk remote.native.?.next();
    } orelse return abi.none();
    return abi.Py_BuildValue(
        "(KsNKKNN)",
        @as(c_ulonglong, job.number),
        @as([*:0]const u8, @tagName(job.kind)),
        raise.decode(job.url, .exact),
        @as(c_ulonglong, job.offset),
        @as(c_ulonglong, job.size),
        if (job.object_size) |size| abi.PyLong_FromUnsignedLongLong(size) else abi.none(),
        abi.PyBool_FromLong(@intFromBool(job.is_short)),
    );
}

/// The arguments of an answer: the number, what it is, and the retries.
const Answer = struct {
    number: u64,
    value: *abi.Object,
    retries: u64,

    fn parse(arguments: *abi.Object) raise.Error!Answer {
        var objects: [3]?*abi.Object = @splat(null);
        if (abi.PyArg_ParseTuple(arguments, "OOO", &objects[0], &objects[1], &objects[2]) == 0) return error.Raised;
        return .{
            .number = try args.int(u64, objects[0].?, "number"),
            .value = objects[1].?,
            .retries = try args.int(u64, objects[2].?, "retries"),
        };
    }
};

fn answer(remote: *RemoteObject, arguments: *abi.Object) callconv(.c) ?*abi.Object {
    const given = Answer.parse(arguments) catch return null;
    const bytes = lent.lend(given.value) catch return null;
    {
        const released = gil.release();
        defer released.takeBack();
        if (!remote.native.?.answer(given.number, bytes, given.retries)) bytes.giveBack();
    }
    lent.letGo();
    return abi.none();
}

fn answerSize(remote: *RemoteObject, arguments: *abi.Object) callconv(.c) ?*abi.Object {
    const given = Answer.parse(arguments) catch return null;
    const size = args.int(u64, given.value, "size") catch return null;
    remote.native.?.answerSize(given.number, size, given.retries);
    return abi.none();
}

fn answerLocal(remote: *RemoteObject, arguments: *abi.Object) callconv(.c) ?*abi.Object {
    const given = Answer.parse(arguments) catch return null;
    const path = args.path(gpa, given.value) catch return null;
    defer gpa.free(path);
    remote.native.?.answerLocal(given.number, path, given.retries);
    return abi.none();
}

fn fail(remote: *RemoteObject, arguments: *abi.Object) callconv(.c) ?*abi.Object {
    tryFail(remote.native.?, arguments) catch return null;
    return abi.none();
}

fn tryFail(native: *Remote, arguments: *abi.Object) raise.Error!void {
    var objects: [4]?*abi.Object = @splat(null);
    if (abi.PyArg_ParseTuple(arguments, "OOOO:fail", &objects[0], &objects[1], &objects[2], &objects[3]) == 0) return error.Raised;
    const number = try args.int(u64, objects[0].?, "number");
    const errno = try args.int(i32, objects[1].?, "errno");
    const text: args.Text = try .init(objects[2].?, "text");
    defer text.deinit();
    native.answerFailure(number, errno, text.bytes, try args.int(u64, objects[3].?, "retries"));
}

fn setSize(remote: *RemoteObject, arguments: *abi.Object) callconv(.c) ?*abi.Object {
    trySetSize(remote.native.?, arguments) catch return null;
    return abi.none();
}

fn trySetSize(native: *Remote, arguments: *abi.Object) raise.Error!void {
    var objects: [2]?*abi.Object = @splat(null);
    if (abi.PyArg_ParseTuple(arguments, "OO:set_size", &objects[0], &objects[1]) == 0) return error.Raised;
    const url: args.Text = try .init(objects[0].?, "url");
    defer url.deinit();
    const size = try args.int(u64, objects[1].?, "size");
    native.setSize(native.objectOf(url.bytes) catch return raise.memory(), size);
}

fn close(remote: *RemoteObject, _: ?*abi.Object) callconv(.c) ?*abi.Object {
    remote.native.?.close();
    return abi.none();
}
