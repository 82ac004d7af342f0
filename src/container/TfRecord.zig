//! A TFRecord file. Integers are little-endian; a checksum is the CRC-32C of what
//! stands before it, rotated right by 15 bits, plus 0xa282ead8.
//!
//!     0     8   length of the payload
//!     8     4   checksum of the length
//!     12    n   payload
//!     12+n  4   checksum of the payload
const TfRecord = @This();

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const crc32c = @import("../base/crc32c.zig");
const parts = @import("parts.zig");

/// For messages.
path: []const u8,
file_size: u64,
/// Whether payloads are read, and compared with their checksums.
verify: bool,
/// Where the record at hand begins.
at: u64 = 0,
number: u64 = 0,
/// Of its payload, with `verify`: null while its header is to be read.
payload: ?Payload = null,
name: parts.Numbered = .{},

const Payload = struct { size: u64, done: u64 = 0, crc: crc32c.Crc = .{} };

pub const header_bytes = 12;
const trailer_bytes = 4;
/// One step of checking a payload.
const piece_bytes = 64 * 1024;

pub fn init(path: []const u8, file_size: u64, verify: bool) TfRecord {
    return .{ .path = path, .file_size = file_size, .verify = verify };
}

pub fn want(record: *const TfRecord, diag: *Diagnostics) parts.Error!?parts.Want {
    if (record.payload) |payload| {
        const offset = record.payloadAt() + payload.done;
        const rest = payload.size - payload.done;
        return .{ .offset = offset, .size = if (rest == 0) trailer_bytes else @intCast(@min(rest, piece_bytes)) };
    }
    const rest = record.file_size - record.at;
    if (rest == 0) return null;
    if (rest < header_bytes) return record.bad(diag, record.at, header_bytes, "the file is cut short in the header of record {d}: wanted {d} bytes, got {d}", .{ record.number, header_bytes, rest });
    return .{ .offset = record.at, .size = header_bytes };
}

pub fn feed(record: *TfRecord, bytes: []const u8, diag: *Diagnostics) parts.Error!?parts.Member {
    if (record.payload == null) {
        const size = try record.readHeader(bytes, diag);
        if (!record.verify) return record.finish(size);
        record.payload = .{ .size = size };
        return null;
    }
    const payload = &record.payload.?;
    if (payload.done < payload.size) {
        payload.crc.add(bytes);
        payload.done += bytes.len;
        return null;
    }
    const stored, const computed = .{ parts.int(u32, bytes, 0), payload.crc.masked() };
    if (stored != computed) return record.bad(diag, record.payloadAt(), payload.size, "the payload of record {d} is damaged: its checksum is 0x{x:0>8}, wanted 0x{x:0>8}", .{ record.number, computed, stored });
    const size = payload.size;
    record.payload = null;
    return record.finish(size);
}

/// The size of the payload, which lies within the file.
fn readHeader(record: *const TfRecord, bytes: []const u8, diag: *Diagnostics) parts.Error!u64 {
    if (!isHeader(bytes)) {
        if (record.at == 0 and std.mem.startsWith(u8, bytes, "\x1f\x8b")) return record.bad(diag, 0, header_bytes, "the file is compressed with gzip; decompress it first, since compressed bytes cannot be read at random", .{});
        const not = if (record.at == 0) "not a TFRecord file: " else "";
        return record.bad(diag, record.at, header_bytes, "{s}the length of record {d} and its checksum do not match", .{ not, record.number });
    }
    const size = parts.int(u64, bytes, 0);
    const rest = record.file_size - record.payloadAt();
    if (rest < trailer_bytes or size > rest - trailer_bytes) return record.bad(diag, record.payloadAt(), size, "the file is cut short in record {d}: wanted {d} bytes and a checksum, got {d} bytes", .{ record.number, size, rest });
    return size;
}

fn finish(record: *TfRecord, size: u64) parts.Member {
    const member = record.name.member(record.number, record.payloadAt(), size);
    record.at = member.offset + size + trailer_bytes;
    record.number += 1;
    return member;
}

fn payloadAt(record: *const TfRecord) u64 {
    return record.at + header_bytes;
}

/// Whether these bytes, 12 at least, begin a record. By chance once in four billion times.
pub fn isHeader(bytes: []const u8) bool {
    var crc: crc32c.Crc = .{};
    crc.add(bytes[0..8]);
    return crc.masked() == parts.int(u32, bytes, 8);
}

fn bad(record: *const TfRecord, diag: *Diagnostics, offset: u64, size: u64, comptime fmt: []const u8, args: anytype) error{BadShard} {
    return parts.bad(diag, record.path, offset, size, fmt, args);
}
