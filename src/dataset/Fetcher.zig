//! Gets payloads of objects out of stores, for one thread: many requests at once, and
//! what they bring is handed on as it comes, in any order.
const Fetcher = @This();

const std = @import("std");
const Batch = @import("Batch.zig");
const Dataset = @import("Dataset.zig");
const Remote = @import("../io/Remote.zig");
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const sync = @import("../base/sync.zig");
const Item = Batch.Item;

/// Borrowed, as the next two.
remote: *Remote,
dataset: *const Dataset,
/// Then nothing is waited for.
is_stopping: *const std.atomic.Value(bool),
client: Remote.Client,
/// Something is done, or everything is to stop.
event: sync.Event = .{},
pulls: [limits.gather_requests_max]Pull = undefined,
/// Pulls that nobody uses.
free: [limits.gather_requests_max]*Pull = undefined,
free_count: usize = 0,

/// A request, and whose bytes it brings.
const Pull = struct {
    request: Remote.Request,
    /// Those between the first and the last may want nothing.
    items: []Item,
};

/// Why something did not come, as the server said.
pub const Failure = Remote.Failure;

pub fn create(gpa: std.mem.Allocator, remote: *Remote, dataset: *const Dataset, is_stopping: *const std.atomic.Value(bool)) error{OutOfMemory}!*Fetcher {
    const fetcher = try gpa.create(Fetcher);
    fetcher.* = .{ .remote = remote, .dataset = dataset, .is_stopping = is_stopping, .client = .{ .remote = remote, .wake = wake } };
    return fetcher;
}

pub fn destroy(fetcher: *Fetcher, gpa: std.mem.Allocator) void {
    gpa.destroy(fetcher);
}

/// From any thread, after `is_stopping` was set.
pub fn stop(fetcher: *Fetcher) void {
    fetcher.event.notify();
}

fn wake(client: *Remote.Client) void {
    const fetcher: *Fetcher = @fieldParentPtr("client", client);
    fetcher.event.notify();
}

/// Get what is wanted of items, which are sorted. `sink` has
///
///     gap_max: u64                           ranges no farther apart share a request
///     wants(sink, *const Item) u64           bytes of the payload, from its first on; 0 for none
///     take(sink, *Item, skip, bytes) !void   some of them, behind `skip` others
///     fail(sink, *const Item, Failure) err   what to return, as these could not be had
pub fn run(fetcher: *Fetcher, items: []Item, sink: anytype) Batch.Error!void {
    for (&fetcher.pulls, &fetcher.free) |*pull, *place| place.* = pull;
    fetcher.free_count = fetcher.free.len;
    // On an error nobody waits for the rest.
    defer fetcher.remote.cancel(&fetcher.client);
    var rest: Rest = .{ .items = items };
    var bytes: u64 = 0;
    while (true) {
        while (fetcher.free_count > 0 and (bytes < limits.gather_fetch_bytes_max or fetcher.client.pending == 0)) {
            const range = rest.next(fetcher.dataset, sink) orelse break;
            bytes += range.size;
            try fetcher.submit(range);
        }
        const pull = try fetcher.wait() orelse return;
        bytes -= pull.request.target.len;
        try deliver(pull, sink);
        fetcher.free[fetcher.free_count] = pull;
        fetcher.free_count += 1;
    }
}

fn submit(fetcher: *Fetcher, range: Rest.Range) error{OutOfMemory}!void {
    const object = try fetcher.remote.objectOf(fetcher.dataset.shards.items[range.items[0].shard].path);
    fetcher.free_count -= 1;
    const pull = fetcher.free[fetcher.free_count];
    // What is lent is not written anywhere: only the size counts.
    const nowhere: [*]u8 = @ptrCast(pull);
    pull.* = .{ .items = range.items, .request = .{
        .client = &fetcher.client,
        .object = object,
        .kind = .read,
        .offset = range.offset,
        .target = nowhere[0..@intCast(range.size)],
        .may_lend = true,
    } };
    fetcher.remote.submit(&pull.request);
}

/// One that is done; null where none is under way.
fn wait(fetcher: *Fetcher) error{Stopped}!?*Pull {
    while (true) {
        if (fetcher.is_stopping.load(.monotonic)) return error.Stopped;
        if (fetcher.client.pending == 0) return null;
        const ticket = fetcher.event.ticket();
        if (fetcher.remote.takeDone(&fetcher.client)) |request| return @fieldParentPtr("request", request);
        if (fetcher.is_stopping.load(.monotonic)) return error.Stopped;
        fetcher.event.wait(ticket, std.time.ns_per_s);
    }
}

fn deliver(pull: *Pull, sink: anytype) Batch.Error!void {
    const request = &pull.request;
    const from = request.offset;
    const end = from + request.target.len;
    if (request.failure) |failure| {
        defer request.client.remote.gpa.free(failure.text);
        return sink.fail(&pull.items[0], failure);
    }
    const lent = request.lent.?; // It succeeded, and may.
    defer lent.giveBack();
    for (pull.items) |*item| {
        const start = @max(item.offset, from);
        const item_end = @min(item.offset +| sink.wants(item), end);
        if (start < item_end) try sink.take(item, start - item.offset, lent.bytes[@intCast(start - from)..@intCast(item_end - from)]);
    }
}

/// What was not asked for yet.
const Rest = struct {
    items: []Item,
    at: usize = 0,
    /// Bytes of the item at `at` that were asked for, where one request is not enough.
    skip: u64 = 0,

    const Range = struct { items: []Item, offset: u64, size: u64 };

    /// Neighbours, or a piece of an item that is too large.
    fn next(rest: *Rest, dataset: *const Dataset, sink: anytype) ?Range {
        while (rest.at < rest.items.len and !isWanted(dataset, &rest.items[rest.at], sink)) rest.at += 1;
        if (rest.at == rest.items.len) return null;
        const first = &rest.items[rest.at];
        const size = sink.wants(first);
        if (size > limits.remote_read_bytes_max) {
            const offset = first.offset + rest.skip;
            const piece = @min(size - rest.skip, limits.remote_read_bytes_max);
            const range: Range = .{ .items = rest.items[rest.at..][0..1], .offset = offset, .size = piece };
            rest.skip += piece;
            if (rest.skip == size) rest.* = .{ .items = rest.items, .at = rest.at + 1 };
            return range;
        }
        const start = rest.at;
        var end = first.offset + size;
        rest.at += 1;
        while (rest.at < rest.items.len) : (rest.at += 1) {
            const item = &rest.items[rest.at];
            if (item.shard != first.shard) break;
            const wanted = sink.wants(item);
            if (wanted == 0) continue;
            // Ranges that overlap in an odd way go apart.
            if (item.offset < first.offset or item.offset > end +| sink.gap_max or item.offset +| wanted -| first.offset > limits.remote_read_bytes_max) break;
            end = @max(end, item.offset + wanted);
        }
        return .{ .items = rest.items[start..rest.at], .offset = first.offset, .size = end - first.offset };
    }

    fn isWanted(dataset: *const Dataset, item: *const Item, sink: anytype) bool {
        return dataset.isFetched(item.shard, item.offset) and sink.wants(item) > 0;
    }
};
