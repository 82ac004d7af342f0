//! One epoch: a script (or rows of a dataset), its engine, and the thread of both.
//! The consumer makes it, prepares it, starts it, takes from it and destroys it.
//!
//! Threads: `prepare` and `start` each begin one, and only one runs at a time.
//! Consumer calls come one at a time, except that `wait` may run beside others.
//!
//! Owners: the consumer and the running thread hold a reference each. A thread
//! that does not return when it is asked to (a script that loops forever) keeps
//! its reference, and what it uses stays allocated for as long as it runs.
const Pipeline = @This();

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const Engine = @import("../engine/Engine.zig");
pub const Options = @import("Options.zig");
const OpenShards = @import("../dataset/OpenShards.zig");
const Row = @import("../engine/Row.zig");
const RowSource = @import("../dataset/RowSource.zig");
const Script = @import("../lua/Script.zig");
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const sync = @import("../base/sync.zig");
const assert = std.debug.assert;

gpa: std.mem.Allocator,
options: Options,
/// Owns the texts in `options`.
arena: std.heap.ArenaAllocator,
refs: std.atomic.Value(u32) = .init(1),
engine: Engine,
/// Made by `create`, but a script by `prepare`.
source: union(enum) { none, script: Script, rows: RowSource },
phase: std.atomic.Value(Phase) = .init(.created),
/// The one that runs, or has run and is not joined.
thread: ?std.Thread = null,
/// Notified when it is about to end.
thread_ended: sync.Event = .{},
thread_running: std.atomic.Value(bool) = .init(false),
/// What ended the thread, valid once the queue is finished.
outcome: ?Outcome = null,
/// What ended the consumer: raised again by each `take`.
failure: Diagnostics = .{},
/// The row that was left out last, with `on_error = .skip`.
skipped: Diagnostics = .{},
done: bool = false,
/// Rows that an earlier run delivered, and that this one drops.
first: u64 = 0,
started_ns: u64 = 0,
ended_ns: std.atomic.Value(u64) = .init(0),

const Phase = enum(u8) { created, preparing, prepared, running };

const Outcome = union(enum) { done, failed: Diagnostics };

pub const Log = struct {
    /// The engine's, rather than a line that the script printed.
    warning: bool,
    text: []const u8,
};

pub const Taken = union(enum) {
    /// The caller's, to release.
    row: Row,
    /// Valid until the next `take`.
    log: Log,
    /// `init_ctx` is done; `start` may be called.
    prepared,
    /// The script is done. Again at each call.
    done,
    /// Again at each call.
    failed: *const Diagnostics,
    /// Nothing yet: `wait`.
    pending,
};

pub const StartError = error{ SystemResources, OutOfMemory };

/// Copies what it keeps.
pub fn create(gpa: std.mem.Allocator, options: Options) error{OutOfMemory}!*Pipeline {
    const pipeline = try gpa.create(Pipeline);
    errdefer gpa.destroy(pipeline);
    var arena: std.heap.ArenaAllocator = .init(gpa);
    errdefer arena.deinit();
    const own = try options.keep(arena.allocator());
    errdefer own.drop();
    const rows: ?RowSource = switch (options.source) {
        .script => null,
        .rows => |given| try .init(gpa, given.view, given.keys, OpenShards.maxFor(os.descriptorsMax(), options.access)),
    };
    errdefer if (rows) |source| @constCast(&source).deinit();
    pipeline.* = .{
        .gpa = gpa,
        .options = own,
        .arena = arena,
        .engine = try .init(gpa, .{
            .rows_max = @max(options.prefetch_rows, 1),
            .bytes_max = @max(options.prefetch_bytes, 4),
            .access = options.access,
            .threads = options.threads,
            .buffers = switch (options.source) {
                .script => null,
                .rows => |given| given.view.dataset.buffers,
            },
            .dry = options.dry,
        }),
        .source = if (rows) |source| .{ .rows = source } else .none,
    };
    return pipeline;
}

/// Load the script, if there is one, and run `init_ctx`, on a thread. `take` says when it is done.
pub fn prepare(pipeline: *Pipeline) StartError!void {
    assert(pipeline.phase.raw == .created);
    if (pipeline.source == .rows) return pipeline.phase.store(.prepared, .release);
    pipeline.phase.store(.preparing, .release);
    try pipeline.spawn(runPrepare);
}

/// Run `row_generator` and the engine, on a thread, and deliver what comes after the first
/// `first` rows. Nothing when it runs already.
pub fn start(pipeline: *Pipeline, first: u64) StartError!void {
    if (pipeline.phase.raw == .running) return;
    assert(pipeline.phase.raw == .prepared);
    pipeline.first = first;
    pipeline.engine.rows_to_drop = first;
    pipeline.phase.store(.running, .release);
    pipeline.started_ns = os.monotonicNs();
    errdefer pipeline.phase.store(.prepared, .release);
    try pipeline.spawn(runEpoch);
}

