//! A Roxxel archive, version 1. Integers are signed, of 64 bits, little-endian.
//!
//!     0             payloads, one behind the other, nothing between
//!     data size     where each payload ends, 8 bytes a record
//!     size - 24     number of records
//!     size - 16     data size
//!     size - 8      "ROXXEL01"
const Roxxel = @This();

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const quote = @import("../tar/quote.zig").quote;
const parts = @import("parts.zig");

/// For messages.
path: []const u8,
file_size: u64,
/// Of records; null until the footer is read.
count: ?u64 = null,
/// Where the table begins, which is where the payloads end.
data_size: u64 = 0,
/// The record that comes next, and where its payload begins.
number: u64 = 0,
payload_at: u64 = 0,
name: parts.Numbered = .{},

pub const magic = "ROXXEL01";
pub const footer_bytes = 24;
const entry_bytes = 8;

pub fn init(path: []const u8, file_size: u64) Roxxel {
    return .{ .path = path, .file_size = file_size };
}

pub fn want(roxxel: *const Roxxel, diag: *Diagnostics) parts.Error!?parts.Want {
    const count = roxxel.count orelse {
        if (roxxel.file_size < footer_bytes) return roxxel.bad(diag, 0, footer_bytes, "the file is cut short: wanted a footer of {d} bytes at its end, got {d} bytes", .{ footer_bytes, roxxel.file_size });
        return .{ .offset = roxxel.file_size - footer_bytes, .size = footer_bytes };
    };
    if (roxxel.number < count) return .{ .offset = roxxel.entryAt(), .size = entry_bytes };
    if (roxxel.payload_at != roxxel.data_size) return roxxel.bad(diag, roxxel.data_size, 0, "the last payload ends at {d}, and the payloads at {d}", .{ roxxel.payload_at, roxxel.data_size });
    return null;
}

pub fn feed(roxxel: *Roxxel, bytes: []const u8, diag: *Diagnostics) parts.Error!?parts.Member {
    if (roxxel.count == null) {
        try roxxel.feedFooter(bytes, diag);
        return null;
    }
    const begin = roxxel.payload_at;
    const end = parts.int(i64, bytes, 0);
    if (end < begin or end > roxxel.data_size) return roxxel.bad(diag, roxxel.entryAt(), entry_bytes, "record {d} ends at {d}, wanted a place from {d} to {d}", .{ roxxel.number, end, begin, roxxel.data_size });
    roxxel.payload_at = @intCast(end); // Not below `begin`.
    const member = roxxel.name.member(roxxel.number, begin, roxxel.payload_at - begin);
    roxxel.number += 1;
    return member;
}

fn feedFooter(roxxel: *Roxxel, bytes: []const u8, diag: *Diagnostics) parts.Error!void {
    const at = roxxel.file_size - footer_bytes;
    if (!std.mem.eql(u8, bytes[16..], magic)) return roxxel.bad(diag, at + 16, magic.len, "not a Roxxel archive, or one that is cut off: wanted '" ++ magic ++ "' at its end, got {f}", .{quote(bytes[16..])});
    const count = std.math.cast(u64, parts.int(i64, bytes, 0));
    const data_size = std.math.cast(u64, parts.int(i64, bytes, 8));
    const fits = if (count) |n| if (data_size) |size| size <= at and (at - size) % entry_bytes == 0 and (at - size) / entry_bytes == n else false else false;
    if (!fits) return roxxel.bad(diag, at, footer_bytes, "the footer tells of {d} records and {d} bytes of payload, which do not fit a file of {d} bytes", .{ parts.int(i64, bytes, 0), parts.int(i64, bytes, 8), roxxel.file_size });
    roxxel.count = count;
    roxxel.data_size = data_size.?; // It fits.
}

/// Of the record that comes next. It fits, so nothing here overflows.
fn entryAt(roxxel: *const Roxxel) u64 {
    return roxxel.data_size + entry_bytes * roxxel.number;
}

fn bad(roxxel: *const Roxxel, diag: *Diagnostics, offset: u64, size: u64, comptime fmt: []const u8, args: anytype) error{BadShard} {
    return parts.bad(diag, roxxel.path, offset, size, fmt, args);
}
