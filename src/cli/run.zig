//! Indexes many shards on a few threads: one that fails does not stop the others.

const std = @import("std");
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const sync = @import("../base/sync.zig");
const Indexer = @import("../index/Indexer.zig");

/// Shared by the threads. What is below `lock` is touched only under it.
const Job = struct {
    gpa: Allocator,
    paths: []const [:0]const u8,
    options: Indexer.Options,
    next: std.atomic.Value(usize) = .init(0),

    lock: sync.Mutex = .{},
    shards: u64 = 0,
    samples: u64 = 0,
    entries: u64 = 0,
    bytes: u64 = 0,

    fn work(job: *Job) void {
        while (true) {
            const i = job.next.fetchAdd(1, .monotonic);
            if (i >= job.paths.len) return;
            job.one(job.paths[i]);
        }
    }

    fn one(job: *Job, path: [:0]const u8) void {
        var diag: Diagnostics = .{};
        var summary: Indexer.Summary = .init(job.gpa);
        defer summary.deinit();
        const done = if (Indexer.indexShard(job.gpa, path, job.options, &diag, &summary)) true else |_| false;
        job.lock.lock();
        defer job.lock.unlock();
        for (summary.warnings.items) |warning| complain("warning: {s}", .{warning});
        const unsaid = summary.warnings_count - summary.warnings.items.len;
        if (unsaid > 0) complain("warning: {s}: {d} more warnings", .{ path, unsaid });
        if (!done) return complain("{s}", .{diag.message()});
        job.shards += 1;
        job.samples += summary.samples;
        job.entries += summary.entries;
        job.bytes += summary.bytes;
    }
};

/// Index (or check) every shard, and print the total. False when one failed.
pub fn run(gpa: Allocator, arena: Allocator, paths: []const [:0]const u8, options: Indexer.Options) Allocator.Error!bool {
    var job: Job = .{ .gpa = gpa, .paths = try distinct(arena, paths), .options = options };
    const thread_count = @min(job.paths.len, limits.index_threads_max);
    // This thread works too. One that cannot be started is no reason to give up.
    var threads: [limits.index_threads_max]std.Thread = undefined;
    var started: usize = 0;
    while (started + 1 < thread_count) : (started += 1) {
        threads[started] = std.Thread.spawn(.{}, Job.work, .{&job}) catch break;
    }
    job.work();
    for (threads[0..started]) |thread| thread.join();
    var buffer: [256]u8 = undefined;
    const line = std.fmt.bufPrint(&buffer, "{s} {d} of {d} shards: {d} samples, {d} entries, {d} bytes of payload\n", .{
        if (options.check) "checked" else "indexed", job.shards, job.paths.len, job.samples, job.entries, job.bytes,
    }) catch unreachable; // Six numbers fit.
    return say(line) and job.shards == job.paths.len;
}

/// One of those that lead to the same index.
fn distinct(arena: Allocator, paths: []const [:0]const u8) Allocator.Error![]const [:0]const u8 {
    var seen: std.StringHashMapUnmanaged(void) = .empty;
    var kept: std.ArrayList([:0]const u8) = .empty;
    for (paths) |path| {
        const entry = try seen.getOrPut(arena, try canonical(arena, path));
        if (!entry.found_existing) try kept.append(arena, path);
    }
    return kept.items;
}

/// The directory without links, and the name as it is: a link to a shard in
/// another place has an index of its own.
fn canonical(arena: Allocator, path: [:0]const u8) Allocator.Error![]const u8 {
    const base = if (std.mem.lastIndexOfScalar(u8, path, '/')) |slash| slash + 1 else 0;
    const dir = if (base == 0) "." else try arena.dupeZ(u8, path[0..base]);
    const resolved = realpath(dir, null) orelse return path;
    defer std.c.free(resolved);
    return std.fmt.allocPrint(arena, "{s}/{s}", .{ std.mem.span(resolved), path[base..] });
}
extern "c" fn realpath(path: [*:0]const u8, resolved: ?[*]u8) ?[*:0]u8;

/// To standard output; false when it cannot be written.
pub fn say(text: []const u8) bool {
    switch (os.writeAll(1, text)) {
        .ok => return true,
        .err => |number| {
            var buffer: [128]u8 = undefined;
            complain("cannot write to standard output: {s}", .{os.describe(number, &buffer)});
            return false;
        },
    }
}

/// One line to standard error.
pub fn complain(comptime fmt: []const u8, args: anytype) void {
    var buffer: [Diagnostics.message_max + 256]u8 = undefined;
    var out: std.Io.Writer = .fixed(&buffer);
    out.print("indexer: " ++ fmt, args) catch {}; // Cut when too long.
    const end = @min(out.end, buffer.len - 1);
    buffer[end] = '\n';
    _ = os.writeAll(2, buffer[0 .. end + 1]); // Nowhere is left to say so.
}
