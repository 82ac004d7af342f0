//! One read of a group: a piece of a file into a piece of the group's buffer.
const Read = @This();

const Backend = @import("../io/Backend.zig").Backend;
const Completion = @import("../io/Completion.zig");
const Group = @import("Group.zig");
const OpenFile = @import("OpenFile.zig");
const Remote = @import("../io/Remote.zig");
const limits = @import("../base/limits.zig");
const reading = @import("reading.zig");

completion: Completion,
backend: *Backend,
group: *Group,
file: *OpenFile,
offset: u64,
size: u64,
/// A second try, for one entry alone.
single: bool = false,
/// Instead of the completion, for an object in a store.
request: Remote.Request = undefined,

/// Past the page cache where the file allows it: range and target are then in
/// whole blocks.
pub fn init(backend: *Backend, client: *Remote.Client, group: *Group, file: *OpenFile, offset: u64, target: []u8, is_whole: bool) Read {
    var read = plain(backend, group, file, offset, target);
    if (file.direct) |direct| {
        read.completion.fd = direct.fd;
        read.completion.direct = true;
    }
    if (file.remote) |object| {
        // A piece of a longer range has to lie beside the others.
        const may_lend = is_whole and target.len >= limits.remote_lent_bytes_min;
        read.request = .{ .client = client, .object = object, .kind = .read, .offset = offset, .target = target, .may_lend = may_lend };
    }
    return read;
}

pub fn plain(backend: *Backend, group: *Group, file: *OpenFile, offset: u64, target: []u8) Read {
    return .{
        .completion = .{ .fd = file.fd, .target = target, .offset = offset, .callback = reading.complete },
        .backend = backend,
        .group = group,
        .file = file,
        .offset = offset,
        .size = target.len,
    };
}

pub fn isDirect(read: *const Read) bool {
    return read.completion.direct;
}

pub const Part = struct { entry: u32, offset: u64, size: u64 };

/// The entries of its group that want bytes which this read did not bring,
/// with the bytes that each wants from here.
pub const Parts = struct {
    read: *const Read,
    got: u64,
    next_entry: u32 = 0,

    pub fn next(parts: *Parts) ?Part {
        const read = parts.read;
        const missing_start = read.offset + parts.got;
        const read_end = read.offset + read.size;
        while (parts.next_entry < read.group.entries.items.len) {
            const index = parts.next_entry;
            parts.next_entry += 1;
            const entry = read.group.entries.items[index];
            // Entries that lie beyond the file have no payload and no read.
            if (entry.file != read.file or entry.payload == null) continue;
            const start = @max(entry.offset, missing_start);
            const end = @min(entry.offset + entry.size, read_end);
            if (start < end) return .{ .entry = index, .offset = start, .size = end - start };
        }
        return null;
    }
};

pub fn missingParts(read: *const Read, got: u64) Parts {
    return .{ .read = read, .got = got };
}
