//! Objects in stores, as ranges to read. Nobody here speaks a protocol: *servers*
//! (threads of Python) take the next request, fetch, and answer it by its number.
//!
//! A request is its owner's, then in `queue`, then in `taken` under its number, then in
//! its client's `done`, then its owner's again. `mutex` guards all of that. An answer
//! to a number that is not in `taken` any more, because its client has given up, goes
//! nowhere: whoever fetches late can do no harm, and nobody waits for it.
const Remote = @This();

const std = @import("std");
const Latency = @import("Latency.zig");
const os = @import("../base/os.zig");
const sync = @import("../base/sync.zig");
const url_text = @import("url.zig");

pub const isUrl = url_text.isUrl;

gpa: std.mem.Allocator,
refs: std.atomic.Value(usize) = .init(1),
mutex: sync.Mutex = .{},
/// Work came, or the end.
work_came: sync.Condition = .{},
/// A copy into the memory of a client is over.
copied: sync.Condition = .{},
queue: Queue = .{},
taken: std.AutoHashMapUnmanaged(u64, *Request) = .empty,
last_number: u64 = 0,
/// By URL. Never removed: requests, files and servers refer to them.
objects: std.StringHashMapUnmanaged(*Object) = .empty,
/// Servers that wait for work.
idle: u32 = 0,
closed: bool = false,
/// There is work, and nobody ever asked for some.
wants_servers: std.atomic.Value(bool) = .init(false),
has_servers: bool = false,

/// What a URL stands for. Once it has a size that stays: reads are of that version.
pub const Object = struct {
    url: [:0]const u8,
    /// The same as it may be shown: without a user and a password.
    name: []const u8,
    size: ?u64 = null,
    /// A file of this machine with the same content, for an index.
    local: ?[:0]const u8 = null,
};

pub const Kind = enum(u8) {
    /// Bytes of the object, into `target`.
    read,
    /// Its `size`.
    size,
    /// Its `local` path.
    local,
    /// What lies directly below it: URLs, each with a NUL behind. Lent.
    list,
};

/// Bytes that are another's, until they are given back.
pub const Lent = struct {
    bytes: []const u8,
    owner: *anyopaque,
    /// Once, from any thread.
    return_to: *const fn (owner: *anyopaque) void,

    pub fn giveBack(lent: Lent) void {
        lent.return_to(lent.owner);
    }
};

/// The owner keeps it, and its target, in place until it is in `done`, or `cancel` returns.
pub const Request = struct {
    next: ?*Request = null,
    client: *Client,
    object: *Object,
    kind: Kind,
    offset: u64 = 0,
    target: []u8 = &.{},
    /// Instead of a copy in `target` the answer may be what is lent, to be given back.
    may_lend: bool = false,
    lent: ?Lent = null,
    number: u64 = 0,
    taken_ns: u64 = 0,
    failure: ?Failure = null,
};

pub const Failure = struct {
    /// The number that a kernel would give for the like; 0 where none fits.
    errno: os.Errno,
    /// The owner's of the request, to free.
    text: []const u8,
};

/// Who asks: one thread.
pub const Client = struct {
    remote: *Remote,
    /// Called with the mutex held, when something is done.
    wake: *const fn (client: *Client) void,
    done: Queue = .{},
    /// Requests not taken from `done`.
    pending: u32 = 0,
    /// Copies under way into targets.
    copying: u32 = 0,
    stats: Stats = .{},
};

pub const Stats = struct {
    requests: u64 = 0,
    bytes: u64 = 0,
    /// Requests that had to be sent again.
    retries: u64 = 0,
    latency: Latency = .{},
    /// At this moment.
    pending: u32 = 0,
};

/// What a server is to do. The URL is the object's.
pub const Job = struct {
    number: u64,
    kind: Kind,
    url: [:0]const u8,
    offset: u64,
    size: u64,
    /// Bytes that the object should have, where that is known.
    object_size: ?u64,
    /// More waits than there are servers for.
    is_short: bool,
};

