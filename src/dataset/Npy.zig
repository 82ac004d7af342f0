//! The header of a `.npy` file, which is followed by the elements:
//!
//!     6      0x93 "NUMPY"
//!     2      version: major 1, 2 or 3, minor 0
//!     2 / 4  bytes that follow in the header, little-endian; 2 with version 1
//!     …      {'descr': '<u2', 'fortran_order': False, 'shape': (2048,), }
//!
//! The dictionary is a Python literal with these three keys, filled up with
//! spaces and a newline. Version 3 allows UTF-8 in it, which no key has.
const Npy = @This();

const std = @import("std");
const limits = @import("../base/limits.zig");

/// Of the header: where the elements begin.
size: usize,
/// A typestr, or what stands in its place, as it is written.
descr: []const u8,
is_fortran: bool,
dims: [limits.array_dims_max]u64,
dims_count: usize,

pub const magic = "\x93NUMPY";
/// Of what says how long the header is.
pub const prefix_max = 12;

/// What is wrong with a header, for a message that begins with "is no .npy file: ".
pub const Problem = struct {
    buffer: [160]u8 = undefined,
    len: usize = 0,

    pub fn text(problem: *const Problem) []const u8 {
        return problem.buffer[0..problem.len];
    }

    fn fail(problem: *Problem, comptime fmt: []const u8, args: anytype) error{Malformed} {
        var writer: std.Io.Writer = .fixed(&problem.buffer);
        writer.print(fmt, args) catch {}; // A cut-off message beats none.
        problem.len = writer.end;
        return error.Malformed;
    }
};

pub fn shape(npy: *const Npy) []const u64 {
    return npy.dims[0..npy.dims_count];
}

/// Bytes of the whole header, by its first `prefix_max` bytes, or what there is of them.
pub fn headerSize(start: []const u8, problem: *Problem) error{Malformed}!usize {
    if (!std.mem.startsWith(u8, start, magic)) {
        return problem.fail("wanted \\x93NUMPY at its beginning, got {x}", .{start[0..@min(start.len, magic.len)]});
    }
    if (start.len < prefix_max) return problem.fail("it ends after {d} bytes, within the header", .{start.len});
    const major = start[6];
    const minor = start[7];
    if (major < 1 or major > 3 or minor != 0) {
        return problem.fail("wanted version 1.0, 2.0 or 3.0, got {d}.{d}", .{ major, minor });
    }
    const size: u64 = if (major == 1) 10 + @as(u64, std.mem.readInt(u16, start[8..10], .little)) else 12 + @as(u64, std.mem.readInt(u32, start[8..12], .little));
    if (size > limits.npy_header_bytes_max) {
        return problem.fail("its header claims {d} bytes, of at most {d}", .{ size, limits.npy_header_bytes_max });
    }
    return @intCast(size);
}

/// `bytes` begin with the header. `descr` is a part of them.
pub fn parse(bytes: []const u8, problem: *Problem) error{Malformed}!Npy {
    const size = try headerSize(bytes[0..@min(bytes.len, prefix_max)], problem);
    if (size > bytes.len) return problem.fail("its header claims {d} bytes, and {d} are there", .{ size, bytes.len });
    const start: usize = if (bytes[6] == 1) 10 else 12;
    // With version 1 and the least of headers.
    if (size < start) return problem.fail("its header claims {d} bytes", .{size});
    var parser: Parser = .{ .text = bytes[start..size], .problem = problem };
    var npy: Npy = .{ .size = size, .descr = "", .is_fortran = false, .dims = undefined, .dims_count = 0 };
    try parser.dictionary(&npy);
    return npy;
}

