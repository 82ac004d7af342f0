//! JSON to msgpack and back, one value at a time, without loss where msgpack
//! has the value: integers stay integers, floats floats, bytes bytes.
//!
//! A byte that is not UTF-8 is written as a lone surrogate, `\udc80` to
//! `\udcff`, as Python does for file names, and read back from that.

const std = @import("std");
const Allocator = std.mem.Allocator;
const limits = @import("../base/limits.zig");
const Reader = @import("../msgpack/Reader.zig");
const Writer = @import("../msgpack/Writer.zig");

/// One JSON value as msgpack, appended to `out`. Only white space may be around
/// it. On an error `at` is where in `text`, and `wanted` says what was expected.
pub const Parser = struct {
    text: []const u8,
    at: usize = 0,
    wanted: []const u8 = "",
    writer: Writer,
    /// Objects and arrays may nest this deep.
    depth_max: usize = limits.value_depth_max,

    pub const Error = error{ Malformed, OutOfMemory };

    pub fn parse(parser: *Parser) Error!void {
        if (std.mem.startsWith(u8, parser.text, "\xef\xbb\xbf")) parser.at = 3; // Byte order mark.
        try parser.value(parser.depth_max);
        parser.skipSpace();
        if (parser.at < parser.text.len) return parser.bad("nothing after the value");
    }

    /// "got 'x'", for messages.
    pub fn got(parser: *const Parser, buffer: *[16]u8) []const u8 {
        if (parser.at >= parser.text.len) return "the end";
        const byte = parser.text[parser.at];
        const text = if (std.ascii.isPrint(byte))
            std.fmt.bufPrint(buffer, "'{c}'", .{byte})
        else
            std.fmt.bufPrint(buffer, "byte 0x{x:0>2}", .{byte});
        return text catch buffer;
    }

    fn value(parser: *Parser, depth: usize) Error!void {
        parser.skipSpace();
        switch (parser.peek()) {
            '{' => try parser.container('}', depth),
            '[' => try parser.container(']', depth),
            '"' => try parser.string(),
            '-', '0'...'9' => try parser.number(),
            't' => try parser.word("true", 0xc3),
            'f' => try parser.word("false", 0xc2),
            'n' => try parser.word("null", 0xc0),
            else => return parser.bad("a JSON value"),
        }
    }

    fn container(parser: *Parser, close: u8, depth: usize) Error!void {
        if (depth == 0) return parser.bad("less nesting");
        const out = parser.writer.out;
        const start = out.items.len;
        var count: u32 = 0;
        parser.at += 1;
        parser.skipSpace();
        while (parser.peek() != close) {
            if (count > 0) {
                if (parser.peek() != ',') return parser.bad(if (close == '}') "',' or '}'" else "',' or ']'");
                parser.at += 1;
                parser.skipSpace();
            }
            if (close == '}') {
                if (parser.peek() != '"') return parser.bad("a key in double quotes");
                try parser.string();
                parser.skipSpace();
                if (parser.peek() != ':') return parser.bad("':'");
                parser.at += 1;
            }
            try parser.value(depth - 1);
            parser.skipSpace();
            count = std.math.add(u32, count, 1) catch return parser.bad("fewer elements");
        }
        parser.at += 1;
        var buffer: [Writer.header_bytes_max]u8 = undefined;
        const header = if (close == '}') Writer.mapHeader(&buffer, count) else Writer.arrayHeader(&buffer, count);
        try out.insertSlice(parser.writer.gpa, start, header);
    }

    fn string(parser: *Parser) Error!void {
        const start = parser.at + 1;
        const out = parser.writer.out;
        const out_start = out.items.len;
        parser.at = start;
        var copied = start; // What is before is in `out`; nothing is until the first escape.
        while (true) {
            parser.at = std.mem.indexOfAnyPos(u8, parser.text, parser.at, string_stops) orelse {
                parser.at = parser.text.len;
                return parser.bad("'\"' at the end of a string");
            };
            const byte = parser.text[parser.at];
            if (byte == '"') break;
            if (byte != '\\') return parser.bad("no control character in a string");
            try out.appendSlice(parser.writer.gpa, parser.text[copied..parser.at]);
            try parser.escape();
            copied = parser.at;
        }
        try out.appendSlice(parser.writer.gpa, parser.text[copied..parser.at]);
        const size = std.math.cast(u32, out.items.len - out_start) orelse return parser.bad("a string of less than 4 GiB");
        parser.at += 1;
        var buffer: [Writer.header_bytes_max]u8 = undefined;
        try out.insertSlice(parser.writer.gpa, out_start, Writer.strHeader(&buffer, size));
    }

    const string_stops = blk: {
        var stops: [34]u8 = undefined;
        for (0..32) |i| stops[i] = i;
        stops[32] = '"';
        stops[33] = '\\';
        const final = stops;
        break :blk &final;
    };

    fn escape(parser: *Parser) Error!void {
        parser.at += 1;
        const plain: u8 = switch (parser.peek()) {
            '"', '\\', '/' => |byte| byte,
            'b' => 8,
            'f' => 12,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return parser.unicodeEscape(),
            else => return parser.bad("an escape of JSON"),
        };
        parser.at += 1;
        try parser.writer.out.append(parser.writer.gpa, plain);
    }

    fn unicodeEscape(parser: *Parser) Error!void {
        const first = try parser.hex();
        var code: u21 = first;
        if (std.unicode.utf16IsHighSurrogate(first) and std.mem.startsWith(u8, parser.text[parser.at..], "\\u")) {
            const back = parser.at;
            parser.at += 1;
            const second = try parser.hex();
            if (std.unicode.utf16IsLowSurrogate(second)) {
                code = std.unicode.utf16DecodeSurrogatePair(&.{ first, second }) catch unreachable; // Just seen.
            } else parser.at = back;
        }
        if (code >= 0xdc80 and code <= 0xdcff) return parser.writer.out.append(parser.writer.gpa, @intCast(code - 0xdc00));
        var buffer: [4]u8 = undefined;
        const size = std.unicode.wtf8Encode(code, &buffer) catch unreachable; // At most 0x10ffff.
        try parser.writer.out.appendSlice(parser.writer.gpa, buffer[0..size]);
    }

    /// Four hex digits after the `u` at `at`.
    fn hex(parser: *Parser) Error!u16 {
        parser.at += 1;
        var code: u16 = 0;
        for (0..4) |_| {
            const digit = std.fmt.charToDigit(parser.peek(), 16) catch return parser.bad("four hex digits");
            code = code << 4 | digit;
            parser.at += 1;
        }
        return code;
    }

    fn number(parser: *Parser) Error!void {
        const start = parser.at;
        if (parser.peek() == '-') parser.at += 1;
        if (parser.peek() == '0') parser.at += 1 else try parser.digits();
        var is_float = false;
        if (parser.peek() == '.') {
            is_float = true;
            parser.at += 1;
            try parser.digits();
        }
        if (parser.peek() == 'e' or parser.peek() == 'E') {
            is_float = true;
            parser.at += 1;
            if (parser.peek() == '+' or parser.peek() == '-') parser.at += 1;
            try parser.digits();
        }
        const text = parser.text[start..parser.at];
        if (!is_float) {
            if (std.fmt.parseInt(i64, text, 10)) |int| return parser.writer.int(int) else |_| {}
            if (std.fmt.parseInt(u64, text, 10)) |int| return parser.writer.uint(int) else |_| {}
        }
        const float = std.fmt.parseFloat(f64, text) catch std.math.inf(f64);
        if (std.math.isInf(float)) {
            parser.at = start;
            return parser.bad("a number within the range of a 64-bit float");
        }
        try parser.writer.float(float);
    }

    fn digits(parser: *Parser) Error!void {
        const start = parser.at;
        while (std.ascii.isDigit(parser.peek())) parser.at += 1;
        if (parser.at == start) return parser.bad("a digit");
    }

    fn word(parser: *Parser, text: []const u8, byte: u8) Error!void {
        if (!std.mem.startsWith(u8, parser.text[parser.at..], text)) return parser.bad("a JSON value");
        parser.at += text.len;
        try parser.writer.raw(&.{byte});
    }

    /// The byte at `at`; 0, which JSON never allows, at the end.
    fn peek(parser: *const Parser) u8 {
        return if (parser.at < parser.text.len) parser.text[parser.at] else 0;
    }

    fn skipSpace(parser: *Parser) void {
        while (parser.at < parser.text.len) : (parser.at += 1) {
            switch (parser.text[parser.at]) {
                ' ', '\t', '\r', '\n' => {},
                else => return,
            }
        }
    }

    fn bad(parser: *Parser, wanted: []const u8) error{Malformed} {
        parser.wanted = wanted;
        return error.Malformed;
    }
};

