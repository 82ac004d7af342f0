//! The engine over a simulated backend: whatever order, short reads, delays and
//! faults a seed brings, rows come in order with their bytes, or with their error.

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const Engine = @import("Engine.zig");
const OpenFile = @import("OpenFile.zig");
const Row = @import("Row.zig");
const Sim = @import("../io/Sim.zig");
const testing = std.testing;

const content_bytes = 64 * 1024;

/// An engine whose one file is made of known bytes.
const Bench = struct {
    engine: Engine,
    handle: f64,
    content: []u8,
    files: [64][]const u8,

    fn init(bench: *Bench, options: Engine.Options, sim: Sim.Options) !void {
        bench.content = try testing.allocator.alloc(u8, content_bytes);
        for (bench.content, 0..) |*byte, i| byte.* = @truncate(i *% 31 +% i / 256);
        bench.engine = try .init(testing.allocator, options);
        var diag: Diagnostics = .{};
        bench.handle = try bench.engine.openFile("/proc/self/status", &diag);
        bench.file().size = content_bytes;
        // The simulated backend takes the descriptor for an index.
        bench.files = @splat("");
        bench.files[@intCast(bench.file().fd)] = bench.content;
        var own = sim;
        own.files = &bench.files;
        bench.engine.backend = .{ .sim = .init(own) };
        bench.engine.backend_ready.store(true, .seq_cst);
    }

    fn deinit(bench: *Bench) void {
        bench.engine.abandonReads();
        bench.engine.deinit();
        testing.allocator.free(bench.content);
    }

    fn file(bench: *Bench) *OpenFile {
        return bench.engine.files.get(bench.handle).?;
    }

    fn expectRow(bench: *Bench, row: Row, offset: u64) !void {
        try testing.expectEqual(2, row.count());
        try testing.expectEqualStrings(".a", row.entry(0).key);
        try testing.expectEqualSlices(u8, bench.content[offset..][0..row.entry(0).size], row.entry(0).bytes);
        try testing.expectEqualStrings("made", row.entry(1).bytes);
    }
};

test "rows come in order and whole, whatever the seed does" {
    for (0..200) |seed| {
        errdefer std.log.err("seed {d}", .{seed});
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        var bench: Bench = undefined;
        // A budget of everything, so that one thread can be both sides.
        try bench.init(.{ .rows_max = 1 << 20, .bytes_max = 1 << 30 }, .{
            .seed = seed,
            .short_percent = random.uintLessThan(u8, 90),
            .delay_percent = random.uintLessThan(u8, 90),
        });
        defer bench.deinit();
        var offsets: [300]u64 = undefined;
        for (&offsets) |*offset| {
            offset.* = random.uintLessThan(u64, content_bytes - 1000);
            try bench.engine.addEntry(bench.file(), ".a", offset.*, random.uintLessThan(u64, 1000));
            try bench.engine.addBytes(".b", "made");
            try bench.engine.finishRow();
        }
        try bench.engine.drain();
        var wakes = false;
        for (offsets) |offset| {
            const row = bench.engine.queue.take(&wakes).row;
            defer row.release();
            try bench.expectRow(row, offset);
        }
        try testing.expectEqual(.empty, bench.engine.queue.take(&wakes));
    }
}

test "a row fails exactly when its own bytes cannot be had" {
    for (0..100) |seed| {
        errdefer std.log.err("seed {d}", .{seed});
        var bench: Bench = undefined;
        try bench.init(.{ .rows_max = 1 << 20, .bytes_max = 1 << 30 }, .{ .seed = seed, .short_percent = 50 });
        defer bench.deinit();
        // The file ends early, in the middle of row 40, and nobody knew.
        const row_bytes = 100;
        const end = 40 * row_bytes + 37;
        bench.files[@intCast(bench.file().fd)] = bench.content[0..end];
        for (0..80) |i| {
            try bench.engine.addEntry(bench.file(), ".a", i * row_bytes, row_bytes);
            try bench.engine.addBytes(".b", "made");
            try bench.engine.finishRow();
        }
        try bench.engine.drain();
        var wakes = false;
        for (0..40) |i| {
            const row = bench.engine.queue.take(&wakes).row;
            defer row.release();
            try bench.expectRow(row, i * row_bytes);
        }
        for (40..80) |i| {
            const bad = bench.engine.queue.take(&wakes).failed;
            try testing.expectEqual(@as(u64, if (i == 40) 37 else 0), bad.failure.got);
            var diag: Diagnostics = .{};
            bad.group.describe(bad.failure, &diag);
            try testing.expectEqual(i * row_bytes, diag.offset.?);
            try testing.expectEqualStrings("/proc/self/status", diag.path());
        }
    }
}