pub const Queue = struct {
    head: ?*Request = null,
    tail: ?*Request = null,

    pub fn push(queue: *Queue, request: *Request) void {
        request.next = null;
        if (queue.tail) |tail| tail.next = request else queue.head = request;
        queue.tail = request;
    }

    pub fn pop(queue: *Queue) ?*Request {
        const request = queue.head orelse return null;
        queue.head = request.next;
        if (queue.head == null) queue.tail = null;
        request.next = null;
        return request;
    }
};

pub fn create(gpa: std.mem.Allocator) error{OutOfMemory}!*Remote {
    const remote = try gpa.create(Remote);
    remote.* = .{ .gpa = gpa };
    return remote;
}

pub fn retain(remote: *Remote) *Remote {
    _ = remote.refs.fetchAdd(1, .monotonic);
    return remote;
}

/// Any thread. Clients have canceled what they asked for.
pub fn release(remote: *Remote) void {
    if (remote.refs.fetchSub(1, .acq_rel) != 1) return;
    const gpa = remote.gpa;
    var objects = remote.objects.valueIterator();
    while (objects.next()) |object| {
        if (object.*.local) |path| gpa.free(path);
        gpa.free(object.*.url);
        gpa.free(object.*.name);
        gpa.destroy(object.*);
    }
    remote.objects.deinit(gpa);
    remote.taken.deinit(gpa);
    gpa.destroy(remote);
}

/// Servers are to end; what is asked for from here on fails.
pub fn close(remote: *Remote) void {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    remote.closed = true;
    remote.work_came.broadcast();
    while (remote.queue.pop()) |request| remote.fail(request, 0, "the store was closed");
}

/// The object of a URL, known from here on. Any thread.
pub fn objectOf(remote: *Remote, url: []const u8) error{OutOfMemory}!*Object {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    if (remote.objects.get(url)) |known| return known;
    try remote.objects.ensureUnusedCapacity(remote.gpa, 1);
    const own_url = try remote.gpa.dupeZ(u8, url);
    errdefer remote.gpa.free(own_url);
    const name = try url_text.nameOf(remote.gpa, url);
    errdefer remote.gpa.free(name);
    const made = try remote.gpa.create(Object);
    made.* = .{ .url = own_url, .name = name };
    remote.objects.putAssumeCapacityNoClobber(own_url, made);
    return made;
}

/// What is already known of an object need not be asked for. Any thread.
pub fn setSize(remote: *Remote, of: *Object, size: u64) void {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    of.size = size;
}

/// The same unless more is known: if the object has another size then reading it fails.
pub fn expectSize(remote: *Remote, of: *Object, size: u64) void {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    if (of.size == null) of.size = size;
}

pub fn sizeOf(remote: *Remote, of: *const Object) ?u64 {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    return of.size;
}

/// On the client's thread. The answer comes to `client.done`, always.
pub fn submit(remote: *Remote, request: *Request) void {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    request.failure = null;
    request.lent = null;
    request.client.pending += 1;
    if (remote.closed) return remote.fail(request, 0, "the store was closed");
    remote.queue.push(request);
    if (remote.has_servers) remote.work_came.signal() else remote.wants_servers.store(true, .seq_cst);
}

/// Whether somebody has to start servers.
pub fn wantsServers(remote: *const Remote) bool {
    return remote.wants_servers.load(.seq_cst);
}

/// What is done, for the client's thread.
pub fn takeDone(remote: *Remote, client: *Client) ?*Request {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    const request = client.done.pop() orelse return null;
    client.pending -= 1;
    return request;
}

/// Give up all that the client has asked for. Its memory is its own when this returns.
pub fn cancel(remote: *Remote, client: *Client) void {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    var others: Queue = .{};
    while (remote.queue.pop()) |request| if (request.client != client) others.push(request);
    remote.queue = others;
    var numbers = remote.taken.iterator();
    // Removing leaves the table in place: iteration goes on.
    while (numbers.next()) |entry| if (entry.value_ptr.*.client == client) remote.taken.removeByPtr(entry.key_ptr);
    while (client.copying > 0) remote.copied.wait(&remote.mutex);
    while (client.done.pop()) |request| {
        if (request.failure) |failure| remote.gpa.free(failure.text);
        if (request.lent) |lent| lent.giveBack();
    }
    client.pending = 0;
}