/// The next value of `reader` as JSON, appended to `out`. Not for binary and
/// extension types, which JSON has no form for.
pub fn print(gpa: Allocator, out: *std.ArrayList(u8), reader: *Reader) (Reader.Error || Allocator.Error)!void {
    return printValue(gpa, out, reader, limits.value_depth_max);
}

fn printValue(gpa: Allocator, out: *std.ArrayList(u8), reader: *Reader, depth: usize) (Reader.Error || Allocator.Error)!void {
    switch (try reader.peek()) {
        .nil => {
            reader.at += 1;
            try out.appendSlice(gpa, "null");
        },
        .boolean => try out.appendSlice(gpa, if (try reader.boolean()) "true" else "false"),
        .uint => try out.print(gpa, "{d}", .{try reader.uint()}),
        .negative => try out.print(gpa, "{d}", .{try reader.negative()}),
        .float => try printFloat(gpa, out, try reader.float()),
        .str => try printString(gpa, out, try reader.str()),
        .array => {
            if (depth == 0) return error.TooDeep;
            const count = try reader.array();
            try out.append(gpa, '[');
            for (0..count) |i| {
                if (i > 0) try out.append(gpa, ',');
                try printValue(gpa, out, reader, depth - 1);
            }
            try out.append(gpa, ']');
        },
        .map => {
            if (depth == 0) return error.TooDeep;
            const count = try reader.map();
            try out.append(gpa, '{');
            for (0..count) |i| {
                if (i > 0) try out.append(gpa, ',');
                try printString(gpa, out, try reader.str());
                try out.append(gpa, ':');
                try printValue(gpa, out, reader, depth - 1);
            }
            try out.append(gpa, '}');
        },
        .bin, .ext, .invalid => return error.WrongType,
    }
}