/// The next thing for the consumer. Never blocks.
pub fn take(pipeline: *Pipeline) Taken {
    const counters = &pipeline.engine.stats;
    while (true) {
        if (pipeline.failure.kind != .none) return .{ .failed = &pipeline.failure };
        if (pipeline.done) return .done;
        if (pipeline.engine.core.first_lost.load(.monotonic) != null) {
            if (pipeline.takeLost()) |taken| return taken;
            continue;
        }
        // Before the queue: what was pushed before the phase changed is then
        // sure to be seen.
        const phase = pipeline.phase.load(.acquire);
        var wakes = false;
        const taken = pipeline.engine.queue.take(&wakes);
        if (wakes) pipeline.engine.wake();
        switch (taken) {
            .row => |row| {
                // Only with `on_error = .skip`: else nothing follows a loss.
                if (row.lostMapping()) |mapping| {
                    defer row.release();
                    counters.rows_skipped.add(1);
                    mapping.describeLoss(&pipeline.skipped);
                    return .{ .log = .{ .warning = true, .text = pipeline.skipped.message() } };
                }
                counters.rows.add(1);
                for (0..row.count()) |i| counters.bytes.add(row.entry(@intCast(i)).size);
                return .{ .row = row };
            },
            .log => |log| return .{ .log = .{ .warning = log.warning, .text = log.text } },
            .failed => |bad| switch (pipeline.options.on_error) {
                .raise => {
                    bad.group.describe(bad.failure, &pipeline.failure);
                    pipeline.engine.stop();
                },
                .skip => {
                    counters.rows_skipped.add(1);
                    bad.group.describe(bad.failure, &pipeline.skipped);
                    return .{ .log = .{ .warning = true, .text = pipeline.skipped.message() } };
                },
            },
            .finished => switch (pipeline.outcome.?) {
                .done => pipeline.done = true,
                .failed => |diag| pipeline.failure = diag,
            },
            .empty => {
                if (phase != .prepared) return .pending;
                // Joined here and not later: a child of a fork could not.
                pipeline.join();
                return .prepared;
            },
        }
    }
}

/// Rows of the script that the consumer is through with: delivered, by this run or the one
/// that it goes on from, or left out because they could not be read. Those ahead do not
/// count. After the last row it is 0, for what comes next is the first row of an epoch.
pub fn position(pipeline: *const Pipeline) u64 {
    if (pipeline.done) return 0;
    return pipeline.first +| pipeline.engine.stats.rows.get() +| pipeline.engine.stats.rows_skipped.get();
}

/// A mapped file lost bytes of rows that are out there already.
fn takeLost(pipeline: *Pipeline) ?Taken {
    const mapping = pipeline.engine.core.first_lost.swap(null, .acquire) orelse return null;
    defer mapping.release();
    switch (pipeline.options.on_error) {
        .raise => {
            mapping.describeLoss(&pipeline.failure);
            pipeline.engine.stop();
            return null;
        },
        .skip => {
            mapping.describeLoss(&pipeline.skipped);
            return .{ .log = .{ .warning = true, .text = pipeline.skipped.message() } };
        },
    }
}

/// Until something can be taken, a signal comes, or the time is over.
pub fn wait(pipeline: *Pipeline, timeout_ns: u64) void {
    const queue = &pipeline.engine.queue;
    const ticket = queue.event.ticket();
    if (queue.hasSomething() or pipeline.phase.load(.acquire) == .prepared) return;
    const start_ns = os.monotonicNs();
    queue.event.wait(ticket, timeout_ns);
    pipeline.engine.stats.stall_ns.add(os.monotonicNs() - start_ns);
}

/// Stop the script, give everything back. Rows out there stay valid. Waits a
/// bounded time for a script that does not return, and then leaves it alone.
pub fn destroy(pipeline: *Pipeline) void {
    pipeline.engine.stop();
    const deadline_ns = os.monotonicNs() + limits.stop_wait_ns;
    while (true) {
        const ticket = pipeline.thread_ended.ticket();
        if (!pipeline.thread_running.load(.acquire)) break;
        const now_ns = os.monotonicNs();
        if (now_ns >= deadline_ns) break;
        pipeline.thread_ended.wait(ticket, deadline_ns - now_ns);
    }
    if (pipeline.thread_running.load(.acquire)) {
        pipeline.thread.?.detach();
    } else pipeline.join();
    pipeline.release();
}

pub const Stats = struct {
    rows: u64,
    rows_skipped: u64,
    bytes: u64,
    reads: u64,
    read_bytes: u64,
    rows_ahead: u64,
    bytes_ahead: u64,
    in_flight: u64,
    script_ns: u64,
    storage_ns: u64,
    consumer_ns: u64,
    stall_ns: u64,
    /// Empty before the first start.
    backend: []const u8,
    /// Why it is not the better one, or empty. Valid while the pipeline is.
    backend_reason: []const u8,
};