const Parser = struct {
    text: []const u8,
    at: usize = 0,
    problem: *Problem,

    fn dictionary(parser: *Parser, npy: *Npy) error{Malformed}!void {
        const Seen = struct { descr: bool = false, fortran_order: bool = false, shape: bool = false };
        var seen: Seen = .{};
        try parser.expect('{');
        while (!parser.skip('}')) {
            const key = try parser.string();
            try parser.expect(':');
            inline for (@typeInfo(Seen).@"struct".fields) |field| {
                if (std.mem.eql(u8, key, field.name)) {
                    if (@field(seen, field.name)) return parser.fail("'{s}' once", .{field.name});
                    @field(seen, field.name) = true;
                    break;
                }
            } else return parser.fail("'descr', 'fortran_order' or 'shape' before here", .{});
            if (std.mem.eql(u8, key, "descr")) npy.descr = try parser.description();
            if (std.mem.eql(u8, key, "fortran_order")) npy.is_fortran = try parser.boolean();
            if (std.mem.eql(u8, key, "shape")) try parser.tuple(npy);
            if (parser.skip(',')) continue;
            try parser.expect('}');
            break;
        }
        parser.skipSpace();
        if (parser.at < parser.text.len) return parser.fail("nothing after the dictionary", .{});
        inline for (@typeInfo(Seen).@"struct".fields) |field| {
            if (!@field(seen, field.name)) return parser.problem.fail("its header has no '{s}'", .{field.name});
        }
    }

    fn string(parser: *Parser) error{Malformed}![]const u8 {
        parser.skipSpace();
        const quote = parser.peek() orelse return parser.fail("a quote", .{});
        if (quote != '\'' and quote != '"') return parser.fail("a quote", .{});
        const start = parser.at + 1;
        const end = std.mem.indexOfScalarPos(u8, parser.text, start, quote) orelse return parser.fail("the end of a string", .{});
        parser.at = end + 1;
        return parser.text[start..end];
    }

    /// A string, or a list that describes a structure, as it is.
    fn description(parser: *Parser) error{Malformed}![]const u8 {
        parser.skipSpace();
        const start = parser.at;
        if (parser.peek() != '[') return parser.string();
        var depth: usize = 0;
        while (parser.peek()) |byte| switch (byte) {
            '\'', '"' => _ = try parser.string(),
            else => {
                parser.at += 1;
                if (byte == '[' or byte == '(') depth += 1;
                if (byte == ']' or byte == ')') depth -= 1; // It began with one.
                if (depth == 0) return parser.text[start..parser.at];
            },
        };
        return parser.fail("the end of a list", .{});
    }

    fn boolean(parser: *Parser) error{Malformed}!bool {
        parser.skipSpace();
        inline for (.{ "False", "True" }, .{ false, true }) |word, value| {
            if (std.mem.startsWith(u8, parser.text[parser.at..], word)) {
                parser.at += word.len;
                return value;
            }
        }
        return parser.fail("True or False", .{});
    }

    fn tuple(parser: *Parser, npy: *Npy) error{Malformed}!void {
        try parser.expect('(');
        var is_tuple = true;
        while (!parser.skip(')')) {
            if (npy.dims_count == npy.dims.len) return parser.fail("at most {d} dimensions", .{npy.dims.len});
            npy.dims[npy.dims_count] = try parser.number();
            npy.dims_count += 1;
            is_tuple = parser.skip(',');
            if (is_tuple) continue;
            try parser.expect(')');
            break;
        }
        // (3) is a number.
        if (npy.dims_count == 1 and !is_tuple) return parser.fail("a comma in a tuple of one", .{});
    }

    fn number(parser: *Parser) error{Malformed}!u64 {
        parser.skipSpace();
        const start = parser.at;
        while (parser.peek()) |byte| : (parser.at += 1) if (!std.ascii.isDigit(byte)) break;
        const value = std.fmt.parseInt(u64, parser.text[start..parser.at], 10) catch {
            parser.at = start;
            return parser.fail("a number below 2^64", .{});
        };
        if (parser.peek() == 'L') parser.at += 1; // Of Python 2.
        return value;
    }

    fn peek(parser: *const Parser) ?u8 {
        return if (parser.at < parser.text.len) parser.text[parser.at] else null;
    }

    fn skipSpace(parser: *Parser) void {
        while (parser.peek()) |byte| : (parser.at += 1) if (!std.ascii.isWhitespace(byte)) return;
    }

    fn skip(parser: *Parser, byte: u8) bool {
        parser.skipSpace();
        if (parser.peek() != byte) return false;
        parser.at += 1;
        return true;
    }

    fn expect(parser: *Parser, byte: u8) error{Malformed}!void {
        if (!parser.skip(byte)) return parser.fail("'{c}'", .{byte});
    }

    fn fail(parser: *Parser, comptime wanted: []const u8, args: anytype) error{Malformed} {
        const rest = parser.text[@min(parser.at, parser.text.len)..];
        const shown = std.mem.trimEnd(u8, rest[0..@min(rest.len, 24)], " \n");
        const got: struct { []const u8, []const u8, []const u8 } = if (shown.len == 0) .{ "", "the end", "" } else .{ "'", shown, "'" };
        return parser.problem.fail("its header wants " ++ wanted ++ " at byte {d}, got {s}{s}{s}", args ++ .{parser.at} ++ got);
    }
};

const testing = std.testing;

fn made(comptime dictionary: []const u8) []const u8 {
    return magic ++ "\x01\x00" ++ [2]u8{ dictionary.len & 0xff, dictionary.len >> 8 } ++ dictionary;
}

