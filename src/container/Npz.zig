//! An NPZ archive of NumPy, which is a zip: its arrays are the members of one record.
//! Integers are little-endian. What stands as ff.. in a header is in its 64-bit form.
//!
//!     local header, in front of each member    central header, one for each, at the end
//!     0    4   "PK\3\4"                         0    4   "PK\1\2"
//!     26   2   length of the name               8    2   flags: bit 0 encrypted
//!     28   2   length of the extra fields       10   2   method: 0 stored, 8 deflated
//!     30       name, extra fields, payload      20   4   bytes of payload as it is stored
//!                                               24   4   bytes of payload, inflated
//!     end of the archive                        28   2   length of the name
//!     0    4   "PK\5\6"                         30   2   length of the extra fields
//!     10   2   number of members                32   2   length of the comment
//!     12   4   bytes of all central headers     42   4   where the local header is
//!     16   4   where they begin                 46       name, extra fields, comment
//!     20   2   length of the comment
//!     22       comment                          extra field 1: the 64-bit forms of
//!                                               24, 20 and 42, those that are ff..
//!     64-bit end, found by its locator          locator, just before the end
//!     0    4   "PK\6\6"                         0    4   "PK\6\7"
//!     32   8   number of members                8    8   where the 64-bit end is
//!     40   8   bytes of all central headers
//!     48   8   where they begin
const Npz = @This();

const std = @import("std");
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const limits = @import("../base/limits.zig");
const quote = @import("../tar/quote.zig").quote;
const sample = @import("../tar/sample.zig");
const parts = @import("parts.zig");

gpa: Allocator,
/// For messages, and for the name of the record.
path: []const u8,
file_size: u64,
state: State = .end_short,
/// Where the end of the archive is, and the central headers are.
end_at: u64 = 0,
end64_at: u64 = 0,
directory_at: u64 = 0,
directory_size: u64 = 0,
count: u64 = 0,
/// The central headers; names point into it.
directory: []u8 = &.{},
/// Members with a payload, as they lie in the file, and the one that comes next.
entries: std.ArrayList(Entry) = .empty,
number: usize = 0,
/// Where the one before ends.
payloads_end: u64 = 0,
key: std.ArrayList(u8) = .empty,

const State = enum { end_short, end_long, locator, end64, directory, members };

const Entry = struct {
    name: []const u8,
    header_at: u64,
    size: u64,
    is_deflated: bool,

    fn isBefore(_: void, a: Entry, b: Entry) bool {
        return a.header_at < b.header_at;
    }
};

pub const magic = "PK\x03\x04";
const end_bytes = 22;
const comment_bytes_max = std.math.maxInt(u16);
const locator_bytes = 20;
const end64_bytes = 56;
const central_bytes = 46;
const local_bytes = 30;
/// Goes behind the key of a payload that is deflated.
const deflated_suffix = ".deflate";

pub fn init(gpa: Allocator, path: []const u8, file_size: u64) Npz {
    return .{ .gpa = gpa, .path = path, .file_size = file_size };
}

pub fn deinit(npz: *Npz) void {
    npz.gpa.free(npz.directory);
    npz.entries.deinit(npz.gpa);
    npz.key.deinit(npz.gpa);
    npz.* = undefined;
}

pub fn want(npz: *const Npz, diag: *Diagnostics) parts.Error!?parts.Want {
    return switch (npz.state) {
        .end_short => {
            if (npz.file_size < end_bytes) return npz.bad(diag, 0, end_bytes, "the file is cut short: wanted {d} bytes at the end of an archive, got {d}", .{ end_bytes, npz.file_size });
            return .{ .offset = npz.file_size - end_bytes, .size = end_bytes };
        },
        .end_long => blk: {
            const size: usize = @intCast(@min(npz.file_size, end_bytes + comment_bytes_max));
            break :blk .{ .offset = npz.file_size - size, .size = size };
        },
        .locator => .{ .offset = npz.end_at - locator_bytes, .size = locator_bytes },
        .end64 => .{ .offset = npz.end64_at, .size = end64_bytes },
        .directory => .{ .offset = npz.directory_at, .size = @intCast(npz.directory_size) }, // Bounded.
        .members => if (npz.number < npz.entries.items.len) .{ .offset = npz.entries.items[npz.number].header_at, .size = local_bytes } else null,
    };
}

