//! The records of an index in memory: compact, never moved once written.
//!
//! Eight records share a *block*: their offsets and shapes, then the numbers of
//! their members, then their text. To find a record's part of a block one adds
//! up what comes before it there, which is a few steps in memory that is wanted
//! anyway, and saves two positions a record. Two members cost 47 bytes, and
//! three 63, beside their text:
//!
//!     13     in the block's head          1    the pointer to the block, shared
//!     16     a member: offset and size    1    length of the stem
//!
//! Which keys a record has is said by its *shape*, see `Names`. A record of one
//! member at offset 0 has a shape that says so, and no offset.
const Columns = @This();

const std = @import("std");
const Allocator = std.mem.Allocator;
const Names = @import("Names.zig");

gpa: Allocator,
count: usize = 0,
blocks: std.ArrayList(*const Block) = .empty,
segments: Segments,
/// Null before the first record.
names: ?*Names = null,
/// Of `names`, where they are another index's; `own_names` where they are not.
names_used: u32 = own_names,
/// Record numbers run on from here, or stand in a list.
iidx_base: u64 = 0,
iidx_list: std.ArrayList(u64) = .empty,
pending: Pending = .{},

const block_records = 8;
const own_names = std.math.maxInt(u32);
const prefetched_lines = 5;

const Block = extern struct {
    offsets: [block_records]u64,
    shapes: [block_records]u32,
    values_count: u64,

    fn values(block: *const Block) [*]const u64 {
        return @ptrCast(@as([*]const Block, @ptrCast(block)) + 1);
    }

    /// For each record: the stem's size doubled, plus 1 when there is metadata,
    /// then the stem, then the metadata's size and the metadata.
    fn text(block: *const Block) [*]const u8 {
        return @ptrCast(block.values() + block.values_count);
    }
};

/// The block that is being filled.
const Pending = struct {
    count: usize = 0,
    /// From the first record on.
    head: ?*Block = null,
    values: std.ArrayList(u64) = .empty,
    text: std.ArrayList(u8) = .empty,
};

pub const Record = struct {
    iidx: u64,
    offset: u64,
    stem: []const u8,
    /// Ids, for `keyText`.
    keys: []const u32,
    /// From `offset`.
    offsets: []const u64,
    sizes: []const u64,
    /// A msgpack map, empty when there is none.
    metadata: []const u8,
};

/// Args:
///     size_hint: About how much there will be.
///     like: After its `finish`; its names are shared, where they are the same.
pub fn init(gpa: Allocator, size_hint: u64, like: ?*const Columns) Columns {
    var columns: Columns = .{
        .gpa = gpa,
        .segments = .{ .gpa = gpa, .size = @intCast(std.math.clamp(size_hint, Segments.size_min, Segments.size_max)) },
    };
    if (like) |other| if (other.names) |names| {
        names.retain();
        columns.names = names;
        columns.names_used = 0;
    };
    return columns;
}

pub fn deinit(columns: *Columns) void {
    const gpa = columns.gpa;
    columns.freePending();
    columns.blocks.deinit(gpa);
    columns.segments.deinit();
    columns.iidx_list.deinit(gpa);
    if (columns.names) |names| names.release();
    columns.* = undefined;
}

/// Keep a copy of a record with as many members as its shape has keys.
pub fn append(columns: *Columns, iidx: u64, offset: u64, stem: []const u8, shape_id: u32, offsets: []const u64, sizes: []const u64, metadata: []const u8) Allocator.Error!void {
    const gpa = columns.gpa;
    const pending = &columns.pending;
    const elided = offsets.len == 1 and offsets[0] == 0;
    std.debug.assert(sizes.len == offsets.len);
    std.debug.assert(columns.shapes()[shape_id].keys.len == offsets.len);
    const head = pending.head orelse try columns.begin();
    head.offsets[pending.count] = offset;
    head.shapes[pending.count] = if (elided) shape_id + 1 else shape_id;
    const values = &pending.values;
    if (values.capacity - values.items.len < 2 * sizes.len) try values.ensureUnusedCapacity(gpa, 2 * sizes.len);
    if (!elided) appendNumbers(values, offsets);
    appendNumbers(values, sizes);
    const text = &pending.text;
    const text_bytes = stem.len + metadata.len + 2 * varint_bytes_max;
    if (text.capacity - text.items.len < text_bytes) try text.ensureUnusedCapacity(gpa, text_bytes);
    appendVarint(text, stem.len << 1 | @intFromBool(metadata.len > 0));
    text.appendSliceAssumeCapacity(stem);
    if (metadata.len > 0) {
        appendVarint(text, metadata.len);
        text.appendSliceAssumeCapacity(metadata);
    }
    try columns.appendIidx(iidx);
    columns.count += 1;
    pending.count += 1;
    if (pending.count == block_records) try columns.flush();
}

