//! `parse_example`: the features of a serialized `tf.train.Example`, or of a
//! `tf.train.SequenceExample`.
//!
//!     Example          1: Features
//!     SequenceExample  1: Features, 2: FeatureLists, entries of name and list of Feature
//!     Features         1: entries of name (1) and Feature (2)
//!     Feature          1: list of bytes, 2: of floats, 3: of integers; its values are in 1

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const protobuf = @import("../container/protobuf.zig");
const raise = @import("raise.zig");
const Fields = protobuf.Fields;
const Span = protobuf.Span;

const gpa = std.heap.c_allocator;

pub const method: abi.Method = .{
    .name = "parse_example",
    .function = &parse,
    .flags = abi.Method.one_arg,
    .doc =
    \\parse_example($module, data, /)
    \\--
    \\
    \\The features of a serialized example by name, and the lists of features of a sequence.
    ,
};

fn parse(module: *abi.Object, data: *abi.Object) callconv(.c) ?*abi.Object {
    return tryParse(.ofModule(module), data) catch null;
}

fn tryParse(state: *State, data: *abi.Object) raise.Error!*abi.Object {
    var buffer: abi.Buffer = undefined;
    if (abi.PyObject_GetBuffer(data, &buffer, 0) != 0) return error.Raised;
    defer abi.PyBuffer_Release(&buffer);
    if (buffer.item_size != 1) return raise.builtin(abi.PyExc_TypeError, "data must be bytes, or a view of bytes", .{});
    const bytes = if (buffer.size > 0) @as([*]const u8, @ptrCast(buffer.bytes.?))[0..@intCast(buffer.size)] else "";
    var parser: Parser = .{ .state = state, .data = data, .bytes = bytes };
    defer parser.ints.deinit(gpa);
    defer parser.floats.deinit(gpa);
    return parser.example() catch |err| switch (err) {
        error.Raised => error.Raised,
        error.OutOfMemory => raise.memory(),
        error.Malformed => {
            var diag: Diagnostics = .{};
            diag.set(.shard_format, "not a serialized tf.train.Example: at byte {d}: {s}", .{ parser.problem.at, parser.problem.text });
            diag.setRange(parser.problem.at, 0);
            return raise.diagnostics(state, &diag);
        },
    };
}

const Error = raise.Error || protobuf.Error || error{OutOfMemory};

