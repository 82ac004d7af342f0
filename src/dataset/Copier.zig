//! Copies payloads from shards into arrays, for one thread: out of a mapping, or
//! by reads that serve neighbours together.
const Copier = @This();

const std = @import("std");
const Batch = @import("Batch.zig");
const Dataset = @import("Dataset.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Fetcher = @import("Fetcher.zig");
const Field = @import("Field.zig");
const Mapping = @import("../io/Mapping.zig");
const Members = @import("Members.zig");
const Npy = @import("Npy.zig");
const OpenFile = @import("../engine/OpenFile.zig");
const Remote = @import("../io/Remote.zig");
const SharedFiles = @import("SharedFiles.zig");
const bus_fault = @import("../io/bus_fault.zig");
const fetched = @import("fetched.zig");
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const Item = Batch.Item;
const Error = Batch.Error;

/// Borrowed, as the next two.
dataset: *const Dataset,
fields: []const Field,
files: *SharedFiles,
/// For shards in stores.
fetcher: ?*Fetcher,
/// Then it is left at that.
is_stopping: *const std.atomic.Value(bool),
members: Members,
/// What is wrong, while something is.
diag: Diagnostics = .{},
/// Of each field the header that was found to be right last.
known: []Known,
pieces: [limits.gather_pieces_max]std.posix.iovec = undefined,
/// What lies between payloads that are read together.
gap: [limits.read_gap_max]u8 = undefined,
/// Headers that were read.
headers: [limits.npy_header_bytes_max]u8 = undefined,

/// A header that comes again need not be parsed again.
const Known = struct {
    len: usize = 0,
    bytes: [known_max]u8 = undefined,

    const known_max = 512;

    pub fn is(known: *const Known, header: []const u8) bool {
        return known.len == header.len and std.mem.eql(u8, known.bytes[0..known.len], header);
    }

    fn set(known: *Known, header: []const u8) void {
        if (header.len > known_max) return;
        @memcpy(known.bytes[0..header.len], header);
        known.len = header.len;
    }
};

pub fn create(gpa: std.mem.Allocator, dataset: *const Dataset, fields: []const Field, files: *SharedFiles, remote: ?*Remote, is_stopping: *const std.atomic.Value(bool)) error{OutOfMemory}!*Copier {
    const copier = try gpa.create(Copier);
    errdefer gpa.destroy(copier);
    const known = try gpa.alloc(Known, fields.len);
    errdefer gpa.free(known);
    const fetcher: ?*Fetcher = if (remote) |of| try .create(gpa, of, dataset, is_stopping) else null;
    errdefer if (fetcher) |one| one.destroy(gpa);
    for (known) |*one| one.len = 0;
    copier.* = .{
        .dataset = dataset,
        .fields = fields,
        .files = files,
        .fetcher = fetcher,
        .is_stopping = is_stopping,
        .members = try .init(gpa, fields.len),
        .known = known,
    };
    return copier;
}

pub fn destroy(copier: *Copier, gpa: std.mem.Allocator) void {
    copier.members.deinit(gpa);
    gpa.free(copier.known);
    if (copier.fetcher) |fetcher| fetcher.destroy(gpa);
    gpa.destroy(copier);
}

/// Items of one shard after the other, of those that are read from files.
const Runs = struct {
    copier: *const Copier,
    items: []Item,
    at: usize = 0,

    fn next(runs: *Runs) ?[]Item {
        while (runs.at < runs.items.len and runs.copier.isFetched(&runs.items[runs.at])) runs.at += 1;
        if (runs.at == runs.items.len) return null;
        const start = runs.at;
        const shard = runs.items[start].shard;
        while (runs.at < runs.items.len and runs.items[runs.at].shard == shard and !runs.copier.isFetched(&runs.items[runs.at])) runs.at += 1;
        return runs.items[start..runs.at];
    }
};

fn isFetched(copier: *const Copier, item: *const Item) bool {
    return copier.fetcher != null and copier.dataset.isFetched(item.shard, item.offset);
}

/// Have the kernel read from storage what is not cached.
pub fn readAhead(copier: *Copier, items: []Item) Error!void {
    var runs: Runs = .{ .copier = copier, .items = items };
    while (runs.next()) |run| {
        const file = try copier.files.acquire(run[0].shard, &copier.diag);
        defer copier.files.release(file);
        var start = run[0].offset;
        var end = start;
        for (run) |item| {
            if (item.offset > end +| limits.read_gap_max or item.offset -| start > limits.read_bytes_max) {
                os.readAhead(file.fd, start, end - start);
                start = item.offset;
            }
            end = @max(end, item.offset +| item.size);
        }
        os.readAhead(file.fd, start, end - start);
    }
}

/// Find out how many rows of elements there are in `.npy` files of ragged fields.
/// From then on their items are without a header.
pub fn measure(copier: *Copier, batch: *Batch) Error!void {
    for (copier.fields) |*field| {
        if (field.is_ragged and field.is_npy) break;
    } else return;
    var runs: Runs = .{ .copier = copier, .items = batch.items.items };
    while (runs.next()) |run| {
        const file = try copier.files.acquire(run[0].shard, &copier.diag);
        defer copier.files.release(file);
        for (run) |*item| {
            if (copier.is_stopping.load(.monotonic)) return error.Stopped;
            const field = &copier.fields[item.field];
            if (!field.is_ragged or !field.is_npy) continue;
            batch.noteHeader(item, &(try copier.readHeader(.{ .file = file }, batch, item.*)));
        }
    }
    try fetched.measure(copier, batch);
}

/// All of them, or an error about one.
pub fn copy(copier: *Copier, batch: *const Batch, items: []Item) Error!void {
    if (copier.files.mode == .mapped) bus_fault.ensure();
    var runs: Runs = .{ .copier = copier, .items = items };
    while (runs.next()) |run| {
        const file = try copier.files.acquire(run[0].shard, &copier.diag);
        defer copier.files.release(file);
        if (file.mapping) |mapping| {
            try copier.copyMapped(file, mapping, batch, run);
        } else try copier.copyRead(file, batch, run);
    }
    try fetched.copy(copier, batch, items);
}

fn copyMapped(copier: *Copier, file: *OpenFile, mapping: *Mapping, batch: *const Batch, run: []Item) Error!void {
    var end_max: u64 = 0;
    for (run, 0..) |item, i| {
        if (copier.is_stopping.load(.monotonic)) return error.Stopped;
        if (i % prefetch_items == 0) prefetch(mapping, run[@min(i + prefetch_items, run.len)..@min(i + 2 * prefetch_items, run.len)]);
        const end = item.offset +| item.size;
        if (end > mapping.bytes.len or item.header == Batch.header_unknown) {
            try copier.copyOne(file, batch, item);
            continue;
        }
        end_max = @max(end_max, end);
        const payload = mapping.bytes[@intCast(item.offset)..@intCast(end)];
        if (!item.is_checked and !copier.known[item.field].is(payload[0..item.header])) {
            try copier.copyOne(file, batch, item);
            continue;
        }
        const elements = payload[item.header..];
        @memcpy(item.target[0..elements.len], elements);
    }
    // What was cut off has zeros in its place, without a signal on the last page.
    const size = switch (os.sizeNow(file.fd)) {
        .ok => |size| size,
        .err => 0,
    };
    if (end_max <= size and !mapping.isLost(end_max)) return;
    for (run) |item| {
        const end = item.offset +| item.size;
        if (end > size or mapping.isLost(end)) try copier.copyOne(file, batch, item);
    }
}

/// The beginnings of payloads and of their pages, which the processor does not
/// foresee. Several at once, so that it looks for their pages at the same time.
fn prefetch(mapping: *const Mapping, items: []const Item) void {
    const size = mapping.bytes.len;
    for (items) |item| {
        if (item.offset >= size or item.size >= size - item.offset) continue;
        const start: usize = @intCast(item.offset);
        const end = start + @as(usize, @intCast(item.size));
        @prefetch(mapping.bytes.ptr + start, .{});
        @prefetch(mapping.bytes.ptr + start + @min(64, item.size), .{});
        const next_page = std.mem.alignForward(usize, start + 1, std.heap.page_size_min);
        if (next_page < end) @prefetch(mapping.bytes.ptr + next_page, .{});
    }
}

const prefetch_items = 4;

/// Neighbours in one system call each.
fn copyRead(copier: *Copier, file: *OpenFile, batch: *const Batch, run: []Item) Error!void {
    var rest = run;
    while (rest.len > 0) {
        if (copier.is_stopping.load(.monotonic)) return error.Stopped;
        const group = copier.gather(rest);
        rest = rest[group.items_count..];
        const items = run[run.len - rest.len - group.items_count ..][0..group.items_count];
        const is_whole = group.pieces_count > 0 and switch (os.preadv(file.fd, copier.pieces[0..group.pieces_count], items[0].offset)) {
            .ok => |got| got == group.bytes,
            .err => false,
        };
        var header_at: usize = 0;
        for (items) |item| {
            const is_good = is_whole and copier.isGood(item, &header_at);
            // With all the checks, and all that can be said of a failure.
            if (!is_good) try copier.copyOne(file, batch, item);
        }
        // Rows that come again.
        const last = items[items.len - 1];
        while (rest.len > 0 and isSame(rest[0], last)) : (rest = rest[1..]) {
            const elements: usize = @intCast(last.size - last.header);
            @memcpy(rest[0].target[0..elements], last.target[0..elements]);
        }
    }
}

fn isSame(a: Item, b: Item) bool {
    return a.offset == b.offset and a.size == b.size and a.field == b.field and a.header == b.header and a.header != Batch.header_unknown;
}

fn isGood(copier: *Copier, item: Item, header_at: *usize) bool {
    if (item.is_checked) return true;
    const header = copier.headers[header_at.*..][0..item.header];
    header_at.* += item.header;
    return copier.known[item.field].is(header);
}

const Group = struct { items_count: usize, pieces_count: usize, bytes: u64 };

/// The pieces for as many neighbours as one call can read, at least one. No pieces
/// where an item is to be read by itself.
fn gather(copier: *Copier, items: []const Item) Group {
    var pieces_count: usize = 0;
    var headers_used: usize = 0;
    const start = items[0].offset;
    var end = start;
    for (items, 0..) |item, i| {
        if (item.header == Batch.header_unknown or item.header > copier.headers.len) return .{ .items_count = @max(i, 1), .pieces_count = pieces_count, .bytes = end - start };
        const is_far = item.offset < end or item.offset - end > copier.gap.len or item.offset +| item.size -| start > limits.read_bytes_max;
        const is_full = pieces_count + 3 > copier.pieces.len or headers_used + item.header > copier.headers.len;
        if (i > 0 and (is_far or is_full)) return .{ .items_count = i, .pieces_count = pieces_count, .bytes = end - start };
        const elements: usize = @intCast(item.size - item.header);
        const header: [*]u8 = copier.headers[headers_used..].ptr;
        for ([_][*]u8{ &copier.gap, header, item.target }, [_]usize{ @intCast(item.offset - end), item.header, elements }) |base, len| {
            if (len == 0) continue;
            copier.pieces[pieces_count] = .{ .base = base, .len = len };
            pieces_count += 1;
        }
        headers_used += item.header;
        end = item.offset + item.size;
    }
    return .{ .items_count = items.len, .pieces_count = pieces_count, .bytes = end - start };
}

/// One payload by plain reads, checked in full.
fn copyOne(copier: *Copier, file: *OpenFile, batch: *const Batch, item: Item) Error!void {
    const header: usize = if (item.is_checked) item.header else (try copier.readHeader(.{ .file = file }, batch, item)).size;
    const size: usize = @intCast(item.size - header);
    try copier.read(file, batch, item, header, item.target[0..size]);
}

/// The header of a payload, which fits the field and the payload. Its `descr` is gone.
pub fn readHeader(copier: *Copier, from: From, batch: *const Batch, item: Item) Error!Npy {
    const field = &copier.fields[item.field];
    const row = batch.rows[item.at];
    var problem: Npy.Problem = .{};
    const start = copier.headers[0..@intCast(@min(item.size, first_bytes))];
    try copier.readStart(from, batch, item, 0, start);
    const npy = blk: {
        const header_size = Npy.headerSize(start, &problem) catch |err| break :blk err;
        const there = copier.headers[0..@intCast(@min(item.size, @max(header_size, start.len)))];
        if (there.len > start.len) try copier.readStart(from, batch, item, start.len, there[start.len..]);
        break :blk Npy.parse(there, &problem);
    } catch {
        return Batch.report(copier.dataset, row, field, item, &copier.diag, "wanted {f}, got no .npy file: {s}", .{ field, problem.text() });
    };
    if (!field.fits(&npy)) {
        return Batch.report(copier.dataset, row, field, item, &copier.diag, "wanted {f}, got {f}", .{ field, Field.Found{ .npy = &npy } });
    }
    const count: u64 = if (field.is_ragged) npy.shape()[0] else 1;
    const wanted = std.math.mul(u64, count, field.bytes) catch std.math.maxInt(u64);
    if (item.size - npy.size != wanted) {
        return Batch.report(copier.dataset, row, field, item, &copier.diag, "wanted {d} bytes for {f} behind its header, got {d}", .{
            wanted, Field.Found{ .npy = &npy }, item.size - npy.size,
        });
    }
    copier.known[item.field].set(copier.headers[0..npy.size]);
    return npy;
}

/// Most headers, whole.
const first_bytes = 128;

/// Where the beginning of a payload is.
pub const From = union(enum) {
    file: *OpenFile,
    /// As many as the payload or a header has.
    bytes: []const u8,
};

fn readStart(copier: *Copier, from: From, batch: *const Batch, item: Item, skip: usize, target: []u8) error{ReadFailed}!void {
    switch (from) {
        .file => |file| try copier.read(file, batch, item, skip, target),
        .bytes => |bytes| @memcpy(target, bytes[skip..][0..target.len]),
    }
}

/// A part of a payload.
fn read(copier: *Copier, file: *OpenFile, batch: *const Batch, item: Item, skip: usize, target: []u8) error{ReadFailed}!void {
    var done: usize = 0;
    var errno: os.Errno = 0;
    while (done < target.len) switch (os.pread(file.fd, target[done..], item.offset +| (skip + done))) {
        .ok => |got| {
            if (got == 0) break;
            done += got;
        },
        .err => |number| {
            errno = number;
            break;
        },
    };
    if (done == target.len) return;
    var name: [512]u8 = undefined;
    var text: [128]u8 = undefined;
    copier.diag.set(.read, "{s}: {s}: wanted {d} bytes at offset {d}, got {d} ({s})", .{
        file.path,   Batch.rowName(copier.dataset, batch.rows[item.at], &copier.fields[item.field], &name),
        item.size,   item.offset,
        skip + done, if (errno == 0) "end of file" else os.describe(errno, &text),
    });
    copier.diag.errno = errno;
    copier.diag.setPath(file.path);
    copier.diag.setRange(item.offset, item.size);
    return error.ReadFailed;
}