test "dropping everything midway leaves nothing behind" {
    for (0..100) |seed| {
        errdefer std.log.err("seed {d}", .{seed});
        var bench: Bench = undefined;
        try bench.init(.{ .rows_max = 1 << 20, .bytes_max = 1 << 30 }, .{ .seed = seed, .delay_percent = 95, .fail_percent = 20 });
        var kept: ?Row = null;
        for (0..100) |i| {
            try bench.engine.addEntry(bench.file(), ".a", i * 10, 10);
            if (i % 7 == 0) try bench.engine.log(false, "a line");
            if (i < 99) try bench.engine.finishRow(); // The last one stays unfinished.
            var wakes = false;
            switch (bench.engine.queue.take(&wakes)) {
                .row => |row| if (kept == null) {
                    kept = row;
                } else row.release(),
                else => {},
            }
        }
        bench.deinit();
        if (kept) |row| row.release(); // After the engine: a row lives by itself.
    }
}

test "a large row does not share a group with small ones" {
    var bench: Bench = undefined;
    try bench.init(.{ .rows_max = 1 << 20, .bytes_max = 64 * 1024 }, .{});
    defer bench.deinit();
    bench.engine.group_rows_target = 1024;
    for ([_]u64{ 10, 10, 20_000, 10 }) |size| {
        try bench.engine.addEntry(bench.file(), ".a", 0, size);
        try bench.engine.addBytes(".b", "made");
        try bench.engine.finishRow();
    }
    try bench.engine.drain();
    var wakes = false;
    var rows: [4]Row = undefined;
    for (&rows) |*row| {
        row.* = bench.engine.queue.take(&wakes).row;
        try bench.expectRow(row.*, 0);
    }
    try testing.expectEqual(rows[0].group, rows[1].group);
    try testing.expect(rows[1].group != rows[2].group);
    try testing.expect(rows[2].group != rows[3].group);
    for (rows) |row| row.release();
}

test "output keeps its place among the rows" {
    var bench: Bench = undefined;
    try bench.init(.{ .rows_max = 100, .bytes_max = 1 << 20 }, .{});
    defer bench.deinit();
    try bench.engine.log(false, "before");
    try bench.engine.addBytes("k", "1");
    try bench.engine.log(false, "within");
    try bench.engine.finishRow();
    try bench.engine.log(true, "after");
    try bench.engine.drain();
    var wakes = false;
    try testing.expectEqualStrings("before", bench.engine.queue.take(&wakes).log.text);
    try testing.expectEqualStrings("within", bench.engine.queue.take(&wakes).log.text);
    bench.engine.queue.take(&wakes).row.release();
    try testing.expect(bench.engine.queue.take(&wakes).log.warning);
    try testing.expectEqual(.empty, bench.engine.queue.take(&wakes));
}

test "the budget holds the engine back until the consumer has caught up" {
    var bench: Bench = undefined;
    try bench.init(.{ .rows_max = 8, .bytes_max = 1 << 20 }, .{ .short_percent = 50 });
    defer bench.deinit();
    const Consumer = struct {
        fn run(engine: *Engine, ahead_max: *u64) void {
            var taken: u32 = 0;
            while (taken < 500) {
                const ticket = engine.queue.event.ticket();
                ahead_max.* = @max(ahead_max.*, engine.queue.rowsAhead());
                var wakes = false;
                switch (engine.queue.take(&wakes)) {
                    .row => |row| {
                        taken += 1;
                        row.release();
                    },
                    else => engine.queue.event.wait(ticket, std.time.ns_per_s),
                }
                if (wakes) engine.wake();
            }
        }
    };
    var ahead_max: u64 = 0;
    const thread = try std.Thread.spawn(.{}, Consumer.run, .{ &bench.engine, &ahead_max });
    for (0..500) |i| {
        try bench.engine.addEntry(bench.file(), ".a", i, 10);
        try bench.engine.finishRow();
    }
    try bench.engine.drain();
    thread.join();
    try testing.expect(ahead_max <= 8);
}