/// After the last `append`. Gives back what only that needed: there may be a million
/// indexes of few records each.
pub fn finish(columns: *Columns) Allocator.Error!void {
    if (columns.pending.count > 0) try columns.flush();
    columns.freePending();
    if (columns.names_used == own_names) if (columns.names) |names| try names.finish();
    inline for (.{ &columns.blocks, &columns.segments.list }) |list| {
        list.* = .fromOwnedSlice(try list.toOwnedSlice(columns.gpa));
    }
}

fn begin(columns: *Columns) Allocator.Error!*Block {
    const head = try columns.gpa.create(Block);
    head.* = .{ .offsets = @splat(0), .shapes = @splat(0), .values_count = 0 };
    columns.pending.head = head;
    return head;
}

fn freePending(columns: *Columns) void {
    if (columns.pending.head) |head| columns.gpa.destroy(head);
    columns.pending.values.deinit(columns.gpa);
    columns.pending.text.deinit(columns.gpa);
    columns.pending = .{};
}

fn flush(columns: *Columns) Allocator.Error!void {
    const pending = &columns.pending;
    const values_bytes = std.mem.sliceAsBytes(pending.values.items);
    const memory = try columns.segments.alloc(@sizeOf(Block) + values_bytes.len + pending.text.items.len);
    const block: *Block = @ptrCast(memory.ptr);
    block.* = pending.head.?.*; // There is a record.
    block.values_count = pending.values.items.len;
    @memcpy(memory[@sizeOf(Block)..][0..values_bytes.len], values_bytes);
    @memcpy(memory[@sizeOf(Block) + values_bytes.len ..][0..pending.text.items.len], pending.text.items);
    try columns.blocks.append(columns.gpa, block);
    pending.count = 0;
    // Clearing would fill the memory in safe builds, which shows in the speed.
    pending.values.items.len = 0;
    pending.text.items.len = 0;
}

fn appendIidx(columns: *Columns, iidx: u64) Allocator.Error!void {
    if (columns.count == 0) columns.iidx_base = iidx;
    if (columns.iidx_list.items.len == 0) {
        if (iidx == columns.iidx_base +% columns.count) return;
        try columns.iidx_list.ensureTotalCapacity(columns.gpa, columns.count + 1);
        for (0..columns.count) |i| columns.iidx_list.appendAssumeCapacity(columns.iidx_base +% i);
    }
    try columns.iidx_list.append(columns.gpa, iidx);
}

/// Have the processor fetch where record `i`, below `count`, lies; then, some
/// records later, what lies there. Records at random are otherwise waited for.
pub fn prefetchBlock(columns: *const Columns, i: usize) void {
    @prefetch(&columns.blocks.items[i / block_records], .{});
}

pub fn prefetchRecord(columns: *const Columns, i: usize) void {
    const block: [*]const u8 = @ptrCast(columns.blocks.items[i / block_records]);
    // The head and the numbers of a few members; more text than that is seldom.
    inline for (0..prefetched_lines) |line| @prefetch(block + line * std.atomic.cache_line, .{});
}

/// After `finish`. `i` must be below `count`.
pub fn get(columns: *const Columns, i: usize) Record {
    std.debug.assert(i < columns.count);
    const block = columns.blocks.items[i / block_records];
    const place = i % block_records;
    const shapes_here = columns.shapes();
    var values = block.values();
    var text = block.text();
    for (0..place) |before| {
        values += shapes_here[block.shapes[before]].valuesCount();
        const size = takeVarint(&text);
        text += size >> 1;
        if (size & 1 != 0) {
            const metadata_size = takeVarint(&text);
            text += metadata_size;
        }
    }
    const shape = shapes_here[block.shapes[place]];
    const member_count = shape.keys.len;
    const stem_size = takeVarint(&text);
    const stem = text[0 .. stem_size >> 1];
    text += stem.len;
    const metadata = if (stem_size & 1 != 0) blk: {
        const size = takeVarint(&text);
        break :blk text[0..size];
    } else "";
    return .{
        .iidx = if (columns.iidx_list.items.len > 0) columns.iidx_list.items[i] else columns.iidx_base +% i,
        .offset = block.offsets[place],
        .stem = stem,
        .keys = shape.keys,
        .offsets = if (shape.has_offsets) values[0..member_count] else &.{0},
        .sizes = if (shape.has_offsets) values[member_count..][0..member_count] else values[0..member_count],
        .metadata = metadata,
    };
}

