//! Python values to Zig, with messages that name the argument.

const std = @import("std");
const State = @import("State.zig");
const abi = @import("abi.zig");
const raise = @import("raise.zig");

/// The bytes of a str or bytes object, borrowed from it.
pub const Text = struct {
    bytes: []const u8,
    /// Owned reference to what has the bytes.
    owner: *abi.Object,

    /// UTF-8, with lone surrogates as Python's file names have them turned back
    /// into bytes. Other surrogates raise UnicodeEncodeError.
    pub fn init(object: *abi.Object, name: []const u8) raise.Error!Text {
        if (abi.isA(object, .bytes)) return ofBytes(abi.newRef(object));
        if (!abi.isA(object, .str)) {
            var buffer: TypeName = undefined;
            return raise.builtin(abi.PyExc_TypeError, "{s} must be str or bytes, not {s}", .{ name, typeName(object, &buffer) });
        }
        var size: isize = 0;
        if (abi.PyUnicode_AsUTF8AndSize(object, &size)) |bytes| {
            return .{ .bytes = bytes[0..@intCast(size)], .owner = abi.newRef(object) };
        }
        if (abi.PyErr_ExceptionMatches(abi.PyExc_UnicodeEncodeError) == 0) return error.Raised;
        abi.PyErr_Clear();
        return ofBytes(abi.PyUnicode_AsEncodedString(object, "utf-8", "surrogateescape") orelse return error.Raised);
    }

    /// Takes over a reference to a bytes object.
    fn ofBytes(object: *abi.Object) raise.Error!Text {
        errdefer abi.Py_DecRef(object);
        var bytes: [*]u8 = undefined;
        var size: isize = 0;
        if (abi.PyBytes_AsStringAndSize(object, &bytes, &size) != 0) return error.Raised;
        return .{ .bytes = bytes[0..@intCast(size)], .owner = object };
    }

    pub fn deinit(text: Text) void {
        abi.Py_DecRef(text.owner);
    }
};

/// A str, bytes or os.PathLike as what the kernel takes.
pub fn path(gpa: std.mem.Allocator, object: *abi.Object) raise.Error![:0]u8 {
    const plain = abi.PyOS_FSPath(object) orelse return error.Raised;
    defer abi.Py_DecRef(plain);
    const text: Text = try .init(plain, "path");
    defer text.deinit();
    if (std.mem.indexOfScalar(u8, text.bytes, 0) != null) {
        return raise.builtin(abi.PyExc_ValueError, "path has a null byte", .{});
    }
    return gpa.dupeZ(u8, text.bytes) catch raise.memory();
}

/// Of ints and what has `__index__`.
pub fn int(comptime Int: type, object: *abi.Object, name: []const u8) raise.Error!Int {
    var buffer: TypeName = undefined;
    if (abi.PyIndex_Check(object) == 0) {
        return raise.builtin(abi.PyExc_TypeError, "{s} must be an int, not {s}", .{ name, typeName(object, &buffer) });
    }
    const wide = try asI64(object);
    if (wide) |value| {
        if (std.math.cast(Int, value)) |fits| return fits;
    }
    const max: i64 = @intCast(@min(std.math.maxInt(Int), std.math.maxInt(i64)));
    return raise.builtin(abi.PyExc_ValueError, "{s} must be from {d} to {d}", .{ name, std.math.minInt(Int), max });
}

/// Null when it has more than 64 bits.
pub fn asI64(object: *abi.Object) raise.Error!?i64 {
    const exact = abi.PyNumber_Index(object) orelse return error.Raised;
    defer abi.Py_DecRef(exact);
    var overflow: c_int = 0;
    const value = abi.PyLong_AsLongLongAndOverflow(exact, &overflow);
    if (overflow != 0) return null;
    if (value == -1 and abi.PyErr_Occurred() != null) return error.Raised;
    return value;
}

pub fn boolean(object: *abi.Object) raise.Error!bool {
    return switch (abi.PyObject_IsTrue(object)) {
        0 => false,
        1 => true,
        else => error.Raised,
    };
}

/// One of the names of an enum.
pub fn choice(comptime Enum: type, object: *abi.Object, name: []const u8) raise.Error!Enum {
    const text: Text = try .init(object, name);
    defer text.deinit();
    if (std.meta.stringToEnum(Enum, text.bytes)) |found| return found;
    const names = comptime blk: {
        var joined: []const u8 = "";
        for (@typeInfo(Enum).@"enum".fields, 0..) |field, i| {
            joined = joined ++ (if (i == 0) "" else ", ") ++ "\"" ++ field.name ++ "\"";
        }
        break :blk joined;
    };
    const shown = text.bytes[0..@min(text.bytes.len, 100)];
    return raise.builtin(abi.PyExc_ValueError, "{s} must be one of {s}, got \"{s}\"", .{ name, names, shown });
}

/// Row numbers in a buffer of unsigned 64-bit integers, borrowed from it.
pub const Rows = struct {
    items: []const u64,
    buffer: abi.Buffer,

    pub fn init(object: *abi.Object) raise.Error!Rows {
        var rows: Rows = .{ .items = &.{}, .buffer = undefined };
        if (abi.PyObject_GetBuffer(object, &rows.buffer, 0) != 0) return error.Raised;
        errdefer rows.deinit();
        const size: usize = @intCast(rows.buffer.size);
        if (size % @sizeOf(u64) != 0) return raise.builtin(abi.PyExc_ValueError, "rows must be unsigned integers of 64 bits", .{});
        if (size == 0) return rows;
        const bytes: [*]const u8 = @ptrCast(rows.buffer.bytes.?);
        if (!std.mem.isAligned(@intFromPtr(bytes), @alignOf(u64))) return raise.builtin(abi.PyExc_ValueError, "rows must be aligned", .{});
        const numbers: [*]const u64 = @ptrCast(@alignCast(bytes));
        rows.items = numbers[0 .. size / @sizeOf(u64)];
        return rows;
    }

    pub fn deinit(rows: *const Rows) void {
        abi.PyBuffer_Release(@constCast(&rows.buffer)); // Nobody looks at it again.
    }
};

pub const TypeName = [128]u8;

/// The name of the object's type, for messages: `set`, `numpy.float32`.
pub fn typeName(object: *abi.Object, buffer: *TypeName) []const u8 {
    var writer: std.Io.Writer = .fixed(buffer);
    writeTypeName(object, &writer) catch |err| switch (err) {
        error.Raised => abi.PyErr_Clear(), // A message without it beats none.
        error.WriteFailed => {},
    };
    return if (writer.end == 0) "object" else writer.buffered();
}

fn writeTypeName(object: *abi.Object, writer: *std.Io.Writer) (raise.Error || std.Io.Writer.Error)!void {
    const of: *abi.Object = @ptrCast(@alignCast(object.type));
    const module = abi.PyObject_GetAttrString(of, "__module__") orelse return error.Raised;
    defer abi.Py_DecRef(module);
    const name = abi.PyType_GetName(object.type) orelse return error.Raised;
    defer abi.Py_DecRef(name);
    const module_text: Text = try .init(module, "__module__");
    defer module_text.deinit();
    const name_text: Text = try .init(name, "__name__");
    defer name_text.deinit();
    if (!std.mem.eql(u8, module_text.bytes, "builtins")) try writer.print("{s}.", .{module_text.bytes});
    try writer.writeAll(name_text.bytes);
}
