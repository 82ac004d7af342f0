//! Consecutive rows that are read, handed over and freed together: the unit of
//! everything that costs more than a few nanoseconds.
//!
//! Life: the engine fills it (building), plans and submits its reads (reading),
//! the last read completes it (ready), the consumer takes its rows, and the
//! last of those to go gives it back to the core. The engine's thread writes
//! up to ready; from then on nothing changes but the reference count.
const Group = @This();

const std = @import("std");
const BufferPool = @import("BufferPool.zig");
const Core = @import("Core.zig");
const Keys = @import("Keys.zig");
const Mapping = @import("../io/Mapping.zig");
const OpenFile = @import("OpenFile.zig");
const Read = @import("Read.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const os = @import("../base/os.zig");

core: *Core,
/// Link in the list that has the group: in flight, ready, or spare.
next: ?*Group = null,
/// One for the queue and one for each row that Python holds.
refs: std.atomic.Value(u32) = .init(1),
entries: std.ArrayList(Entry) = .empty,
/// For each row, the end of its entries.
row_ends: std.ArrayList(u32) = .empty,
/// Text of the script's and the engine's, each before the row it preceded.
logs: std.ArrayList(Log) = .empty,
/// Bytes that the script made itself.
made: std.ArrayList(u8) = .empty,
/// Files with a descriptor in use, until the group is ready; after that only
/// their paths.
files: std.ArrayList(*OpenFile) = .empty,
/// Keys too many for the core's table.
own_keys: std.ArrayList(*const Keys.Key) = .empty,
failures: std.ArrayList(Failure) = .empty,
buffer: ?BufferPool.Buffer = null,
/// Ranges of mapped files, each with a reference, that rows are views of.
mapped: std.ArrayList(Mapped) = .empty,
/// They are not known to be present.
mapped_pending: bool = false,
/// For what had to be read after all.
mapped_buffer: ?BufferPool.Buffer = null,
reads: std.ArrayList(Read) = .empty,
/// A second try for each entry of a read that failed for several.
retries: std.ArrayList(*Read) = .empty,
reads_pending: u32 = 0,
/// There was no memory for the payloads, or to note what failed: no row of the
/// group can be had.
out_of_memory: bool = false,
/// What it counts for in the budget, fixed when it is submitted.
cost_bytes: u64 = 0,

pub const Entry = struct {
    key: *const Keys.Key,
    /// Null where the script gave the bytes; then `offset` is their place in `made`.
    file: ?*OpenFile,
    offset: u64,
    size: u64,
    /// Where the payload is, once the group is ready. Null in a dry run.
    payload: ?[*]const u8 = null,
    /// Which it is a view of, if it is one; a range in `mapped` has the reference.
    mapping: ?*Mapping = null,
};

/// A range of a mapped file.
pub const Mapped = struct { mapping: *Mapping, file: *OpenFile, start: u64, end: u64 };

/// Where a row begins in the lists of its group.
pub const RowStart = struct { entry: u32 = 0, made: usize = 0, own_key: u32 = 0 };

pub const Log = struct {
    /// Index of the row that it came before.
    row: u32,
    warning: bool,
    text: []const u8,
};

/// Why a row cannot be had.
pub const Failure = struct {
    row: u32,
    entry: u32,
    /// 0: the file ended.
    errno: os.Errno,
    /// Bytes of the entry that were there.
    got: u64,

    fn isBefore(a: Failure, b: Failure) bool {
        return a.entry < b.entry or (a.entry == b.entry and a.got < b.got);
    }
};

const errno_no_memory = @intFromEnum(std.c.E.NOMEM);

pub fn deinit(group: *Group) void {
    const gpa = group.core.gpa;
    group.clear();
    group.entries.deinit(gpa);
    group.row_ends.deinit(gpa);
    group.logs.deinit(gpa);
    group.made.deinit(gpa);
    group.files.deinit(gpa);
    group.own_keys.deinit(gpa);
    group.mapped.deinit(gpa);
    group.failures.deinit(gpa);
    group.reads.deinit(gpa);
    group.retries.deinit(gpa);
}

/// Forget the content but keep the memory of the lists, unless it is large.
pub fn clear(group: *Group) void {
    const core = group.core;
    for (group.files.items) |file| file.release();
    for (group.own_keys.items) |key| Keys.destroy(core.gpa, key);
    for (group.logs.items) |log| core.gpa.free(log.text);
    for (group.retries.items) |read| core.gpa.destroy(read);
    if (group.buffer) |buffer| core.buffers.release(buffer);
    if (group.mapped_buffer) |buffer| core.buffers.release(buffer);
    group.loseBuffers();
    for (group.mapped.items) |range| range.mapping.release();
    group.mapped_pending = false;
    group.reads_pending = 0;
    group.out_of_memory = false;
    group.cost_bytes = 0;
    inline for (.{ "entries", "row_ends", "logs", "made", "files", "own_keys", "mapped", "failures", "reads", "retries" }) |name| {
        const list = &@field(group, name);
        const keep_bytes_max = 64 * 1024;
        if (list.capacity * @sizeOf(std.meta.Elem(@TypeOf(list.items))) > keep_bytes_max) {
            list.clearAndFree(core.gpa);
        } else {
            list.clearRetainingCapacity();
        }
    }
}

/// Not give them back: somebody has them already, or the kernel may still write to them.
pub fn loseBuffers(group: *Group) void {
    group.buffer = null;
    group.mapped_buffer = null;
}

/// Drop a reference. Any thread.
pub fn release(group: *Group) void {
    if (group.refs.fetchSub(1, .acq_rel) == 1) group.core.recycleGroup(group);
}

/// Give up a group that is not ready: nobody will read it.
pub fn discard(group: *Group) void {
    group.endFileUse();
    group.release();
}

pub fn rowCount(group: *const Group) u32 {
    return @intCast(group.row_ends.items.len);
}

pub fn rowStart(group: *const Group, row: u32) u32 {
    return if (row == 0) 0 else group.row_ends.items[row - 1];
}

pub fn rowEntries(group: *const Group, row: u32) []const Entry {
    return group.entries.items[group.rowStart(row)..group.row_ends.items[row]];
}

/// The row that has the entry.
pub fn rowOf(group: *const Group, entry: u32) u32 {
    const order = struct {
        fn compare(wanted: u32, end: u32) std.math.Order {
            return if (wanted < end) .lt else .gt;
        }
    };
    return @intCast(std.sort.lowerBound(u32, group.row_ends.items, entry, order.compare));
}

/// Note that `file` is needed until the group is ready.
pub fn useFile(group: *Group, file: *OpenFile) error{OutOfMemory}!void {
    const known = group.files.items;
    // Mostly one file; else a few, and the last one most often.
    var i = known.len;
    while (i > 0 and known.len - i < 8) : (i -= 1) {
        if (known[i - 1] == file) return;
    }
    try group.files.append(group.core.gpa, file);
    file.use();
}

/// No read is left that needs a descriptor.
pub fn endFileUse(group: *Group) void {
    for (group.files.items) |file| file.endUse();
}

/// The first thing that is wrong with the row, if anything is.
pub fn failureOf(group: *const Group, row: u32) ?Failure {
    var first: ?Failure = null;
    if (group.out_of_memory and group.row_ends.items[row] > group.rowStart(row)) {
        return .{ .row = row, .entry = group.rowStart(row), .errno = errno_no_memory, .got = 0 };
    }
    for (group.failures.items) |failure| {
        if (failure.row != row) continue;
        if (first == null or failure.isBefore(first.?)) first = failure;
    }
    return first;
}

/// The mapping of an entry's bytes if those turned out to be gone.
pub fn lostMapping(entry: Entry) ?*Mapping {
    const mapping = entry.mapping orelse return null;
    return if (mapping.isLost(entry.offset +| entry.size)) mapping else null;
}

/// Report a failure: file, key, offset, what was wanted and what was got.
pub fn describe(group: *const Group, failure: Failure, diag: *Diagnostics) void {
    const entry = group.entries.items[failure.entry];
    const path = if (entry.file) |file| file.path else "(bytes made by the script)";
    const key = entry.key.text;
    if (failure.errno == errno_no_memory) {
        return diag.set(.memory, "{s}: entry \"{s}\" of {d} bytes at offset {d}: out of memory", .{ path, key, entry.size, entry.offset });
    }
    if (failure.errno == 0) {
        diag.set(.read, "{s}: entry \"{s}\" wanted {d} bytes at offset {d}, got {d} (end of file at {d})", .{
            path, key, entry.size, entry.offset, failure.got, entry.offset +| failure.got,
        });
    } else {
        var buffer: [128]u8 = undefined;
        diag.set(.read, "{s}: entry \"{s}\" wanted {d} bytes at offset {d}, got {d}: {s}", .{
            path, key, entry.size, entry.offset, failure.got, os.describe(failure.errno, &buffer),
        });
        diag.errno = failure.errno;
    }
    diag.setPath(path);
    diag.setRange(entry.offset, entry.size);
}
