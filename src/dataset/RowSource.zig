//! Rows of a dataset, given to an engine one by one: what a script does, without
//! a script.
const RowSource = @This();

const std = @import("std");
const Dataset = @import("Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Engine = @import("../engine/Engine.zig");
const OpenFile = @import("../engine/OpenFile.zig");
const OpenShards = @import("OpenShards.zig");
const View = @import("View.zig");
const fetching = @import("../engine/fetching.zig");

gpa: std.mem.Allocator,
/// With references of ours.
view: View,
/// The entries to read; null for all. Ours, as are the texts.
keys: ?[]const []const u8,
files: OpenShards,
/// For each key of the index that was looked at last, whether it is wanted.
wanted: std.ArrayList(bool) = .empty,
wanted_of: ?u32 = null,

pub const Error = Engine.Error || error{ReadFailed};

/// Takes references of its own and copies the keys.
pub fn init(gpa: std.mem.Allocator, view: View, keys: ?[]const []const u8, files_max: u32) error{OutOfMemory}!RowSource {
    const own_keys = if (keys) |texts| try copy(gpa, texts) else null;
    return .{ .gpa = gpa, .view = view.retain(), .keys = own_keys, .files = .{ .gpa = gpa, .max = files_max } };
}

/// The engine closes what is open.
pub fn deinit(source: *RowSource) void {
    source.files.deinit();
    source.wanted.deinit(source.gpa);
    if (source.keys) |keys| free(source.gpa, keys);
    source.view.release();
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
    var places: [rows.len]Dataset.Place = undefined;
    var done: u64 = 0;
    var shard: u32 = 0;
    const numbers = &source.view.numbers;
    while (done < numbers.count) {
        const chunk = rows[0..@intCast(@min(rows.len, numbers.count - done))];
        numbers.fill(done, chunk);
        for (chunk, places[0..chunk.len]) |row, *place| {
            place.* = source.view.dataset.locate(row, shard);
            shard = place.shard;
        }
        for (places[0..chunk.len], 0..) |place, i| {
            source.prefetch(places[0..chunk.len], i);
            try source.add(engine, place, diag);
        }
        done += chunk.len;
    }
}

/// What rows a little further on need of the indexes, which lie anywhere in memory.
fn prefetch(source: *const RowSource, places: []const Dataset.Place, i: usize) void {
    const shards = source.view.dataset.shards.items;
    if (i + 16 < places.len) shards[places[i + 16].shard].index.columns.prefetchBlock(places[i + 16].record);
    if (i + 8 < places.len) shards[places[i + 8].shard].index.prefetch(places[i + 8].record);
}

/// One row.
pub fn add(source: *RowSource, engine: *Engine, place: Dataset.Place, diag: *Diagnostics) Error!void {
    const shard = &source.view.dataset.shards.items[place.shard];
    const index = shard.index;
    const file = if (shard.isFolder()) null else try source.open(engine, place.shard, diag);
    const record = index.record(place.record);
    if (source.keys != null) try source.look(place.shard);
    for (record.keys, record.offsets, record.sizes) |key, offset, size| {
        if (source.keys != null and !source.wanted.items[key]) continue;
        const name = index.keyText(key);
        if (file) |of_all| {
            try engine.addEntry(of_all, name, record.offset +| offset, size);
        } else try source.addFile(engine, shard.path, record.stem, name, size, diag);
    }
    try engine.finishRow();
}

/// An entry that is a file of a folder.
fn addFile(source: *RowSource, engine: *Engine, folder: []const u8, stem: []const u8, key: []const u8, size: u64, diag: *Diagnostics) Error!void {
    const path = try std.mem.concat(source.gpa, u8, &.{ folder, stem, key });
    defer source.gpa.free(path);
    if (leavesFolder(path[folder.len..])) {
        diag.set(.index_format, "{s}: the index of a folder names a file outside of it", .{path});
        diag.setPath(path);
        return error.ReadFailed;
    }
    try fetching.expectSize(engine, path, size);
    const opened = try openPath(engine, path, diag);
    if (opened.file.size != size) {
        const got = opened.file.size;
        try closeFile(engine, opened.handle);
        diag.set(.read, "{s}: the file has {d} bytes, and had {d} when its folder was indexed", .{ path, got, size });
        diag.setPath(path);
        return error.ReadFailed;
    }
    try engine.addEntry(opened.file, key, 0, size);
    try closeFile(engine, opened.handle); // Read all the same.
}

/// Indexes are not trusted: they may name what lies below their folder, and nothing else.
fn leavesFolder(name: []const u8) bool {
    if (std.mem.indexOfScalar(u8, name, 0) != null) return true;
    var parts = std.mem.splitScalar(u8, name, '/');
    while (parts.next()) |part| if (std.mem.eql(u8, part, "..")) return true;
    return false;
}

/// Which of the keys of a shard's index are wanted.
fn look(source: *RowSource, shard: u32) error{OutOfMemory}!void {
    if (source.wanted_of == shard) return;
    source.wanted_of = null;
    source.wanted.clearRetainingCapacity();
    const index = source.view.dataset.shards.items[shard].index;
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
    if (source.files.get(shard)) |known| return known.file;
    if (source.files.evict()) |oldest| try closeFile(engine, oldest.handle);
    try source.files.reserve();
    const opened = try openPath(engine, source.view.dataset.shards.items[shard].path, diag);
    source.files.put(shard, opened);
    return opened.file;
}

fn openPath(engine: *Engine, path: []const u8, diag: *Diagnostics) Error!OpenShards.File {
    const handle = engine.openFile(path, diag) catch |err| switch (err) {
        error.ReadFailed, error.OutOfMemory, error.Stopped => |known| return known,
        // There are far fewer, by `dataset_files_max`.
        error.TooManyFiles => return diag.fail(error.ReadFailed, .other, "too many files are open", .{}),
    };
    return .{ .handle = handle, .file = engine.files.get(handle).? };
}

fn closeFile(engine: *Engine, handle: f64) Error!void {
    engine.closeFile(handle) catch |err| switch (err) {
        error.BadHandle => {}, // Nobody else closes it.
        error.OutOfMemory, error.Stopped => |known| return known,
    };
}
