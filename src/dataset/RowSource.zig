//! Rows of a dataset, given to an engine one by one: what a script does, without
//! a script.
const RowSource = @This();

const std = @import("std");
const Dataset = @import("Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Engine = @import("../engine/Engine.zig");
const Numbers = @import("Numbers.zig");
const OpenFile = @import("../engine/OpenFile.zig");
const limits = @import("../base/limits.zig");

gpa: std.mem.Allocator,
/// References of ours, as is the one to the list of `numbers`.
dataset: *Dataset,
numbers: Numbers,
/// The entries to read; null for all. Ours, as are the texts.
keys: ?[]const []const u8,
/// Open files, by shard, and when each was used last.
files: std.AutoHashMapUnmanaged(u32, File) = .empty,
uses: u64 = 0,
/// For each key of the index that was looked at last, whether it is wanted.
wanted: std.ArrayList(bool) = .empty,
wanted_of: ?u32 = null,

const File = struct { handle: f64, file: *OpenFile, used: u64 };

pub const Error = Engine.Error || error{ReadFailed};

/// Takes references of its own and copies the keys.
pub fn init(gpa: std.mem.Allocator, dataset: *Dataset, numbers: Numbers, keys: ?[]const []const u8) error{OutOfMemory}!RowSource {
    const own_keys = if (keys) |texts| try copy(gpa, texts) else null;
    dataset.retain();
    if (numbers.list) |list| list.retain();
    return .{ .gpa = gpa, .dataset = dataset, .numbers = numbers, .keys = own_keys };
}

/// The engine closes what is open.
pub fn deinit(source: *RowSource) void {
    source.files.deinit(source.gpa);
    source.wanted.deinit(source.gpa);
    if (source.keys) |keys| free(source.gpa, keys);
    if (source.numbers.list) |list| list.release();
    source.dataset.release();
}

fn copy(gpa: std.mem.Allocator, texts: []const []const u8) error{OutOfMemory}![]const []const u8 {
    const own = try gpa.alloc([]const u8, texts.len);
    var done: usize = 0;
    errdefer {
        for (own[0..done]) |text| gpa.free(text);
        gpa.free(own);
    }
    for (texts, own) |text, *place| {
        place.* = try gpa.dupe(u8, text);
        done += 1;
    }
    return own;
}

fn free(gpa: std.mem.Allocator, texts: []const []const u8) void {
    for (texts) |text| gpa.free(text);
    gpa.free(texts);
}

/// All rows, in order. Waits while the engine's budget is full.
pub fn run(source: *RowSource, engine: *Engine, diag: *Diagnostics) Error!void {
    var rows: [256]u64 = undefined;
    var done: u64 = 0;
    var shard: u32 = 0;
    while (done < source.numbers.count) {
        const chunk = rows[0..@intCast(@min(rows.len, source.numbers.count - done))];
        source.numbers.fill(done, chunk);
        for (chunk) |row| {
            const place = source.dataset.locate(row, shard);
            shard = place.shard;
            try source.add(engine, place, diag);
        }
        done += chunk.len;
    }
}

/// One row.
pub fn add(source: *RowSource, engine: *Engine, place: Dataset.Place, diag: *Diagnostics) Error!void {
    const index = source.dataset.shards.items[place.shard].index;
    const file = try source.open(engine, place.shard, diag);
    const record = index.record(place.record);
    if (source.keys != null) try source.look(place.shard);
    for (record.keys, record.offsets, record.sizes) |key, offset, size| {
        if (source.keys != null and !source.wanted.items[key]) continue;
        try engine.addEntry(file, index.keyText(key), record.offset +| offset, size);
    }
    try engine.finishRow();
}

/// Which of the keys of a shard's index are wanted.
fn look(source: *RowSource, shard: u32) error{OutOfMemory}!void {
    if (source.wanted_of == shard) return;
    source.wanted_of = null;
    source.wanted.clearRetainingCapacity();
    const index = source.dataset.shards.items[shard].index;
    var id: u32 = 0;
    while (index.hasKey(id)) : (id += 1) {
        const is_wanted = for (source.keys.?) |key| {
            if (std.mem.eql(u8, key, index.keyText(id))) break true;
        } else false;
        try source.wanted.append(source.gpa, is_wanted);
    }
    source.wanted_of = shard;
}

fn open(source: *RowSource, engine: *Engine, shard: u32, diag: *Diagnostics) Error!*OpenFile {
    source.uses += 1;
    if (source.files.getPtr(shard)) |known| {
        known.used = source.uses;
        return known.file;
    }
    if (source.files.count() >= limits.dataset_files_max) try source.closeOldest(engine);
    try source.files.ensureUnusedCapacity(source.gpa, 1);
    const handle = engine.openFile(source.dataset.shards.items[shard].path, diag) catch |err| switch (err) {
        error.ReadFailed, error.OutOfMemory, error.Stopped => |known| return known,
        // There are far fewer, by `dataset_files_max`.
        error.TooManyFiles => return diag.fail(error.ReadFailed, .other, "too many files are open", .{}),
    };
    const file = engine.files.get(handle).?;
    source.files.putAssumeCapacity(shard, .{ .handle = handle, .file = file, .used = source.uses });
    return file;
}

fn closeOldest(source: *RowSource, engine: *Engine) Error!void {
    var oldest: ?u32 = null;
    var used: u64 = std.math.maxInt(u64);
    var entries = source.files.iterator();
    while (entries.next()) |entry| {
        if (entry.value_ptr.used > used) continue;
        used = entry.value_ptr.used;
        oldest = entry.key_ptr.*;
    }
    const removed = source.files.fetchRemove(oldest orelse return) orelse return;
    engine.closeFile(removed.value.handle) catch |err| switch (err) {
        error.BadHandle => {}, // Nobody else closes it.
        error.OutOfMemory, error.Stopped => |known| return known,
    };
}