fn printFloat(gpa: Allocator, out: *std.ArrayList(u8), value: f64) Allocator.Error!void {
    if (!std.math.isFinite(value)) return out.appendSlice(gpa, "null");
    const start = out.items.len;
    const magnitude = @abs(value);
    if (magnitude != 0 and (magnitude < 1e-5 or magnitude >= 1e16)) return out.print(gpa, "{e}", .{value});
    try out.print(gpa, "{d}", .{value});
    // Else it would come back as an integer.
    if (std.mem.indexOfScalar(u8, out.items[start..], '.') == null) try out.appendSlice(gpa, ".0");
}

pub fn printString(gpa: Allocator, out: *std.ArrayList(u8), bytes: []const u8) Allocator.Error!void {
    try out.append(gpa, '"');
    var rest = bytes;
    while (rest.len > 0) {
        const byte = rest[0];
        var size: usize = 1;
        switch (byte) {
            '"', '\\' => try out.appendSlice(gpa, &.{ '\\', byte }),
            '\n' => try out.appendSlice(gpa, "\\n"),
            '\r' => try out.appendSlice(gpa, "\\r"),
            '\t' => try out.appendSlice(gpa, "\\t"),
            0...8, 11, 12, 14...31 => try out.print(gpa, "\\u{x:0>4}", .{byte}),
            ' ', '!', '#'...'[', ']'...0x7f => try out.append(gpa, byte),
            else => {
                size = std.unicode.utf8ByteSequenceLength(byte) catch 0;
                const valid = size > 0 and size <= rest.len and std.unicode.utf8ValidateSlice(rest[0..size]);
                if (!valid) size = 1;
                if (valid) try out.appendSlice(gpa, rest[0..size]) else try out.print(gpa, "\\udc{x:0>2}", .{byte});
            },
        }
        rest = rest[size..];
    }
    try out.append(gpa, '"');
}

fn testParse(text: []const u8, out: *std.ArrayList(u8)) Parser.Error!void {
    var parser: Parser = .{ .text = text, .writer = .{ .gpa = std.testing.allocator, .out = out } };
    return parser.parse();
}

test "values" {
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(std.testing.allocator);
    try testParse(" {\"a\": [1, -1, 1.5, true, false, null, 18446744073709551615], \"b\\n\": {}} ", &out);
    try std.testing.expectEqualSlices(u8, "\x82\xa1a\x97\x01\xff\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xc3\xc2\xc0\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa2b\n\x80", out.items);
}

test "strings: escapes, pairs of surrogates, and bytes" {
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(std.testing.allocator);
    try testParse("\"\\u00e9\\ud83d\\ude00\\udce9\\\\\\/\\u0000\"", &out);
    try std.testing.expectEqualSlices(u8, "\xaaé😀\xe9\\/\x00", out.items);
    var text: std.ArrayList(u8) = .empty;
    defer text.deinit(std.testing.allocator);
    var reader: Reader = .{ .bytes = out.items };
    try print(std.testing.allocator, &text, &reader);
    try std.testing.expectEqualStrings("\"é😀\\udce9\\\\/\\u0000\"", text.items);
}

test "what is not JSON" {
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(std.testing.allocator);
    const bad = [_][]const u8{
        "",                                  "{",            "[1,]",    "[1 2]", "{\"a\"}",   "{a:1}",  "01",    "1.", "1e", "-",          "NaN",
        "tru",                               "\"a",          "\"\\x\"", "1 2",   "\"\\u12\"", "\"\n\"", "1e999", "]",  "[",  "{\"a\":1,}", "\x00",
        "[" ** (limits.value_depth_max + 1), "[" ** 200_000,
    };
    for (bad) |text| {
        out.clearRetainingCapacity();
        try std.testing.expectError(error.Malformed, testParse(text, &out));
    }
}

test "numbers come back as what they were" {
    const gpa = std.testing.allocator;
    for ([_][]const u8{ "0", "-1", "18446744073709551615", "-9223372036854775808", "1.0", "0.1", "1e300", "-2.5e-7", "3.4e38", "123456789.25" }) |text| {
        var out: std.ArrayList(u8) = .empty;
        defer out.deinit(gpa);
        try testParse(text, &out);
        var printed: std.ArrayList(u8) = .empty;
        defer printed.deinit(gpa);
        var reader: Reader = .{ .bytes = out.items };
        try print(gpa, &printed, &reader);
        try std.testing.expectEqualStrings(text, printed.items);
    }
}
