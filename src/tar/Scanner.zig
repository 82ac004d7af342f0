//! A tar from its first block to its last: slices in, members out, no I/O.
//!
//! The caller asks `want` for the next range of the file, hands those bytes to
//! `feed`, and gets a member now and then. Payloads are never wanted. Anything
//! that is not a whole, plain tar is an error that names file and offset: the
//! caller must not take a damaged shard for a shorter one.
const Scanner = @This();

const std = @import("std");
const assert = std.debug.assert;
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const limits = @import("../base/limits.zig");
const Header = @import("Header.zig");
const pax = @import("pax.zig");
const quote = @import("quote.zig").quote;

gpa: Allocator,
/// For messages.
path: []const u8,
file_size: u64,
/// Everything before is dealt with.
at: u64 = 0,
state: State = .header,
/// The extended header whose payload is wanted next.
extension: Extension = .{ .kind = 0, .size = 0 },
/// For the next member only, and for all that follow ("global").
local: Fields = .{},
global: Fields = .{},
/// Where the extended headers of the next member begin, if it has any.
extended_at: ?u64 = null,
/// The name of the member reported last; for messages too.
name: std.ArrayList(u8) = .empty,
members: u64 = 0,

pub const Error = error{ BadTar, OutOfMemory };
pub const Want = struct { offset: u64, size: usize };

/// `name` is valid until the next `feed`.
pub const Member = struct { name: []const u8, offset: u64, size: u64 };

const State = enum {
    header,
    extension,
    /// One block of zeros has passed; the end is two.
    lone_zero,
    /// After the end: only more zeros, or what no tar reader looks at.
    trailer,
    done,
};

const Extension = struct { kind: u8, size: usize };

/// Overrides with memory of their own, since they outlive the bytes.
const Fields = struct {
    name: std.ArrayList(u8) = .empty,
    has_name: bool = false,
    /// From pax; tarfile takes slashes off the end of those, and so do we.
    pax_name: bool = false,
    size: ?u64 = null,
    sparse: bool = false,

    fn clear(fields: *Fields) void {
        fields.name.items.len = 0;
        fields.* = .{ .name = fields.name };
    }

    fn setName(fields: *Fields, gpa: Allocator, name: []const u8) Allocator.Error!void {
        fields.name.clearRetainingCapacity();
        try fields.name.appendSlice(gpa, name);
        fields.has_name = true;
    }
};

pub fn init(gpa: Allocator, path: []const u8, file_size: u64) Scanner {
    return .{ .gpa = gpa, .path = path, .file_size = file_size };
}

pub fn deinit(scanner: *Scanner) void {
    scanner.name.deinit(scanner.gpa);
    scanner.local.name.deinit(scanner.gpa);
    scanner.global.name.deinit(scanner.gpa);
    scanner.* = undefined;
}

/// The range to `feed` next, never empty; null at the end of the tar.
pub fn want(scanner: *Scanner, diag: *Diagnostics) Error!?Want {
    if (scanner.state == .done) return null;
    if (scanner.file_size == 0) return scanner.bad(diag, 0, 0, "the file is empty", .{});
    assert(scanner.at <= scanner.file_size);
    const rest = scanner.file_size - scanner.at;
    if (scanner.state == .extension) return .{ .offset = scanner.at, .size = scanner.extension.size };
    if (rest == 0) {
        try scanner.expectNoExtension(diag);
        scanner.state = .done;
        return null;
    }
    return .{ .offset = scanner.at, .size = @min(rest, Header.block_bytes) };
}

/// Take the bytes that `want` asked for.
pub fn feed(scanner: *Scanner, bytes: []const u8, diag: *Diagnostics) Error!?Member {
    switch (scanner.state) {
        .extension => return scanner.feedExtension(bytes, diag),
        .header, .lone_zero, .trailer => return scanner.feedBlock(bytes, diag),
        .done => unreachable, // `want` asked for nothing.
    }
}

fn feedBlock(scanner: *Scanner, bytes: []const u8, diag: *Diagnostics) Error!?Member {
    if (Header.isZero(bytes)) {
        try scanner.expectNoExtension(diag);
        scanner.at += bytes.len;
        if (scanner.state != .trailer) scanner.state = if (scanner.state == .header) .lone_zero else .trailer;
        return null;
    }
    if (scanner.state == .trailer) return scanner.endTrailer(bytes, diag);
    if (scanner.state == .lone_zero) return scanner.bad(diag, scanner.at, bytes.len, "data after a single block of zeros{f}; the end of a tar is two, so this one is damaged", .{scanner.after()});
    if (scanner.at == 0) if (compression(bytes)) |name| return scanner.bad(diag, 0, bytes.len, "the file is compressed with {s}; decompress it first, since compressed bytes cannot be read at random", .{name});
    if (bytes.len < Header.block_bytes) return scanner.bad(diag, scanner.at, Header.block_bytes, "the file is cut short in a header{f}: wanted {d} bytes, got {d}", .{ scanner.after(), Header.block_bytes, bytes.len });
    const block = bytes[0..Header.block_bytes];
    const header = Header.parse(block) catch |err| return switch (err) {
        error.BadChecksum => if (scanner.at == 0)
            scanner.bad(diag, 0, bytes.len, "not a tar: the checksum of the first block does not match", .{})
        else
            scanner.bad(diag, scanner.at, bytes.len, "wanted a tar header{f}, got a block whose checksum does not match", .{scanner.after()}),
        error.BadSize, error.NegativeSize => scanner.bad(diag, scanner.at, bytes.len, "the size field of member {f} is {f}, wanted a number from 0 to 2^64-1", .{ quote(Header.untilNul(block[0..100])), quote(Header.rawSize(block)) }),
    };
    return scanner.feedHeader(header, diag);
}

