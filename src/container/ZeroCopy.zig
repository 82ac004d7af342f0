//! A zero-copy shard, version 1. Integers are little-endian.
//!
//!     0    4   0x5a434c44
//!     4    2   version, 1
//!     6    8   m, where the metadata is
//!     14   8   d, where the data begins
//!     m    8   length of the JSON
//!     m+8      {"num_samples": n, "samples": [{"offset": from d, "size": bytes}, ...]}
const ZeroCopy = @This();

const std = @import("std");
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const limits = @import("../base/limits.zig");
const Reader = @import("../msgpack/Reader.zig");
const json = @import("../utix/json.zig");
const parts = @import("parts.zig");

gpa: Allocator,
/// For messages.
path: []const u8,
file_size: u64,
state: enum { header, length, metadata, samples } = .header,
metadata_at: u64 = 0,
metadata_size: usize = 0,
data_at: u64 = 0,
/// The metadata as msgpack; `samples` is at the sample that comes next.
document: std.ArrayList(u8) = .empty,
samples: Reader = .{ .bytes = "" },
count: u64 = 0,
number: u64 = 0,
name: parts.Numbered = .{},

pub const magic = 0x5a434c44;
pub const header_bytes = 22;
const length_bytes = 8;
const version = 1;

pub fn init(gpa: Allocator, path: []const u8, file_size: u64) ZeroCopy {
    return .{ .gpa = gpa, .path = path, .file_size = file_size };
}

pub fn deinit(shard: *ZeroCopy) void {
    shard.document.deinit(shard.gpa);
    shard.* = undefined;
}

pub fn want(shard: *const ZeroCopy, diag: *Diagnostics) parts.Error!?parts.Want {
    switch (shard.state) {
        .header => {
            if (shard.file_size < header_bytes) return shard.bad(diag, 0, header_bytes, "the file is cut short: wanted a header of {d} bytes, got {d} bytes", .{ header_bytes, shard.file_size });
            return .{ .offset = 0, .size = header_bytes };
        },
        .length => return .{ .offset = shard.metadata_at, .size = length_bytes },
        .metadata => return .{ .offset = shard.metadata_at + length_bytes, .size = shard.metadata_size },
        .samples => return if (shard.number < shard.count) .{ .offset = shard.metadata_at, .size = 0 } else null,
    }
}

pub fn feed(shard: *ZeroCopy, bytes: []const u8, diag: *Diagnostics) parts.Error!?parts.Member {
    switch (shard.state) {
        .header => try shard.feedHeader(bytes, diag),
        .length => try shard.feedLength(bytes, diag),
        .metadata => try shard.feedMetadata(bytes, diag),
        .samples => return try shard.nextSample(diag),
    }
    return null;
}

fn feedHeader(shard: *ZeroCopy, bytes: []const u8, diag: *Diagnostics) parts.Error!void {
    const found_magic, const found_version = .{ parts.int(u32, bytes, 0), parts.int(u16, bytes, 4) };
    if (found_magic != magic) return shard.bad(diag, 0, 4, "not a zero-copy shard: wanted 0x{x}, got 0x{x:0>8}", .{ magic, found_magic });
    if (found_version != version) return shard.bad(diag, 4, 2, "a zero-copy shard of version {d}, wanted {d}", .{ found_version, version });
    shard.metadata_at = parts.int(u64, bytes, 6);
    shard.data_at = parts.int(u64, bytes, 14);
    const last_at = shard.file_size - length_bytes; // The header is longer.
    if (shard.metadata_at < header_bytes or shard.metadata_at > last_at) return shard.bad(diag, 6, 8, "the metadata is at {d}, wanted a place from {d} to {d}", .{ shard.metadata_at, header_bytes, last_at });
    if (shard.data_at < header_bytes or shard.data_at > shard.file_size) return shard.bad(diag, 14, 8, "the data is at {d}, wanted a place from {d} to {d}", .{ shard.data_at, header_bytes, shard.file_size });
    shard.state = .length;
}