test "headers of every version" {
    const dictionary = "{'descr': '<u2', 'fortran_order': False, 'shape': (3, 4), }  \n";
    const cases = [_][]const u8{
        comptime made(dictionary) ++ "data",
        magic ++ "\x02\x00" ++ [4]u8{ dictionary.len, 0, 0, 0 } ++ dictionary,
        magic ++ "\x03\x00" ++ [4]u8{ dictionary.len, 0, 0, 0 } ++ dictionary ++ "data",
    };
    for (cases, [_]usize{ 10, 12, 12 }) |bytes, prefix| {
        var problem: Problem = .{};
        const npy = try parse(bytes, &problem);
        try testing.expectEqual(prefix + dictionary.len, npy.size);
        try testing.expectEqualStrings("<u2", npy.descr);
        try testing.expectEqualSlices(u64, &.{ 3, 4 }, npy.shape());
        try testing.expect(!npy.is_fortran);
    }
    var problem: Problem = .{};
    const old = try parse(comptime made("{\"shape\":(7L,),\"fortran_order\":True,\"descr\":[('a', '<i4'), ('b]', '|S3')]}"), &problem);
    try testing.expectEqualStrings("[('a', '<i4'), ('b]', '|S3')]", old.descr);
    try testing.expect(old.is_fortran);
    try testing.expectEqualSlices(u64, &.{7}, old.shape());
    try testing.expectEqual(0, (try parse(comptime made("{'descr': '<u2', 'fortran_order': False, 'shape': ()}"), &problem)).dims_count);
}

test "what is wrong is said" {
    const cases = [_]struct { []const u8, []const u8 }{
        .{ "", "got " },
        .{ "PK\x03\x04aaaaaaaaaa", "wanted \\x93NUMPY at its beginning, got 504b03046161" },
        .{ magic ++ "\x01\x00", "it ends after 8 bytes" },
        .{ magic ++ "\x04\x00aaaa", "got 4.0" },
        .{ magic ++ "\x01\x01aaaa", "got 1.1" },
        .{ magic ++ "\x01\x00\x40\x00aaaaaaaa", "claims 74 bytes, and 18 are there" },
        .{ magic ++ "\x02\x00\xff\xff\xff\xffaaaaaaaa", "of at most" },
        .{ comptime made("{}  "), "has no 'descr'" },
        .{ comptime made("{'descr': '<u2', 'fortran_order': False}"), "has no 'shape'" },
        .{ comptime made("{'descr': '<u2', 'descr': '<u2'}"), "wants 'descr' once at byte 25" },
        .{ comptime made("{'descr': '<u2', 'x': 3}"), "before here" },
        .{ comptime made("{'descr': '<u2"), "the end of a string" },
        .{ comptime made("{'descr': 3}"), "a quote at byte 10, got '3}'" },
        .{ comptime made("{'descr': [('a', 'b'), "), "the end of a list" },
        .{ comptime made("{'fortran_order': 0}"), "True or False" },
        .{ comptime made("{'shape': (3)}"), "a comma" },
        .{ comptime made("{'shape': (-3,)}"), "a number below 2^64 at byte 11" },
        .{ comptime made("{'shape': (99999999999999999999,)}"), "a number" },
        .{ comptime made("{'shape': (" ++ "1," ** 65 ++ ")}"), "at most" },
        .{ comptime made("{'descr': '<u2', 'fortran_order': False, 'shape': ()} x"), "nothing after" },
        .{ comptime made("{'descr': '<u2' 'fortran_order': False, 'shape': ()}"), "'}'" },
    };
    for (cases) |case| {
        var problem: Problem = .{};
        try testing.expectError(error.Malformed, parse(case[0], &problem));
        if (std.mem.indexOf(u8, problem.text(), case[1]) == null) {
            std.debug.print("wanted {s}, got {s}\n", .{ case[1], problem.text() });
            return error.TestUnexpectedResult;
        }
    }
}

test "any bytes at all: an answer, and no more than the bytes" {
    var prng: std.Random.DefaultPrng = .init(3);
    const random = prng.random();
    const good = comptime made("{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (3, 4), }  \n");
    const likely = "{}()[],:'\" 0129LTFdescrshape\n\x00\xff";
    for (0..20_000) |_| {
        var bytes: [good.len]u8 = good[0..good.len].*;
        for (0..random.uintLessThan(usize, 6)) |_| {
            const at = if (random.boolean()) random.uintLessThan(usize, 12) else random.uintLessThan(usize, bytes.len);
            bytes[at] = if (random.boolean()) likely[random.uintLessThan(usize, likely.len)] else random.int(u8);
        }
        const some = bytes[0 .. bytes.len - random.uintLessThan(usize, if (random.boolean()) 1 else bytes.len)];
        var problem: Problem = .{};
        if (parse(some, &problem)) |npy| {
            try testing.expect(npy.size <= some.len);
        } else |_| {
            try testing.expect(problem.text().len > 0);
        }
    }
}