/// The shape of a msgpack array of strings.
pub fn shapeOf(columns: *Columns, raw: []const u8) Allocator.Error!u32 {
    const names = columns.names orelse blk: {
        columns.names = try .create(columns.gpa);
        break :blk columns.names.?;
    };
    if (columns.names_used == own_names) return names.add(raw);
    if (names.find(raw, &columns.names_used)) |id| return id;
    columns.names = try names.copy(columns.names_used);
    columns.names_used = own_names;
    names.release();
    return columns.names.?.add(raw);
}

/// By the ids that records have for them.
pub fn shapes(columns: *const Columns) []const Names.Shape {
    return if (columns.names) |names| names.shapes.items else &.{};
}

/// By the ids that records have for them.
pub fn keys(columns: *const Columns) []const []const u8 {
    return if (columns.names) |names| names.keys.items else &.{};
}

/// One by one: they are few, and a call for each copy would take longer.
fn appendNumbers(values: *std.ArrayList(u64), numbers: []const u64) void {
    for (numbers) |number| values.appendAssumeCapacity(number);
}

const varint_bytes_max = 10;

fn appendVarint(text: *std.ArrayList(u8), number: u64) void {
    var rest = number;
    while (rest >= 0x80) : (rest >>= 7) text.appendAssumeCapacity(@as(u8, @truncate(rest)) | 0x80);
    text.appendAssumeCapacity(@intCast(rest));
}

fn takeVarint(text: *[*]const u8) usize {
    var number: usize = text.*[0] & 0x7f;
    var shift: u6 = 0;
    while (text.*[0] & 0x80 != 0) {
        text.* += 1;
        shift += 7;
        number |= @as(usize, text.*[0] & 0x7f) << shift;
    }
    text.* += 1;
    return number;
}

/// Memory that is only ever added to, and freed whole. Unlike a list that
/// doubles it has no copy at its peak and no slack behind its end.
const Segments = struct {
    gpa: Allocator,
    /// Of the next segment.
    size: usize,
    list: std.ArrayList([]align(alignment) u8) = .empty,
    /// Bytes taken from the last one.
    used: usize = 0,

    const alignment = @alignOf(Block);
    /// An index of one record has no more than it needs.
    const size_min = 64;
    const size_max = 1024 * 1024;

    fn alloc(segments: *Segments, size: usize) Allocator.Error![]align(alignment) u8 {
        const rounded = std.mem.alignForward(usize, size, alignment);
        const list = &segments.list;
        if (list.items.len == 0 or list.items[list.items.len - 1].len - segments.used < rounded) {
            try list.ensureUnusedCapacity(segments.gpa, 1);
            // Raw, since safe builds would fill the memory, and so touch all of it.
            const size_new = @max(rounded, segments.size);
            const memory = segments.gpa.rawAlloc(size_new, .of(Block), @returnAddress()) orelse return error.OutOfMemory;
            list.appendAssumeCapacity(@alignCast(memory[0..size_new]));
            segments.used = 0;
        }
        const last = list.items[list.items.len - 1];
        defer segments.used += rounded;
        return @alignCast(last[segments.used..][0..rounded]);
    }

    fn deinit(segments: *Segments) void {
        for (segments.list.items) |memory| segments.gpa.rawFree(memory, .of(Block), @returnAddress());
        segments.list.deinit(segments.gpa);
    }
};