fn feedLength(shard: *ZeroCopy, bytes: []const u8, diag: *Diagnostics) parts.Error!void {
    const size = parts.int(u64, bytes, 0);
    const rest = shard.file_size - shard.metadata_at - length_bytes;
    if (size > rest) return shard.bad(diag, shard.metadata_at, length_bytes, "the metadata is cut short: wanted {d} bytes, got {d}", .{ size, rest });
    if (size == 0 or size > limits.container_metadata_bytes_max) return shard.bad(diag, shard.metadata_at, length_bytes, "the metadata has {d} bytes, wanted 1 to {d}", .{ size, limits.container_metadata_bytes_max });
    shard.metadata_size = @intCast(size); // Bounded just above.
    shard.state = .metadata;
}

fn feedMetadata(shard: *ZeroCopy, bytes: []const u8, diag: *Diagnostics) parts.Error!void {
    const at = shard.metadata_at + length_bytes;
    var parser: json.Parser = .{ .text = bytes, .writer = .{ .gpa = shard.gpa, .out = &shard.document } };
    parser.parse() catch |err| switch (err) {
        error.OutOfMemory => return error.OutOfMemory,
        error.Malformed => {
            var buffer: [16]u8 = undefined;
            return shard.bad(diag, at + parser.at, bytes.len - parser.at, "the metadata is malformed JSON: wanted {s}, got {s}", .{ parser.wanted, parser.got(&buffer) });
        },
    };
    const document: Reader = .{ .bytes = shard.document.items };
    const count = uint(document, "num_samples") orelse return shard.badMetadata(diag, "no number 'num_samples'", .{});
    const samples = field(document, "samples") orelse return shard.badMetadata(diag, "no list 'samples'", .{});
    shard.samples = .{ .bytes = samples };
    shard.count = shard.samples.array() catch return shard.badMetadata(diag, "'samples' that is no list", .{});
    if (count != shard.count) return shard.badMetadata(diag, "{d} for 'num_samples', and {d} samples", .{ count, shard.count });
    shard.state = .samples;
}

fn nextSample(shard: *ZeroCopy, diag: *Diagnostics) parts.Error!parts.Member {
    const sample: Reader = .{ .bytes = shard.samples.skip() catch unreachable }; // The document is ours, and `number` is below `count`.
    const offset = uint(sample, "offset") orelse return shard.badMetadata(diag, "no number 'offset' in sample {d}", .{shard.number});
    const size = uint(sample, "size") orelse return shard.badMetadata(diag, "no number 'size' in sample {d}", .{shard.number});
    const rest = shard.file_size - shard.data_at;
    if (offset > rest or size > rest - offset) return shard.badMetadata(diag, "sample {d} with {d} bytes at {d} from {d}, and the file ends at {d}", .{ shard.number, size, offset, shard.data_at, shard.file_size });
    const member = shard.name.member(shard.number, shard.data_at + offset, size);
    shard.number += 1;
    return member;
}

/// Null where there is none, or the value is no map.
fn field(value: Reader, name: []const u8) ?[]const u8 {
    var reader = value;
    return reader.member(name) catch null;
}

fn uint(value: Reader, name: []const u8) ?u64 {
    var reader: Reader = .{ .bytes = field(value, name) orelse return null };
    return reader.uint() catch null;
}

fn badMetadata(shard: *const ZeroCopy, diag: *Diagnostics, comptime fmt: []const u8, args: anytype) error{BadShard} {
    return shard.bad(diag, shard.metadata_at + length_bytes, shard.metadata_size, "the metadata has " ++ fmt, args);
}

fn bad(shard: *const ZeroCopy, diag: *Diagnostics, offset: u64, size: u64, comptime fmt: []const u8, args: anytype) error{BadShard} {
    return parts.bad(diag, shard.path, offset, size, fmt, args);
}
