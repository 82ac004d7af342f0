//! Members to samples: the naming rule, and the grouping of neighbours.
//!
//! A member's name is split at the first dot of its last path component. What
//! is before is the *stem*, the rest, dot included, the *key*. Neighbours with
//! one stem are a sample. Names are bytes; nothing is folded or normalised.

const std = @import("std");
const Allocator = std.mem.Allocator;

pub const Parts = struct { stem: []const u8, key: []const u8 };

pub fn split(name: []const u8) Parts {
    const base = if (std.mem.lastIndexOfScalar(u8, name, '/')) |slash| slash + 1 else 0;
    const dot = std.mem.indexOfScalarPos(u8, name, base, '.') orelse name.len;
    return .{ .stem = name[0..dot], .key = name[dot..] };
}

/// Slices borrow from the `Builder` until it is cleared.
pub const Sample = struct {
    stem: []const u8,
    /// Where the payload of the first member starts.
    offset: u64,
    keys: []const []const u8,
    /// From `offset`.
    offsets: []const u64,
    sizes: []const u64,
};

/// Collects the members of one sample.
pub const Builder = struct {
    gpa: Allocator,
    /// Holds the keys, which stay in place while the lists below move.
    arena: std.heap.ArenaAllocator,
    arena_bytes: usize = 0,
    stem: std.ArrayList(u8) = .empty,
    offset: u64 = 0,
    /// Behind the `count` of this sample are keys of earlier ones: the next
    /// sample likely has the same, which then need no copy.
    keys: std.ArrayList([]const u8) = .empty,
    offsets: std.ArrayList(u64) = .empty,
    sizes: std.ArrayList(u64) = .empty,
    /// Used from `scan_max` keys on; before, looking at each is faster.
    seen: std.StringHashMapUnmanaged(void) = .empty,

    const scan_max = 16;
    const retained_bytes_max = 64 * 1024;

    pub fn init(gpa: Allocator) Builder {
        return .{ .gpa = gpa, .arena = .init(gpa) };
    }

    pub fn deinit(builder: *Builder) void {
        builder.stem.deinit(builder.gpa);
        builder.keys.deinit(builder.gpa);
        builder.offsets.deinit(builder.gpa);
        builder.sizes.deinit(builder.gpa);
        builder.seen.deinit(builder.gpa);
        builder.arena.deinit();
        builder.* = undefined;
    }

    pub fn count(builder: *const Builder) usize {
        return builder.sizes.items.len;
    }

    /// Whether a member with this stem goes on with the sample, or begins it.
    pub fn continues(builder: *const Builder, stem: []const u8) bool {
        return builder.count() == 0 or std.mem.eql(u8, builder.stem.items, stem);
    }

    /// Add a member that `continues` the sample; payload offsets grow. True when
    /// its key is there already: both are kept.
    pub fn add(builder: *Builder, parts: Parts, offset: u64, size: u64) Allocator.Error!bool {
        const gpa = builder.gpa;
        std.debug.assert(builder.continues(parts.stem));
        if (builder.count() == 0) {
            try builder.stem.appendSlice(gpa, parts.stem);
            builder.offset = offset;
        }
        std.debug.assert(offset >= builder.offset);
        const key = try builder.keep(parts.key);
        const repeated = try builder.note(key);
        try builder.offsets.append(gpa, offset - builder.offset);
        try builder.sizes.append(gpa, size);
        return repeated;
    }

    /// The key at place `count`.
    fn keep(builder: *Builder, key: []const u8) Allocator.Error![]const u8 {
        const keys = builder.keys.items;
        const place = builder.count();
        if (place < keys.len and std.mem.eql(u8, keys[place], key)) return keys[place];
        if (place == keys.len) try builder.keys.ensureUnusedCapacity(builder.gpa, 1);
        const copy = try builder.arena.allocator().dupe(u8, key);
        builder.arena_bytes += copy.len;
        if (place < keys.len) keys[place] = copy else builder.keys.appendAssumeCapacity(copy);
        return copy;
    }

    fn note(builder: *Builder, key: []const u8) Allocator.Error!bool {
        const keys = builder.keys.items[0..builder.count()];
        if (keys.len < scan_max) {
            for (keys) |known| {
                if (std.mem.eql(u8, known, key)) return true;
            }
            return false;
        }
        if (keys.len == scan_max) {
            for (keys) |known| try builder.seen.put(builder.gpa, known, {});
        }
        return (try builder.seen.getOrPut(builder.gpa, key)).found_existing;
    }

    pub fn sample(builder: *const Builder) Sample {
        return .{
            .stem = builder.stem.items,
            .offset = builder.offset,
            .keys = builder.keys.items[0..builder.count()],
            .offsets = builder.offsets.items,
            .sizes = builder.sizes.items,
        };
    }

    pub fn clear(builder: *Builder) void {
        // Clearing would fill the memory in safe builds, which shows in the speed.
        builder.stem.items.len = 0;
        builder.offsets.items.len = 0;
        builder.sizes.items.len = 0;
        if (builder.seen.count() > 0) builder.seen.clearRetainingCapacity();
        if (builder.arena_bytes > retained_bytes_max) {
            builder.keys.clearRetainingCapacity();
            _ = builder.arena.reset(.{ .retain_with_limit = retained_bytes_max });
            builder.arena_bytes = 0;
        }
    }
};