const Parser = struct {
    state: *State,
    data: *abi.Object,
    bytes: []const u8,
    problem: protobuf.Problem = .{},
    /// Of the feature at hand.
    ints: std.ArrayList(i64) = .empty,
    floats: std.ArrayList(u8) = .empty,

    fn fields(parser: *Parser, span: Span) Fields {
        return .{ .bytes = parser.bytes, .rest = span, .problem = &parser.problem };
    }

    /// A pair of dicts.
    fn example(parser: *Parser) Error!*abi.Object {
        const features = abi.PyDict_New() orelse return error.Raised;
        defer abi.Py_DecRef(features);
        const lists = abi.PyDict_New() orelse return error.Raised;
        defer abi.Py_DecRef(lists);
        var parts = parser.fields(.{ .begin = 0, .end = parser.bytes.len });
        while (try parts.next()) |part| if (part.kind == .bytes) switch (part.number) {
            1 => try parser.entries(part.span, features, feature),
            2 => try parser.entries(part.span, lists, featureList),
            else => {},
        };
        return abi.Py_BuildValue("(OO)", features, lists) orelse error.Raised;
    }

    /// Put the entries of a map, with the values that `valueOf` makes, into a dict.
    fn entries(parser: *Parser, span: Span, into: *abi.Object, comptime valueOf: fn (*Parser, Span) Error!*abi.Object) Error!void {
        var all = parser.fields(span);
        while (try all.nextBytes(1)) |entry| {
            var name: Span = .{ .begin = entry.end, .end = entry.end };
            var value = name;
            var parts = parser.fields(entry);
            while (try parts.next()) |part| if (part.kind == .bytes) switch (part.number) {
                1 => name = part.span,
                2 => value = part.span,
                else => {},
            };
            const key = try parser.text(name);
            defer abi.Py_DecRef(key);
            const object = try valueOf(parser, value);
            defer abi.Py_DecRef(object);
            if (abi.PyDict_SetItem(into, key, object) != 0) return error.Raised;
        }
    }

    fn text(parser: *Parser, span: Span) Error!*abi.Object {
        const name = parser.bytes[span.begin..span.end];
        if (!std.unicode.utf8ValidateSlice(name)) {
            parser.problem = .{ .at = span.begin, .text = "the name of a feature is not UTF-8" };
            return error.Malformed;
        }
        return raise.decode(name, .readable) orelse error.Raised;
    }

    fn featureList(parser: *Parser, span: Span) Error!*abi.Object {
        const list = abi.PyList_New(0) orelse return error.Raised;
        errdefer abi.Py_DecRef(list);
        var all = parser.fields(span);
        while (try all.nextBytes(1)) |one| try append(list, try parser.feature(one));
        return list;
    }

    fn feature(parser: *Parser, span: Span) Error!*abi.Object {
        var kinds = parser.fields(span);
        var last: ?protobuf.Field = null; // Of several the last counts.
        while (try kinds.next()) |kind| {
            if (kind.kind == .bytes and kind.number >= 1 and kind.number <= 3) last = kind;
        }
        const values = last orelse return abi.PyList_New(0) orelse error.Raised;
        return switch (values.number) {
            1 => parser.bytesList(values.span),
            2 => parser.floatArray(values.span),
            else => parser.intArray(values.span),
        };
    }

    /// Parts of what we were given: bytes of bytes, views of a view.
    fn bytesList(parser: *Parser, span: Span) Error!*abi.Object {
        const list = abi.PyList_New(0) orelse return error.Raised;
        errdefer abi.Py_DecRef(list);
        var values = parser.fields(span);
        while (try values.nextBytes(1)) |value| {
            try append(list, abi.PySequence_GetSlice(parser.data, @intCast(value.begin), @intCast(value.end)) orelse return error.Raised);
        }
        return list;
    }

    fn floatArray(parser: *Parser, span: Span) Error!*abi.Object {
        parser.floats.clearRetainingCapacity();
        var values = parser.fields(span);
        while (try values.next()) |value| {
            if (value.number != 1 or (value.kind != .bytes and value.kind != .fixed32)) continue;
            const floats = parser.bytes[value.span.begin..value.span.end];
            if (floats.len % @sizeOf(f32) != 0) {
                parser.problem = .{ .at = value.span.begin, .text = "floats have 4 bytes each" };
                return error.Malformed;
            }
            try parser.floats.appendSlice(gpa, floats);
        }
        return parser.array("f", parser.floats.items);
    }

    fn intArray(parser: *Parser, span: Span) Error!*abi.Object {
        parser.ints.clearRetainingCapacity();
        var values = parser.fields(span);
        while (try values.next()) |value| {
            if (value.number != 1 or (value.kind != .bytes and value.kind != .varint)) continue;
            var rest = value.span;
            while (rest.begin < rest.end) {
                const number = try protobuf.varint(parser.bytes, &rest, &parser.problem);
                try parser.ints.append(gpa, @bitCast(number));
            }
        }
        return parser.array("q", std.mem.sliceAsBytes(parser.ints.items));
    }

    /// An `array.array` of items in the form of this machine, which is little-endian.
    fn array(parser: *Parser, code: [*:0]const u8, items: []const u8) Error!*abi.Object {
        const bytes = abi.PyBytes_FromStringAndSize(items.ptr, @intCast(items.len)) orelse return error.Raised;
        return abi.PyObject_CallFunction(try parser.state.array(), "sN", code, bytes) orelse error.Raised;
    }
};

/// Takes the reference over.
fn append(list: *abi.Object, item: *abi.Object) raise.Error!void {
    defer abi.Py_DecRef(item);
    if (abi.PyList_Append(list, item) != 0) return error.Raised;
}
