//! A whole epoch without Python: script, engine and thread, from the consumer's
//! side. The product tests do the same with everything on top.

const std = @import("std");
const Pipeline = @import("Pipeline.zig");
const os = @import("../base/os.zig");
const testing = std.testing;

const defaults: Pipeline.Options = .{
    .source = .{
        .script = .{
            .text = "",
            .name = "test.lua",
            .search_dir = "",
            .config = "\x80", // An empty map.
            .rank = 0,
            .world_size = 1,
        },
    },
    .io = .auto,
    .access = .auto,
    .threads = 0,
    .prefetch_rows = 64,
    .prefetch_bytes = 1 << 20,
    .on_error = .raise,
    .dry = false,
};

fn begin(script: []const u8) !*Pipeline {
    var options = defaults;
    options.source.script.text = script;
    const pipeline = try Pipeline.create(testing.allocator, options);
    errdefer pipeline.destroy();
    try pipeline.prepare();
    return pipeline;
}

fn takeWaiting(pipeline: *Pipeline) Pipeline.Taken {
    while (true) {
        switch (pipeline.take()) {
            .pending => pipeline.wait(std.time.ns_per_s),
            else => |taken| return taken,
        }
    }
}

test "rows, output and the end, again and again" {
    const pipeline = try begin(
        \\local loader = require("ultar.loader")
        \\print("loading")
        \\return { row_generator = function()
        \\  for i = 1, 1000 do
        \\    loader:add_entry_bytes("i", tostring(i))
        \\    loader:finish_row()
        \\  end
        \\end }
    );
    defer pipeline.destroy();
    try testing.expectEqualStrings("loading", takeWaiting(pipeline).log.text);
    try testing.expectEqual(.prepared, takeWaiting(pipeline));
    try pipeline.start(0);
    try pipeline.start(0); // Nothing, the second time.
    var buffer: [8]u8 = undefined;
    for (1..1001) |i| {
        const row = takeWaiting(pipeline).row;
        defer row.release();
        try testing.expectEqualStrings(try std.fmt.bufPrint(&buffer, "{d}", .{i}), row.entry(0).bytes);
    }
    try testing.expectEqual(.done, takeWaiting(pipeline));
    try testing.expectEqual(.done, takeWaiting(pipeline));
    try testing.expectEqual(1000, pipeline.stats().rows);
}

test "an error of the script comes after its rows, with its line" {
    const pipeline = try begin(
        \\local loader = require("ultar.loader")
        \\return { row_generator = function()
        \\  loader:finish_row()
        \\  error("what went wrong")
        \\end }
    );
    defer pipeline.destroy();
    try testing.expectEqual(.prepared, takeWaiting(pipeline));
    try pipeline.start(0);
    takeWaiting(pipeline).row.release();
    for (0..2) |_| {
        const diag = takeWaiting(pipeline).failed;
        try testing.expectEqual(.script, diag.kind);
        try testing.expect(std.mem.indexOf(u8, diag.message(), "test.lua:4: what went wrong") != null);
        try testing.expect(std.mem.indexOf(u8, diag.message(), "stack traceback:") != null);
    }
}

test "what cannot be loaded says so instead of being prepared" {
    const pipeline = try begin("return 5");
    defer pipeline.destroy();
    try testing.expectEqual(.script, takeWaiting(pipeline).failed.kind);
}

test "destroying it stops a script that goes on for ever" {
    const pipeline = try begin(
        \\local loader = require("ultar.loader")
        \\return { row_generator = function()
        \\  while true do
        \\    pcall(loader.finish_row, loader)
        \\  end
        \\end }
    );
    try testing.expectEqual(.prepared, takeWaiting(pipeline));
    try pipeline.start(0);
    const row = takeWaiting(pipeline).row;
    const start_ns = os.monotonicNs();
    pipeline.destroy();
    try testing.expect(os.monotonicNs() - start_ns < std.time.ns_per_s);
    row.release(); // Valid all the same.
}

test "rows that the consumer never took are freed" {
    const pipeline = try begin(
        \\local loader = require("ultar.loader")
        \\return { row_generator = function()
        \\  local h = loader:open_file("/proc/self/status")
        \\  for i = 1, 10 do
        \\    loader:add_entry(h, "k" .. i, 0, 5)
        \\    loader:finish_row()
        \\  end
        \\end }
    );
    try testing.expectEqual(.prepared, takeWaiting(pipeline));
    try pipeline.start(0);
    takeWaiting(pipeline).row.release();
    pipeline.destroy();
}

/// Rows 1 to 9 with their number as text, and a line before each.
const nine_rows =
    \\local loader = require("ultar.loader")
    \\return { row_generator = function()
    \\  local h = loader:open_file("/proc/self/status")
    \\  for i = 1, 9 do
    \\    print("before " .. i)
    \\    loader:add_entry_bytes("i", tostring(i))
    \\    loader:add_entry(h, "k", 0, 5)
    \\    loader:finish_row()
    \\  end
    \\end }
;

test "going on behind rows that were delivered reads and says nothing of them" {
    for (0..10) |first| {
        const pipeline = try begin(nine_rows);
        defer pipeline.destroy();
        try testing.expectEqual(.prepared, takeWaiting(pipeline));
        try pipeline.start(first);
        for (first + 1..10) |i| {
            try testing.expectEqual(i - 1, pipeline.position());
            var buffer: [16]u8 = undefined;
            try testing.expectEqualStrings(try std.fmt.bufPrint(&buffer, "before {d}", .{i}), takeWaiting(pipeline).log.text);
            const row = takeWaiting(pipeline).row;
            defer row.release();
            try testing.expectEqualStrings(buffer["before ".len..][0..1], row.entry(0).bytes);
            try testing.expectEqual(i, pipeline.position());
        }
        try testing.expectEqual(.done, takeWaiting(pipeline));
        try testing.expectEqual(0, pipeline.position());
        try testing.expectEqual(9 - first, pipeline.stats().reads);
    }
}

test "fewer rows than were delivered before are an error" {
    const pipeline = try begin(nine_rows);
    defer pipeline.destroy();
    try testing.expectEqual(.prepared, takeWaiting(pipeline));
    try pipeline.start(10);
    const diag = takeWaiting(pipeline).failed;
    try testing.expect(std.mem.indexOf(u8, diag.message(), "behind 10 rows, but now the script made only 9") != null);
    try testing.expectEqual(10, pipeline.position());
}
