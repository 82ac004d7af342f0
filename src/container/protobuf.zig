//! The wire format of protobuf, as far as `tf.train.Example` needs it: the fields of a
//! message, one after the other. Nothing is trusted, and nothing copied.

const std = @import("std");

/// As the format numbers them.
pub const Kind = enum(u3) { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5, _ };

/// Where in the bytes, from `begin` to below `end`.
pub const Span = struct { begin: usize, end: usize };

pub const Field = struct { number: u64, kind: Kind, span: Span };

/// What is malformed, and where.
pub const Problem = struct { at: usize = 0, text: []const u8 = "" };

pub const Error = error{Malformed};

pub const Fields = struct {
    bytes: []const u8,
    /// What is still to come.
    rest: Span,
    problem: *Problem,

    pub fn next(fields: *Fields) Error!?Field {
        const rest = &fields.rest;
        if (rest.begin == rest.end) return null;
        const at = rest.begin;
        const tag = try varint(fields.bytes, rest, fields.problem);
        const kind: Kind = @enumFromInt(@as(u3, @truncate(tag)));
        const begin = rest.begin;
        const size: u64 = switch (kind) {
            .varint => {
                _ = try varint(fields.bytes, rest, fields.problem);
                return .{ .number = tag >> 3, .kind = kind, .span = .{ .begin = begin, .end = rest.begin } };
            },
            .fixed64 => 8,
            .fixed32 => 4,
            .bytes => try varint(fields.bytes, rest, fields.problem),
            _ => return bad(fields.problem, at, "a field is of a kind that protobuf has not"),
        };
        if (size > rest.end - rest.begin) return bad(fields.problem, at, "a field is cut short");
        const span: Span = .{ .begin = rest.begin, .end = rest.begin + @as(usize, @intCast(size)) };
        rest.begin = span.end;
        return .{ .number = tag >> 3, .kind = kind, .span = span };
    }

    /// The next field of a number that has a length; others are passed over.
    pub fn nextBytes(fields: *Fields, number: u64) Error!?Span {
        while (try fields.next()) |field| {
            if (field.number == number and field.kind == .bytes) return field.span;
        }
        return null;
    }
};

/// A number, of which the bytes are taken off the span.
pub fn varint(bytes: []const u8, rest: *Span, problem: *Problem) Error!u64 {
    var value: u64 = 0;
    for (bytes[rest.begin..rest.end], 0..) |byte, i| {
        if (i == 10) break;
        // Of the tenth byte all but one bit fall off, as in every reader.
        value |= @as(u64, byte & 0x7f) << @intCast(7 * i);
        if (byte < 0x80) {
            rest.begin += i + 1;
            return value;
        }
    }
    return bad(problem, rest.begin, "a number has no end");
}

fn bad(problem: *Problem, at: usize, text: []const u8) Error {
    problem.* = .{ .at = at, .text = text };
    return error.Malformed;
}

test "fields of each kind" {
    const bytes = "\x08\x96\x01" ++ "\x12\x02hi" ++ "\x1d\x00\x00\x80\x3f" ++ "\x21" ++ "\x01" ** 8 ++ "\x12\x00";
    var problem: Problem = .{};
    var fields: Fields = .{ .bytes = bytes, .rest = .{ .begin = 0, .end = bytes.len }, .problem = &problem };
    var first = (try fields.next()).?;
    try std.testing.expectEqual(Field{ .number = 1, .kind = .varint, .span = .{ .begin = 1, .end = 3 } }, first);
    try std.testing.expectEqual(150, try varint(bytes, &first.span, &problem));
    try std.testing.expectEqual(Span{ .begin = 5, .end = 7 }, (try fields.nextBytes(2)).?);
    try std.testing.expectEqual(.fixed32, (try fields.next()).?.kind);
    try std.testing.expectEqual(.fixed64, (try fields.next()).?.kind);
    const last = (try fields.nextBytes(2)).?;
    try std.testing.expectEqual(last.begin, last.end);
    try std.testing.expectEqual(null, try fields.next());
}

test "what is malformed" {
    for ([_][]const u8{ "\x08", "\x08\x80", "\x0a\x05abcd", "\x0b", "\x0d\x00\x00\x00", "\xff" ** 11, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" }) |bytes| {
        var problem: Problem = .{};
        var fields: Fields = .{ .bytes = bytes, .rest = .{ .begin = 0, .end = bytes.len }, .problem = &problem };
        try std.testing.expectError(error.Malformed, fields.next());
        try std.testing.expect(problem.at <= bytes.len and problem.text.len > 0);
    }
}

test "fuzz: random bytes are read to their end or refused" {
    for (0..20_000) |round| {
        var prng: std.Random.DefaultPrng = .init(std.testing.random_seed +% round);
        var buffer: [40]u8 = undefined;
        prng.random().bytes(&buffer);
        var problem: Problem = .{};
        var fields: Fields = .{ .bytes = &buffer, .rest = .{ .begin = 3, .end = 30 }, .problem = &problem };
        var last: usize = 3;
        while (fields.next() catch null) |field| {
            try std.testing.expect(field.span.begin > last and field.span.end >= field.span.begin and field.span.end <= 30);
            last = field.span.end;
        }
    }
}