pub fn feed(npz: *Npz, bytes: []const u8, diag: *Diagnostics) parts.Error!?parts.Member {
    switch (npz.state) {
        .end_short, .end_long => try npz.feedEnd(bytes, diag),
        .locator => {
            npz.end64_at = parts.int(u64, bytes, 8);
            const last = npz.file_size -| end64_bytes;
            if (!std.mem.startsWith(u8, bytes, "PK\x06\x07") or npz.end64_at > last) return npz.bad(diag, npz.end_at - locator_bytes, locator_bytes, "wanted the locator of a 64-bit end of the archive, got {f}", .{quote(bytes)});
            npz.state = .end64;
        },
        .end64 => {
            if (!std.mem.startsWith(u8, bytes, "PK\x06\x06")) return npz.bad(diag, npz.end64_at, end64_bytes, "wanted the 64-bit end of the archive, got {f}", .{quote(bytes)});
            npz.count, npz.directory_size, npz.directory_at = .{ parts.int(u64, bytes, 32), parts.int(u64, bytes, 40), parts.int(u64, bytes, 48) };
            try npz.beginDirectory(npz.end64_at, diag);
        },
        .directory => {
            npz.directory = try npz.gpa.dupe(u8, bytes);
            try npz.readEntries(diag);
            npz.state = .members;
        },
        .members => return try npz.feedLocal(bytes, diag),
    }
    return null;
}

fn feedEnd(npz: *Npz, bytes: []const u8, diag: *Diagnostics) parts.Error!void {
    const base = npz.file_size - bytes.len;
    var at = bytes.len - end_bytes;
    while (!isEnd(bytes[at..])) : (at -= 1) {
        if (at > 0) continue;
        if (npz.state == .end_short and npz.file_size > end_bytes) {
            npz.state = .end_long;
            return;
        }
        return npz.bad(diag, base, bytes.len, "not a zip archive, or one that is cut off: there is no end of an archive", .{});
    }
    npz.end_at = base + at;
    npz.count = parts.int(u16, bytes, at + 10);
    npz.directory_size = parts.int(u32, bytes, at + 12);
    npz.directory_at = parts.int(u32, bytes, at + 16);
    const is_large = npz.count == 0xffff or npz.directory_size == 0xffff_ffff or npz.directory_at == 0xffff_ffff;
    if (is_large and npz.end_at >= locator_bytes) npz.state = .locator else try npz.beginDirectory(npz.end_at, diag);
}

fn isEnd(bytes: []const u8) bool {
    return std.mem.startsWith(u8, bytes, "PK\x05\x06") and parts.int(u16, bytes, 20) == bytes.len - end_bytes;
}

fn beginDirectory(npz: *Npz, end_at: u64, diag: *Diagnostics) parts.Error!void {
    const size, const at = .{ npz.directory_size, npz.directory_at };
    if (at > end_at or size > end_at - at or size > limits.container_metadata_bytes_max) return npz.bad(diag, end_at, 0, "the end of the archive tells of {d} bytes of headers at {d}, which do not fit", .{ size, at });
    if (npz.count > size / central_bytes) return npz.bad(diag, end_at, 0, "the end of the archive tells of {d} members, and their headers have {d} bytes", .{ npz.count, size });
    if (npz.count == 0 and size > 0) return npz.bad(diag, end_at, 0, "the end of the archive tells of no member, and of {d} bytes of headers", .{size});
    npz.state = if (npz.count == 0) .members else .directory;
}

fn readEntries(npz: *Npz, diag: *Diagnostics) parts.Error!void {
    var at: usize = 0;
    for (0..@intCast(npz.count)) |number| {
        const entry = try npz.readEntry(number, &at, diag);
        if (!std.mem.endsWith(u8, entry.name, "/")) try npz.entries.append(npz.gpa, entry);
    }
    if (at != npz.directory_size) return npz.bad(diag, npz.directory_at + at, 0, "the end of the archive tells of {d} members, whose headers end {d} bytes before they should", .{ npz.count, npz.directory_size - at });
    std.mem.sort(Entry, npz.entries.items, {}, Entry.isBefore);
}

