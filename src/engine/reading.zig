//! From a group of finished rows to its reads and back: what to read, where it
//! goes, and what to do when a read fails.

const std = @import("std");
const Backend = @import("../io/Backend.zig").Backend;
const Completion = @import("../io/Completion.zig");
const Group = @import("Group.zig");
const OpenFile = @import("OpenFile.zig");
const Read = @import("Read.zig");
const Remote = @import("../io/Remote.zig");
const limits = @import("../base/limits.zig");
const mapped = @import("mapped.zig");
const merge = @import("merge.zig");

/// Payloads begin at a line of the cache.
const line_bytes = 64;

/// Size of a buffer that nobody has: taking it fails, and with it the group.
const impossible = std.math.maxInt(u64);

/// Working memory for one plan at a time.
pub const Scratch = struct {
    wanted: std.ArrayList(merge.Wanted) = .empty,
    /// For each wanted range, its entry.
    entries: std.ArrayList(u32) = .empty,
    plan: merge.Plan = .{},

    pub fn deinit(scratch: *Scratch, gpa: std.mem.Allocator) void {
        scratch.wanted.deinit(gpa);
        scratch.entries.deinit(gpa);
        scratch.plan.deinit(gpa);
    }
};

/// Move the row that starts at `start`, the last and unfinished one of `from`,
/// to the empty group `to`. On error both are as before.
pub fn moveRow(from: *Group, start: Group.RowStart, to: *Group) error{OutOfMemory}!void {
    const gpa = from.core.gpa;
    const entries = from.entries.items[start.entry..];
    const made = from.made.items[start.made..];
    const own_keys = from.own_keys.items[start.own_key..];
    try to.entries.ensureTotalCapacity(gpa, entries.len);
    try to.made.ensureTotalCapacity(gpa, made.len);
    try to.own_keys.ensureTotalCapacity(gpa, own_keys.len);
    errdefer {
        to.endFileUse();
        for (to.files.items) |file| file.release();
        to.files.clearRetainingCapacity();
    }
    for (entries) |entry| if (entry.file) |file| try to.useFile(file);

    to.made.appendSliceAssumeCapacity(made);
    to.own_keys.appendSliceAssumeCapacity(own_keys);
    for (entries) |entry| {
        var moved = entry;
        if (entry.file == null) moved.offset -= start.made;
        to.entries.appendAssumeCapacity(moved);
    }
    from.entries.shrinkRetainingCapacity(start.entry);
    from.made.shrinkRetainingCapacity(start.made);
    from.own_keys.shrinkRetainingCapacity(start.own_key);
}

/// Decide what to read for the group. An entry that its file does not have
/// becomes a failure of its row here, before memory is asked for.
pub fn plan(group: *Group, scratch: *Scratch) error{OutOfMemory}!void {
    const gpa = group.core.gpa;
    scratch.wanted.clearRetainingCapacity();
    scratch.entries.clearRetainingCapacity();
    try scratch.wanted.ensureTotalCapacity(gpa, group.entries.items.len);
    try scratch.entries.ensureTotalCapacity(gpa, group.entries.items.len);
    var alignment: u32 = line_bytes;
    for (group.entries.items, 0..) |*entry, i| {
        const file = entry.file orelse continue;
        if (entry.size == 0) continue;
        if (!file.contains(entry.offset, entry.size)) {
            try group.failures.append(gpa, .{
                .row = group.rowOf(@intCast(i)),
                .entry = @intCast(i),
                .errno = 0,
                .got = @min(entry.size, file.size -| entry.offset),
            });
            continue;
        }
        if (file.mapping) |mapping| {
            if (mapping.has(entry.offset, entry.size)) {
                try mapped.use(group, file, mapping, entry);
                continue;
            }
        }
        scratch.wanted.appendAssumeCapacity(wantedFor(file, entry, &alignment));
        scratch.entries.appendAssumeCapacity(@intCast(i));
    }
    scratch.plan.make(gpa, scratch.wanted.items, alignment) catch |err| switch (err) {
        error.OutOfMemory => return error.OutOfMemory,
        error.TooLarge => scratch.plan.bytes = impossible,
    };
    // Room for all reads now: once one is submitted, the list must not move.
    if (scratch.plan.bytes == impossible) return;
    var reads: u64 = 0;
    for (scratch.plan.ranges.items) |range| {
        const file: *const OpenFile = @ptrFromInt(range.source);
        reads += (range.size - 1) / file.readMax() + 1;
    }
    group.reads.ensureTotalCapacity(gpa, @intCast(reads)) catch {
        scratch.plan.bytes = impossible;
    };
}

