//! A shard to its `.utix`, streaming: memory for one sample at a time, whatever
//! the size of the shard.
const Indexer = @This();

const std = @import("std");
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const container = @import("../container/container.zig");
const quote = @import("../tar/quote.zig").quote;
const sample = @import("../tar/sample.zig");
const Index = @import("../utix/Index.zig");
const Source = @import("../utix/Source.zig");
const utix = @import("../utix/format.zig");
const json = @import("../utix/json.zig");
const writer = @import("../utix/writer.zig");
const Checker = @import("Checker.zig");
const Output = @import("Output.zig");
const Window = @import("Window.zig");
const metadata = @import("metadata.zig");
pub const Summary = @import("Summary.zig");
pub const Rule = metadata.Rule;

gpa: Allocator,
path: []const u8,
format: utix.Format,
diag: *Diagnostics,
summary: *Summary,
window: Window,
selector: *metadata.Selector,
sink: Sink,
builder: sample.Builder,
/// Known when its first bytes are wanted.
kind: container.Kind = .tar,
metadata_map: std.ArrayList(u8) = .empty,

pub const Options = struct {
    format: utix.Format = .msgpack,
    rules: []const Rule = &.{},
    /// Compare the index that is there instead of writing one.
    check: bool = false,
    /// Read payloads that have checksums, and compare.
    verify: bool = false,
    /// Where it turns true, indexing stops with `Stopped`.
    stop: ?*const std.atomic.Value(bool) = null,
};

pub const Error = error{ BadTar, BadShard, BadIndex, BadRule, ReadFailed, WriteFailed, Stopped, OutOfMemory };

const Sink = union(enum) { write: Output, check: Checker };

/// Write `PATH.utix`, or check it. On an error `diag` has the report, and the
/// index that was there before is there still.
pub fn indexShard(gpa: Allocator, path: [:0]const u8, options: Options, diag: *Diagnostics, summary: *Summary) Error!void {
    tryIndex(gpa, path, options, diag, summary) catch |err| {
        switch (err) {
            error.OutOfMemory => diag.set(.memory, "{s}: out of memory while indexing", .{path}),
            error.Stopped => diag.set(.other, "{s}: indexing was stopped", .{path}),
            error.BadTar, error.BadShard, error.BadIndex, error.BadRule, error.ReadFailed, error.WriteFailed => {},
        }
        return err;
    };
}

fn tryIndex(gpa: Allocator, path: [:0]const u8, options: Options, diag: *Diagnostics, summary: *Summary) Error!void {
    var selector: metadata.Selector = try .init(gpa, options.rules, diag);
    defer selector.deinit();
    const fd, const size = try Source.openRegular(path, diag);
    defer os.close(fd);
    const index_path = try std.mem.concatWithSentinel(gpa, u8, &.{ path, utix.suffix }, 0);
    defer gpa.free(index_path);
    const sink: Sink = if (options.check)
        .{ .check = .{ .gpa = gpa, .path = index_path, .index = try .open(gpa, index_path, diag) } }
    else
        .{ .write = try .create(gpa, path, diag) };
    var indexer: Indexer = .{
        .gpa = gpa,
        .path = path,
        .format = options.format,
        .diag = diag,
        .summary = summary,
        .window = .{ .gpa = gpa, .path = path, .fd = fd, .file_size = size },
        .selector = &selector,
        .sink = sink,
        .builder = .init(gpa),
    };
    defer indexer.freeParts();
    const before = modified(fd);
    try indexer.walk(options);
    if (!std.meta.eql(before, modified(fd))) {
        diag.set(.read, "{s}: the file was changed while it was indexed", .{path});
        diag.setPath(path);
        return error.ReadFailed;
    }
    switch (indexer.sink) {
        .write => |*output| try output.commit(diag),
        .check => |*checker| try checker.finish(diag),
    }
}

fn freeParts(indexer: *Indexer) void {
    switch (indexer.sink) {
        inline else => |*sink| sink.deinit(),
    }
    indexer.window.deinit();
    indexer.builder.deinit();
    indexer.metadata_map.deinit(indexer.gpa);
}

fn modified(fd: os.fd_t) ?struct { u64, i128 } {
    return switch (os.fstat(fd)) {
        .ok => |stat| .{ stat.size, stat.mtime_ns },
        .err => null,
    };
}