test "a stopped engine answers so to every call that could go on" {
    var bench: Bench = undefined;
    try bench.init(.{ .rows_max = 1, .bytes_max = 1 << 20 }, .{});
    defer bench.deinit();
    try bench.engine.addBytes("k", "1");
    try bench.engine.finishRow();
    bench.engine.stop();
    try bench.engine.addBytes("k", "2");
    try testing.expectError(error.Stopped, bench.engine.finishRow());
    try testing.expectError(error.Stopped, bench.engine.poll());
    try testing.expectError(error.Stopped, bench.engine.log(false, "x"));
}

test "being stopped while waiting for room leaves nothing behind" {
    const Stopper = struct {
        fn run(engine: *Engine) void {
            while (!engine.queue.room_wanted.load(.seq_cst)) std.atomic.spinLoopHint();
            engine.stop();
        }
    };
    for (0..3) |way| {
        var bench: Bench = undefined;
        try bench.init(.{ .rows_max = 1, .bytes_max = 4000 }, .{});
        defer bench.deinit();
        try bench.engine.addBytes("k", "1");
        try bench.engine.finishRow(); // Fills the budget.
        const thread = try std.Thread.spawn(.{}, Stopper.run, .{&bench.engine});
        defer thread.join();
        if (way == 0) {
            try testing.expectError(error.Stopped, bench.engine.log(false, "x" ** 4000));
            continue;
        }
        // One row, or one that is split off another.
        bench.engine.group_rows_target = if (way == 1) 1 else 100;
        for (0..2) |_| {
            try bench.engine.addEntry(bench.file(), ".a", 0, 900);
            bench.engine.finishRow() catch |err| {
                try testing.expectEqual(error.Stopped, err);
                break;
            };
        } else return error.TestUnexpectedResult;
    }
}

/// An epoch of a few rows; whatever allocation fails, nothing may leak or crash.
fn epochWithin(gpa: std.mem.Allocator) !void {
    const content: [1000]u8 = @splat(7);
    var files: [64][]const u8 = @splat("");
    // One thread is both sides: a full budget would wait for itself.
    var engine: Engine = try .init(gpa, .{ .rows_max = 1 << 20, .bytes_max = 1 << 30 });
    defer engine.deinit();
    defer engine.abandonReads();
    var diag: Diagnostics = .{};
    const handle = try engine.openFile("/proc/self/status", &diag);
    const file = engine.files.get(handle).?;
    file.size = content.len;
    // The file is shorter than it was thought to be: second tries allocate, too.
    files[@intCast(file.fd)] = content[0..900];
    engine.backend = .{ .sim = .init(.{ .files = &files, .short_percent = 50 }) };
    engine.backend_ready.store(true, .seq_cst);
    engine.group_rows_target = 100;

    var buffer: [8]u8 = undefined;
    for (0..30) |i| {
        try engine.addEntry(file, ".a", i * 33, 33);
        try engine.addEntry(file, try std.fmt.bufPrint(&buffer, "{d}", .{i}), 0, 100);
        try engine.addBytes(".b", "made by the script");
        if (i % 10 == 3) try engine.log(false, "a line");
        try engine.finishRow();
        var wakes = false;
        switch (engine.queue.take(&wakes)) {
            .row => |row| row.release(),
            else => {},
        }
    }
    try engine.closeFile(handle);
    try engine.drain();
    var wakes = false;
    while (true) switch (engine.queue.take(&wakes)) {
        .row => |row| {
            defer row.release();
            try testing.expectEqualSlices(u8, content[0..row.entry(0).size], row.entry(0).bytes);
        },
        .log, .failed => {},
        .empty, .finished => break,
    };
}

test "memory that runs out anywhere is an error, and leaks nothing" {
    var fail_index: usize = 0;
    var failed: usize = 0;
    while (true) : (fail_index += 1) {
        errdefer std.log.err("allocation {d}", .{fail_index});
        var failing: std.testing.FailingAllocator = .init(testing.allocator, .{ .fail_index = fail_index });
        epochWithin(failing.allocator()) catch |err| try testing.expectEqual(error.OutOfMemory, err);
        try testing.expectEqual(failing.allocated_bytes, failing.freed_bytes);
        if (!failing.has_induced_failure) break;
        failed += 1;
    }
    try testing.expect(failed > 20);
}