/// The range to read for an entry: whole blocks, if it goes past the page cache.
/// Those may end behind the file; nobody wants what is missing there.
fn wantedFor(file: *const OpenFile, entry: *const Group.Entry, alignment: *u32) merge.Wanted {
    const direct = file.direct orelse
        return .{ .source = @intFromPtr(file), .offset = entry.offset, .size = entry.size, .gap = file.gapMax() };
    alignment.* = @max(alignment.*, direct.alignment);
    const start = std.mem.alignBackward(u64, entry.offset, direct.alignment);
    const end = std.mem.alignForward(u64, entry.offset + entry.size, direct.alignment);
    return .{ .source = @intFromPtr(file), .offset = start, .size = end - start, .gap = file.gapMax() };
}

/// Whether the plan goes on where the file was read last, through the page cache.
pub fn isInOrder(group: *const Group, scratch: *const Scratch) bool {
    if (scratch.plan.ranges.items.len == 0) return false;
    for (group.files.items) |file| if (file.remote != null or file.direct != null or file.order == .random) return false;
    return true;
}

/// Bytes in one of the plan's reads, on average; at least 1.
pub fn readSize(scratch: *const Scratch) u64 {
    return @max(1, scratch.plan.bytes / @max(1, scratch.plan.ranges.items.len));
}

/// What the group counts for in the budget: payload and bookkeeping.
pub fn cost(group: *const Group, scratch: *const Scratch, dry: bool) u64 {
    var bytes: u64 = group.made.items.len;
    bytes += group.entries.items.len * @sizeOf(Group.Entry);
    for (group.logs.items) |log| bytes += log.text.len + @sizeOf(Group.Log);
    for (group.mapped.items) |range| bytes +|= range.end - range.start;
    if (!dry) bytes +|= scratch.plan.bytes;
    return bytes;
}

/// Take a buffer, place the entries in it and set up the reads.
pub fn prepare(group: *Group, scratch: *Scratch, backend: *Backend, client: *Remote.Client) void {
    for (group.entries.items) |*entry| {
        if (entry.file == null) {
            entry.payload = group.made.items.ptr + @as(usize, @intCast(entry.offset));
        } else if (entry.size == 0) {
            entry.payload = "";
        }
    }
    if (scratch.wanted.items.len == 0) return;
    const size = std.math.cast(usize, scratch.plan.bytes) orelse std.math.maxInt(usize);
    const buffer = group.core.buffers.acquire(size) catch {
        group.out_of_memory = true;
        return;
    };
    group.buffer = buffer;
    for (scratch.entries.items, scratch.plan.positions.items, scratch.wanted.items) |index, position, wanted| {
        const entry = &group.entries.items[index];
        entry.payload = buffer.ptr + @as(usize, @intCast(position + (entry.offset - wanted.offset)));
    }
    for (scratch.plan.ranges.items) |range| {
        const file: *OpenFile = @ptrFromInt(range.source);
        if (file.direct == null) file.expect(range.offset, range.size);
        var done: u64 = 0;
        while (done < range.size) {
            const piece = @min(range.size - done, file.readMax());
            const target = buffer[@intCast(range.position + done)..][0..@intCast(piece)];
            group.reads.appendAssumeCapacity(.init(backend, client, group, file, range.offset + done, target, piece == range.size));
            done += piece;
        }
    }
}

/// A read is over. One that failed and was meant for several entries is
/// followed by one for each that misses bytes, so that a row fails only when
/// its own bytes cannot be had.
pub fn complete(completion: *Completion, result: Completion.Result) void {
    const read: *Read = @fieldParentPtr("completion", completion);
    switch (result) {
        .ok => {},
        .failed => |failure| retryOrFail(read, failure) catch {
            read.group.out_of_memory = true;
        },
    }
    // Memory that the kernel may still write to is not given back, ever.
    if (completion.abandoned) read.group.loseBuffers();
    read.group.reads_pending -= 1;
}