fn walk(indexer: *Indexer, options: Options) Error!void {
    indexer.kind = container.kindOfName(indexer.path) orelse try indexer.kindOfContent();
    var shard: container.Container = .init(indexer.kind, indexer.gpa, indexer.path, indexer.window.file_size, options.verify);
    defer shard.deinit();
    while (try shard.want(indexer.diag)) |range| {
        if (options.stop) |flag| if (flag.load(.monotonic)) return error.Stopped;
        const bytes = if (range.size == 0) "" else try indexer.window.get(range.offset, range.size, indexer.diag);
        const member = try shard.feed(bytes, indexer.diag) orelse continue;
        try indexer.takeMember(member);
    }
    try indexer.finishSample();
    // An index without a record could not be told from one that was cut to nothing.
    if (indexer.summary.samples == 0) return indexer.bad(0, "{s}", .{shard.emptyText()});
}

fn kindOfContent(indexer: *Indexer) Error!container.Kind {
    const size = indexer.window.file_size;
    var tail: [container.tail_bytes]u8 = undefined;
    if (size >= tail.len) @memcpy(&tail, try indexer.window.get(size - tail.len, tail.len, indexer.diag));
    const head: []const u8 = if (size == 0) "" else try indexer.window.get(0, @intCast(@min(size, container.head_bytes)), indexer.diag);
    return container.kindOfContent(indexer.path, head, if (size >= tail.len) &tail else "");
}

fn takeMember(indexer: *Indexer, member: container.Member) Error!void {
    const parts = member.parts;
    if (!indexer.builder.continues(parts.stem)) try indexer.finishSample();
    if (indexer.builder.count() == limits.record_members_max) return indexer.bad(member.offset, "sample {f} has more than {d} members", .{ quote(parts.stem), limits.record_members_max });
    const repeated = try indexer.builder.add(parts, member.offset, member.size);
    if (repeated) try indexer.summary.warn("{s}: sample {f} has the key {f} twice, again at offset {d}; both are in the index", .{
        indexer.path, quote(parts.stem), quote(parts.key), member.offset,
    });
    if (indexer.selector.wants(parts.key)) try indexer.takeMetadata(parts.key, member);
    indexer.summary.entries += 1;
    indexer.summary.bytes += member.size; // Within the file, so within 2^63.
}

fn takeMetadata(indexer: *Indexer, key: []const u8, member: container.Member) Error!void {
    if (member.size > limits.metadata_payload_bytes_max) return indexer.bad(member.offset, "member {f} has {d} bytes, and metadata rules read at most {d}", .{ quote(member.name), member.size, limits.metadata_payload_bytes_max });
    const payload = try indexer.window.get(member.offset, @intCast(member.size), indexer.diag); // Bounded just above.
    var parser: json.Parser = undefined;
    indexer.selector.take(key, payload, &parser) catch |err| switch (err) {
        error.OutOfMemory => return error.OutOfMemory,
        error.Malformed => {
            var buffer: [16]u8 = undefined;
            return indexer.bad(member.offset, "member {f} is malformed JSON at its byte {d}: wanted {s}, got {s}", .{
                quote(member.name), parser.at, parser.wanted, parser.got(&buffer),
            });
        },
    };
}

fn finishSample(indexer: *Indexer) Error!void {
    if (indexer.builder.count() == 0) return;
    const made = indexer.builder.sample();
    indexer.metadata_map.items.len = 0;
    try indexer.selector.finish(&indexer.metadata_map);
    const record: utix.Record = .{
        .iidx = indexer.summary.samples,
        .offset = made.offset,
        .stem = made.stem,
        .keys = made.keys,
        .offsets = made.offsets,
        .sizes = made.sizes,
        .metadata = indexer.metadata_map.items,
    };
    switch (indexer.sink) {
        .write => |*output| {
            writer.append(indexer.gpa, &output.pending, indexer.format, record) catch |err| switch (err) {
                error.OutOfMemory => return error.OutOfMemory,
                error.TooLong => unreachable, // Names have a bound far below 4 GiB.
            };
            try output.flushSome(indexer.diag);
        },
        .check => |*checker| try checker.compare(record, indexer.diag),
    }
    indexer.summary.samples += 1;
    indexer.builder.clear();
}

fn bad(indexer: *const Indexer, offset: u64, comptime fmt: []const u8, args: anytype) error{ BadTar, BadShard } {
    indexer.diag.set(if (indexer.kind == .tar) .tar_format else .shard_format, "{s}: at offset {d}: " ++ fmt, .{ indexer.path, offset } ++ args);
    indexer.diag.setPath(indexer.path);
    indexer.diag.setRange(offset, 0);
    return if (indexer.kind == .tar) error.BadTar else error.BadShard;
}