test "stem and key" {
    const cases = [_][3][]const u8{
        .{ "a.jpg", "a", ".jpg" },                 .{ "a.b.jpg", "a", ".b.jpg" },
        .{ "A.JPG", "A", ".JPG" },                 .{ "./a.jpg", "./a", ".jpg" },
        .{ "d.1/a.jpg", "d.1/a", ".jpg" },         .{ "x/d.1/a.jpg", "x/d.1/a", ".jpg" },
        .{ "d/a.seg.png", "d/a", ".seg.png" },     .{ "a", "a", "" },
        .{ "dir.v1/README", "dir.v1/README", "" }, .{ ".hidden", "", ".hidden" },
        .{ "d/.h.jpg", "d/", ".h.jpg" },           .{ "a.", "a", "." },
        .{ "a..jpg", "a", "..jpg" },               .{ "../a.jpg", "../a", ".jpg" },
        .{ "\xe9.jpg", "\xe9", ".jpg" },           .{ "", "", "" },
        .{ "d.1/", "d.1/", "" },
    };
    for (cases) |case| {
        const parts = split(case[0]);
        try std.testing.expectEqualStrings(case[1], parts.stem);
        try std.testing.expectEqualStrings(case[2], parts.key);
    }
}

test "a sample, and a key that comes twice" {
    var builder: Builder = .init(std.testing.allocator);
    defer builder.deinit();
    try std.testing.expect(!try builder.add(split("a.jpg"), 512, 10));
    try std.testing.expect(builder.continues("a"));
    try std.testing.expect(!builder.continues("b"));
    try std.testing.expect(try builder.add(split("a.jpg"), 1536, 11));
    const made = builder.sample();
    try std.testing.expectEqual(512, made.offset);
    try std.testing.expectEqualSlices(u64, &.{ 0, 1024 }, made.offsets);
    try std.testing.expectEqualSlices(u64, &.{ 10, 11 }, made.sizes);
    builder.clear();
    try std.testing.expect(builder.continues("b"));
}

test "samples with other keys, fewer and more of them" {
    var builder: Builder = .init(std.testing.allocator);
    defer builder.deinit();
    const long = "." ++ "k" ** 5000;
    const samples = [_][]const []const u8{ &.{ ".a", ".b" }, &.{".b"}, &.{ ".b", ".b" }, &.{ ".a", ".b", ".c" }, &.{long}, &.{ "", long }, &.{ ".a", ".b" } };
    for (0..200) |i| {
        const keys = samples[i % samples.len];
        for (keys) |key| _ = try builder.add(.{ .stem = "s", .key = key }, 512, 1);
        const made = builder.sample();
        try std.testing.expectEqual(keys.len, made.keys.len);
        for (keys, made.keys) |wanted, got| try std.testing.expectEqualStrings(wanted, got);
        builder.clear();
        try std.testing.expect(builder.arena_bytes <= Builder.retained_bytes_max);
    }
}

test "a repeated key is seen in a large sample too" {
    var builder: Builder = .init(std.testing.allocator);
    defer builder.deinit();
    for (0..100) |i| {
        var buffer: [16]u8 = undefined;
        const name = try std.fmt.bufPrint(&buffer, "a.{d}", .{i});
        try std.testing.expect(!try builder.add(split(name), i * 512, 0));
    }
    try std.testing.expect(try builder.add(split("a.3"), 1 << 20, 0));
    try std.testing.expect(try builder.add(split("a.77"), 1 << 20, 0));
    try std.testing.expect(!try builder.add(split("a.100"), 1 << 20, 0));
}
