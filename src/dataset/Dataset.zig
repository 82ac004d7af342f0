//! The rows of many shards as one sequence: their indexes, opened, and which
//! shard has which row. Unchanged once it is open, so threads may share it.
const Dataset = @This();

const std = @import("std");
const BufferPool = @import("../engine/BufferPool.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Index = @import("../utix/Index.zig");
const OpenFile = @import("../engine/OpenFile.zig");
const Remote = @import("../io/Remote.zig");
const SharedFiles = @import("SharedFiles.zig");
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const sync = @import("../base/sync.zig");
const assert = std.debug.assert;

gpa: std.mem.Allocator,
refs: std.atomic.Value(usize) = .init(1),
/// Holds the paths.
arena: std.heap.ArenaAllocator,
shards: std.ArrayList(Shard) = .empty,
/// Payload memory, shared by all who read from it: an epoch, or a batch, finds
/// that of the one before, which saves touching it for the first time. This and
/// what follows changes, and a fork leaves it in an unknown state.
buffers: *BufferPool,
/// Shards that batches were read from stay open, and mapped, for the next epoch.
read_files: ?*SharedFiles = null,
mapped_files: ?*SharedFiles = null,
files_mutex: sync.Mutex = .{},
/// Rows of all shards together.
count: u64 = 0,
/// Some shard has rows that are decoded when they are asked for.
has_decoded: bool = false,

pub const Shard = struct {
    path: [:0]const u8,
    index: *Index,
    /// Its first row.
    first: u64,
    /// An object in a store.
    is_remote: bool = false,

    /// Whether each entry is a file of its own, with stem and key as its name in a folder.
    pub fn isFolder(shard: *const Shard) bool {
        return std.mem.endsWith(u8, shard.path, "/");
    }
};

/// A row by its shard and its record there.
pub const Place = struct { shard: u32, record: usize };

/// Opens the index of each path, which has the same place in `index_paths`, several at a time.
/// Of those that fail the first is reported.
pub fn open(gpa: std.mem.Allocator, paths: []const []const u8, index_paths: []const []const u8, diag: *Diagnostics) Index.Error!*Dataset {
    assert(paths.len == index_paths.len);
    const dataset = try gpa.create(Dataset);
    const buffers = BufferPool.create(gpa, limits.dataset_free_bytes_max) catch |err| {
        gpa.destroy(dataset);
        return err;
    };
    dataset.* = .{ .gpa = gpa, .arena = .init(gpa), .buffers = buffers };
    errdefer dataset.release();
    try dataset.shards.ensureTotalCapacity(gpa, paths.len);
    const indexes = try gpa.alloc(?*Index, paths.len);
    defer gpa.free(indexes);
    @memset(indexes, null);
    errdefer for (indexes[dataset.shards.items.len..]) |index| if (index) |opened| opened.close();
    var opening: Opening = .{ .gpa = gpa, .paths = index_paths, .indexes = indexes, .failed_at = paths.len, .diag = diag };
    opening.all();
    if (opening.failure) |failure| return failure;
    dataset.has_decoded = opening.found_decoded.raw;

    const arena = dataset.arena.allocator();
    for (paths, indexes) |path, index| {
        const own_path = try arena.dupeZ(u8, path);
        const opened = index.?; // Nothing failed.
        dataset.shards.appendAssumeCapacity(.{
            .path = own_path,
            .index = opened,
            .first = dataset.count,
            .is_remote = Remote.isUrl(path),
        });
        dataset.count += opened.count;
    }
    return dataset;
}

/// Indexes that threads open together.
const Opening = struct {
    gpa: std.mem.Allocator,
    /// Of indexes.
    paths: []const []const u8,
    /// As long as `paths`.
    indexes: []?*Index,
    next: std.atomic.Value(usize) = .init(0),
    mutex: sync.Mutex = .{},
    /// Of the first path that failed, beyond which nothing more is begun.
    failed_at: usize,
    failure: ?Index.Error = null,
    diag: *Diagnostics,
    found_decoded: std.atomic.Value(bool) = .init(false),

    fn all(opening: *Opening) void {
        var threads: [limits.dataset_open_threads_max - 1]std.Thread = undefined;
        const cores = std.Thread.getCpuCount() catch 1;
        const wanted = @min(threads.len, cores -| 1, opening.paths.len -| 1);
        var count: usize = 0;
        while (count < wanted) : (count += 1) {
            // Without more threads it takes longer, and that is all.
            threads[count] = std.Thread.spawn(.{ .stack_size = stack_bytes }, runThread, .{opening}) catch break;
        }
        opening.run();
        for (threads[0..count]) |thread| thread.join();
    }

    fn runThread(opening: *Opening) void {
        os.blockSignals();
        opening.run();
    }

    fn run(opening: *Opening) void {
        // The one before, whose keys are likely the same. Here it stays open.
        var before: ?*Index = null;
        var diag: Diagnostics = .{};
        while (true) {
            const i = opening.next.fetchAdd(1, .monotonic);
            if (i >= opening.paths.len or opening.isFutile(i)) return;
            before = opening.one(opening.paths[i], before, &diag) catch |err| {
                opening.fail(i, err, &diag);
                diag = .{};
                continue;
            };
            opening.indexes[i] = before;
        }
    }

    fn one(opening: *Opening, path: []const u8, like: ?*const Index, diag: *Diagnostics) Index.Error!*Index {
        const terminated = try opening.gpa.dupeZ(u8, path);
        defer opening.gpa.free(terminated);
        const index = try Index.openLike(opening.gpa, terminated, like, diag);
        if (isDecoded(index)) opening.found_decoded.store(true, .monotonic);
        return index;
    }

    /// The first record tells: all have the same entries.
    fn isDecoded(index: *const Index) bool {
        if (index.count == 0) return false;
        const first = index.record(0);
        for (first.offsets) |offset| if (limits.isDecoded(first.offset +| offset)) return true;
        return false;
    }

    fn isFutile(opening: *Opening, i: usize) bool {
        opening.mutex.lock();
        defer opening.mutex.unlock();
        return i > opening.failed_at;
    }

    fn fail(opening: *Opening, i: usize, err: Index.Error, diag: *const Diagnostics) void {
        opening.mutex.lock();
        defer opening.mutex.unlock();
        if (i > opening.failed_at) return;
        opening.failed_at = i;
        opening.failure = err;
        opening.diag.* = diag.*;
    }

    const stack_bytes = 1024 * 1024;
};

/// The shards to read batches from; they live as long as the dataset.
pub fn files(dataset: *Dataset, access: OpenFile.Access) error{OutOfMemory}!*SharedFiles {
    const mode: SharedFiles.Mode = .of(dataset, access);
    dataset.files_mutex.lock();
    defer dataset.files_mutex.unlock();
    const place = switch (mode) {
        .read => &dataset.read_files,
        .mapped => &dataset.mapped_files,
    };
    if (place.* == null) place.* = try .create(dataset.gpa, dataset, mode);
    return place.*.?;
}

/// In the child of a fork, before anything else: whoever had the locks of buffers
/// and files is not here, so they are left behind. All else can be used as it is,
/// and is shared with the parent for as long as neither frees it.
pub fn recover(dataset: *Dataset) error{OutOfMemory}!void {
    dataset.buffers = try BufferPool.create(dataset.gpa, limits.dataset_free_bytes_max);
    dataset.read_files = null;
    dataset.mapped_files = null;
    dataset.files_mutex = .{};
}

pub fn retain(dataset: *Dataset) void {
    _ = dataset.refs.fetchAdd(1, .monotonic);
}

/// Any thread.
pub fn release(dataset: *Dataset) void {
    if (dataset.refs.fetchSub(1, .acq_rel) != 1) return;
    for ([_]?*SharedFiles{ dataset.read_files, dataset.mapped_files }) |shared| if (shared) |one| one.destroy();
    for (dataset.shards.items) |shard| shard.index.close();
    dataset.shards.deinit(dataset.gpa);
    // Rows that are out there give back what they have, but nothing is kept.
    dataset.buffers.trim(0);
    dataset.buffers.drop();
    dataset.arena.deinit();
    dataset.gpa.destroy(dataset);
}

/// Whether bytes of a shard are had from who serves stores.
pub fn isFetched(dataset: *const Dataset, shard: u32, offset: u64) bool {
    return dataset.shards.items[shard].is_remote or limits.isDecoded(offset);
}

/// Where a row, which is below `count`, lies. `near` is a guess at its shard.
pub fn locate(dataset: *const Dataset, row: u64, near: u32) Place {
    assert(row < dataset.count);
    const shards = dataset.shards.items;
    if (near < shards.len and row >= shards[near].first and row - shards[near].first < shards[near].index.count) {
        return .{ .shard = near, .record = @intCast(row - shards[near].first) };
    }
    const order = struct {
        fn compare(wanted: u64, shard: Shard) std.math.Order {
            return if (wanted < shard.first) .lt else .gt;
        }
    };
    // The first shard that begins behind the row, and back to the one before.
    const behind = std.sort.upperBound(Shard, shards, row, order.compare);
    return .{ .shard = @intCast(behind - 1), .record = @intCast(row - shards[behind - 1].first) };
}

const testing = std.testing;

test "rows are found in the shard that has them" {
    var dataset: Dataset = .{ .gpa = testing.allocator, .arena = .init(testing.allocator), .buffers = undefined };
    defer dataset.shards.deinit(testing.allocator);
    var indexes: [5]Index = undefined;
    for ([_]usize{ 3, 1, 0, 4, 2 }, &indexes) |count, *index| {
        index.count = count;
        try dataset.shards.append(testing.allocator, .{ .path = "", .index = index, .first = dataset.count });
        dataset.count += count;
    }
    const shards = [_]u32{ 0, 0, 0, 1, 3, 3, 3, 3, 4, 4 };
    const records = [_]usize{ 0, 1, 2, 0, 0, 1, 2, 3, 0, 1 };
    for (0..dataset.count) |row| {
        for (0..6) |near| {
            const place = dataset.locate(row, @intCast(near));
            try testing.expectEqual(Place{ .shard = shards[row], .record = records[row] }, place);
        }
    }
}

test "an index that is missing is named" {
    var diag: Diagnostics = .{};
    try testing.expectError(error.ReadFailed, open(testing.allocator, &.{"/nonexistent/a.tar"}, &.{"/nonexistent/a.tar.utix"}, &diag));
    try testing.expect(std.mem.indexOf(u8, diag.message(), "/nonexistent/a.tar.utix") != null);
}
