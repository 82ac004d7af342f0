//! Single rows of a dataset, read by the thread that asks: no thread is started
//! and none is woken, which is most of what one row would cost. Threads may share
//! a reader: each finds an engine of its own, as long as they are not too many.
const RowReader = @This();

const std = @import("std");
const Dataset = @import("Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Engine = @import("../engine/Engine.zig");
const OpenFile = @import("../engine/OpenFile.zig");
const OpenShards = @import("OpenShards.zig");
const Row = @import("../engine/Row.zig");
const Remote = @import("../io/Remote.zig");
const RowSource = @import("RowSource.zig");
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const sync = @import("../base/sync.zig");

gpa: std.mem.Allocator,
access: OpenFile.Access,
/// A reference of ours.
dataset: *Dataset,
/// Who is asked for what is decoded; null if nobody is. Another reference of ours.
remote: ?*Remote,
/// What seats begin with; the first one's is taken.
keys: ?[]const []const u8,
seats: [limits.dataset_readers_max]Seat = @splat(.{}),
/// Whom to wait for when all seats are taken.
turn: std.atomic.Value(u32) = .init(0),

/// For one thread at a time.
const Seat = struct {
    mutex: sync.Mutex = .{},
    /// Null until it is needed.
    work: ?Work = null,
};

const Work = struct { engine: Engine, source: RowSource };

pub const Error = RowSource.Error;

/// As for `RowSource`.
pub fn create(gpa: std.mem.Allocator, dataset: *Dataset, keys: ?[]const []const u8, access: OpenFile.Access, remote: ?*Remote) error{OutOfMemory}!*RowReader {
    const reader = try gpa.create(RowReader);
    errdefer gpa.destroy(reader);
    dataset.retain();
    errdefer dataset.release();
    reader.* = .{ .gpa = gpa, .access = access, .dataset = dataset, .remote = remote, .keys = null };
    try reader.equip(&reader.seats[0], keys);
    reader.keys = reader.seats[0].work.?.source.keys;
    if (remote) |of| _ = of.retain();
    return reader;
}

/// A row larger than that passes alone, as each does.
const bytes_max = 1 << 20;

fn equip(reader: *RowReader, seat: *Seat, keys: ?[]const []const u8) error{OutOfMemory}!void {
    // Few threads are here at once, as a rule: the first has most of the files.
    const share: u32 = if (seat == &reader.seats[0]) 2 else 2 * limits.dataset_readers_max;
    const files_max = @max(1, OpenShards.maxFor(os.descriptorsMax(), reader.access) / share);
    var source: RowSource = try .init(reader.gpa, .{ .dataset = reader.dataset, .numbers = .{ .count = 0 } }, keys, files_max);
    errdefer source.deinit();
    // Nothing is ever ahead: each row is taken before the next is asked for.
    const engine: Engine = try .init(reader.gpa, .{ .rows_max = 1, .bytes_max = bytes_max, .access = reader.access, .buffers = reader.dataset.buffers, .remote = reader.remote });
    seat.work = .{ .source = source, .engine = engine };
    seat.work.?.engine.startBackendHere();
}

/// Nobody may be inside `read`. Rows stay valid.
pub fn destroy(reader: *RowReader) void {
    for (&reader.seats) |*seat| if (seat.work) |*work| {
        work.engine.abandonReads();
        work.source.deinit();
        work.engine.deinit();
    };
    if (reader.remote) |remote| remote.release();
    reader.dataset.release();
    reader.gpa.destroy(reader);
}

/// A row, which must be one of the dataset's; the caller's, to release.
pub fn read(reader: *RowReader, row: u64, diag: *Diagnostics) Error!Row {
    const seat = reader.sit();
    defer seat.mutex.unlock();
    if (seat.work == null) try reader.equip(seat, reader.keys);
    const engine = &seat.work.?.engine;
    errdefer engine.dropUnfinishedRow();
    try seat.work.?.source.add(engine, reader.dataset.locate(row, 0), diag);
    try engine.drain();
    var wakes = false;
    while (true) switch (engine.queue.take(&wakes)) {
        .row => |taken| return taken,
        .log => {}, // That `access` is not possible; a pipeline says it too.
        .failed => |bad| {
            bad.group.describe(bad.failure, diag);
            // The queue leaves a group that failed when it is asked for more.
            _ = engine.queue.take(&wakes);
            return error.ReadFailed;
        },
        // The row was finished and drained.
        .empty, .finished => return diag.fail(error.ReadFailed, .other, "the row was lost", .{}),
    };
}

/// A seat, locked.
fn sit(reader: *RowReader) *Seat {
    for (&reader.seats) |*seat| if (seat.mutex.tryLock()) return seat;
    const turn = reader.turn.fetchAdd(1, .monotonic);
    const seat = &reader.seats[turn % reader.seats.len];
    seat.mutex.lock();
    return seat;
}