fn readEntry(npz: *const Npz, number: usize, at: *usize, diag: *Diagnostics) parts.Error!Entry {
    const offset = npz.directory_at + at.*;
    const bytes = npz.directory[at.*..];
    if (bytes.len < central_bytes or !std.mem.startsWith(u8, bytes, "PK\x01\x02")) return npz.bad(diag, offset, central_bytes, "wanted the header of member {d}, got {f}", .{ number, quote(bytes[0..@min(bytes.len, 4)]) });
    const name_len: usize = parts.int(u16, bytes, 28);
    const extra_len: usize = parts.int(u16, bytes, 30);
    const size = central_bytes + name_len + extra_len + parts.int(u16, bytes, 32);
    if (size > bytes.len) return npz.bad(diag, offset, size, "the header of member {d} is cut short: wanted {d} bytes, got {d}", .{ number, size, bytes.len });
    at.* += size;
    const name = bytes[central_bytes..][0..name_len];
    const method = parts.int(u16, bytes, 10);
    if (parts.int(u16, bytes, 8) & 1 != 0) return npz.bad(diag, offset, size, "member {f} is encrypted", .{quote(name)});
    if (method != 0 and method != 8) return npz.bad(diag, offset, size, "member {f} is compressed by method {d}, wanted 0 (stored) or 8 (deflated)", .{ quote(name), method });
    var numbers = [_]u64{ parts.int(u32, bytes, 24), parts.int(u32, bytes, 20), parts.int(u32, bytes, 42) };
    widen(&numbers, bytes[central_bytes + name_len ..][0..extra_len]);
    const header_at = numbers[2];
    if (header_at > npz.directory_at or npz.directory_at - header_at < local_bytes) return npz.bad(diag, offset, size, "member {f} is said to be at {d}, and the members end at {d}", .{ quote(name), header_at, npz.directory_at });
    if (method == 0 and numbers[0] != numbers[1]) return npz.bad(diag, offset, size, "member {f} is stored as it is, with {d} bytes, and has {d}", .{ quote(name), numbers[1], numbers[0] });
    return .{ .name = name, .header_at = header_at, .size = numbers[1], .is_deflated = method == 8 };
}

/// Replace numbers that are ff.. by their 64-bit forms. What is missing stays, and
/// then fits no file of ours.
fn widen(numbers: *[3]u64, extra: []const u8) void {
    var rest = extra;
    while (rest.len >= 4) {
        const size = parts.int(u16, rest, 2);
        if (size > rest.len - 4) return;
        var values = rest[4..][0..size];
        if (parts.int(u16, rest, 0) == 1) {
            for (numbers) |*number| if (number.* == 0xffff_ffff and values.len >= 8) {
                number.* = parts.int(u64, values, 0);
                values = values[8..];
            };
        }
        rest = rest[4 + @as(usize, size) ..];
    }
}

fn feedLocal(npz: *Npz, bytes: []const u8, diag: *Diagnostics) parts.Error!parts.Member {
    const entry = npz.entries.items[npz.number];
    if (!std.mem.startsWith(u8, bytes, magic)) return npz.bad(diag, entry.header_at, local_bytes, "wanted the header of member {f}, got {f}", .{ quote(entry.name), quote(bytes[0..4]) });
    const offset = entry.header_at + local_bytes + parts.int(u16, bytes, 26) + parts.int(u16, bytes, 28);
    if (offset > npz.directory_at or entry.size > npz.directory_at - offset) return npz.bad(diag, offset, entry.size, "member {f} is cut short: wanted {d} bytes, and the members end at {d}", .{ quote(entry.name), entry.size, npz.directory_at });
    if (offset < npz.payloads_end) return npz.bad(diag, offset, entry.size, "member {f} overlaps the one before, which ends at {d}", .{ quote(entry.name), npz.payloads_end });
    npz.payloads_end = offset + entry.size;
    npz.number += 1;
    npz.key.clearRetainingCapacity();
    try npz.key.append(npz.gpa, '.');
    try npz.key.appendSlice(npz.gpa, entry.name);
    if (entry.is_deflated) try npz.key.appendSlice(npz.gpa, deflated_suffix);
    const stem = sample.split(std.fs.path.basename(npz.path)).stem;
    return .{ .name = entry.name, .parts = .{ .stem = stem, .key = npz.key.items }, .offset = offset, .size = entry.size };
}

fn bad(npz: *const Npz, diag: *Diagnostics, offset: u64, size: u64, comptime fmt: []const u8, args: anytype) error{BadShard} {
    return parts.bad(diag, npz.path, offset, size, fmt, args);
}
