//! Names in messages. A tar may hold any bytes as a name, a megabyte of them,
//! and a message must stay one readable line.

const std = @import("std");

const shown_bytes_max = 240;

/// For `{f}`: the name in single quotes, cut when long, with control bytes and
/// what is not UTF-8 as `\xNN`.
pub fn quote(bytes: []const u8) Quoted {
    return .{ .bytes = bytes };
}

pub const Quoted = struct {
    bytes: []const u8,

    pub fn format(quoted: Quoted, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        try writer.writeByte('\'');
        var rest = quoted.bytes[0..@min(quoted.bytes.len, shown_bytes_max)];
        while (rest.len > 0) {
            const size = printableSize(rest);
            if (size == 0) {
                try writer.print("\\x{x:0>2}", .{rest[0]});
                rest = rest[1..];
            } else {
                try writer.writeAll(rest[0..size]);
                rest = rest[size..];
            }
        }
        try writer.writeAll(if (quoted.bytes.len > shown_bytes_max) "...'" else "'");
    }
};

/// Bytes of the character at the start, 0 where it is none that can be shown.
fn printableSize(bytes: []const u8) usize {
    const size = std.unicode.utf8ByteSequenceLength(bytes[0]) catch return 0;
    if (size > bytes.len) return 0;
    if (size == 1) return if (std.ascii.isPrint(bytes[0])) 1 else 0;
    _ = std.unicode.utf8Decode(bytes[0..size]) catch return 0;
    return size;
}

test "a name is shown on one line, whatever its bytes" {
    var buffer: [1024]u8 = undefined;
    try std.testing.expectEqualStrings("'a b.jpg'", try std.fmt.bufPrint(&buffer, "{f}", .{quote("a b.jpg")}));
    try std.testing.expectEqualStrings("'\\x0aé\\xff\\xc3'", try std.fmt.bufPrint(&buffer, "{f}", .{quote("\né\xff\xc3")}));
    const long = try std.fmt.bufPrint(&buffer, "{f}", .{quote("x" ** 500)});
    try std.testing.expectEqual(shown_bytes_max + 5, long.len);
}
