//! msgpack to Python objects: the metadata of a record.

const std = @import("std");
const Reader = @import("../msgpack/Reader.zig");
const abi = @import("abi.zig");
const limits = @import("../base/limits.zig");
const raise = @import("raise.zig");

/// A new reference. `bytes` is one value, such as a map.
pub fn decode(bytes: []const u8) raise.Error!*abi.Object {
    var reader: Reader = .{ .bytes = bytes };
    return value(&reader, 0) catch |err| switch (err) {
        error.Raised => error.Raised,
        else => raise.builtin(abi.PyExc_ValueError, "metadata: no msgpack value at byte {d} of {d} ({t})", .{ reader.at, bytes.len, err }),
    };
}

const Error = Reader.Error || raise.Error;

fn value(reader: *Reader, depth: u32) Error!*abi.Object {
    if (depth > limits.value_depth_max) return error.TooDeep;
    const made: ?*abi.Object = switch (try reader.peek()) {
        .nil => blk: {
            _ = try reader.skip();
            break :blk abi.none();
        },
        .boolean => abi.PyBool_FromLong(@intFromBool(try reader.boolean())),
        .uint => abi.PyLong_FromUnsignedLongLong(try reader.uint()),
        .negative => abi.PyLong_FromLongLong(try reader.negative()),
        .float => abi.PyFloat_FromDouble(try reader.float()),
        .str => raise.decode(try reader.str(), .exact),
        .bin => blk: {
            const bytes = try reader.str();
            break :blk abi.PyBytes_FromStringAndSize(bytes.ptr, @intCast(bytes.len));
        },
        .array => try array(reader, depth),
        .map => try map(reader, depth),
        .ext, .invalid => return error.WrongType,
    };
    return made orelse error.Raised;
}

fn array(reader: *Reader, depth: u32) Error!*abi.Object {
    // Checked against the bytes that are there, of which an element takes one.
    const count = try reader.array();
    const list = abi.PyList_New(count) orelse return error.Raised;
    errdefer abi.Py_DecRef(list);
    for (0..count) |i| {
        // Takes the element over, even where it fails.
        if (abi.PyList_SetItem(list, @intCast(i), try value(reader, depth + 1)) != 0) return error.Raised;
    }
    return list;
}

fn map(reader: *Reader, depth: u32) Error!*abi.Object {
    const count = try reader.map();
    const dict = abi.PyDict_New() orelse return error.Raised;
    errdefer abi.Py_DecRef(dict);
    for (0..count) |_| {
        const key = switch (try reader.peek()) {
            // What Python cannot hash, and floats, name nothing in metadata.
            .array, .map, .ext, .float, .invalid => return error.WrongType,
            else => try value(reader, depth + 1),
        };
        defer abi.Py_DecRef(key);
        const inner = try value(reader, depth + 1);
        defer abi.Py_DecRef(inner);
        if (abi.PyDict_SetItem(dict, key, inner) != 0) return error.Raised;
    }
    return dict;
}
