//! What an error was about. Zig error values carry no payload, so a fallible
//! call whose failure a user can cause takes a `*Diagnostics` and fills it
//! before it returns. Fixed size: to report a failure can never fail.
//!
//! A message names the thing, the place, what was wanted and what was got.
const Diagnostics = @This();

const std = @import("std");

/// Which exception it becomes in Python.
kind: Kind = .none,
/// The kernel's number, 0 when the kernel had no part in it.
errno: i32 = 0,
/// Byte range in the file, where one is known.
offset: ?u64 = null,
size: ?u64 = null,
path_buffer: [path_max]u8 = undefined,
path_len: usize = 0,
message_buffer: [message_max]u8 = undefined,
message_len: usize = 0,

pub const path_max = 4096;
pub const message_max = 8192;

pub const Kind = enum(u8) {
    none,
    /// The script failed: `ScriptError`.
    script,
    /// A tar is malformed: `TarFormatError`.
    tar_format,
    /// A `.utix` is malformed: `IndexFormatError`.
    index_format,
    /// Opening or reading a file failed or came up short: `ReadError`.
    read,
    /// Writing a file failed: `OSError`.
    write,
    /// `MemoryError`.
    memory,
    /// Anything else of ours, such as use after a fork: `UltarError`.
    other,
    /// A payload is not what its field says: `FieldError`.
    field,
    /// A shard of another container is malformed: `ShardFormatError`.
    shard_format,
};

/// Replace the whole report by this one.
pub fn set(diag: *Diagnostics, kind: Kind, comptime fmt: []const u8, args: anytype) void {
    diag.kind = kind;
    diag.errno = 0;
    diag.offset = null;
    diag.size = null;
    diag.path_len = 0;
    var writer: std.Io.Writer = .fixed(&diag.message_buffer);
    writer.print(fmt, args) catch {}; // A cut-off message beats none.
    diag.message_len = writer.end;
}

/// For call sites: `return diag.fail(error.BadIndex, .index_format, "{s}: ...", .{path});`
pub fn fail(diag: *Diagnostics, err: anytype, kind: Kind, comptime fmt: []const u8, args: anytype) @TypeOf(err) {
    diag.set(kind, fmt, args);
    return err;
}

/// Add the file to a report that `set` began.
pub fn setPath(diag: *Diagnostics, file_path: []const u8) void {
    diag.path_len = @min(file_path.len, path_max);
    @memcpy(diag.path_buffer[0..diag.path_len], file_path[0..diag.path_len]);
}

/// Add the byte range to a report that `set` began.
pub fn setRange(diag: *Diagnostics, offset: u64, size: u64) void {
    diag.offset = offset;
    diag.size = size;
}

pub fn message(diag: *const Diagnostics) []const u8 {
    return diag.message_buffer[0..diag.message_len];
}

/// The file it is about; empty when there is none.
pub fn path(diag: *const Diagnostics) []const u8 {
    return diag.path_buffer[0..diag.path_len];
}

test "a message that is too long is cut, not refused" {
    var diag: Diagnostics = .{};
    diag.set(.read, "{s}", .{"x" ** (message_max + 1)});
    try std.testing.expectEqual(message_max, diag.message().len);
    diag.setPath("shard.tar");
    try std.testing.expectEqualStrings("shard.tar", diag.path());
}

test "a new report forgets the one before" {
    var diag: Diagnostics = .{};
    diag.set(.read, "first", .{});
    diag.setPath("a");
    diag.setRange(1, 2);
    diag.errno = 5;
    diag.set(.script, "second", .{});
    try std.testing.expectEqual(null, diag.offset);
    try std.testing.expectEqual(0, diag.errno);
    try std.testing.expectEqualStrings("", diag.path());
}