test "records of all shapes come back as they went in" {
    const gpa = std.testing.allocator;
    var columns: Columns = .init(gpa, 0, null);
    defer columns.deinit();
    const lists = [_][]const u8{ "\x90", "\x91\xa0", "\x92\xa4.jpg\xa4.txt", "\x91\xa4.jpg" };
    const numbers = [_]u64{ 0, 1 << 40 };
    var stem: [300]u8 = @splat('s');
    for (0..1000) |i| {
        const shape = try columns.shapeOf(lists[i % 4]);
        const count = columns.shapes()[shape].keys.len;
        const iidx = if (i < 500) i + 7 else i * 2;
        // One member at offset 0, or not.
        const offsets = if (i % 8 == 3) numbers[1..2] else numbers[0..count];
        try columns.append(iidx, i * 512, stem[0 .. i % stem.len], shape, offsets, numbers[0..count], if (i % 3 == 0) "\x81\x01" ++ "m" ** 200 else "");
    }
    try columns.finish();
    try std.testing.expectEqual(1000, columns.count);
    for (0..1000) |i| {
        const record = columns.get(i);
        try std.testing.expectEqual(if (i < 500) i + 7 else i * 2, record.iidx);
        try std.testing.expectEqual(i * 512, record.offset);
        try std.testing.expectEqual(i % stem.len, record.stem.len);
        try std.testing.expectEqual(([_]usize{ 0, 1, 2, 1 })[i % 4], record.keys.len);
        try std.testing.expectEqualSlices(u64, if (i % 8 == 3) numbers[1..2] else numbers[0..record.keys.len], record.offsets);
        try std.testing.expectEqualSlices(u64, numbers[0..record.keys.len], record.sizes);
        try std.testing.expectEqual(@as(usize, if (i % 3 == 0) 202 else 0), record.metadata.len);
        if (i % 4 == 2) try std.testing.expectEqualStrings(".txt", columns.keys()[record.keys[1]]);
    }
}

test "names are shared as far as they are the same" {
    const gpa = std.testing.allocator;
    const lists = [_][]const u8{ "\x91\xa1a", "\x92\xa1a\xa1b", "\x91\xa1c", "\x91\xa1d" };
    const taken = [_]struct { []const usize, bool }{ .{ &.{ 0, 1, 0, 2 }, false }, .{ &.{ 0, 1, 1 }, true }, .{ &.{ 0, 2, 0, 1 }, false }, .{ &.{ 0, 1, 3 }, false }, .{ &.{0}, true } };
    var all: [taken.len]Columns = undefined;
    for (taken, &all, 0..) |case, *columns, number| {
        columns.* = .init(gpa, 0, if (number == 0) null else &all[number - 1]);
        for (case[0], 0..) |list, i| {
            const shape = try columns.shapeOf(lists[list]);
            const numbers = ([_]u64{ 1, 2 })[0..columns.shapes()[shape].keys.len];
            try columns.append(i, i, "s", shape, numbers, numbers, "");
        }
        try columns.finish();
        try std.testing.expectEqual(case[1], number > 0 and columns.names == all[number - 1].names);
    }
    // Whoever is first to go.
    for ([_]usize{ 0, 3, 2, 1, 4 }) |number| {
        const columns = &all[number];
        for (taken[number][0], 0..) |list, i| {
            const record = columns.get(i);
            try std.testing.expectEqualStrings(lists[list], columns.shapes()[columns.blocks.items[0].shapes[i]].raw);
            try std.testing.expectEqualStrings(lists[list][2..3], columns.keys()[record.keys[0]]);
        }
        columns.deinit();
    }
}

test "at most 24 bytes a member beside the text" {
    const gpa = std.testing.allocator;
    inline for (.{ "\x91\xa1a", "\x92\xa1a\xa1b", "\x93\xa1a\xa1b\xa1c" }, 1..) |raw, member_count| {
        var columns: Columns = .init(gpa, 1 << 30, null);
        defer columns.deinit();
        const record_count = 100_000;
        const offsets: [member_count]u64 = @splat(0);
        for (0..record_count) |i| try columns.append(i, i, "12345678", try columns.shapeOf(raw), &offsets, &offsets, "");
        try columns.finish();
        var bytes: usize = columns.blocks.capacity * @sizeOf(*Block) + columns.segments.used;
        for (columns.segments.list.items[0 .. columns.segments.list.items.len - 1]) |memory| bytes += memory.len;
        const members = record_count * member_count;
        try std.testing.expect(bytes <= 24 * members + 8 * record_count);
    }
}