/// Data after the end marker is ignored by every tar reader, and is left by
/// some writers. A header there is another archive, which would be lost.
fn endTrailer(scanner: *Scanner, bytes: []const u8, diag: *Diagnostics) Error!?Member {
    if (bytes.len == Header.block_bytes) {
        if (Header.parse(bytes[0..Header.block_bytes])) |_| {
            return scanner.bad(diag, scanner.at, bytes.len, "another tar begins after the end marker; index concatenated tars one by one, or join them with tar --concatenate", .{});
        } else |_| {}
    }
    scanner.state = .done;
    return null;
}

fn feedHeader(scanner: *Scanner, header: Header, diag: *Diagnostics) Error!?Member {
    const header_at = scanner.at;
    switch (header.kind) {
        'x', 'X', 'g', 'L', 'K' => {
            try scanner.beginExtension(header, diag);
            return null;
        },
        else => {},
    }
    try scanner.takeName(header);
    const fields = &scanner.local;
    const name = scanner.name.items;
    const size = fields.size orelse scanner.global.size orelse header.size;
    const content = contentOf(header.kind, name);
    if (header.kind == 'S' or ((fields.sparse or scanner.global.sparse) and content == .file)) return scanner.bad(diag, header_at, Header.block_bytes, "member {f} is sparse, so its bytes are not one range of the file; make the tar without --sparse", .{quote(name)});
    if (header.kind == 'M') return scanner.bad(diag, header_at, Header.block_bytes, "member {f} goes on from another volume; join the volumes first", .{quote(name)});
    const payload_at = header_at + Header.block_bytes;
    if (content != .none) try scanner.skipPayload(payload_at, size, diag) else scanner.at = payload_at;
    if (fields.pax_name) scanner.name.shrinkRetainingCapacity(std.mem.trimEnd(u8, name, "/").len);
    scanner.local.clear();
    scanner.extended_at = null;
    scanner.members += 1;
    if (content != .file) return null;
    return .{ .name = scanner.name.items, .offset = payload_at, .size = size };
}

/// What stands after a header of this kind, as Python's tarfile sees it: links,
/// directories and devices have no payload whatever their size field says.
fn contentOf(kind: u8, name: []const u8) enum { none, file, other } {
    return switch (kind) {
        0 => if (std.mem.endsWith(u8, name, "/")) .none else .file, // v7 has no kind for directories.
        '1'...'6' => .none,
        // Letters that writers use for what is no file: lists of access rights
        // and inodes (Solaris), contents of directories, long names, volume labels (GNU).
        'A', 'D', 'E', 'I', 'N', 'V' => .other,
        else => .file, // POSIX: an unknown kind is a file.
    };
}

/// The member's full name into `scanner.name`.
fn takeName(scanner: *Scanner, header: Header) Allocator.Error!void {
    scanner.name.items.len = 0; // Clearing would fill the memory in safe builds, for each member.
    for ([_]*Fields{ &scanner.local, &scanner.global }) |fields| {
        if (!fields.has_name) continue;
        scanner.local.pax_name = fields.pax_name;
        return scanner.name.appendSlice(scanner.gpa, fields.name.items);
    }
    if (header.prefix.len > 0) {
        try scanner.name.appendSlice(scanner.gpa, header.prefix);
        try scanner.name.append(scanner.gpa, '/');
    }
    try scanner.name.appendSlice(scanner.gpa, header.name);
}

fn skipPayload(scanner: *Scanner, payload_at: u64, size: u64, diag: *Diagnostics) Error!void {
    const rest = scanner.file_size - payload_at;
    if (size > rest) return scanner.bad(diag, payload_at, size, "the file is cut short in the payload of member {f}: wanted {d} bytes, got {d}", .{ quote(scanner.name.items), size, rest });
    const padded = Header.paddedSize(size) orelse rest + 1;
    if (padded > rest) return scanner.bad(diag, payload_at + size, padded - size, "the file is cut short in the padding after member {f}: wanted {d} bytes, got {d}", .{ quote(scanner.name.items), padded - size, rest - size });
    scanner.at = payload_at + padded;
}

