//! Tests of `Index` on files: whole, in both forms, and damaged in every way
//! that comes to mind.

const std = @import("std");
const testing = std.testing;
const Diagnostics = @import("../base/Diagnostics.zig");
const os = @import("../base/os.zig");
const limits = @import("../base/limits.zig");
const Index = @import("Index.zig");
const writer = @import("writer.zig");

/// A file in a fresh temporary directory.
pub const TestFile = struct {
    dir: testing.TmpDir,
    path_buffer: [512]u8 = undefined,
    path_len: usize = 0,

    pub fn init(content: []const u8) !TestFile {
        var file: TestFile = .{ .dir = testing.tmpDir(.{}) };
        const made = try std.fmt.bufPrintZ(&file.path_buffer, ".zig-cache/tmp/{s}/file", .{file.dir.sub_path});
        file.path_len = made.len;
        try file.write(content);
        return file;
    }

    pub fn write(file: *const TestFile, content: []const u8) !void {
        const flags: std.c.O = .{ .ACCMODE = .WRONLY, .CREAT = true, .TRUNC = true };
        const fd = switch (os.open(file.path(), flags, 0o600)) {
            .ok => |fd| fd,
            .err => return error.CannotCreate,
        };
        defer os.close(fd);
        if (os.writeAll(fd, content) == .err) return error.CannotWrite;
    }

    pub fn deinit(file: *TestFile) void {
        file.dir.cleanup();
    }

    pub fn path(file: *const TestFile) [:0]const u8 {
        return file.path_buffer[0..file.path_len :0];
    }
};

fn expectBad(content: []const u8, words: []const u8) !void {
    var file: TestFile = try .init(content);
    defer file.deinit();
    var diag: Diagnostics = .{};
    try testing.expectError(error.BadIndex, Index.open(testing.allocator, file.path(), &diag));
    errdefer std.debug.print("{s}\n", .{diag.message()});
    try testing.expect(std.mem.indexOf(u8, diag.message(), words) != null);
    try testing.expect(std.mem.startsWith(u8, diag.message(), file.path()));
    try testing.expectEqual(.index_format, diag.kind);
}

test "both forms give the same records" {
    for ([_][]const u8{ writer.golden.msgpack ** 3, writer.golden.jsonl ** 3, "\n " ++ writer.golden.jsonl ++ "\r\n\n" ++ writer.golden.jsonl ** 2 }) |content| {
        var file: TestFile = try .init(content);
        defer file.deinit();
        var diag: Diagnostics = .{};
        const index = try Index.open(testing.allocator, file.path(), &diag);
        defer index.close();
        try testing.expectEqual(3, index.count);
        for (0..3) |i| {
            const record = index.record(i);
            try testing.expectEqual(3, record.iidx);
            try testing.expectEqual(5120, record.offset);
            try testing.expectEqualStrings("d/a", record.stem);
            try testing.expectEqualStrings(".jpg", index.keyText(record.keys[0]));
            try testing.expectEqualStrings(".json", index.keyText(record.keys[1]));
            try testing.expectEqualSlices(u64, writer.golden.record.offsets, record.offsets);
            try testing.expectEqualSlices(u64, writer.golden.record.sizes, record.sizes);
            try testing.expectEqualStrings(writer.golden.record.metadata, record.metadata);
        }
        try testing.expect(!index.hasKey(2));
    }
}

test "a record may be larger than the window, and lie across two" {
    const gpa = testing.allocator;
    var content: std.ArrayList(u8) = .empty;
    defer content.deinit(gpa);
    const stem = try gpa.alloc(u8, 3 * limits.index_window_bytes);
    defer gpa.free(stem);
    @memset(stem, 's');
    for (0..4) |_| {
        for (0..3000) |_| try writer.append(gpa, &content, .msgpack, writer.golden.record);
        try writer.append(gpa, &content, .msgpack, .{ .iidx = 1, .offset = 0, .stem = stem, .keys = &.{".a"}, .offsets = &.{0}, .sizes = &.{9} });
    }
    var file: TestFile = try .init(content.items);
    defer file.deinit();
    var diag: Diagnostics = .{};
    const index = try Index.open(gpa, file.path(), &diag);
    defer index.close();
    try testing.expectEqual(12004, index.count);
    try testing.expectEqual(stem.len, index.record(3000).stem.len);
    try testing.expectEqualStrings("d/a", index.record(12002).stem);
}

test "damage is named" {
    const good = writer.golden.msgpack;
    try expectBad("", "the index is empty");
    try expectBad("\n\n", "empty but for white space");
    try expectBad(good ++ good[0 .. good.len - 1], std.fmt.comptimePrint("record 1 at offset {d}: cut short", .{good.len}));
    try expectBad(good ++ good[0..1], "record 1 at offset");
    try expectBad(good ++ "\x00", "wanted a map, got an unsigned integer");
    try expectBad("\xdf\xff\xff\xff\xff", "cut short");
    try expectBad("\x81\xdb\xff\xff\xff\xff", "cut short");
    try expectBad("\x81\xa1x" ++ "\x91" ** 200_000, "nests deeper than 64");
    try expectBad("\x81\xa7offsets\xdd\xff\xff\xff\xff", "cut short in offsets");
}

test "damage is named, jsonl" {
    const good = writer.golden.jsonl;
    try expectBad(good ++ good[0 .. good.len - 2], std.fmt.comptimePrint("record 1 at offset {d}: malformed JSON", .{good.len}));
    try expectBad("{\"iidx\":-1}", "iidx: wanted an unsigned integer, got a negative integer");
    try expectBad("{\"iidx\":0}", "is missing");
    try expectBad("{\"x\":" ++ "[" ** 200_000, "malformed JSON: wanted less nesting");
    try expectBad("{\"offsets\":[1.5]}", "offsets: wanted an array of unsigned integers, got a float");
    try expectBad(good ++ "rubbish\n", "record 1");
}

test "what cannot be read gives the kernel's number" {
    var diag: Diagnostics = .{};
    try testing.expectError(error.ReadFailed, Index.open(testing.allocator, "/nonexistent.utix", &diag));
    try testing.expectEqual(@intFromEnum(std.c.E.NOENT), diag.errno);
    try testing.expectEqualStrings("/nonexistent.utix", diag.path());
    try testing.expectError(error.ReadFailed, Index.open(testing.allocator, "/tmp", &diag));
    try testing.expectEqual(@intFromEnum(std.c.E.ISDIR), diag.errno);
    try testing.expectError(error.ReadFailed, Index.open(testing.allocator, "/dev/null", &diag));
    try testing.expectEqual(.read, diag.kind);
}

test "no leak when memory runs out" {
    var file: TestFile = try .init(writer.golden.msgpack ** 20);
    defer file.deinit();
    testing.checkAllAllocationFailures(testing.allocator, openAndClose, .{file.path()}) catch |err| switch (err) {
        // Giving memory back may want some, and does without: that comes last.
        error.SwallowedOutOfMemoryError => {},
        else => return err,
    };
}

fn openAndClose(gpa: std.mem.Allocator, path: [:0]const u8) !void {
    var diag: Diagnostics = .{};
    const index = try Index.open(gpa, path, &diag);
    index.close();
}