/// Where the time goes, as of now.
pub fn stats(pipeline: *Pipeline) Stats {
    const engine = &pipeline.engine;
    const counters = &engine.stats;
    const storage_ns = counters.storage_ns.get();
    const consumer_ns = counters.consumer_ns.get();
    const ended_ns = pipeline.ended_ns.load(.acquire);
    const until_ns = if (ended_ns != 0) ended_ns else os.monotonicNs();
    const wall_ns = if (pipeline.started_ns == 0) 0 else until_ns - pipeline.started_ns;
    const has_backend = engine.backend_ready.load(.acquire);
    return .{
        .rows = counters.rows.get(),
        .rows_skipped = counters.rows_skipped.get(),
        .bytes = counters.bytes.get(),
        .reads = counters.reads.get(),
        .read_bytes = counters.read_bytes.get(),
        .rows_ahead = engine.queue.rowsAhead(),
        .bytes_ahead = engine.queue.bytesAhead(),
        .in_flight = if (has_backend) engine.backend.inFlight() else 0,
        // Whatever is not spent waiting is spent in the script.
        .script_ns = wall_ns -| storage_ns -| consumer_ns,
        .storage_ns = storage_ns,
        .consumer_ns = consumer_ns,
        .stall_ns = counters.stall_ns.get(),
        .backend = if (has_backend) engine.backend.name() else "",
        .backend_reason = if (has_backend) engine.backend.reason() else "",
    };
}

/// In a forked child: the thread is not here, and its locks may be held by
/// nobody. Leaves everything as it is.
pub fn forget(pipeline: *Pipeline) void {
    _ = pipeline;
}

fn spawn(pipeline: *Pipeline, comptime function: fn (*Pipeline) void) StartError!void {
    _ = pipeline.refs.fetchAdd(1, .monotonic);
    errdefer _ = pipeline.refs.fetchSub(1, .monotonic);
    pipeline.thread_running.store(true, .release);
    errdefer pipeline.thread_running.store(false, .release);
    const Main = struct {
        fn run(p: *Pipeline) void {
            os.blockSignals();
            function(p);
            p.thread_running.store(false, .release);
            p.thread_ended.notify();
            p.release();
        }
    };
    pipeline.thread = std.Thread.spawn(.{ .stack_size = stack_bytes }, Main.run, .{pipeline}) catch |err| switch (err) {
        error.OutOfMemory => return error.OutOfMemory,
        else => return error.SystemResources,
    };
}

fn join(pipeline: *Pipeline) void {
    if (pipeline.thread) |thread| thread.join();
    pipeline.thread = null;
}

/// Lua bounds its recursion, by its own stack of 65500 slots; this is far more.
const stack_bytes = 16 * 1024 * 1024;

fn runPrepare(pipeline: *Pipeline) void {
    if (pipeline.load()) {
        pipeline.phase.store(.prepared, .release);
        pipeline.engine.queue.event.notify();
    } else |_| pipeline.engine.queue.finish();
}

fn load(pipeline: *Pipeline) !void {
    var diag: Diagnostics = .{};
    errdefer pipeline.outcome = .{ .failed = diag };
    pipeline.source = .{ .script = undefined };
    const script = &pipeline.source.script;
    script.init(pipeline.gpa, &pipeline.engine, &pipeline.options.source.script, &diag) catch |err| {
        pipeline.source = .none;
        return err;
    };
    try script.load(&diag);
}

fn runEpoch(pipeline: *Pipeline) void {
    pipeline.outcome = .done;
    var diag: Diagnostics = .{};
    pipeline.generate(&diag) catch |err| {
        if (err == error.Stopped) diag.set(.other, "the iterator was stopped", .{});
        pipeline.outcome = .{ .failed = diag };
    };
    pipeline.engine.abandonReads();
    pipeline.ended_ns.store(os.monotonicNs(), .release);
    pipeline.engine.queue.finish();
}

fn generate(pipeline: *Pipeline, diag: *Diagnostics) !void {
    try pipeline.engine.startBackend(pipeline.options.io, diag);
    const result: (Script.Error || RowSource.Error)!void = switch (pipeline.source) {
        .none => unreachable, // Started only when it is prepared.
        .script => |*script| script.generate(diag),
        .rows => |*rows| rows.run(&pipeline.engine, diag),
    };
    if (result) {} else |err| if (err == error.OutOfMemory) diag.set(.memory, "out of memory", .{});
    // Every row that was finished before an error is delivered before it.
    if (result) {} else |err| if (err == error.Stopped) return err;
    pipeline.engine.drain() catch |err| switch (err) {
        error.Stopped => return err,
        error.OutOfMemory => {
            diag.set(.memory, "out of memory for the last rows", .{});
            return err;
        },
    };
    try result;
    const missing = pipeline.engine.rows_to_drop;
    if (missing > 0) return diag.fail(error.TooFewRows, .other, "the state was taken behind {d} rows, but now the script made only {d}: " ++
        "what it reads has changed since", .{ pipeline.first, pipeline.first - missing });
}

fn release(pipeline: *Pipeline) void {
    if (pipeline.refs.fetchSub(1, .acq_rel) != 1) return;
    switch (pipeline.source) {
        .none => {},
        inline else => |*source| source.deinit(),
    }
    pipeline.options.drop();
    pipeline.engine.deinit();
    pipeline.arena.deinit();
    pipeline.gpa.destroy(pipeline);
}
