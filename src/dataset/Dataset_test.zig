//! Datasets on files: whatever the order of rows, and however few files may be
//! open, each row has its bytes or its error.

const std = @import("std");
const Dataset = @import("Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Engine = @import("../engine/Engine.zig");
const Numbers = @import("Numbers.zig");
const Row = @import("../engine/Row.zig");
const RowReader = @import("RowReader.zig");
const RowSource = @import("RowSource.zig");
const TestFile = @import("../utix/index_test.zig").TestFile;
const testing = std.testing;

const shards_count = 5;
const rows_of = [shards_count]usize{ 7, 1, 12, 3, 1 };
pub const rows_count = 24;

/// Shards whose rows have an entry `.n`, the row's number as text, and `.s`, that of its shard.
pub const Shards = struct {
    tars: [shards_count]TestFile,
    paths: [shards_count][]const u8,
    index_buffers: [shards_count][600]u8,
    index_paths: [shards_count][]const u8,

    pub fn init(shards: *Shards) !void {
        var number: usize = 0;
        for (&shards.tars, rows_of, 0..) |*tar, count, s| {
            var content: [256]u8 = @splat('-');
            var index: std.ArrayList(u8) = .empty;
            defer index.deinit(testing.allocator);
            for (0..count) |i| {
                const at = content[i * 8 ..][0..8];
                _ = try std.fmt.bufPrint(at, "{d:0>4}.{d}", .{ number, s });
                try index.print(testing.allocator,
                    \\{{"iidx":{d},"offset":{d},"str_idx":"r{d}","keys":[".n",".s"],"offsets":[0,5],"sizes":[4,1]}}
                    \\
                , .{ i, i * 8, number });
                number += 1;
            }
            tar.* = try .init(&content);
            shards.paths[s] = tar.path();
            try shards.writeIndex(s, index.items);
        }
    }

    fn writeIndex(shards: *Shards, s: usize, content: []const u8) !void {
        const buffer = &shards.index_buffers[s];
        var beside = shards.tars[s];
        const path = try std.fmt.bufPrintZ(buffer, "{s}.utix", .{shards.paths[s]});
        shards.index_paths[s] = path;
        @memcpy(beside.path_buffer[0 .. path.len + 1], buffer[0 .. path.len + 1]);
        beside.path_len = path.len;
        try beside.write(content);
    }

    pub fn deinit(shards: *Shards) void {
        for (&shards.tars) |*tar| tar.deinit();
    }

    pub fn open(shards: *const Shards, gpa: std.mem.Allocator, diag: *Diagnostics) !*Dataset {
        return .open(gpa, &shards.paths, &shards.index_paths, diag);
    }
};

fn expectRow(row: Row, number: u64) !void {
    try testing.expectEqual(2, row.count());
    var text: [4]u8 = undefined;
    try testing.expectEqualStrings(try std.fmt.bufPrint(&text, "{d:0>4}", .{number}), row.entry(0).bytes);
    try testing.expectEqualStrings(".s", row.entry(1).key);
}

test "rows in any order, with few files open" {
    var shards: Shards = undefined;
    try shards.init();
    defer shards.deinit();
    var diag: Diagnostics = .{};
    const dataset = try shards.open(testing.allocator, &diag);
    defer dataset.release();
    try testing.expectEqual(rows_count, dataset.count);
    for ([_]u32{ 1, 2, 3, 9 }) |files_max| {
        for ([_]Numbers{
            .{ .count = rows_count },
            .{ .count = rows_count, .start = rows_count - 1, .step = -1 },
            .{ .count = 8, .start = 1, .step = 3 },
            .{ .count = rows_count, .order = .init(rows_count, 3, 1, null) },
            .{ .count = 500, .start = 11, .step = 0 },
        }) |numbers| {
            var source: RowSource = try .init(testing.allocator, .{ .dataset = dataset, .numbers = numbers }, null, files_max);
            defer source.deinit();
            var engine: Engine = try .init(testing.allocator, .{ .rows_max = 10_000, .bytes_max = 64 << 20, .buffers = dataset.buffers });
            defer engine.deinit();
            engine.startBackendHere();
            defer engine.abandonReads();
            try source.run(&engine, &diag);
            try engine.drain();
            try testing.expect(engine.files.count <= files_max);
            var wakes = false;
            for (0..@intCast(numbers.count)) |i| {
                const row = engine.queue.take(&wakes).row;
                defer row.release();
                var number: [1]u64 = undefined;
                numbers.fill(i, &number);
                try expectRow(row, number[0]);
            }
            try testing.expectEqual(.empty, engine.queue.take(&wakes));
        }
    }
}

test "threads read single rows at once" {
    var shards: Shards = undefined;
    try shards.init();
    defer shards.deinit();
    var diag: Diagnostics = .{};
    const dataset = try shards.open(testing.allocator, &diag);
    defer dataset.release();
    const reader: *RowReader = try .create(testing.allocator, dataset, null, .auto, null);
    defer reader.destroy();
    const Reading = struct {
        fn run(shared: *RowReader, seed: u64, wrong: *std.atomic.Value(u32)) void {
            var prng: std.Random.DefaultPrng = .init(seed);
            for (0..200) |_| {
                const number = prng.random().uintLessThan(u64, rows_count);
                one(shared, number) catch {
                    _ = wrong.fetchAdd(1, .monotonic);
                };
            }
        }

        fn one(shared: *RowReader, number: u64) !void {
            var own: Diagnostics = .{};
            const row = try shared.read(number, &own);
            defer row.release();
            try expectRow(row, number);
        }
    };
    var wrong: std.atomic.Value(u32) = .init(0);
    var threads: [12]std.Thread = undefined;
    for (&threads, 0..) |*thread, seed| thread.* = try std.Thread.spawn(.{}, Reading.run, .{ reader, seed, &wrong });
    for (threads) |thread| thread.join();
    try testing.expectEqual(0, wrong.raw);
}

test "a row that cannot be read is an error, and the next one is not" {
    var shards: Shards = undefined;
    try shards.init();
    defer shards.deinit();
    var diag: Diagnostics = .{};
    const dataset = try shards.open(testing.allocator, &diag);
    defer dataset.release();
    try shards.tars[2].write("cut"); // Rows 8 to 19.
    const reader: *RowReader = try .create(testing.allocator, dataset, &.{".n"}, .auto, null);
    defer reader.destroy();
    for (0..2) |_| {
        try testing.expectError(error.ReadFailed, reader.read(9, &diag));
        try testing.expect(std.mem.indexOf(u8, diag.message(), shards.paths[2]) != null);
        const row = try reader.read(20, &diag);
        defer row.release();
        try testing.expectEqual(1, row.count());
        try testing.expectEqualStrings("0020", row.entry(0).bytes);
    }
}

test "of indexes that cannot be opened the first is named" {
    var shards: Shards = undefined;
    try shards.init();
    defer shards.deinit();
    for ([_]usize{ 3, 1 }) |bad| {
        try shards.writeIndex(bad, "{\"no\":1}\n");
        for (0..20) |_| {
            var diag: Diagnostics = .{};
            try testing.expectError(error.BadIndex, shards.open(testing.allocator, &diag));
            try testing.expect(std.mem.indexOf(u8, diag.message(), shards.paths[bad]) != null);
        }
    }
}

fn readOne(gpa: std.mem.Allocator, shards: *const Shards) !void {
    var diag: Diagnostics = .{};
    // Threads would fail in another order each time.
    const dataset = try Dataset.open(gpa, shards.paths[2..3], shards.index_paths[2..3], &diag);
    defer dataset.release();
    const list: *Numbers.List = try .create(gpa, &.{ 3, 1 });
    defer list.release();
    try testing.expectEqual(null, (Numbers{ .count = 2, .list = list }).misfit(dataset.count));
    const reader: *RowReader = try .create(gpa, dataset, &.{ ".n", ".s" }, .auto, null);
    defer reader.destroy();
    const row = reader.read(list.items[0], &diag) catch |err| return if (err == error.OutOfMemory or diag.kind == .memory) error.OutOfMemory else err;
    defer row.release();
    try expectRow(row, 11);
}

test "every allocation fails once" {
    var shards: Shards = undefined;
    try shards.init();
    defer shards.deinit();
    try testing.checkAllAllocationFailures(testing.allocator, readOne, .{&shards});
}
