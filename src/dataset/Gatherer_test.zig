//! `Gatherer` and what it is made of, over real files: with few open, with no memory,
//! and stopped at any time.

const std = @import("std");
const Batch = @import("Batch.zig");
const Copier = @import("Copier.zig");
const Dataset = @import("Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Field = @import("Field.zig");
const Gatherer = @import("Gatherer.zig");
const OpenFile = @import("../engine/OpenFile.zig");
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
