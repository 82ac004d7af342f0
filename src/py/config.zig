//! A Python mapping to msgpack, the form in which a config reaches the script.
//! A value that Lua has no like of is an error that says where it stands:
//! `config["a"][2]: cannot pass a set to Lua`.

const std = @import("std");
const Writer = @import("../msgpack/Writer.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const limits = @import("../base/limits.zig");
const raise = @import("raise.zig");

/// The caller frees.
pub fn toMsgpack(gpa: std.mem.Allocator, state: *State, config: *abi.Object) raise.Error![]u8 {
    var out: std.ArrayList(u8) = .empty;
    errdefer out.deinit(gpa);
    const converter: Converter = .{ .state = state, .writer = .{ .gpa = gpa, .out = &out } };
    const root: Place = .{};
    if (!try converter.isInstance(config, .dict, .mapping)) {
        var buffer: args.TypeName = undefined;
        return raise.builtin(abi.PyExc_TypeError, "config must be a mapping, not {s}", .{args.typeName(config, &buffer)});
    }
    try converter.mapping(config, &root);
    return out.toOwnedSlice(gpa) catch raise.memory();
}

/// Where a value stands: a list on the stack, from the value to the root, which
/// costs nothing until there is an error to report.
const Place = struct {
    parent: ?*const Place = null,
    step: union(enum) { root, key: *abi.Object, index: usize } = .root,
    depth: u32 = 1,

    fn inside(place: *const Place, step: @FieldType(Place, "step")) Place {
        return .{ .parent = place, .step = step, .depth = place.depth + 1 };
    }

    /// For `{f}`.
    pub fn format(place: *const Place, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        if (place.parent) |parent| try parent.format(writer);
        switch (place.step) {
            .root => try writer.writeAll("config"),
            .index => |i| try writer.print("[{d}]", .{i}),
            .key => |key| try formatKey(key, writer),
        }
    }

    fn formatKey(key: *abi.Object, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        if (abi.isA(key, .str)) {
            const text = args.Text.init(key, "key") catch {
                abi.PyErr_Clear();
                return writer.writeAll("[?]");
            };
            defer text.deinit();
            const is_cut = text.bytes.len > key_shown_max;
            const shown = text.bytes[0..@min(text.bytes.len, key_shown_max)];
            return writer.print("[\"{s}{s}\"]", .{ shown, if (is_cut) "..." else "" });
        }
        const number = args.asI64(key) catch {
            abi.PyErr_Clear();
            return writer.writeAll("[?]");
        };
        if (number) |shown| try writer.print("[{d}]", .{shown}) else try writer.writeAll("[?]");
    }

    const key_shown_max = 60;
};

const Converter = struct {
    state: *State,
    writer: Writer,

    fn value(converter: Converter, object: *abi.Object, place: *const Place) raise.Error!void {
        const writer = converter.writer;
        if (object == &abi._Py_NoneStruct) return writer.nil() catch raise.memory();
        // Before int, which it is derived from.
        if (abi.isBool(object)) return writer.boolean(try args.boolean(object)) catch raise.memory();
        if (abi.isA(object, .str) or abi.isA(object, .bytes)) return converter.text(object, place);
        if (abi.isFloat(object)) return converter.float(object);
        if (abi.PyIndex_Check(object) != 0) {
            if (converter.int(object, place)) return else |err| {
                // NumPy's arrays and booleans look like ints until they are asked.
                if (abi.PyErr_ExceptionMatches(abi.PyExc_TypeError) == 0) return err;
                abi.PyErr_Clear();
            }
        }
        if (abi.isByteArray(object)) {
            const copy = abi.PyBytes_FromObject(object) orelse return error.Raised;
            defer abi.Py_DecRef(copy);
            return converter.text(copy, place);
        }
        if (try converter.isInstance(object, .dict, .mapping)) return converter.mapping(object, place);
        if (try converter.isSequence(object)) return converter.sequence(object, place);
        if (try converter.isInstance(object, null, .path_like)) {
            const plain = abi.PyOS_FSPath(object) orelse return error.Raised;
            defer abi.Py_DecRef(plain);
            return converter.text(plain, place);
        }
        return cannotPass(object, place);
    }

    fn isInstance(converter: Converter, object: *abi.Object, family: ?abi.Family, comptime class: anytype) raise.Error!bool {
        if (family) |known| {
            if (abi.isA(object, known)) return true;
        }
        return switch (abi.PyObject_IsInstance(object, try converter.state.get(class))) {
            0 => false,
            1 => true,
            else => error.Raised,
        };
    }

    /// A memoryview is one to Python, but nobody means a list of numbers by it.
    fn isSequence(converter: Converter, object: *abi.Object) raise.Error!bool {
        if (object.type == abi.typeAt(&abi.PyMemoryView_Type)) return false;
        return abi.isA(object, .list) or try converter.isInstance(object, .tuple, .sequence);
    }

    fn text(converter: Converter, object: *abi.Object, place: *const Place) raise.Error!void {
        const held = args.Text.init(object, "text") catch |err| {
            if (abi.PyErr_ExceptionMatches(abi.PyExc_UnicodeEncodeError) == 0) return err;
            abi.PyErr_Clear();
            return raise.builtin(abi.PyExc_ValueError, "{f}: the str has surrogates that stand for no bytes", .{place});
        };
        defer held.deinit();
        converter.writer.str(held.bytes) catch |err| switch (err) {
            error.OutOfMemory => return raise.memory(),
            error.TooLong => return raise.builtin(abi.PyExc_ValueError, "{f}: longer than 4 GiB: {d} bytes", .{ place, held.bytes.len }),
        };
    }

    fn float(converter: Converter, object: *abi.Object) raise.Error!void {
        const number = abi.PyFloat_AsDouble(object);
        if (number == -1 and abi.PyErr_Occurred() != null) return error.Raised;
        converter.writer.float(number) catch return raise.memory();
    }

    fn int(converter: Converter, object: *abi.Object, place: *const Place) raise.Error!void {
        const number = try args.asI64(object);
        if (number) |exact| {
            if (@abs(exact) <= limits.lua_integer_max) return converter.writer.int(exact) catch raise.memory();
            return raise.builtin(abi.PyExc_ValueError, "{f}: {d} is beyond 2^53, up to which Lua's numbers are exact; pass it as a str", .{ place, exact });
        }
        return raise.builtin(abi.PyExc_ValueError, "{f}: an int of more than 64 bits is beyond 2^53, up to which Lua's numbers are exact; pass it as a str", .{place});
    }

    fn mapping(converter: Converter, object: *abi.Object, place: *const Place) raise.Error!void {
        try checkDepth(place);
        // A list of our own, which nobody changes meanwhile.
        const items = abi.PyMapping_Items(object) orelse return error.Raised;
        defer abi.Py_DecRef(items);
        const count = abi.PyList_Size(items);
        if (count < 0) return error.Raised;
        converter.writer.map(try fitCount(count, place)) catch return raise.memory();
        for (0..@intCast(count)) |i| {
            const pair = abi.PyList_GetItem(items, @intCast(i)) orelse return error.Raised;
            if (!abi.isA(pair, .tuple) or abi.PyTuple_Size(pair) != 2) {
                return raise.builtin(abi.PyExc_TypeError, "{f}: items() of the mapping gave what is no pair", .{place});
            }
            const key = abi.PyTuple_GetItem(pair, 0) orelse return error.Raised;
            const inner = abi.PyTuple_GetItem(pair, 1) orelse return error.Raised;
            const at = place.inside(.{ .key = key });
            if (abi.isA(key, .str)) {
                try converter.text(key, &at);
            } else if (abi.isA(key, .int) and !abi.isBool(key)) {
                try converter.int(key, &at);
            } else {
                var buffer: args.TypeName = undefined;
                return raise.builtin(abi.PyExc_TypeError, "{f}: keys must be str or int, not {s}", .{ place, args.typeName(key, &buffer) });
            }
            try converter.value(inner, &at);
        }
    }

    fn sequence(converter: Converter, object: *abi.Object, place: *const Place) raise.Error!void {
        try checkDepth(place);
        const items = abi.PySequence_Tuple(object) orelse return error.Raised;
        defer abi.Py_DecRef(items);
        const count = abi.PyTuple_Size(items);
        if (count < 0) return error.Raised;
        converter.writer.array(try fitCount(count, place)) catch return raise.memory();
        for (0..@intCast(count)) |i| {
            const inner = abi.PyTuple_GetItem(items, @intCast(i)) orelse return error.Raised;
            const at = place.inside(.{ .index = i });
            try converter.value(inner, &at);
        }
    }
};

fn checkDepth(place: *const Place) raise.Error!void {
    if (place.depth <= limits.value_depth_max) return;
    // Where it begins tells enough.
    var outer = place;
    while (outer.depth > 6) outer = outer.parent orelse break;
    return raise.builtin(abi.PyExc_ValueError, "{f}...: config nests deeper than {d} levels, or contains itself", .{ outer, limits.value_depth_max });
}

fn fitCount(count: isize, place: *const Place) raise.Error!u32 {
    return std.math.cast(u32, count) orelse
        raise.builtin(abi.PyExc_ValueError, "{f}: {d} values are more than can be passed", .{ place, count });
}

fn cannotPass(object: *abi.Object, place: *const Place) raise.Error {
    var buffer: args.TypeName = undefined;
    const name = args.typeName(object, &buffer);
    const starts_with_vowel = name.len > 0 and std.mem.indexOfScalar(u8, "aeiouAEIOU", name[0]) != null;
    return raise.builtin(abi.PyExc_TypeError, "{f}: cannot pass {s} {s} to Lua; wanted str, int, float, bool, None, bytes, " ++
        "os.PathLike, or a mapping or sequence of them", .{ place, if (starts_with_vowel) "an" else "a", name });
}
