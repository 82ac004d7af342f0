//! Which container a shard is, and its members: slices in, members out, no I/O.

const std = @import("std");
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const Header = @import("../tar/Header.zig");
const Scanner = @import("../tar/Scanner.zig");
const sample = @import("../tar/sample.zig");
const Npz = @import("Npz.zig");
const Roxxel = @import("Roxxel.zig");
const TfRecord = @import("TfRecord.zig");
const ZeroCopy = @import("ZeroCopy.zig");
const parts = @import("parts.zig");
pub const Member = parts.Member;
pub const Want = parts.Want;
pub const Error = Scanner.Error || parts.Error;

pub const Kind = enum { tar, roxxel, zero_copy, tfrecord, npz };

/// Null for a name that says nothing. A name that does is believed: the payloads of a
/// damaged shard may look like another container.
pub fn kindOfName(path: []const u8) ?Kind {
    const name = std.fs.path.basename(path);
    const suffixes = [_]struct { []const u8, Kind }{
        .{ ".tar", .tar }, .{ ".rox", .roxxel }, .{ ".tfrecord", .tfrecord }, .{ ".tfrecords", .tfrecord }, .{ ".npz", .npz },
    };
    for (suffixes) |suffix| if (std.mem.endsWith(u8, name, suffix[0])) return suffix[1];
    // train.tfrecord-00000-of-00128
    return if (std.mem.indexOf(u8, name, ".tfrecord-") != null) .tfrecord else null;
}

/// The first bytes that tell containers apart, if there are so many, and the last.
pub const head_bytes = Header.block_bytes;
pub const tail_bytes = Roxxel.magic.len;

pub fn kindOfContent(path: []const u8, head: []const u8, tail: []const u8) Kind {
    if (std.mem.eql(u8, tail, Roxxel.magic)) return .roxxel;
    if (head.len >= 4 and parts.int(u32, head, 0) == ZeroCopy.magic) return .zero_copy;
    if (std.mem.startsWith(u8, head, Npz.magic)) return .npz;
    if (head.len >= TfRecord.header_bytes and TfRecord.isHeader(head)) return .tfrecord;
    // Else a tar, or what is to be refused as what it should be. Anything may be named `.bin`.
    const is_tar = head.len == Header.block_bytes and if (Header.parse(head[0..Header.block_bytes])) |_| true else |_| false;
    return if (!is_tar and std.mem.endsWith(u8, path, ".bin")) .zero_copy else .tar;
}

pub const Container = union(Kind) {
    tar: Scanner,
    roxxel: Roxxel,
    zero_copy: ZeroCopy,
    tfrecord: TfRecord,
    npz: Npz,

    /// With `verify`, payloads that have checksums are read, and compared with them.
    pub fn init(kind: Kind, gpa: Allocator, path: []const u8, file_size: u64, verify: bool) Container {
        return switch (kind) {
            .tar => .{ .tar = .init(gpa, path, file_size) },
            .roxxel => .{ .roxxel = .init(path, file_size) },
            .zero_copy => .{ .zero_copy = .init(gpa, path, file_size) },
            .tfrecord => .{ .tfrecord = .init(path, file_size, verify) },
            .npz => .{ .npz = .init(gpa, path, file_size) },
        };
    }

    pub fn deinit(container: *Container) void {
        switch (container.*) {
            .roxxel, .tfrecord => {},
            inline .tar, .zero_copy, .npz => |*parser| parser.deinit(),
        }
        container.* = undefined;
    }

    /// The range to `feed` next; null at the end.
    pub fn want(container: *Container, diag: *Diagnostics) Error!?Want {
        switch (container.*) {
            .tar => |*scanner| {
                const range = try scanner.want(diag) orelse return null;
                return .{ .offset = range.offset, .size = range.size };
            },
            inline else => |*parser| return parser.want(diag),
        }
    }

    /// Take the bytes that `want` asked for.
    pub fn feed(container: *Container, bytes: []const u8, diag: *Diagnostics) Error!?Member {
        switch (container.*) {
            .tar => |*scanner| {
                const member = try scanner.feed(bytes, diag) orelse return null;
                return .{ .name = member.name, .parts = sample.split(member.name), .offset = member.offset, .size = member.size };
            },
            inline else => |*parser| return parser.feed(bytes, diag),
        }
    }

    /// Why there is nothing to index where no member came.
    pub fn emptyText(container: *const Container) []const u8 {
        return switch (container.*) {
            .tar => "the tar holds no regular file, so there is nothing to index",
            .roxxel, .zero_copy, .tfrecord => "the shard holds no record, so there is nothing to index",
            .npz => "the archive holds no array, so there is nothing to index",
        };
    }
};

test "names and contents" {
    try std.testing.expectEqual(.tar, kindOfName("a/b.tar"));
    try std.testing.expectEqual(.roxxel, kindOfName("b.rox"));
    try std.testing.expectEqual(.tfrecord, kindOfName("/x/t.tfrecord-00000-of-00010"));
    try std.testing.expectEqual(null, kindOfName("/x.tfrecord-1/shard"));
    try std.testing.expectEqual(null, kindOfName("a.bin"));
    try std.testing.expectEqual(.roxxel, kindOfContent("a", "", "ROXXEL01"));
    try std.testing.expectEqual(.zero_copy, kindOfContent("a", "DLCZ", "DLCZ"));
    try std.testing.expectEqual(.zero_copy, kindOfContent("a.bin", "", ""));
    try std.testing.expectEqual(.npz, kindOfContent("a.bin", "PK\x03\x04", ""));
    try std.testing.expectEqual(.tar, kindOfContent("a", "", ""));
}
