//! What `Copier` does for shards in stores: the bytes of payloads are lent by those who
//! fetched them, and copied from there.

const std = @import("std");
const Batch = @import("Batch.zig");
const Copier = @import("Copier.zig");
const Fetcher = @import("Fetcher.zig");
const Npy = @import("Npy.zig");
const SharedFiles = @import("SharedFiles.zig");
const limits = @import("../base/limits.zig");
const Item = Batch.Item;
const Error = Batch.Error;

/// As `Copier.measure`.
pub fn measure(copier: *Copier, batch: *Batch) Error!void {
    const fetcher = copier.fetcher orelse return;
    const items = batch.items.items;
    try check(copier, batch, items);
    // Most headers are short. Those that are not are asked for once more.
    for ([_]u64{ first_bytes, limits.npy_header_bytes_max }) |bytes_max| {
        try fetcher.run(items, Heads{ .copier = copier, .batch = batch, .bytes_max = bytes_max });
    }
}

/// As `Copier.copy`.
pub fn copy(copier: *Copier, batch: *const Batch, items: []Item) Error!void {
    const fetcher = copier.fetcher orelse return;
    try check(copier, batch, items);
    try fetcher.run(items, Wholes{ .copier = copier, .batch = batch });
}

/// Of an `.npy` file, which has its header in it as a rule.
const first_bytes = 512;

/// What needs no request to be wrong.
fn check(copier: *Copier, batch: *const Batch, items: []const Item) Error!void {
    for (items) |item| {
        const shard = &copier.dataset.shards.items[item.shard];
        if (!copier.dataset.isFetched(item.shard, item.offset)) continue;
        if (shard.isFolder()) return SharedFiles.refuseFolder(shard.path, &copier.diag);
        if (item.size == 0 and !item.is_checked) _ = try copier.readHeader(.{ .bytes = "" }, batch, item);
    }
}

/// The beginnings of `.npy` files of ragged fields.
const Heads = struct {
    copier: *Copier,
    batch: *Batch,
    bytes_max: u64,
    /// Payloads in between would be read along, only to be fetched again.
    comptime gap_max: u64 = limits.read_gap_max,

    pub fn wants(heads: Heads, item: *const Item) u64 {
        const field = &heads.copier.fields[item.field];
        if (!field.is_ragged or item.is_checked) return 0;
        return @min(item.size, heads.bytes_max);
    }

    pub fn take(heads: Heads, item: *Item, _: u64, bytes: []const u8) Error!void {
        var problem: Npy.Problem = .{};
        const header_bytes = Npy.headerSize(bytes, &problem) catch 0; // It is reported in a moment.
        if (header_bytes > bytes.len and bytes.len < @min(item.size, limits.npy_header_bytes_max)) return;
        const npy = try heads.copier.readHeader(.{ .bytes = bytes }, heads.batch, item.*);
        heads.batch.noteHeader(item, &npy);
    }

    pub fn fail(heads: Heads, item: *const Item, failure: Fetcher.Failure) Error {
        return report(heads.copier, heads.batch, item, failure);
    }
};

/// Payloads on their way into arrays.
const Wholes = struct {
    copier: *Copier,
    batch: *const Batch,
    comptime gap_max: u64 = limits.remote_gap_max,

    pub fn wants(_: Wholes, item: *const Item) u64 {
        return item.size;
    }

    pub fn take(wholes: Wholes, item: *Item, skip: u64, bytes: []const u8) Error!void {
        const copier = wholes.copier;
        if (!item.is_checked and skip == 0) {
            const is_known = item.header <= bytes.len and copier.known[item.field].is(bytes[0..item.header]);
            // One that fits is as long as it was taken to be.
            if (!is_known) _ = try copier.readHeader(.{ .bytes = bytes }, wholes.batch, item.*);
        }
        if (skip + bytes.len <= item.header) return;
        const start: usize = @intCast(item.header -| skip);
        @memcpy(item.target[@intCast(skip + start - item.header)..][0 .. bytes.len - start], bytes[start..]);
    }

    pub fn fail(wholes: Wholes, item: *const Item, failure: Fetcher.Failure) Error {
        return report(wholes.copier, wholes.batch, item, failure);
    }
};

fn report(copier: *Copier, batch: *const Batch, item: *const Item, failure: Fetcher.Failure) error{ReadFailed} {
    var name: [512]u8 = undefined;
    const path = copier.dataset.shards.items[item.shard].path;
    copier.diag.set(.read, "{s}: {s}: wanted {d} bytes at offset {d}, got 0: {s}", .{
        path,         Batch.rowName(copier.dataset, batch.rows[item.at], &copier.fields[item.field], &name),
        item.size,    item.offset,
        failure.text,
    });
    copier.diag.errno = failure.errno;
    copier.diag.setPath(path);
    copier.diag.setRange(item.offset, item.size);
    return error.ReadFailed;
}
