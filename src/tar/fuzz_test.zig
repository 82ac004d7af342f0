//! Damaged tars by seed: whatever the bytes, the scanner ends, stays within the
//! file, and either fails with a report or finds members that lie in the file.

const std = @import("std");
const testing = std.testing;
const Diagnostics = @import("../base/Diagnostics.zig");
const Header = @import("Header.zig");
const Scanner = @import("Scanner.zig");
const Tar = @import("scanner_test.zig").Tar;

const rounds = 4000;

fn wholeTar() !Tar {
    var tar: Tar = .{};
    errdefer tar.deinit();
    try tar.member("g", 'g', "20 comment=whatever\n");
    try tar.member("a.jpg", '0', "payload");
    try tar.member("././@LongLink", 'L', "n/" ++ "x" ** 600 ++ ".jpg\x00");
    try tar.member("cut", '0', "x" ** 1000);
    try tar.member("x", 'x', "12 path=a.b\n9 size=2\n");
    try tar.member("cut", '0', "hi");
    try tar.member("d/", '5', "");
    try tar.end();
    return tar;
}

/// Change some bytes; in headers that still carry a right checksum, mostly.
pub fn mutate(random: std.Random, bytes: []u8) []u8 {
    for (0..random.intRangeAtMost(usize, 1, 6)) |_| {
        const at = random.uintLessThan(usize, bytes.len);
        switch (random.uintLessThan(u8, 4)) {
            0 => bytes[at] = random.int(u8),
            1 => bytes[at] ^= @as(u8, 1) << random.int(u3),
            2 => @memset(bytes[at..@min(bytes.len, at + random.uintLessThan(usize, 16))], random.int(u8)),
            else => {
                const from = random.uintLessThan(usize, bytes.len);
                const size = @min(bytes.len - @max(at, from), random.uintLessThan(usize, 64));
                std.mem.copyForwards(u8, bytes[at..][0..size], bytes[from..][0..size]);
            },
        }
    }
    if (random.uintLessThan(u8, 4) == 0) return bytes[0..random.uintAtMost(usize, bytes.len)];
    return bytes;
}

fn scan(bytes: []const u8) !void {
    var diag: Diagnostics = .{};
    var scanner: Scanner = .init(testing.allocator, "t.tar", bytes.len);
    defer scanner.deinit();
    var last: u64 = 0;
    while (scanner.want(&diag) catch |err| return expectReport(err, &diag)) |range| {
        try testing.expect(range.size > 0 and range.offset >= last);
        try testing.expect(range.size <= bytes.len - range.offset);
        last = range.offset + 1;
        const slice = bytes[@intCast(range.offset)..][0..range.size];
        const found = scanner.feed(slice, &diag) catch |err| return expectReport(err, &diag);
        const member = found orelse continue;
        try testing.expect(member.offset % Header.block_bytes == 0);
        try testing.expect(member.size <= bytes.len - member.offset);
    }
}

fn expectReport(err: Scanner.Error, diag: *const Diagnostics) !void {
    try testing.expectEqual(error.BadTar, err);
    try testing.expect(diag.offset != null);
    try testing.expect(std.mem.startsWith(u8, diag.message(), "t.tar: at offset "));
}

test "fuzz: damaged tars" {
    var tar = try wholeTar();
    defer tar.deinit();
    const copy = try testing.allocator.alloc(u8, tar.bytes.items.len);
    defer testing.allocator.free(copy);
    for (0..rounds) |round| {
        const seed = testing.random_seed +% round;
        errdefer std.debug.print("seed {d}\n", .{seed});
        var prng: std.Random.DefaultPrng = .init(seed);
        @memcpy(copy, tar.bytes.items);
        const bytes = mutate(prng.random(), copy);
        // With the checksums put right the damage gets past the first check.
        if (prng.random().boolean()) {
            var at: usize = 0;
            while (at + 512 <= bytes.len) : (at += 512) {
                if (std.mem.eql(u8, bytes[at + 257 ..][0..5], "ustar")) Header.testSeal(bytes[at..][0..512]);
            }
        }
        try scan(bytes);
    }
}
