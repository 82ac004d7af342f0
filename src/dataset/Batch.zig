//! Rows on their way into arrays, one a field.
const Batch = @This();

const std = @import("std");
const Array = @import("Array.zig");
const Block = @import("Block.zig");
const BufferPool = @import("../engine/BufferPool.zig");
const Dataset = @import("Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Element = @import("Element.zig");
const Field = @import("Field.zig");
const Members = @import("Members.zig");
const Npy = @import("Npy.zig");
const assert = std.debug.assert;

gpa: std.mem.Allocator,
/// The one submitted after it.
next: ?*Batch = null,
/// Of the dataset, each below its count. Ours.
rows: []const u64,
/// In the order of the fields.
parts: []Part,
/// What to copy, by shard and offset once it is sorted.
items: std.ArrayList(Item) = .empty,
/// Items that some thread has taken, under the gatherer's lock as all below.
taken: usize = 0,
/// Threads that are at it.
busy: u32 = 0,
state: State = .submitted,
failure: Failure = .none,
/// Of all payloads.
bytes: u64 = 0,

pub const State = enum { submitted, planning, copying, done };

/// The first that was found.
pub const Failure = union(enum) { none, memory, report: *Diagnostics };

/// What becomes of one field.
pub const Part = struct {
    block: ?*Block = null,
    /// Where the elements begin in the block.
    start: usize = 0,
    /// Of a ragged field, where each row begins: at the beginning of the block.
    offsets: ?[]i64 = null,
};

/// A payload and where it goes.
pub const Item = struct {
    offset: u64,
    size: u64,
    /// Of the elements.
    target: [*]u8,
    /// Bytes before the elements.
    header: u32,
    shard: u32,
    /// Place of the row in the batch.
    at: u32,
    field: u16,
    is_checked: bool,

    fn lessThan(_: void, a: Item, b: Item) bool {
        if (a.shard != b.shard) return a.shard < b.shard;
        return if (a.offset == b.offset) a.at < b.at else a.offset < b.offset;
    }
};

/// Stands for a header that nobody has seen.
pub const header_unknown = std.math.maxInt(u32);

pub const Error = error{ ReadFailed, BadField, OutOfMemory, Stopped };

/// Copies the rows.
pub fn create(gpa: std.mem.Allocator, fields_count: usize, rows: []const u64) error{OutOfMemory}!*Batch {
    if (rows.len > std.math.maxInt(u32)) return error.OutOfMemory;
    const batch = try gpa.create(Batch);
    errdefer gpa.destroy(batch);
    const own = try gpa.dupe(u64, rows);
    errdefer gpa.free(own);
    const parts = try gpa.alloc(Part, fields_count);
    @memset(parts, .{});
    batch.* = .{ .gpa = gpa, .rows = own, .parts = parts };
    return batch;
}

pub fn destroy(batch: *Batch) void {
    const gpa = batch.gpa;
    for (batch.parts) |part| if (part.block) |block| block.release();
    switch (batch.failure) {
        .none, .memory => {},
        .report => |kept| gpa.destroy(kept),
    }
    batch.items.deinit(gpa);
    gpa.free(batch.parts);
    gpa.free(batch.rows);
    gpa.destroy(batch);
}

/// Find out what to copy, and take memory for fields that are not ragged.
pub fn locate(batch: *Batch, dataset: *const Dataset, fields: []const Field, members: *Members, diag: *Diagnostics) Error!void {
    const gpa = batch.gpa;
    for (batch.parts, fields) |*part, *field| {
        if (field.is_ragged) {
            const block = try batch.take(dataset.buffers, part, (batch.rows.len + 1) * @sizeOf(i64));
            part.offsets = offsetsIn(block, batch.rows.len);
        } else {
            const bytes = std.math.mul(u64, batch.rows.len, field.bytes) catch return error.OutOfMemory;
            _ = try batch.take(dataset.buffers, part, bytes);
        }
    }
    try batch.items.ensureTotalCapacity(gpa, batch.rows.len * fields.len);
    var ahead: Ahead = .{ .dataset = dataset, .rows = batch.rows };
    for (batch.rows, 0..) |row, at| {
        const place = ahead.next();
        const index = dataset.shards.items[place.shard].index;
        const record = index.record(place.record);
        for (fields, members.find(index, record.keys, fields), 0..) |*field, member, i| {
            if (member == Members.missing) return failMissing(dataset, row, field, diag);
            const item: Item = .{
                .offset = record.offset +| record.offsets[member],
                .size = record.sizes[member],
                .target = undefined,
                .header = if (field.is_npy) header_unknown else 0,
                .shard = place.shard,
                .at = @intCast(at),
                .field = @intCast(i),
                .is_checked = !field.is_npy,
            };
            try batch.add(dataset, field, item, diag);
        }
    }
    if (!std.sort.isSorted(Item, batch.items.items, {}, Item.lessThan)) std.mem.sortUnstable(Item, batch.items.items, {}, Item.lessThan);
}

/// Where rows are, with the memory of the records that come next on its way to the
/// processor, as they lie anywhere. Several are asked for at once, so that their
/// pages are looked up at the same time.
const Ahead = struct {
    dataset: *const Dataset,
    rows: []const u64,
    /// Of the rows before `known`, and the last ones only.
    places: [2 * group]Dataset.Place = undefined,
    known: usize = 0,
    taken: usize = 0,

    const group = 8;

    fn look(ahead: *Ahead) void {
        const end = @min(ahead.known + group, ahead.rows.len);
        var near: u32 = 0;
        for (ahead.rows[ahead.known..end], ahead.known..) |row, i| {
            const place = ahead.dataset.locate(row, near);
            ahead.dataset.shards.items[place.shard].index.prefetch(place.record);
            ahead.places[i % ahead.places.len] = place;
            near = place.shard;
        }
        ahead.known = end;
    }

    /// Once a row.
    fn next(ahead: *Ahead) Dataset.Place {
        if (ahead.known == 0) ahead.look();
        if (ahead.taken % group == 0) ahead.look();
        ahead.taken += 1;
        return ahead.places[(ahead.taken - 1) % ahead.places.len];
    }
};

fn add(batch: *Batch, dataset: *const Dataset, field: *const Field, located: Item, diag: *Diagnostics) error{BadField}!void {
    var item = located;
    const part = &batch.parts[item.field];
    if (!field.is_ragged) {
        item.target = part.block.?.buffer.ptr + item.at * field.bytes;
        if (!field.is_npy and item.size != field.bytes) {
            return report(dataset, batch.rows[item.at], field, item, diag, "wanted {d} bytes for {f}, got {d}", .{ field.bytes, field, item.size });
        }
        // What is of another size has another header, or is none.
        if (field.is_npy and item.size >= field.bytes) item.header = @intCast(@min(item.size - field.bytes, header_unknown));
    } else if (!field.is_npy) {
        const misfits = if (field.bytes == 0) item.size > 0 else item.size % field.bytes > 0;
        if (misfits) {
            return report(dataset, batch.rows[item.at], field, item, diag, "wanted a multiple of {d} bytes for {f}, got {d}", .{ field.bytes, field, item.size });
        }
        part.offsets.?[item.at] = @intCast(@min(if (field.bytes == 0) 0 else item.size / field.bytes, std.math.maxInt(i64)));
    }
    if (item.size == 0 and !field.is_npy) return;
    batch.items.appendAssumeCapacity(item);
    batch.bytes +|= item.size;
}

/// How many each row has of a ragged field was put where its offset will be.
pub fn layOut(batch: *Batch, dataset: *const Dataset, fields: []const Field) error{OutOfMemory}!void {
    var has_ragged = false;
    for (batch.parts, fields) |*part, *field| {
        const counts = part.offsets orelse continue;
        has_ragged = true;
        var sum: i64 = 0;
        for (counts[0..batch.rows.len]) |*place| {
            const count = place.*;
            place.* = sum;
            sum = std.math.add(i64, sum, count) catch return error.OutOfMemory;
        }
        counts[batch.rows.len] = sum;
        // Values and offsets share a block, the values behind.
        const head = std.mem.alignForward(usize, std.mem.sliceAsBytes(counts).len, values_alignment);
        const before = part.block.?;
        part.block = null;
        defer before.release();
        const bytes = std.math.mul(u64, @intCast(sum), field.bytes) catch return error.OutOfMemory;
        if (bytes > Field.bytes_max) return error.OutOfMemory;
        const block = try batch.take(dataset.buffers, part, head + bytes);
        @memcpy(std.mem.sliceAsBytes(offsetsIn(block, batch.rows.len)), std.mem.sliceAsBytes(counts));
        part.offsets = offsetsIn(block, batch.rows.len);
        part.start = head;
    }
    if (!has_ragged) return;
    for (batch.items.items) |*item| {
        const part = &batch.parts[item.field];
        const offsets = part.offsets orelse continue;
        const start: usize = @intCast(offsets[item.at]);
        item.target = part.block.?.buffer.ptr + part.start + start * fields[item.field].bytes;
    }
}

/// What libraries for tensors like best.
const values_alignment = 256;

fn offsetsIn(block: *Block, rows_count: usize) []i64 {
    const numbers: [*]i64 = @ptrCast(@alignCast(block.buffer.ptr));
    return numbers[0 .. rows_count + 1];
}

fn take(batch: *Batch, pool: *BufferPool, part: *Part, bytes: u64) error{OutOfMemory}!*Block {
    assert(part.block == null);
    if (bytes > Field.bytes_max) return error.OutOfMemory;
    part.block = try .create(batch.gpa, pool, @intCast(bytes));
    return part.block.?;
}

/// New references: the values, and the offsets of a ragged field.
pub fn arrays(batch: *const Batch, i: usize, field: *const Field) error{OutOfMemory}!struct { *Array, ?*Array } {
    const part = &batch.parts[i];
    const block = part.block.?;
    const offsets = part.offsets orelse {
        return .{ try .create(batch.gpa, block, 0, field.element, batch.rows.len, field.shape), null };
    };
    const values: *Array = try .create(batch.gpa, block, part.start, field.element, @intCast(offsets[batch.rows.len]), field.shape);
    errdefer values.release();
    return .{ values, try .create(batch.gpa, block, 0, .{ .kind = .int, .size = 8 }, batch.rows.len + 1, &.{}) };
}

/// Of a ragged field: how many rows of elements the item has, which is without a header
/// from then on.
pub fn noteHeader(batch: *Batch, item: *Item, npy: *const Npy) void {
    batch.parts[item.field].offsets.?[item.at] = @intCast(@min(npy.shape()[0], std.math.maxInt(i64)));
    item.offset += npy.size;
    item.size -= npy.size;
    item.header = 0;
    item.is_checked = true;
}

/// Keep why the batch cannot be had, unless something else is kept.
pub fn fail(batch: *Batch, err: Error, diag: *const Diagnostics) void {
    if (batch.failure != .none) return;
    batch.failure = .memory;
    switch (err) {
        error.ReadFailed, error.BadField => {},
        error.OutOfMemory, error.Stopped => return, // Nobody asks for what was stopped.
    }
    const kept = batch.gpa.create(Diagnostics) catch return;
    kept.* = diag.*;
    batch.failure = .{ .report = kept };
}

/// Bytes of memory that its arrays have.
pub fn capacity(batch: *const Batch) usize {
    var bytes: usize = 0;
    for (batch.parts) |part| if (part.block) |block| {
        bytes += block.buffer.len;
    };
    return bytes;
}

fn failMissing(dataset: *const Dataset, row: u64, field: *const Field, diag: *Diagnostics) error{BadField} {
    const place = dataset.locate(row, 0);
    const index = dataset.shards.items[place.shard].index;
    const record = index.record(place.record);
    var buffer: [512]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    for (record.keys) |key| writer.print(" \"{s}\"", .{index.keyText(key)}) catch break; // Enough of them.
    if (record.keys.len == 0) writer.writeAll(" nothing") catch {};
    const nowhere: Item = .{
        .offset = record.offset,
        .size = 0,
        .target = undefined,
        .header = 0,
        .shard = place.shard,
        .at = 0,
        .field = 0,
        .is_checked = true,
    };
    return report(dataset, row, field, nowhere, diag, "the row has no such key, it has{s}", .{writer.buffered()});
}

/// Report what is wrong with a payload of a row.
pub fn report(dataset: *const Dataset, row: u64, field: *const Field, item: Item, diag: *Diagnostics, comptime fmt: []const u8, args: anytype) error{BadField} {
    var buffer: [name_bytes_max]u8 = undefined;
    const path = dataset.shards.items[item.shard].path;
    diag.set(.field, "{s}: {s}: " ++ fmt, .{ path, rowName(dataset, row, field, &buffer) } ++ args);
    diag.setPath(path);
    diag.setRange(item.offset, item.size);
    return error.BadField;
}

const name_bytes_max = 512;

/// `row 17 ("s017"), key ".npy"`
pub fn rowName(dataset: *const Dataset, row: u64, field: *const Field, buffer: *[name_bytes_max]u8) []const u8 {
    const place = dataset.locate(row, 0);
    const stem = dataset.shards.items[place.shard].index.record(place.record).stem;
    var writer: std.Io.Writer = .fixed(buffer);
    writer.print("row {d} (\"{s}\"), key \"{s}\"", .{ row, stem[0..@min(stem.len, 200)], field.key[0..@min(field.key.len, 200)] }) catch {};
    return writer.buffered();
}
