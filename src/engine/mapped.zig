//! Rows that are views of a mapped file. Nothing is read: the pages are made
//! present, on the engine's thread, before the consumer can touch them.

const std = @import("std");
const Backend = @import("../io/Backend.zig").Backend;
const Group = @import("Group.zig");
const Mapping = @import("../io/Mapping.zig");
const OpenFile = @import("OpenFile.zig");
const Read = @import("Read.zig");
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");

/// Have `entry`, which the mapping has, be a view of it.
pub fn use(group: *Group, file: *OpenFile, mapping: *Mapping, entry: *Group.Entry) error{OutOfMemory}!void {
    const end = entry.offset + entry.size;
    entry.payload = mapping.bytes.ptr + @as(usize, @intCast(entry.offset));
    entry.mapping = mapping;
    group.mapped_pending = true;
    if (group.mapped.items.len > 0) {
        const last = &group.mapped.items[group.mapped.items.len - 1];
        // Tars are in order, mostly, and pages reach beyond the entry anyway.
        if (last.mapping == mapping and entry.offset >= last.start and entry.offset <= last.end +| limits.read_gap_max) {
            last.end = @max(last.end, end);
            return;
        }
    }
    try group.mapped.append(group.core.gpa, .{ .mapping = mapping, .file = file, .start = entry.offset, .end = end });
    mapping.retain();
}

/// Whether pages have to come from storage: only then it pays to ask for them
/// ahead. Found out by looking whether the last groups had to wait.
pub const Pace = struct {
    /// So many more groups are read ahead.
    groups_left: u32 = limits.mapped_groups_ahead,

    /// Have the kernel begin to read what is not cached.
    pub fn readAhead(pace: *Pace, group: *const Group) void {
        for (group.mapped.items) |range| range.file.expect(range.start, range.end - range.start);
        if (pace.groups_left == 0) return;
        pace.groups_left -= 1;
        for (group.mapped.items) |range| {
            // In order the kernel does so itself, in larger pieces.
            if (range.file.order == .random) os.readAhead(range.file.fd, range.start, range.end - range.start);
        }
    }

    /// Whether the kernel should get time for it.
    pub fn holdsBack(pace: *const Pace, groups: u32) bool {
        return pace.groups_left > 0 and groups <= limits.mapped_groups_ahead;
    }
};

/// Wait until the pages are there. Entries whose bytes cannot be had from the
/// mapping (the file is shorter by now, its storage fails) get a read of their
/// own, which says what is wrong with them.
pub fn complete(group: *Group, pace: *Pace, backend: *Backend) void {
    group.mapped_pending = false;
    const waits_before = os.majorFaults();
    var all_there = true;
    var sizes: Sizes = .{};
    for (group.mapped.items) |range| {
        // A page that the file ends in has zeros behind the end, and no error.
        const is_there = range.end <= sizes.of(range.file);
        if (is_there) range.mapping.bringIn(range.start, range.end);
        if (!is_there or range.mapping.isLost(range.end)) all_there = false;
        if (range.mapping.resident_bytes > limits.mapped_bytes_max) range.mapping.giveUpPages();
    }
    if (os.majorFaults() != waits_before) pace.groups_left = 4 * limits.mapped_groups_ahead;
    if (!all_there) readInstead(group, backend) catch {
        group.out_of_memory = true;
    };
}

/// What files have now. Asked once for all ranges of a file, mostly: rows at random
/// have a range each.
const Sizes = struct {
    files: [64]?*const OpenFile = @splat(null),
    sizes: [64]u64 = undefined,

    fn of(sizes: *Sizes, file: *const OpenFile) u64 {
        const slot: usize = @intCast(@as(u32, @bitCast(file.fd)) % sizes.files.len);
        if (sizes.files[slot] != file) {
            sizes.files[slot] = file;
            sizes.sizes[slot] = switch (os.fstat(file.fd)) {
                .ok => |stat| stat.size,
                .err => 0,
            };
        }
        return sizes.sizes[slot];
    }
};

/// Read each entry that has its bytes from a mapping.
fn readInstead(group: *Group, backend: *Backend) error{OutOfMemory}!void {
    const gpa = group.core.gpa;
    var total: u64 = 0;
    for (group.entries.items) |entry| {
        if (isMapped(entry)) total +|= entry.size;
    }
    const buffer = try group.core.buffers.acquire(std.math.cast(usize, total) orelse return error.OutOfMemory);
    group.mapped_buffer = buffer;
    var used: usize = 0;
    for (group.entries.items) |*entry| {
        if (!isMapped(entry.*)) continue;
        const entry_size: usize = @intCast(entry.size);
        const target = buffer[used..][0..entry_size];
        used += entry_size;
        const read = try gpa.create(Read);
        errdefer gpa.destroy(read);
        try group.retries.append(gpa, read);
        read.* = .plain(backend, group, entry.file.?, entry.offset, target);
        read.single = true;
        entry.payload = target.ptr;
        entry.mapping = null;
        group.reads_pending += 1;
        backend.submit(&read.completion);
    }
}

fn isMapped(entry: Group.Entry) bool {
    return entry.mapping != null and entry.size > 0;
}