/// A fetch is over. It was repeated already, as often as that makes sense.
pub fn completeRemote(read: *Read) void {
    const group = read.group;
    group.reads_pending -= 1;
    if (read.request.lent) |lent| keepLent(read, lent) catch {
        lent.giveBack();
        group.out_of_memory = true;
    };
    const failure = read.request.failure orelse return;
    defer group.core.gpa.free(failure.text);
    const result = if (read.file.is_decoded and !read.single) retryDecoded(read) else failParts(read, failure);
    result catch {
        group.out_of_memory = true;
    };
}

fn failParts(read: *const Read, failure: Remote.Failure) error{OutOfMemory}!void {
    var parts = read.missingParts(0);
    while (parts.next()) |part| try failRemote(read.group, part, failure);
}

/// Of rows that are decoded together, some may be damaged: each is asked for alone.
fn retryDecoded(read: *const Read) error{OutOfMemory}!void {
    const group = read.group;
    const gpa = group.core.gpa;
    var parts = read.missingParts(0);
    while (parts.next()) |part| {
        const retry = try gpa.create(Read);
        errdefer gpa.destroy(retry);
        try group.retries.append(gpa, retry);
        const target = read.request.target[@intCast(part.offset - read.offset)..][0..@intCast(part.size)];
        retry.* = .init(read.backend, read.request.client, group, read.file, part.offset, target, false);
        retry.single = true;
        group.reads_pending += 1;
        read.request.client.remote.submit(&retry.request);
    }
}

/// Have the entries of a read be views of what its answer came in.
fn keepLent(read: *const Read, lent: Remote.Lent) error{OutOfMemory}!void {
    const group = read.group;
    try group.lent.append(group.core.gpa, lent);
    const first = @intFromPtr(read.request.target.ptr);
    for (group.entries.items) |*entry| {
        if (entry.file != read.file or entry.size == 0) continue;
        const place = @intFromPtr(entry.payload orelse continue);
        if (place < first or place - first >= lent.bytes.len) continue;
        entry.payload = lent.bytes.ptr + (place - first);
    }
}

fn failRemote(group: *Group, part: Read.Part, failure: Remote.Failure) error{OutOfMemory}!void {
    const gpa = group.core.gpa;
    try group.failures.ensureUnusedCapacity(gpa, 1);
    const text = try gpa.dupe(u8, failure.text);
    group.failures.appendAssumeCapacity(.{
        .row = group.rowOf(part.entry),
        .entry = part.entry,
        .errno = failure.errno,
        .got = part.offset - group.entries.items[part.entry].offset,
        .text = text,
    });
}

fn retryOrFail(read: *Read, failure: Completion.Failure) error{OutOfMemory}!void {
    const group = read.group;
    const gpa = group.core.gpa;
    var parts = read.missingParts(failure.got);
    const first = parts.next() orelse return; // Only a gap is missing: nobody wants it.
    const alone = read.single or (parts.next() == null and !read.isDirect());
    if (alone or failure.errno == @intFromEnum(std.c.E.CANCELED)) {
        return fail(group, first, failure.errno);
    }
    parts = read.missingParts(failure.got);
    while (parts.next()) |part| {
        const retry = try gpa.create(Read);
        errdefer gpa.destroy(retry);
        try group.retries.append(gpa, retry);
        const target = read.completion.target[@intCast(part.offset - read.offset)..][0..@intCast(part.size)];
        retry.* = .plain(read.backend, group, read.file, part.offset, target);
        retry.single = true;
        group.reads_pending += 1;
        read.backend.submit(&retry.completion);
    }
}

fn fail(group: *Group, part: Read.Part, errno: i32) error{OutOfMemory}!void {
    try group.failures.append(group.core.gpa, .{
        .row = group.rowOf(part.entry),
        .entry = part.entry,
        .errno = errno,
        .got = part.offset - group.entries.items[part.entry].offset,
    });
}
