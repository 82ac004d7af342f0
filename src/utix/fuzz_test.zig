//! Damaged indexes by seed, in both forms: they are refused with a report, or
//! read as records that hold what the format promises.

const std = @import("std");
const testing = std.testing;
const Diagnostics = @import("../base/Diagnostics.zig");
const mutate = @import("../tar/fuzz_test.zig").mutate;
const Reader = @import("../msgpack/Reader.zig");
const Index = @import("Index.zig");
const TestFile = @import("index_test.zig").TestFile;
const format = @import("format.zig");
const json = @import("json.zig");
const writer = @import("writer.zig");

const rounds = 1500;

fn check(path: [:0]const u8) !void {
    var diag: Diagnostics = .{};
    const index = Index.open(testing.allocator, path, &diag) catch |err| {
        try testing.expectEqual(error.BadIndex, err);
        try testing.expect(std.mem.startsWith(u8, diag.message(), path));
        return;
    };
    defer index.close();
    try testing.expect(index.count > 0);
    for (0..index.count) |i| {
        const record = index.record(i);
        try testing.expectEqual(record.keys.len, record.offsets.len);
        try testing.expectEqual(record.keys.len, record.sizes.len);
        for (record.keys) |id| try testing.expect(index.hasKey(id));
        for (record.offsets, record.sizes) |offset, size| _ = try std.math.add(u64, try std.math.add(u64, record.offset, offset), size);
        var reader: Reader = .{ .bytes = record.metadata };
        if (record.metadata.len > 0) try testing.expectEqual(record.metadata.len, (try reader.skip()).len);
    }
}

test "fuzz: damaged indexes" {
    const gpa = testing.allocator;
    inline for (.{ format.Format.msgpack, format.Format.jsonl }) |form| {
        var content: std.ArrayList(u8) = .empty;
        defer content.deinit(gpa);
        for (0..20) |i| {
            var record = writer.golden.record;
            record.iidx = i;
            if (i % 5 == 0) record.keys = &.{ "", ".x" };
            try writer.append(gpa, &content, form, record);
        }
        const copy = try gpa.alloc(u8, content.items.len);
        defer gpa.free(copy);
        var file: TestFile = try .init("");
        defer file.deinit();
        for (0..rounds) |round| {
            const seed = testing.random_seed +% round;
            errdefer std.debug.print("seed {d}, {t}\n", .{ seed, form });
            var prng: std.Random.DefaultPrng = .init(seed);
            @memcpy(copy, content.items);
            try file.write(mutate(prng.random(), copy));
            try check(file.path());
        }
    }
}

test "fuzz: JSON from random pieces comes back as it was" {
    const gpa = testing.allocator;
    const pieces = [_][]const u8{ "{", "}", "[", "]", ",", ":", "\"a\"", "\"\\udc80\"", "1", "-0.5", "1e9", "true", "null", " ", "\"", "\\" };
    var text: std.ArrayList(u8) = .empty;
    defer text.deinit(gpa);
    var lists: [3]std.ArrayList(u8) = @splat(.empty);
    defer for (&lists) |*list| list.deinit(gpa);
    for (0..20_000) |round| {
        const seed = testing.random_seed +% round;
        errdefer std.debug.print("seed {d}\n", .{seed});
        var prng: std.Random.DefaultPrng = .init(seed);
        text.clearRetainingCapacity();
        for (&lists) |*list| list.clearRetainingCapacity();
        for (0..prng.random().uintLessThan(usize, 8)) |_| try text.appendSlice(gpa, pieces[prng.random().uintLessThan(usize, pieces.len)]);
        var parser: json.Parser = .{ .text = text.items, .writer = .{ .gpa = gpa, .out = &lists[0] } };
        parser.parse() catch continue;
        var reader: Reader = .{ .bytes = lists[0].items };
        try json.print(gpa, &lists[1], &reader);
        try testing.expectEqual(lists[0].items.len, reader.at);
        parser = .{ .text = lists[1].items, .writer = .{ .gpa = gpa, .out = &lists[2] } };
        try parser.parse();
        try testing.expectEqualSlices(u8, lists[0].items, lists[2].items);
    }
}