pub fn statsOf(remote: *Remote, client: *const Client) Stats {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    var stats = client.stats;
    stats.pending = client.pending;
    return stats;
}

/// For servers: waits for work. Null when there will be none any more.
pub fn next(remote: *Remote) ?Job {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    remote.has_servers = true;
    remote.wants_servers.store(false, .seq_cst);
    while (true) {
        if (remote.closed) return null;
        if (remote.queue.head != null) {
            if (remote.take()) |job| return job;
            continue;
        }
        remote.idle += 1;
        remote.work_came.wait(&remote.mutex);
        remote.idle -= 1;
    }
}

fn take(remote: *Remote) ?Job {
    const request = remote.queue.pop().?; // Looked at by the caller.
    remote.last_number += 1;
    request.number = remote.last_number;
    remote.taken.putNoClobber(remote.gpa, request.number, request) catch {
        remote.fail(request, @intFromEnum(std.c.E.NOMEM), "out of memory");
        return null;
    };
    request.taken_ns = os.monotonicNs();
    return .{
        .number = request.number,
        .kind = request.kind,
        .url = request.object.url,
        .offset = request.offset,
        .size = request.target.len,
        .object_size = request.object.size,
        .is_short = remote.queue.head != null and remote.idle == 0,
    };
}

/// For servers: the bytes or the names that were wanted, all of them. `retries`: times that more
/// was sent than one request. They are copied, unless true comes back: then they are
/// kept until they are given back.
pub fn answer(remote: *Remote, number: u64, lent: Lent, retries: u64) bool {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    const bytes = lent.bytes;
    const request = remote.takeBack(number, retries) orelse return false;
    const fits = switch (request.kind) {
        .read => bytes.len == request.target.len,
        .list => request.may_lend,
        .size, .local => false,
    };
    if (!fits) {
        remote.fail(request, @intFromEnum(std.c.E.IO), "the answer has another size than was asked for");
        return false;
    }
    const client = request.client;
    if (request.may_lend) {
        request.lent = lent;
        client.stats.bytes += bytes.len;
        finish(request);
        return true;
    }
    client.copying += 1;
    remote.mutex.unlock();
    @memcpy(request.target, bytes);
    remote.mutex.lock();
    client.copying -= 1;
    client.stats.bytes += bytes.len;
    finish(request);
    remote.copied.broadcast();
    return false;
}

/// For servers: the answer to `size`.
pub fn answerSize(remote: *Remote, number: u64, size: u64, retries: u64) void {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    const request = remote.takeBack(number, retries) orelse return;
    if (request.object.size == null) request.object.size = size;
    finish(request);
}

/// For servers: the answer to `local`. The path is copied.
pub fn answerLocal(remote: *Remote, number: u64, path: []const u8, retries: u64) void {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    const request = remote.takeBack(number, retries) orelse return;
    const own_path = remote.gpa.dupeZ(u8, path) catch return remote.fail(request, @intFromEnum(std.c.E.NOMEM), "out of memory");
    // The one before may still be in use by a reader.
    if (request.object.local == null) request.object.local = own_path else remote.gpa.free(own_path);
    finish(request);
}

/// For servers: it cannot be had.
pub fn answerFailure(remote: *Remote, number: u64, errno: os.Errno, text: []const u8, retries: u64) void {
    remote.mutex.lock();
    defer remote.mutex.unlock();
    const request = remote.takeBack(number, retries) orelse return;
    remote.fail(request, errno, text);
}

/// Null when nobody waits for it any more.
fn takeBack(remote: *Remote, number: u64, retries: u64) ?*Request {
    const found = remote.taken.fetchRemove(number) orelse return null;
    const request = found.value;
    const stats = &request.client.stats;
    stats.requests += 1 +| retries;
    stats.retries += retries;
    stats.latency.add(os.monotonicNs() -| request.taken_ns);
    return request;
}

fn fail(remote: *Remote, request: *Request, errno: os.Errno, text: []const u8) void {
    // Without its text a failure is one still.
    request.failure = .{ .errno = errno, .text = remote.gpa.dupe(u8, text) catch &.{} };
    finish(request);
}

fn finish(request: *Request) void {
    const client = request.client;
    client.done.push(request);
    client.wake(client);
}
