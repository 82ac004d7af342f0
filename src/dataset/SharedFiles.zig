//! The shards that several threads read from at once, the least recently used of
//! which are closed when no thread needs them.
const SharedFiles = @This();

const std = @import("std");
const Dataset = @import("Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const File = @import("../io/File.zig");
const Mapping = @import("../io/Mapping.zig");
const OpenFile = @import("../engine/OpenFile.zig");
const OpenShards = @import("OpenShards.zig");
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const sync = @import("../base/sync.zig");

gpa: std.mem.Allocator,
/// The owner.
dataset: *const Dataset,
mode: Mode,
/// Of all below.
mutex: sync.Mutex = .{},
open: OpenShards,
open_count: usize = 0,
first_lost: Mapping.First = .init(null),

pub const Mode = enum {
    read,
    mapped,

    /// How to do what the user wants: rows are copied in any case.
    pub fn of(dataset: *const Dataset, access: OpenFile.Access) Mode {
        return switch (access) {
            .auto => if (staysInMemory(dataset)) .mapped else .read,
            .mmap => .mapped,
            // Blocks that are read past the page cache begin where no row does, so
            // they would have to be copied once more.
            .read, .direct => .read,
        };
    }
};

pub fn create(gpa: std.mem.Allocator, dataset: *const Dataset, mode: Mode) error{OutOfMemory}!*SharedFiles {
    const files = try gpa.create(SharedFiles);
    const access: OpenFile.Access = if (mode == .mapped) .mmap else .read;
    files.* = .{
        .gpa = gpa,
        .dataset = dataset,
        .mode = mode,
        .open = .{ .gpa = gpa, .max = OpenShards.maxFor(os.descriptorsMax(), access) },
    };
    return files;
}

/// Whether the shards are in memory after an epoch, so that pages which are mapped
/// once are there for good. Else each row would cost a fault, more than a read does.
fn staysInMemory(dataset: *const Dataset) bool {
    var left = os.memoryBytes() / limits.gather_mapped_share;
    for (dataset.shards.items) |shard| {
        if (shard.index.count == 0) continue;
        const last = shard.index.record(shard.index.count - 1);
        var end: u64 = 0;
        for (last.offsets, last.sizes) |offset, size| end = @max(end, last.offset +| offset +| size);
        if (end > left) return false;
        left -= end;
    }
    return true;
}

/// No thread may have a file.
pub fn destroy(files: *SharedFiles) void {
    for (files.open.slots.items) |slot| close(slot.file.file);
    files.open.deinit();
    if (files.first_lost.raw) |mapping| mapping.release();
    files.gpa.destroy(files);
}

/// The file of a shard, for as long as the caller needs it, and then `release`.
pub fn acquire(files: *SharedFiles, shard: u32, diag: *Diagnostics) error{ ReadFailed, OutOfMemory }!*OpenFile {
    if (files.find(shard)) |file| return file;
    const of = &files.dataset.shards.items[shard];
    const path = of.path;
    if (of.isFolder()) return refuseFolder(path, diag);
    // Without the lock, as it may take as long as the network.
    const opened = try File.open(path, diag);
    os.adviseFile(opened.fd, true); // We tell the kernel what to read ahead.

    files.mutex.lock();
    defer files.mutex.unlock();
    if (files.open.get(shard)) |quicker| {
        os.close(opened.fd);
        quicker.file.use();
        return quicker.file;
    }
    const file: *OpenFile = blk: {
        errdefer os.close(opened.fd);
        try files.open.reserve();
        break :blk try .own(files.gpa, path, opened, &files.open_count);
    };
    errdefer close(file);
    _ = try file.allow(if (files.mode == .mapped) .mmap else .read, &files.first_lost); // Else it is read.
    if (file.mapping) |mapping| os.adviseMapping(mapping.bytes, true);
    if (files.open.evict()) |oldest| close(oldest.file);
    files.open.put(shard, .{ .handle = 0, .file = file });
    file.use();
    return file;
}

/// Its rows are files of their own, of which there may be too many to be open.
pub fn refuseFolder(path: []const u8, diag: *Diagnostics) error{ReadFailed} {
    diag.set(.read, "{s}: rows of a folder cannot be read into declared arrays; use a function to collate them", .{path});
    diag.setPath(path);
    return error.ReadFailed;
}

fn find(files: *SharedFiles, shard: u32) ?*OpenFile {
    files.mutex.lock();
    defer files.mutex.unlock();
    const found = files.open.get(shard) orelse return null;
    found.file.use();
    return found.file;
}

pub fn release(files: *SharedFiles, file: *OpenFile) void {
    files.mutex.lock();
    defer files.mutex.unlock();
    close(file);
}

/// Gives up one use of it and one reference to it.
fn close(file: *OpenFile) void {
    file.endUse();
    file.release();
}
