//! The one place where what went wrong becomes a Python exception. Everything
//! here sets the exception and gives `error.Raised`, so that a caller writes
//! `return raise.builtin(abi.PyExc_TypeError, "...", .{})`; what Python calls
//! turns that error into the null or -1 that C wants.

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");

/// An exception is set.
pub const Error = error{Raised};

/// A report of the layers below, as `ultar_dataloader._errors` wants it. A new
/// exception each time: Python keeps tracebacks in them.
pub fn diagnostics(state: *State, report: *const Diagnostics) Error {
    // What runs below may end whatever owns the report.
    const diag = report.*;
    const function = state.fromNative() catch |err| return err;
    const exception = build(function, &diag) orelse return error.Raised;
    defer abi.Py_DecRef(exception);
    abi.PyErr_SetObject(@ptrCast(@alignCast(exception.type)), exception);
    return error.Raised;
}

fn build(function: *abi.Object, diag: *const Diagnostics) ?*abi.Object {
    // "N" passes on a new reference; a null in its place fails with what is set.
    return abi.PyObject_CallFunction(
        function,
        "iNiNNN",
        @as(c_int, @intFromEnum(diag.kind)),
        decode(diag.message(), .readable),
        @as(c_int, diag.errno),
        if (diag.path().len == 0) abi.none() else decode(diag.path(), .exact),
        uintOrNone(diag.offset),
        uintOrNone(diag.size),
    );
}

fn uintOrNone(value: ?u64) ?*abi.Object {
    return abi.PyLong_FromUnsignedLongLong(value orelse return abi.none());
}

/// An `UltarError` about something that only this layer knows.
pub fn ours(state: *State, comptime fmt: []const u8, args: anytype) Error {
    var diag: Diagnostics = .{};
    diag.set(.other, fmt, args);
    return diagnostics(state, &diag);
}

/// A message longer than a screen is cut.
pub fn builtin(exception: *abi.Object, comptime fmt: []const u8, args: anytype) Error {
    var buffer: [4096]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    writer.print(fmt, args) catch {};
    const text = decode(writer.buffered(), .readable) orelse return error.Raised;
    defer abi.Py_DecRef(text);
    abi.PyErr_SetObject(exception, text);
    return error.Raised;
}

pub fn memory() Error {
    _ = abi.PyErr_NoMemory();
    return error.Raised;
}

pub const Decoding = enum {
    /// For messages: what is not UTF-8 becomes a question mark.
    readable,
    /// For names: what is not UTF-8 can be turned back into its bytes.
    exact,
};

/// A new str, or null with an exception. Both ways are built into Python's
/// decoder: no Python code runs and the GIL is held throughout.
pub fn decode(bytes: []const u8, decoding: Decoding) ?*abi.Object {
    const errors = switch (decoding) {
        .readable => "replace",
        .exact => "surrogateescape",
    };
    return abi.PyUnicode_DecodeUTF8(bytes.ptr, @intCast(bytes.len), errors);
}
