//! Tests of the `Indexer` on files made here: the whole way, and what it leaves
//! when memory or time runs out.

const std = @import("std");
const testing = std.testing;
const Diagnostics = @import("../base/Diagnostics.zig");
const Tar = @import("../tar/scanner_test.zig").Tar;
const makers = @import("../container/parsers_test.zig").makers;
const Index = @import("../utix/Index.zig");
const TestFile = @import("../utix/index_test.zig").TestFile;
const Indexer = @import("Indexer.zig");

const rules = [_]Indexer.Rule{.{ .key = ".json", .queries = &.{ ".w", ".q" } }};

fn makeShard() !TestFile {
    var tar: Tar = .{};
    defer tar.deinit();
    try tar.member("d/", '5', "");
    try tar.member("d/a.jpg", '0', "x" ** 700);
    try tar.member("d/a.json", '0', "{\"w\": 640}");
    try tar.member("d/b.jpg", '0', "");
    try tar.member("d/b.jpg", '0', "1");
    try tar.end();
    return .init(tar.bytes.items);
}

fn indexOnce(gpa: std.mem.Allocator, path: [:0]const u8, options: Indexer.Options) !void {
    var diag: Diagnostics = .{};
    var summary: Indexer.Summary = .init(gpa);
    defer summary.deinit();
    try Indexer.indexShard(gpa, path, options, &diag, &summary);
    try testing.expectEqual(2, summary.samples);
    try testing.expectEqual(4, summary.entries);
    try testing.expectEqual(711, summary.bytes);
    try testing.expectEqual(1, summary.warnings.items.len);
}

fn openIndex(gpa: std.mem.Allocator, path: []const u8) !*Index {
    const index_path = try std.mem.concatWithSentinel(gpa, u8, &.{ path, ".utix" }, 0);
    defer gpa.free(index_path);
    var diag: Diagnostics = .{};
    return Index.open(gpa, index_path, &diag);
}

/// The shard and perhaps its index, but nothing else.
fn fileCount(file: *const TestFile) !usize {
    const dir_path = std.fs.path.dirname(file.path()).?;
    var buffer: [512]u8 = undefined;
    const dir = std.c.opendir(try std.fmt.bufPrintZ(&buffer, "{s}", .{dir_path})) orelse return error.CannotOpen;
    defer _ = std.c.closedir(dir);
    var count: usize = 0;
    while (std.c.readdir(dir)) |_| count += 1;
    return count - 2; // "." and ".."
}

test "from a tar to an index, and the check of it" {
    const gpa = testing.allocator;
    var file = try makeShard();
    defer file.deinit();
    for ([_]@FieldType(Indexer.Options, "format"){ .msgpack, .jsonl }) |form| {
        try indexOnce(gpa, file.path(), .{ .format = form, .rules = &rules });
        try indexOnce(gpa, file.path(), .{ .check = true, .rules = &rules });
        const index = try openIndex(gpa, file.path());
        defer index.close();
        try testing.expectEqual(2, index.count);
        const first = index.record(0);
        try testing.expectEqualStrings("d/a", first.stem);
        try testing.expectEqual(1024, first.offset);
        try testing.expectEqualSlices(u64, &.{ 0, 1536 }, first.offsets);
        try testing.expectEqualSlices(u64, &.{ 700, 10 }, first.sizes);
        try testing.expectEqualStrings("\x82\xa2.w\xcd\x02\x80\xa2.q\xc0", first.metadata);
        const second = index.record(1);
        try testing.expectEqualStrings("\x82\xa2.w\xc0\xa2.q\xc0", second.metadata);
        try testing.expectEqual(second.keys[0], second.keys[1]);
    }
    try testing.expectEqual(2, fileCount(&file));
}

test "when memory runs out there is no leak, and no file is left" {
    var file = try makeShard();
    defer file.deinit();
    try indexOnce(testing.allocator, file.path(), .{ .rules = &rules });
    const options: Indexer.Options = .{ .rules = &rules };
    try testing.checkAllAllocationFailures(testing.allocator, indexOnce, .{ file.path(), options });
    const check: Indexer.Options = .{ .rules = &rules, .check = true };
    try testing.checkAllAllocationFailures(testing.allocator, indexOnce, .{ file.path(), check });
    try testing.expectEqual(2, fileCount(&file));
}

test "indexing stops when it is told to" {
    var file = try makeShard();
    defer file.deinit();
    const stop: std.atomic.Value(bool) = .init(true);
    try testing.expectError(error.Stopped, indexOnce(testing.allocator, file.path(), .{ .stop = &stop }));
    try testing.expectEqual(1, fileCount(&file));
}

fn indexContainer(gpa: std.mem.Allocator, path: [:0]const u8, check: bool) !void {
    var diag: Diagnostics = .{};
    var summary: Indexer.Summary = .init(gpa);
    defer summary.deinit();
    try Indexer.indexShard(gpa, path, .{ .verify = true, .check = check }, &diag, &summary);
    try testing.expectEqual(3, summary.entries);
    try testing.expectEqual(17, summary.bytes);
}

test "other containers, known by their bytes, and without leaks" {
    for (makers) |maker| {
        var bytes = try maker[1]();
        defer bytes.deinit();
        var file: TestFile = try .init(bytes.list.items);
        defer file.deinit();
        for ([_]bool{ false, true }) |check| {
            try indexContainer(testing.allocator, file.path(), check);
            try testing.checkAllAllocationFailures(testing.allocator, indexContainer, .{ file.path(), check });
        }
        const index = try openIndex(testing.allocator, file.path());
        defer index.close();
        try testing.expectEqual(@as(usize, if (maker[0] == .npz) 1 else 3), index.count);
        try testing.expectEqual(2, fileCount(&file));
    }
}
