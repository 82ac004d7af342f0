//! Single rows of a dataset, read by the thread that asks: no thread is started
//! and none is woken, which is most of what one row would cost. Threads may share
//! a reader, and take turns.
const RowReader = @This();

const std = @import("std");
const Dataset = @import("Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Engine = @import("../engine/Engine.zig");
const OpenFile = @import("../engine/OpenFile.zig");
const Row = @import("../engine/Row.zig");
const RowSource = @import("RowSource.zig");
const sync = @import("../base/sync.zig");

gpa: std.mem.Allocator,
mutex: sync.Mutex = .{},
engine: Engine,
source: RowSource,

pub const Error = RowSource.Error;

/// As for `RowSource`.
pub fn create(gpa: std.mem.Allocator, dataset: *Dataset, keys: ?[]const []const u8, access: OpenFile.Access) error{OutOfMemory}!*RowReader {
    const reader = try gpa.create(RowReader);
    errdefer gpa.destroy(reader);
    var source: RowSource = try .init(gpa, dataset, .{ .count = 0 }, keys);
    errdefer source.deinit();
    // Nothing is ever ahead: each row is taken before the next is asked for.
    reader.* = .{ .gpa = gpa, .source = source, .engine = try .init(gpa, .{ .rows_max = 1, .bytes_max = bytes_max, .access = access, .buffers = dataset.buffers }) };
    reader.engine.startBackendHere();
    return reader;
}

/// A row larger than that passes alone, as each does.
const bytes_max = 1 << 20;

/// Nobody may be inside `read`. Rows stay valid.
pub fn destroy(reader: *RowReader) void {
    reader.engine.abandonReads();
    reader.source.deinit();
    reader.engine.deinit();
    reader.gpa.destroy(reader);
}

/// A row, which must be one of the dataset's; the caller's, to release.
pub fn read(reader: *RowReader, row: u64, diag: *Diagnostics) Error!Row {
    reader.mutex.lock();
    defer reader.mutex.unlock();
    const engine = &reader.engine;
    errdefer engine.dropUnfinishedRow();
    try reader.source.add(engine, reader.source.dataset.locate(row, 0), diag);
    try engine.drain();
    var wakes = false;
    while (true) switch (engine.queue.take(&wakes)) {
        .row => |taken| return taken,
        .log => {}, // That `access` is not possible; a pipeline says it too.
        .failed => |bad| {
            bad.group.describe(bad.failure, diag);
            return error.ReadFailed;
        },
        // The row was finished and drained.
        .empty, .finished => return diag.fail(error.ReadFailed, .other, "the row was lost", .{}),
    };
}