fn beginExtension(scanner: *Scanner, header: Header, diag: *Diagnostics) Error!void {
    const header_at = scanner.at;
    const payload_at = header_at + Header.block_bytes;
    const rest = scanner.file_size - payload_at;
    const padded = Header.paddedSize(header.size) orelse std.math.maxInt(u64);
    if (padded > rest) return scanner.bad(diag, payload_at, header.size, "the file is cut short in an extended header (kind '{c}'){f}: wanted {d} bytes, got {d}", .{ header.kind, scanner.after(), header.size, rest });
    if (scanner.extended_at == null and header.kind != 'g') scanner.extended_at = header_at;
    if (header.kind == 'K' or header.size == 0) { // A link's target does not matter.
        scanner.at = payload_at + padded;
        return;
    }
    if (header.size > limits.tar_name_bytes_max) return scanner.bad(diag, payload_at, header.size, "an extended header (kind '{c}'){f} has {d} bytes, wanted at most {d}", .{ header.kind, scanner.after(), header.size, limits.tar_name_bytes_max });
    scanner.extension = .{ .kind = header.kind, .size = @intCast(header.size) }; // Bounded just above.
    scanner.at = payload_at;
    scanner.state = .extension;
}

fn feedExtension(scanner: *Scanner, bytes: []const u8, diag: *Diagnostics) Error!?Member {
    assert(bytes.len == scanner.extension.size);
    const fields = if (scanner.extension.kind == 'g') &scanner.global else &scanner.local;
    if (scanner.extension.kind == 'L') {
        const name = Header.untilNul(bytes);
        if (name.len > 0 and !fields.has_name) try fields.setName(scanner.gpa, name);
    } else {
        try scanner.feedPax(fields, bytes, diag);
    }
    scanner.at += Header.paddedSize(bytes.len) orelse unreachable; // At most `tar_name_bytes_max`.
    scanner.state = .header;
    return null;
}

fn feedPax(scanner: *Scanner, fields: *Fields, bytes: []const u8, diag: *Diagnostics) Error!void {
    var record_at: usize = 0;
    const overrides = pax.parse(bytes, &record_at) catch |err| return scanner.bad(diag, scanner.at + record_at, bytes.len - record_at, "an extended header{f} has {s}", .{ scanner.after(), switch (err) {
        error.BadRecord => "a malformed record, wanted 'SIZE KEYWORD=VALUE'",
        error.BadSize => "a size that is no number from 0 to 2^64-1",
    } });
    // Of several local headers the first counts, of several global ones the last.
    const is_global = fields == &scanner.global;
    if (overrides.path) |path| {
        if (is_global or !fields.has_name) {
            try fields.setName(scanner.gpa, path);
            fields.pax_name = true;
        }
    }
    if (overrides.size) |size| {
        if (is_global or fields.size == null) fields.size = size;
    }
    if (overrides.sparse) fields.sparse = true;
}

fn expectNoExtension(scanner: *Scanner, diag: *Diagnostics) Error!void {
    const at = scanner.extended_at orelse return;
    return scanner.bad(diag, at, Header.block_bytes, "an extended header{f} is not followed by its member", .{scanner.after()});
}

fn compression(bytes: []const u8) ?[]const u8 {
    const magics = [_]struct { []const u8, []const u8 }{
        .{ "\x1f\x8b", "gzip" },   .{ "\x28\xb5\x2f\xfd", "zstd" },
        .{ "\xfd7zXZ\x00", "xz" }, .{ "\x04\x22\x4d\x18", "lz4" },
        .{ "BZh", "bzip2" },       .{ "\x1f\x9d", "compress" },
        .{ "PK\x03\x04", "zip" },  .{ "7z\xbc\xaf\x27\x1c", "7z" },
    };
    // A member may be called "BZh..."; then this is an ordinary header.
    if (bytes.len == Header.block_bytes) {
        if (Header.parse(bytes[0..Header.block_bytes])) |_| return null else |_| {}
    }
    for (magics) |magic| {
        if (std.mem.startsWith(u8, bytes, magic[0])) return magic[1];
    }
    return null;
}

fn bad(scanner: *const Scanner, diag: *Diagnostics, offset: u64, size: u64, comptime fmt: []const u8, args: anytype) error{BadTar} {
    diag.set(.tar_format, "{s}: at offset {d}: " ++ fmt, .{ scanner.path, offset } ++ args);
    diag.setPath(scanner.path);
    diag.setRange(offset, size);
    return error.BadTar;
}

/// " after member 'a.jpg'", or nothing before the first.
fn after(scanner: *const Scanner) After {
    return .{ .scanner = scanner };
}

const After = struct {
    scanner: *const Scanner,

    pub fn format(place: After, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        if (place.scanner.members == 0) return;
        try writer.print(" after member {f}", .{quote(place.scanner.name.items)});
    }
};
