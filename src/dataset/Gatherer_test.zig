//! `Gatherer` and what it is made of, over real files: with few open, with no memory,
//! and stopped at any time.

const std = @import("std");
const Batch = @import("Batch.zig");
const Copier = @import("Copier.zig");
const Dataset = @import("Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Field = @import("Field.zig");
const Gatherer = @import("Gatherer.zig");
const File = @import("../io/File.zig");
const OpenFile = @import("../engine/OpenFile.zig");
const Remote = @import("../io/Remote.zig");
const SharedFiles = @import("SharedFiles.zig");
const rows_count = @import("Dataset_test.zig").rows_count;
const Shards = @import("Dataset_test.zig").Shards;
const testing = std.testing;

/// The row's number as four digits, and the same in two pieces of two.
const fields = [_]Field{
    Field.init(".n", .{ .kind = .uint, .size = 1 }, false, &.{4}).?,
    Field.init("n", .{ .kind = .uint, .size = 1 }, true, &.{2}).?,
};

fn expectBatch(batch: *const Batch) !void {
    try testing.expect(batch.failure == .none);
    for (&fields, 0..) |*field, i| {
        const values, const offsets = try batch.arrays(i, field);
        defer values.release();
        defer if (offsets) |one| one.release();
        for (batch.rows, 0..) |row, at| {
            var text: [4]u8 = undefined;
            try testing.expectEqualStrings(try std.fmt.bufPrint(&text, "{d:0>4}", .{row}), values.bytes[at * 4 ..][0..4]);
        }
        if (offsets) |one| try testing.expectEqual(batch.rows.len + 1, @as(usize, @intCast(one.shape[0])));
    }
}

fn takeOne(gatherer: *Gatherer) *Batch {
    while (true) {
        const ticket = gatherer.done.ticket();
        switch (gatherer.take()) {
            .batch => |batch| return batch,
            .busy => gatherer.done.wait(ticket, std.time.ns_per_s),
            .none => unreachable,
        }
    }
}

test "batches of any rows by any number of threads, with few files open" {
    var shards: Shards = undefined;
    try shards.init();
    defer shards.deinit();
    var diag: Diagnostics = .{};
    const dataset = try shards.open(testing.allocator, &diag);
    defer dataset.release();
    var prng: std.Random.DefaultPrng = .init(11);
    const random = prng.random();
    for ([_]u32{ 1, 2, 5 }, [_]u32{ 1, 2, 1 }) |threads, files_max| {
        for ([_]OpenFile.Access{ .read, .mmap, .auto, .direct }) |access| {
            const gatherer: *Gatherer = try .create(testing.allocator, dataset, .{ .fields = &fields, .access = access, .threads = threads });
            defer gatherer.destroy();
            gatherer.files.open.max = files_max;
            var rows: [40]u64 = undefined;
            for (0..30) |_| {
                for (&rows) |*row| row.* = random.uintLessThan(u64, rows_count);
                try gatherer.submit(rows[0..random.uintAtMost(usize, rows.len)]);
            }
            // The last ones are under way when it is destroyed.
            for (0..25) |left| {
                try testing.expectEqual(30 - left, gatherer.pending());
                const batch = takeOne(gatherer);
                defer batch.destroy();
                try expectBatch(batch);
            }
        }
    }
}

fn once(gpa: std.mem.Allocator, dataset: *const Dataset, access: OpenFile.Access) !void {
    const files: *SharedFiles = try .create(gpa, dataset, .of(dataset, access));
    defer files.destroy();
    const is_stopping: std.atomic.Value(bool) = .init(false);
    const copier: *Copier = try .create(gpa, dataset, &fields, files, null, &is_stopping);
    defer copier.destroy(gpa);
    const batch: *Batch = try .create(gpa, fields.len, &.{ 3, 3, 23, 0, 9, 10, 11 });
    defer batch.destroy();
    try batch.locate(dataset, &fields, &copier.members, &copier.diag);
    try copier.readAhead(batch.items.items);
    try copier.measure(batch);
    try batch.layOut(dataset, &fields);
    try copier.copy(batch, batch.items.items);
    try expectBatch(batch);
}

test "memory that is refused anywhere is an error, and no leak" {
    var shards: Shards = undefined;
    try shards.init();
    defer shards.deinit();
    var diag: Diagnostics = .{};
    const dataset = try shards.open(testing.allocator, &diag);
    defer dataset.release();
    for ([_]OpenFile.Access{ .read, .mmap }) |access| {
        try testing.checkAllAllocationFailures(testing.allocator, once, .{ dataset, access });
    }
}

/// Answers with ranges of files, and lends what was allocated; every so often with a failure.
const Server = struct {
    remote: *Remote,
    /// Of ten.
    failures: u8 = 0,

    fn run(server: Server) void {
        var prng: std.Random.DefaultPrng = .init(5);
        while (server.remote.next()) |job| {
            if (prng.random().uintLessThan(u8, 10) < server.failures) {
                server.remote.answerFailure(job.number, 5, "not today", 0);
                continue;
            }
            const lent = server.read(job) catch |err| std.debug.panic("{t}", .{err});
            if (!server.remote.answer(job.number, lent, 0)) lent.giveBack();
        }
    }

    const Owned = struct { bytes: []u8 };

    fn read(_: Server, job: Remote.Job) !Remote.Lent {
        var diag: Diagnostics = .{};
        var file = try File.open(job.url, &diag);
        defer file.close();
        const owned = try testing.allocator.create(Owned);
        owned.bytes = try testing.allocator.alloc(u8, @intCast(job.size));
        try file.readAll(owned.bytes, job.offset, job.url, &diag);
        return .{ .bytes = owned.bytes, .owner = owned, .return_to = giveBack };
    }

    fn giveBack(owner: *anyopaque) void {
        const owned: *Owned = @ptrCast(@alignCast(owner));
        testing.allocator.free(owned.bytes);
        testing.allocator.destroy(owned);
    }
};

test "batches from stores and files, with failures, and given up at any time" {
    var shards: Shards = undefined;
    try shards.init();
    defer shards.deinit();
    var diag: Diagnostics = .{};
    const dataset = try shards.open(testing.allocator, &diag);
    defer dataset.release();
    for (dataset.shards.items, 0..) |*shard, i| shard.is_remote = i % 2 == 0;
    const remote = try Remote.create(testing.allocator);
    defer remote.release();
    var threads: [3]std.Thread = undefined;
    for (&threads, 0..) |*thread, i| thread.* = try .spawn(.{}, Server.run, .{Server{ .remote = remote, .failures = if (i == 0) 1 else 0 }});
    defer for (threads) |thread| thread.join();
    defer remote.close();
    var prng: std.Random.DefaultPrng = .init(12);
    const random = prng.random();
    for (0..20) |round| {
        const gatherer: *Gatherer = try .create(testing.allocator, dataset, .{ .fields = &fields, .access = .auto, .remote = remote, .threads = 2 });
        defer gatherer.destroy();
        var rows: [40]u64 = undefined;
        for (0..20) |_| {
            for (&rows) |*row| row.* = random.uintLessThan(u64, rows_count);
            try gatherer.submit(&rows);
        }
        for (0..round) |_| {
            const batch = takeOne(gatherer);
            defer batch.destroy();
            switch (batch.failure) {
                .none => try expectBatch(batch),
                .memory => return error.TestUnexpectedResult,
                .report => |report| try testing.expect(std.mem.endsWith(u8, report.message(), "got 0: not today")),
            }
        }
    }
}
