//! Turns commands (open, close, entry, bytes, finish) into rows. It collects
//! finished rows into groups, reads each group with few large reads, and hands
//! the groups over in order. Knows no Lua and no Python: whoever calls it on
//! the engine's thread is the source of commands.
//!
//! Back-pressure: a call that finishes a group waits until the budget has room
//! for it, and turns the loop meanwhile.
const Engine = @This();

const std = @import("std");
const Backend = @import("../io/Backend.zig").Backend;
const BufferPool = @import("BufferPool.zig");
const Core = @import("Core.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const FileTable = @import("FileTable.zig");
const fetching = @import("fetching.zig");
const Group = @import("Group.zig");
const GroupList = @import("GroupList.zig");
const Keys = @import("Keys.zig");
const OpenFile = @import("OpenFile.zig");
const Remote = @import("../io/Remote.zig");
const RowQueue = @import("RowQueue.zig");
const Stats = @import("Stats.zig");
const limits = @import("../base/limits.zig");
const mapped = @import("mapped.zig");
const os = @import("../base/os.zig");
const reading = @import("reading.zig");
const sync = @import("../base/sync.zig");
const waiting = @import("waiting.zig");
const assert = std.debug.assert;

gpa: std.mem.Allocator,
options: Options,
core: *Core,
queue: RowQueue,
stats: Stats = .{},
files: FileTable = .{},
/// Files in the table, and those that the script has closed and that reads
/// still need.
open_count: usize = 0,
backend: Backend = undefined,
backend_ready: std.atomic.Value(bool) = .init(false),
/// For waits while there is no backend, in `init_ctx`.
idle: sync.Event = .{},
/// Asks for objects in stores, if the options say where.
client: Remote.Client,
/// Such an object was opened.
has_remote: bool = false,
/// The script's files cannot be read as `options.access` says, and that was said.
warned_of_access: bool = false,
/// Set from outside: every call then answers `Stopped`.
stopping: std.atomic.Value(bool) = .init(false),

/// Rows that are still to be dropped as soon as they are finished, because an earlier
/// run delivered them: nothing of them is kept or read. The engine's thread, or before it.
rows_to_drop: u64 = 0,
/// Entries of the row being built, while rows are dropped.
dropped_entries: usize = 0,

/// The group that rows are being added to.
building: ?*Group = null,
building_since_ns: u64 = 0,
/// Bytes of its finished rows, with their bookkeeping and the gaps that will be
/// read along.
building_bytes: u64 = 0,
/// The row being built: where it starts in `building`, and its bytes.
row_start: Group.RowStart = .{},
row_bytes: u64 = 0,
/// Where the last entry ended: an entry just behind it is read with the gap.
last_file: ?*OpenFile = null,
last_end: u64 = 0,
/// Doubles with each group: the first row comes at once, later ones in bulk.
group_rows_target: u32 = 1,

/// Groups whose reads are under way, in order.
under_way: GroupList = .{},
/// Waits for a read in order that took long.
slow_waits: u32 = 0,
mapped_pace: mapped.Pace = .{},
scratch: reading.Scratch = .{},

pub const Options = struct {
    /// Bounds of what lies ahead of the consumer.
    rows_max: u32,
    bytes_max: u64,
    access: OpenFile.Access = .auto,
    /// That copy bytes; 0: as is usual.
    threads: u32 = 0,
    /// Where payload memory comes from; null: from a pool of its own.
    buffers: ?*BufferPool = null,
    /// Where URLs lead; null: they are paths like others.
    remote: ?*Remote = null,
    /// Read nothing: rows only say what would be read.
    dry: bool = false,
};

pub const Error = error{ OutOfMemory, Stopped };

/// How long a row may wait for others while the consumer has none.
const starving_wait_ns = 100_000;

pub fn init(gpa: std.mem.Allocator, options: Options) error{OutOfMemory}!Engine {
    assert(options.rows_max > 0);
    return .{
        .gpa = gpa,
        .options = options,
        .core = try Core.create(gpa, options.buffers, @intCast(@min(options.bytes_max, 1 << 40))),
        .queue = .init(options.rows_max, options.bytes_max),
        .client = .{ .remote = undefined, .wake = fetching.wake },
    };
}

/// Any thread, once `abandonReads` has run on the engine's. The consumer must
/// be gone; rows that it kept stay valid.
pub fn deinit(engine: *Engine) void {
    assert(engine.under_way.first == null);
    if (engine.backend_ready.raw) engine.backend.deinit();
    engine.queue.deinit();
    engine.files.deinit(engine.gpa);
    engine.scratch.deinit(engine.gpa);
    engine.core.retire();
}

/// From here on rows can be made. On the engine's thread.
pub fn startBackend(engine: *Engine, choice: Backend.Choice, diag: *Diagnostics) !void {
    try engine.backend.init(choice, engine.options.threads, diag);
    engine.backend_ready.store(true, .seq_cst);
}

/// The same, for an engine whose thread is whoever calls it.
pub fn startBackendHere(engine: *Engine) void {
    engine.backend = .{ .threads = undefined };
    engine.backend.threads.initHere();
    engine.backend_ready.store(true, .seq_cst);
}

/// Ask the engine's thread to come to an end. Any thread.
pub fn stop(engine: *Engine) void {
    engine.stopping.store(true, .seq_cst);
    engine.wake();
}

pub fn isStopping(engine: *const Engine) bool {
    return engine.stopping.load(.monotonic);
}

/// Let a waiting engine look again. Any thread.
pub fn wake(engine: *Engine) void {
    if (engine.backend_ready.load(.seq_cst)) engine.backend.wake();
    engine.idle.notify();
}

pub fn openFile(engine: *Engine, path: []const u8, diag: *Diagnostics) !f64 {
    const file = try fetching.openRemote(engine, path, diag) orelse try OpenFile.open(engine.gpa, path, &engine.open_count, diag);
    errdefer {
        file.endUse();
        file.release();
    }
    if (!engine.options.dry) switch (try file.allow(engine.options.access, &engine.core.first_lost)) {
        .ok => {},
        .err => |errno| try engine.warnOfAccess(path, errno),
    };
    return engine.files.add(engine.gpa, file);
}

/// Once: where one file refuses, others on the same storage will.
fn warnOfAccess(engine: *Engine, path: []const u8, errno: os.Errno) Error!void {
    if (engine.warned_of_access) return;
    engine.warned_of_access = true;
    var reason: [128]u8 = undefined;
    const text = try std.fmt.allocPrint(engine.gpa, "{s}: access=\"{t}\" is not possible ({s}): read plainly, as are others that refuse", .{
        path, engine.options.access, os.describe(errno, &reason),
    });
    defer engine.gpa.free(text);
    try engine.log(true, text);
}

/// Rows that are finished are read all the same. Waits when the script closes
/// files so much faster than they are read that descriptors would run out.
pub fn closeFile(engine: *Engine, handle: f64) (Error || error{BadHandle})!void {
    const file = engine.files.remove(handle) orelse return error.BadHandle;
    file.endUse();
    file.release();
    // Another file may come to lie at this address.
    engine.last_file = null;
    if (!engine.hasManyClosed()) return;
    if (engine.building != null and engine.rowEntryCount() == 0) try engine.submitBuilding();
    while (engine.hasManyClosed() and engine.under_way.first != null) {
        if (engine.isStopping()) return error.Stopped;
        waiting.turn(engine, &engine.stats.storage_ns);
    }
}

/// Whether too many files that the script has closed are still needed.
fn hasManyClosed(engine: *const Engine) bool {
    const descriptors: usize = if (engine.options.access == .direct) 2 else 1;
    return (engine.open_count - engine.files.count) * descriptors > limits.closed_files_max;
}

/// Add a range of a file to the row being built.
pub fn addEntry(engine: *Engine, of: *OpenFile, key: []const u8, offset: u64, size: u64) Error!void {
    if (engine.rows_to_drop > 0) {
        engine.dropped_entries += 1;
        return;
    }
    const file = if (limits.isDecoded(offset)) try fetching.decodedOf(engine, of) else of;
    const group = try engine.buildingGroup();
    try group.useFile(file);
    try group.entries.append(engine.gpa, .{
        .key = try engine.keyFor(group, key),
        .file = file,
        .offset = offset,
        .size = size,
    });
    if (file == engine.last_file and offset >= engine.last_end) {
        const gap = offset - engine.last_end;
        if (gap <= file.gapMax()) engine.row_bytes +|= gap;
    }
    engine.row_bytes +|= size +| @sizeOf(Group.Entry);
    engine.last_file = file;
    engine.last_end = offset +| size;
}

/// Add bytes that are not from a file.
pub fn addBytes(engine: *Engine, key: []const u8, bytes: []const u8) Error!void {
    if (engine.rows_to_drop > 0) {
        engine.dropped_entries += 1;
        return;
    }
    const group = try engine.buildingGroup();
    const offset = group.made.items.len;
    try group.made.ensureUnusedCapacity(engine.gpa, bytes.len);
    try group.entries.append(engine.gpa, .{
        .key = try engine.keyFor(group, key),
        .file = null,
        .offset = offset,
        .size = bytes.len,
    });
    group.made.appendSliceAssumeCapacity(bytes);
    engine.row_bytes +|= bytes.len + @sizeOf(Group.Entry);
}

/// Entries that were added and that no `finishRow` has taken up.
pub fn rowEntryCount(engine: *const Engine) usize {
    const group = engine.building orelse return engine.dropped_entries;
    return group.entries.items.len - engine.row_start.entry + engine.dropped_entries;
}

/// Forget those entries: the script ended in the middle of a row.
pub fn dropUnfinishedRow(engine: *Engine) void {
    engine.dropped_entries = 0;
    const group = engine.building orelse return;
    group.entries.shrinkRetainingCapacity(engine.row_start.entry);
    engine.row_bytes = 0;
}

/// The row is complete. Waits while the budget is full.
pub fn finishRow(engine: *Engine) Error!void {
    if (engine.isStopping()) return error.Stopped;
    if (engine.rows_to_drop > 0) {
        engine.rows_to_drop -= 1;
        engine.dropped_entries = 0;
        return;
    }
    var group = try engine.buildingGroup();
    if (group.rowCount() > 0 and engine.building_bytes +| engine.row_bytes > engine.groupBytesTarget()) {
        // Too much for one group. The rows before go first, without this one.
        group = try engine.splitOff(group);
    }
    try group.row_ends.append(engine.gpa, @intCast(group.entries.items.len));
    engine.building_bytes +|= engine.row_bytes;
    engine.row_bytes = 0;
    engine.row_start = .{
        .entry = @intCast(group.entries.items.len),
        .made = group.made.items.len,
        .own_key = @intCast(group.own_keys.items.len),
    };
    if (group.rowCount() >= engine.group_rows_target or
        engine.building_bytes >= engine.groupBytesTarget() or
        (engine.queue.isStarving() and os.monotonicNs() - engine.building_since_ns > starving_wait_ns))
    {
        try engine.submitBuilding();
    }
}

/// A line of the script's or a warning of ours, in order with the rows. What the script
/// says between rows that are dropped has been said when they were delivered.
pub fn log(engine: *Engine, warning: bool, text: []const u8) Error!void {
    if (engine.isStopping()) return error.Stopped;
    if (engine.rows_to_drop > 0 and !warning) return;
    const group = try engine.buildingGroup();
    try group.logs.ensureUnusedCapacity(engine.gpa, 1);
    const copy = try engine.gpa.dupe(u8, text);
    group.logs.appendAssumeCapacity(.{ .row = group.rowCount(), .warning = warning, .text = copy });
    engine.building_bytes +|= text.len;
    // Somebody may be looking at the output: do not keep it back. A row that
    // is being built must stay with its group, though.
    if (engine.rowEntryCount() == 0) try engine.submitBuilding();
}

/// For calls between rows that may take long: hand over what is there.
pub fn poll(engine: *Engine) Error!void {
    if (engine.isStopping()) return error.Stopped;
    if (!engine.backend_ready.raw) return;
    if (engine.building != null and engine.rowEntryCount() == 0 and engine.queue.isStarving()) {
        try engine.submitBuilding();
    }
    if (engine.under_way.first != null) waiting.tick(engine, .poll);
}

/// The script is done: bring every finished row to the consumer.
pub fn drain(engine: *Engine) Error!void {
    engine.dropUnfinishedRow();
    if (engine.building) |group| {
        if (group.rowCount() > 0 or group.logs.items.len > 0) try engine.submitBuilding();
    }
    while (engine.under_way.first != null) {
        if (engine.isStopping()) return error.Stopped;
        waiting.turn(engine, &engine.stats.storage_ns);
    }
}

/// The last call on the engine's thread: free what is not handed over. What the
/// kernel is writing to must end first.
pub fn abandonReads(engine: *Engine) void {
    if (engine.building) |group| {
        group.discard();
        engine.building = null;
    }
    fetching.cancel(engine);
    if (engine.under_way.first != null) {
        engine.backend.cancelAll();
        while (engine.backend.inFlight() > 0) engine.backend.tick(.block);
    }
    while (engine.under_way.pop()) |group| group.discard();
}

fn groupBytesTarget(engine: *const Engine) u64 {
    const target: u64 = if (engine.has_remote) limits.remote_group_bytes_target else if (engine.options.access == .mmap) limits.mapped_group_bytes_target else limits.group_bytes_target;
    return @min(target, engine.options.bytes_max / 4);
}

fn buildingGroup(engine: *Engine) error{OutOfMemory}!*Group {
    if (engine.building) |group| return group;
    const group = try engine.core.acquireGroup();
    engine.building = group;
    engine.building_since_ns = os.monotonicNs();
    engine.building_bytes = 0;
    engine.row_start = .{};
    return group;
}

fn keyFor(engine: *Engine, group: *Group, text: []const u8) error{OutOfMemory}!*const Keys.Key {
    if (try engine.core.keys.intern(text)) |key| return key;
    const key = try Keys.create(engine.gpa, text);
    errdefer Keys.destroy(engine.gpa, key);
    try group.own_keys.append(engine.gpa, key);
    return key;
}

/// Submit the finished rows of `group` and move the one being built to a new
/// group, which is returned.
fn splitOff(engine: *Engine, group: *Group) Error!*Group {
    const fresh = try engine.core.acquireGroup();
    errdefer fresh.discard();
    try reading.moveRow(group, engine.row_start, fresh);
    try engine.submitBuilding();
    engine.building = fresh;
    engine.building_since_ns = os.monotonicNs();
    return fresh;
}

/// Plan the reads of the building group, wait for room, and submit them.
fn submitBuilding(engine: *Engine) Error!void {
    const group = engine.building.?;
    engine.building = null;
    engine.building_bytes = 0;
    errdefer group.discard();
    engine.group_rows_target = @min(engine.group_rows_target *| 2, limits.group_rows_max, @max(1, engine.options.rows_max / 4));

    if (!engine.options.dry) try reading.plan(group, &engine.scratch);
    group.cost_bytes = reading.cost(group, &engine.scratch, engine.options.dry);
    try waiting.forRoom(engine, group);
    try waiting.forShallows(engine, group);
    engine.queue.admit(group.rowCount(), group.cost_bytes);
    if (!engine.options.dry) {
        reading.prepare(group, &engine.scratch, &engine.backend, &engine.client);
        group.reads_pending = @intCast(group.reads.items.len);
        for (group.reads.items) |*read| {
            engine.stats.reads.add(1);
            engine.stats.read_bytes.add(read.size);
            if (read.file.remote == null) engine.backend.submit(&read.completion) else fetching.submit(engine, &read.request);
        }
        engine.mapped_pace.readAhead(group);
    }
    engine.under_way.push(group);
    if (engine.backend_ready.raw) waiting.tick(engine, .poll) else waiting.publish(engine);
}
