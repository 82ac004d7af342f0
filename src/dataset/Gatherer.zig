//! Threads that read batches of rows into arrays, in the order of submission: whole
//! batches side by side, and large ones shared.
const Gatherer = @This();

const std = @import("std");
const Batch = @import("Batch.zig");
const Copier = @import("Copier.zig");
const Dataset = @import("Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Field = @import("Field.zig");
const Fetcher = @import("Fetcher.zig");
const OpenFile = @import("../engine/OpenFile.zig");
const Remote = @import("../io/Remote.zig");
const SharedFiles = @import("SharedFiles.zig");
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const sync = @import("../base/sync.zig");
const assert = std.debug.assert;

gpa: std.mem.Allocator,
/// Holds the fields and their texts.
arena: std.heap.ArenaAllocator,
/// A reference of ours.
dataset: *Dataset,
fields: []const Field,
/// For shards in stores. A reference of ours.
remote: ?*Remote,
/// The dataset's.
files: *SharedFiles,
copiers: []*Copier,
threads: []std.Thread,
/// Of the list and the state of its batches.
mutex: sync.Mutex = .{},
/// There may be something to do.
work: sync.Condition = .{},
/// A batch is done.
done: sync.Event = .{},
first: ?*Batch = null,
last: ?*Batch = null,
count: usize = 0,
is_stopping: std.atomic.Value(bool) = .init(false),
/// So many batches more are asked of storage before they are copied.
batches_ahead: std.atomic.Value(u32) = .init(first_batches_ahead),

pub const Options = struct {
    /// Copied.
    fields: []const Field,
    access: OpenFile.Access,
    /// Where there are shards in stores. Somebody has to answer it.
    remote: ?*Remote = null,
    /// 0 for as many as are usual.
    threads: u32,
};

pub const CreateError = error{ OutOfMemory, SystemResources };

/// Before anything is known of the storage.
const first_batches_ahead = 4;

pub fn create(gpa: std.mem.Allocator, dataset: *Dataset, options: Options) CreateError!*Gatherer {
    const gatherer = try gpa.create(Gatherer);
    errdefer gpa.destroy(gatherer);
    dataset.retain();
    errdefer dataset.release();
    gatherer.* = .{
        .gpa = gpa,
        .arena = .init(gpa),
        .dataset = dataset,
        .fields = &.{},
        .remote = null,
        .files = try dataset.files(options.access),
        .copiers = &.{},
        .threads = &.{},
    };
    if (options.remote) |remote| gatherer.remote = remote.retain();
    errdefer if (gatherer.remote) |remote| remote.release();
    errdefer gatherer.arena.deinit();
    const arena = gatherer.arena.allocator();
    const fields = try arena.dupe(Field, options.fields);
    for (fields) |*field| {
        field.key = try arena.dupe(u8, field.key);
        field.shape = try arena.dupe(u64, field.shape);
    }
    gatherer.fields = fields;
    try gatherer.start(if (options.remote != null and options.threads == 0) limits.gather_fetch_threads_default else threadsFor(options.threads));
    return gatherer;
}

fn threadsFor(wanted: u32) u32 {
    if (wanted > 0) return @min(wanted, limits.read_threads_max);
    const cores: u32 = @intCast(@min(std.Thread.getCpuCount() catch 1, limits.read_threads_max));
    return @min(cores, limits.gather_threads_default);
}

fn start(gatherer: *Gatherer, count: u32) CreateError!void {
    const arena = gatherer.arena.allocator();
    const copiers = try arena.alloc(*Copier, count);
    const threads = try arena.alloc(std.Thread, count);
    errdefer gatherer.stop();
    for (copiers, threads, 1..) |*copier, *thread, started| {
        copier.* = try .create(gatherer.gpa, gatherer.dataset, gatherer.fields, gatherer.files, gatherer.remote, &gatherer.is_stopping);
        gatherer.copiers = copiers[0..started];
        thread.* = std.Thread.spawn(.{ .stack_size = stack_bytes }, run, .{ gatherer, copier.* }) catch |err| {
            // Fewer take longer, and that is all.
            if (started > 1) return;
            return if (err == error.OutOfMemory) error.OutOfMemory else error.SystemResources;
        };
        gatherer.threads = threads[0..started];
    }
}

const stack_bytes = 1024 * 1024;

/// Stops the threads, which takes as long as what they are reading from files, and frees all.
/// Arrays stay valid.
pub fn destroy(gatherer: *Gatherer) void {
    gatherer.stop();
    while (gatherer.pop()) |batch| batch.destroy();
    gatherer.dataset.buffers.trim(limits.dataset_free_bytes_max);
    gatherer.dataset.release();
    if (gatherer.remote) |remote| remote.release();
    gatherer.arena.deinit();
    gatherer.gpa.destroy(gatherer);
}

fn stop(gatherer: *Gatherer) void {
    {
        gatherer.mutex.lock();
        defer gatherer.mutex.unlock();
        gatherer.is_stopping.store(true, .monotonic);
        gatherer.work.broadcast();
    }
    for (gatherer.copiers) |copier| if (copier.fetcher) |fetcher| fetcher.stop();
    for (gatherer.threads) |thread| thread.join();
    for (gatherer.copiers) |copier| copier.destroy(gatherer.gpa);
}

/// Begin with these rows, each of which must be one of the dataset's.
pub fn submit(gatherer: *Gatherer, rows: []const u64) error{OutOfMemory}!void {
    const batch: *Batch = try .create(gatherer.gpa, gatherer.fields.len, rows);
    gatherer.mutex.lock();
    defer gatherer.mutex.unlock();
    if (gatherer.last) |last| last.next = batch else gatherer.first = batch;
    gatherer.last = batch;
    gatherer.count += 1;
    gatherer.work.signal();
}

/// Batches that were not taken.
pub fn pending(gatherer: *Gatherer) usize {
    gatherer.mutex.lock();
    defer gatherer.mutex.unlock();
    return gatherer.count;
}

/// The oldest batch, the caller's to destroy, if it is done.
pub fn take(gatherer: *Gatherer) union(enum) { batch: *Batch, busy, none } {
    gatherer.mutex.lock();
    defer gatherer.mutex.unlock();
    const batch = gatherer.first orelse return .none;
    return if (batch.state == .done) .{ .batch = gatherer.pop().? } else .busy;
}

fn pop(gatherer: *Gatherer) ?*Batch {
    const batch = gatherer.first orelse return null;
    gatherer.first = batch.next;
    if (gatherer.first == null) gatherer.last = null;
    gatherer.count -= 1;
    return batch;
}

/// What a thread does next.
const Task = struct {
    batch: *Batch,
    what: union(enum) { plan, copy: []Batch.Item },
};

fn run(gatherer: *Gatherer, copier: *Copier) void {
    os.blockSignals();
    gatherer.mutex.lock();
    defer gatherer.mutex.unlock();
    while (!gatherer.is_stopping.raw) {
        const task = gatherer.choose() orelse {
            gatherer.work.wait(&gatherer.mutex);
            continue;
        };
        const batch = task.batch;
        gatherer.mutex.unlock();
        const result = switch (task.what) {
            .plan => gatherer.plan(copier, batch),
            .copy => |items| gatherer.copy(copier, batch, items),
        };
        gatherer.mutex.lock();
        gatherer.finish(task, result, &copier.diag);
    }
}

/// The oldest thing that can be done; but as long as storage is slow, it is told of
/// all batches first.
fn choose(gatherer: *Gatherer) ?Task {
    const is_slow = gatherer.batches_ahead.load(.monotonic) > 0;
    var next = if (is_slow) gatherer.firstSubmitted() orelse gatherer.first else gatherer.first;
    while (next) |batch| : (next = batch.next) switch (batch.state) {
        .submitted => {
            batch.state = .planning;
            return .{ .batch = batch, .what = .plan };
        },
        .copying => {
            const items = gatherer.chunk(batch);
            if (items.len == 0) continue;
            batch.taken += items.len;
            batch.busy += 1;
            return .{ .batch = batch, .what = .{ .copy = items } };
        },
        .planning, .done => {},
    };
    return null;
}

fn firstSubmitted(gatherer: *const Gatherer) ?*Batch {
    var next = gatherer.first;
    while (next) |batch| : (next = batch.next) if (batch.state == .submitted) return batch;
    return null;
}

/// The next items of a batch that are worth a thread's while.
fn chunk(gatherer: *const Gatherer, batch: *Batch) []Batch.Item {
    const rest = batch.items.items[batch.taken..];
    // Where requests take their time one thread has as many as there can be.
    if (gatherer.remote != null) return rest;
    var bytes: u64 = 0;
    // So that the last batch is shared, too.
    const enough = @max(limits.gather_chunk_bytes_min, batch.bytes / (2 * gatherer.threads.len));
    for (rest, 1..) |item, count| {
        bytes +|= item.size +| item_cost_bytes;
        if (bytes >= enough) return rest[0..count];
    }
    return rest;
}

/// What finding a payload costs, in bytes that could be copied instead.
const item_cost_bytes = 512;

fn plan(gatherer: *Gatherer, copier: *Copier, batch: *Batch) Batch.Error!void {
    try batch.locate(gatherer.dataset, gatherer.fields, &copier.members, &copier.diag);
    if (gatherer.batches_ahead.load(.monotonic) > 0) {
        _ = gatherer.batches_ahead.fetchSub(1, .monotonic);
        try copier.readAhead(batch.items.items);
    }
    try copier.measure(batch);
    try batch.layOut(gatherer.dataset, gatherer.fields);
    // The next batches should find memory that was touched before.
    gatherer.dataset.buffers.keep(2 * batch.capacity());
}

fn copy(gatherer: *Gatherer, copier: *Copier, batch: *const Batch, items: []Batch.Item) Batch.Error!void {
    const waits_before = os.waits();
    try copier.copy(batch, items);
    // Now and then it waits for something else.
    if (os.waits() - waits_before > items.len / 16) gatherer.batches_ahead.store(limits.gather_batches_ahead, .monotonic);
}

/// Under the lock, as `choose`.
fn finish(gatherer: *Gatherer, task: Task, result: Batch.Error!void, diag: *const Diagnostics) void {
    const batch = task.batch;
    if (task.what == .copy) batch.busy -= 1;
    if (result) {
        if (task.what == .plan) batch.state = .copying;
    } else |err| {
        batch.fail(err, diag);
        batch.taken = batch.items.items.len;
        if (task.what == .plan) batch.state = .copying;
    }
    assert(batch.state == .copying);
    if (batch.taken < batch.items.items.len) {
        if (task.what == .plan and gatherer.threads.len > 1) gatherer.work.broadcast();
        return;
    }
    if (batch.busy > 0) return;
    batch.state = .done;
    gatherer.done.notify();
}
