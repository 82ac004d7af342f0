//! Tests of the `Scanner` on tars made here, whole and damaged.

const std = @import("std");
const testing = std.testing;
const Diagnostics = @import("../base/Diagnostics.zig");
const Header = @import("Header.zig");
const Scanner = @import("Scanner.zig");

/// A tar in memory.
pub const Tar = struct {
    bytes: std.ArrayList(u8) = .empty,

    pub fn deinit(tar: *Tar) void {
        tar.bytes.deinit(testing.allocator);
    }

    pub fn block(tar: *Tar, bytes: [512]u8) !void {
        try tar.bytes.appendSlice(testing.allocator, &bytes);
    }

    pub fn payload(tar: *Tar, bytes: []const u8) !void {
        try tar.bytes.appendSlice(testing.allocator, bytes);
        const padding = Header.paddedSize(bytes.len).? - bytes.len;
        try tar.bytes.appendNTimes(testing.allocator, 0, @intCast(padding));
    }

    pub fn member(tar: *Tar, name: []const u8, kind: u8, bytes: []const u8) !void {
        try tar.block(Header.testBlock(name, kind, bytes.len));
        try tar.payload(bytes);
    }

    pub fn end(tar: *Tar) !void {
        try tar.bytes.appendNTimes(testing.allocator, 0, 1024);
    }
};

/// One line a member: "name offset size".
pub fn list(bytes: []const u8, diag: *Diagnostics) ![]u8 {
    var out: std.ArrayList(u8) = .empty;
    errdefer out.deinit(testing.allocator);
    var scanner: Scanner = .init(testing.allocator, "t.tar", bytes.len);
    defer scanner.deinit();
    while (try scanner.want(diag)) |range| {
        const slice = bytes[@intCast(range.offset)..][0..range.size];
        const member = try scanner.feed(slice, diag) orelse continue;
        try out.print(testing.allocator, "{s} {d} {d}\n", .{ member.name, member.offset, member.size });
    }
    return out.toOwnedSlice(testing.allocator);
}

fn expectList(tar: *const Tar, wanted: []const u8) !void {
    var diag: Diagnostics = .{};
    const got = list(tar.bytes.items, &diag) catch |err| {
        std.debug.print("{s}\n", .{diag.message()});
        return err;
    };
    defer testing.allocator.free(got);
    try testing.expectEqualStrings(wanted, got);
}

fn expectBad(tar: *const Tar, offset: u64, words: []const u8) !void {
    var diag: Diagnostics = .{};
    try testing.expectError(error.BadTar, list(tar.bytes.items, &diag));
    errdefer std.debug.print("{s}\n", .{diag.message()});
    try testing.expect(std.mem.indexOf(u8, diag.message(), words) != null);
    try testing.expectEqual(offset, diag.offset.?);
    try testing.expectEqual(.tar_format, diag.kind);
    try testing.expectEqualStrings("t.tar", diag.path());
}

test "members, and what is passed over" {
    var tar: Tar = .{};
    defer tar.deinit();
    try tar.member("d/", '5', "");
    try tar.member("old/", 0, "");
    try tar.member("d/a.jpg", '0', "abc");
    try tar.block(Header.testBlock("link", '1', 999)); // A size, but no payload.
    try tar.member("d/b.jpg", 0, "");
    try tar.member("c.bin", '7', "x" ** 512);
    try tar.member("label", 'V', "");
    try tar.member("odd", 'z', "12");
    try tar.end();
    try expectList(&tar, "d/a.jpg 1536 3\nd/b.jpg 3072 0\nc.bin 3584 512\nodd 5120 2\n");
}

test "long names, GNU and pax" {
    var tar: Tar = .{};
    defer tar.deinit();
    const long = "n/" ++ "x" ** 200 ++ ".jpg";
    try tar.member("././@LongLink", 'K', "some target\x00");
    try tar.member("././@LongLink", 'L', long ++ "\x00");
    try tar.member("cut", '0', "abc");
    try tar.member("pax", 'x', "12 path=a.b\n9 size=2\n");
    try tar.block(Header.testBlock("cut", '0', 0));
    try tar.payload("hi");
    try tar.member("plain", '0', "");
    try tar.end();
    try expectList(&tar, long ++ " 2560 3\na.b 4608 2\nplain 5632 0\n");
}

test "global pax headers hold for all that follow, local ones win" {
    var tar: Tar = .{};
    defer tar.deinit();
    try tar.member("g", 'g', "20 comment=whatever\n");
    try tar.member("a", '0', "1");
    try tar.member("g", 'g', "12 path=g.g\n");
    try tar.member("b", '0', "");
    try tar.member("x", 'x', "13 path=x/x/\n");
    try tar.member("c", '0', "");
    try tar.member("d", '0', "");
    try expectList(&tar, "a 1536 1\ng.g 3584 0\nx/x 5120 0\ng.g 5632 0\n");
}

test "ends: two zero blocks, one, none, a cut one, and rubbish behind" {
    var tar: Tar = .{};
    defer tar.deinit();
    try tar.member("a", '0', "1");
    try expectList(&tar, "a 512 1\n");
    for ([_]usize{ 100, 412, 512, 300, 8192 }) |size| {
        try tar.bytes.appendNTimes(testing.allocator, 0, size);
        try expectList(&tar, "a 512 1\n");
    }
    try tar.bytes.appendNTimes(testing.allocator, 0, 512 - tar.bytes.items.len % 512);
    try tar.bytes.appendNTimes(testing.allocator, 'r', 700);
    try expectList(&tar, "a 512 1\n");
}

test "a second tar behind the end is not lost" {
    var tar: Tar = .{};
    defer tar.deinit();
    try tar.member("a", '0', "1");
    try tar.end();
    try tar.payload("\x00" ** 4096);
    try tar.member("b", '0', "1");
    try expectBad(&tar, 1024 + 1024 + 4096, "another tar begins");
    tar.bytes.clearRetainingCapacity();
    try tar.member("a", '0', "1");
    try tar.payload("\x00" ** 512);
    try tar.member("b", '0', "1");
    try expectBad(&tar, 1536, "a single block of zeros after member 'a'");
}

test "damage is named" {
    var tar: Tar = .{};
    defer tar.deinit();
    try expectBad(&tar, 0, "is empty");
    try tar.bytes.appendSlice(testing.allocator, "\x1f\x8bsmall");
    try expectBad(&tar, 0, "compressed with gzip");
    tar.bytes.clearRetainingCapacity();
    try tar.payload("no tar at all");
    try expectBad(&tar, 0, "not a tar");
    tar.bytes.clearRetainingCapacity();
    try tar.member("a.jpg", '0', "x" ** 600);
    tar.bytes.items.len = 512 + 550;
    try expectBad(&tar, 512, "payload of member 'a.jpg': wanted 600 bytes, got 550");
    tar.bytes.items.len = 512 + 1000;
    try expectBad(&tar, 512 + 600, "padding after member 'a.jpg': wanted 424 bytes, got 400");
    tar.bytes.items.len = 512 + 1024;
    try tar.bytes.appendSlice(testing.allocator, "half a header");
    try expectBad(&tar, 1536, "in a header after member 'a.jpg': wanted 512 bytes, got 13");
    try tar.bytes.appendNTimes(testing.allocator, 'x', 4096);
    try expectBad(&tar, 1536, "wanted a tar header after member 'a.jpg'");
}

test "sizes beyond the file, the machine and zero" {
    var tar: Tar = .{};
    defer tar.deinit();
    for ([_][]const u8{ "\x80\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff", "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff" }) |size| {
        var block = Header.testBlock("a", '0', 0);
        @memcpy(block[124..136], size);
        Header.testSeal(&block);
        tar.bytes.clearRetainingCapacity();
        try tar.block(block);
        try expectBad(&tar, 512, "cut short in the payload of member 'a'");
    }
    var block = Header.testBlock("a", '0', 0);
    @memset(block[124..136], 0xff);
    Header.testSeal(&block);
    tar.bytes.clearRetainingCapacity();
    try tar.block(block);
    try expectBad(&tar, 0, "size field of member 'a'");
    for ([_]u8{ 'L', 'x', 'K' }) |kind| {
        tar.bytes.clearRetainingCapacity();
        try tar.block(Header.testBlock("a", kind, 1 << 32));
        try expectBad(&tar, 512, "cut short in an extended header");
    }
}

test "extended headers must be well-formed, bounded, and followed by a member" {
    var tar: Tar = .{};
    defer tar.deinit();
    try tar.member("x", 'x', "12 path=a.b\n99 path=c\n");
    try expectBad(&tar, 512 + 12, "malformed record");
    tar.bytes.clearRetainingCapacity();
    try tar.member("x", 'x', "12 path=a.b\n");
    try expectBad(&tar, 0, "not followed by its member");
    try tar.end();
    try expectBad(&tar, 0, "not followed by its member");
    tar.bytes.clearRetainingCapacity();
    try tar.block(Header.testBlock("x", 'L', 2 << 20));
    try tar.bytes.appendNTimes(testing.allocator, 'n', 2 << 20);
    try expectBad(&tar, 512, "wanted at most 1048576");
}

test "what is no plain range of the file is refused by name" {
    var tar: Tar = .{};
    defer tar.deinit();
    try tar.member("holes.bin", 'S', "");
    try expectBad(&tar, 0, "member 'holes.bin' is sparse");
    tar.bytes.clearRetainingCapacity();
    try tar.member("x", 'x', "22 GNU.sparse.major=1\n29 GNU.sparse.name=holes.bin\n");
    try tar.member("GNUSparseFile.1/holes.bin", '0', "");
    try expectBad(&tar, 1024, "member 'holes.bin' is sparse");
    tar.bytes.clearRetainingCapacity();
    try tar.member("half", 'M', "");
    try expectBad(&tar, 0, "another volume");
}

test "an archive without members" {
    var tar: Tar = .{};
    defer tar.deinit();
    try tar.end();
    try expectList(&tar, "");
}

test "a member may be named like a magic number" {
    var tar: Tar = .{};
    defer tar.deinit();
    try tar.member("BZhello", '0', "");
    try expectList(&tar, "BZhello 512 0\n");
}
