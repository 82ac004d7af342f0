//! The promises of `Backend`, held against io_uring and threads alike.

const std = @import("std");
const testing = std.testing;
const c = std.c;
const linux = std.os.linux;
const limits = @import("../base/limits.zig");
const os = @import("../base/os.zig");
const Diagnostics = @import("../base/Diagnostics.zig");
const Backend = @import("Backend.zig").Backend;
const Completion = @import("Completion.zig");

/// A read of a test, with what came of it.
const Read = struct {
    completion: Completion,
    answers: u32 = 0,
    result: Completion.Result = .ok,
    buffer: [64]u8 = undefined,
    /// For callbacks that do something.
    backend: ?*Backend = null,
    left: u32 = 0,

    fn init(read: *Read, fd: os.fd_t, offset: u64, size: usize) void {
        read.* = .{ .completion = .{ .fd = fd, .target = read.buffer[0..size], .offset = offset, .callback = note } };
    }

    fn note(completion: *Completion, result: Completion.Result) void {
        const read: *Read = @alignCast(@fieldParentPtr("completion", completion));
        std.debug.assert(completion.state == .idle);
        read.answers += 1;
        read.result = result;
    }

    /// Submits itself again until `left` is used up.
    fn again(completion: *Completion, result: Completion.Result) void {
        note(completion, result);
        const read: *Read = @alignCast(@fieldParentPtr("completion", completion));
        if (read.left == 0) return;
        read.left -= 1;
        read.backend.?.submit(completion);
    }

    fn expectFailure(read: *const Read, code: ?c.E, got: u64) !void {
        try testing.expectEqual(1, read.answers);
        const errno = if (code) |known| Completion.number(known) else 0;
        try testing.expectEqual(Completion.Failure{ .errno = errno, .got = got }, read.result.failed);
    }
};

const content_bytes = 4096 * 5 + 17;

/// Byte `place` of the file that every test reads.
fn byteAt(place: usize) u8 {
    return @truncate(place *% 31 +% place / 256);
}

const Fixture = struct {
    backend: Backend,
    fd: os.fd_t,

    fn init(fixture: *Fixture, setup: Setup) !void {
        var diag: Diagnostics = .{};
        fixture.backend.init(setup.choice, setup.threads, &diag) catch |err| {
            std.log.warn("{s}", .{diag.message()});
            return switch (err) {
                error.BackendMissing => error.SkipZigTest,
            };
        };
        errdefer fixture.backend.deinit();
        var content: [content_bytes]u8 = undefined;
        for (&content, 0..) |*byte, place| byte.* = byteAt(place);
        fixture.fd = switch (os.open(".", .{ .ACCMODE = .RDWR, .TMPFILE = true, .DIRECTORY = true, .CLOEXEC = true }, 0o600)) {
            .ok => |fd| fd, // Of a file system that says what is cached, as a rule.
            .err => c.memfd_create("backend-test", c.MFD.CLOEXEC),
        };
        try testing.expect(fixture.fd >= 0);
        try testing.expectEqual(os.Result(void){ .ok = {} }, os.writeAll(fixture.fd, &content));
    }

    fn deinit(fixture: *Fixture) void {
        os.close(fixture.fd);
        fixture.backend.deinit();
    }

    fn drain(fixture: *Fixture) void {
        while (fixture.backend.inFlight() > 0) fixture.backend.tick(.block);
    }
};

const Setup = struct { choice: Backend.Choice, threads: u32 = 0 };

/// Threads first: where io_uring is missing, the rest of the test is skipped.
const setups = [_]Setup{
    .{ .choice = .threads },
    .{ .choice = .threads, .threads = 3 },
    .{ .choice = .uring },
    .{ .choice = .uring, .threads = 3 },
};

test "thousands of reads beyond what may be in flight are each answered once, with their bytes" {
    for (setups) |setup| {
        var fixture: Fixture = undefined;
        try fixture.init(setup);
        defer fixture.deinit();
        const reads = try testing.allocator.alloc(Read, limits.in_flight_max * 30 + 7);
        defer testing.allocator.free(reads);
        for (reads, 0..) |*read, index| {
            read.init(fixture.fd, (index * 97) % (content_bytes - 64), 1 + index % 64);
            fixture.backend.submit(&read.completion);
        }
        try testing.expectEqual(reads.len, fixture.backend.inFlight());
        fixture.drain();
        for (reads) |*read| {
            try testing.expectEqual(1, read.answers);
            try testing.expectEqual(Completion.Result.ok, read.result);
            for (read.completion.target, 0..) |byte, place|
                try testing.expectEqual(byteAt(@intCast(read.completion.offset + place)), byte);
        }
    }
}

test "each failure has its number, and the reads beside it do not notice" {
    const memory = os.open("/proc/self/mem", .{ .CLOEXEC = true }, 0);
    defer if (memory == .ok) os.close(memory.ok);
    const directory = os.open("/tmp", .{ .CLOEXEC = true }, 0);
    defer if (directory == .ok) os.close(directory.ok);
    for (setups) |setup| {
        var fixture: Fixture = undefined;
        try fixture.init(setup);
        defer fixture.deinit();
        var reads: [9]Read = undefined;
        reads[0].init(fixture.fd, 0, 64);
        reads[1].init(fixture.fd, content_bytes - 10, 64);
        reads[2].init(fixture.fd, content_bytes + 1000, 8);
        reads[3].init(-1, 0, 8);
        reads[4].init(memory.ok, 0, 8);
        reads[5].init(directory.ok, 0, 8);
        reads[6].init(fixture.fd, std.math.maxInt(u64), 8);
        reads[7].init(fixture.fd, 0, 0);
        reads[8].init(fixture.fd, content_bytes - 64, 64);
        for (&reads) |*read| fixture.backend.submit(&read.completion);
        fixture.drain();
        try testing.expectEqual(Completion.Result.ok, reads[0].result);
        try reads[1].expectFailure(null, 10);
        try reads[2].expectFailure(null, 0);
        try reads[3].expectFailure(.BADF, 0);
        try reads[4].expectFailure(.IO, 0);
        try reads[5].expectFailure(.ISDIR, 0);
        try reads[6].expectFailure(.INVAL, 0);
        try testing.expectEqual(Completion.Result.ok, reads[7].result);
        try testing.expectEqual(Completion.Result.ok, reads[8].result);
        for (&reads) |*read| try testing.expect(!read.completion.abandoned);
    }
}

test "a callback may submit, and polling ends" {
    for (setups) |setup| {
        var fixture: Fixture = undefined;
        try fixture.init(setup);
        defer fixture.deinit();
        var reads: [3]Read = undefined;
        for (&reads, 0..) |*read, index| {
            // The last one needs no kernel, and still gets one turn a tick.
            read.init(fixture.fd, 0, if (index == 2) 0 else 64);
            read.completion.callback = Read.again;
            read.backend = &fixture.backend;
            read.left = 50;
            fixture.backend.submit(&read.completion);
        }
        fixture.backend.tick(.poll);
        try testing.expect(reads[2].answers <= 1);
        while (fixture.backend.inFlight() > 0) fixture.backend.tick(.poll);
        for (&reads) |*read| try testing.expectEqual(51, read.answers);
    }
}

fn wakeLater(backend: *Backend, count: *std.atomic.Value(u32)) void {
    const pause: linux.timespec = .{ .sec = 0, .nsec = 20 * std.time.ns_per_ms };
    _ = linux.nanosleep(&pause, null);
    _ = count.fetchAdd(1, .seq_cst);
    backend.wake();
}

test "a wake-up ends a wait, whether it comes before or from another thread meanwhile" {
    for (setups) |setup| {
        var fixture: Fixture = undefined;
        try fixture.init(setup);
        defer fixture.deinit();
        fixture.backend.wake();
        fixture.backend.wake();
        fixture.backend.tick(.poll); // Does not use it up.
        fixture.backend.tick(.block);
        for (0..3) |_| {
            var count: std.atomic.Value(u32) = .init(0);
            const thread = try std.Thread.spawn(.{}, wakeLater, .{ &fixture.backend, &count });
            fixture.backend.tick(.block);
            try testing.expectEqual(1, count.load(.seq_cst)); // It did wait.
            thread.join();
        }
    }
}

const Pinger = struct {
    backend: *Backend,
    asked: std.atomic.Value(u32) = .init(0),
    seen: std.atomic.Value(u32) = .init(0),
    event: @import("../base/sync.zig").Event = .{},

    const rounds = 3000;

    /// One wake-up for each round, each only after the one before was seen: a
    /// single one lost, and both sides wait for ever.
    fn run(pinger: *Pinger) void {
        for (1..rounds + 1) |round| {
            pinger.asked.store(@intCast(round), .seq_cst);
            pinger.backend.wake();
            while (true) {
                const ticket = pinger.event.ticket();
                if (pinger.seen.load(.seq_cst) == round) break;
                pinger.event.wait(ticket, std.time.ns_per_s);
            }
        }
    }
};

test "no wake-up is lost in thousands, with reads under way" {
    for (setups) |setup| {
        var fixture: Fixture = undefined;
        try fixture.init(setup);
        defer fixture.deinit();
        var read: Read = undefined;
        read.init(fixture.fd, 0, 64);
        var pinger: Pinger = .{ .backend = &fixture.backend };
        const thread = try std.Thread.spawn(.{}, Pinger.run, .{&pinger});
        defer thread.join();
        while (pinger.seen.load(.seq_cst) < Pinger.rounds) {
            const asked = pinger.asked.load(.seq_cst);
            if (asked % 3 == 0 and read.completion.state == .idle) fixture.backend.submit(&read.completion);
            pinger.seen.store(asked, .seq_cst);
            pinger.event.notify();
            if (asked < Pinger.rounds) fixture.backend.tick(.block);
        }
        fixture.drain();
    }
}

test "cancelAll brings every read to an end, and then reads work again" {
    for (setups) |setup| {
        var fixture: Fixture = undefined;
        try fixture.init(setup);
        defer fixture.deinit();
        var pipe: [2]c.fd_t = undefined;
        try testing.expectEqual(0, c.pipe(&pipe));
        defer for (pipe) |fd| os.close(fd);
        const reads = try testing.allocator.alloc(Read, 1000);
        defer testing.allocator.free(reads);
        for (reads, 0..) |*read, index| {
            // With io_uring, some that never end by themselves.
            const endless = setup.choice == .uring and index % 16 == 0;
            read.init(if (endless) pipe[0] else fixture.fd, 0, 64);
            fixture.backend.submit(&read.completion);
        }
        fixture.backend.tick(.poll);
        fixture.backend.cancelAll();
        fixture.backend.cancelAll();
        fixture.drain();
        var canceled: u32 = 0;
        for (reads) |*read| switch (read.result) {
            .ok => try testing.expectEqual(1, read.answers),
            .failed => {
                try read.expectFailure(.CANCELED, 0);
                canceled += 1;
            },
        };
        try testing.expect(canceled > 0);
        reads[1].init(fixture.fd, 0, 64);
        fixture.backend.submit(&reads[1].completion);
        fixture.drain();
        try testing.expectEqual(Completion.Result.ok, reads[1].result);
        fixture.backend.cancelAll(); // Nothing to cancel: no effect on later ones.
        fixture.backend.submit(&reads[1].completion);
        fixture.drain();
        try testing.expectEqual(Completion.Result.ok, reads[1].result);
    }
}

test "a ring that breaks fails what is pending, takes no more, and can still wait" {
    var fixture: Fixture = undefined;
    try fixture.init(.{ .choice = .uring });
    defer fixture.deinit();
    const reads = try testing.allocator.alloc(Read, limits.in_flight_max + 50);
    defer testing.allocator.free(reads);
    for (reads) |*read| {
        read.init(fixture.fd, 0, 64);
        fixture.backend.submit(&read.completion);
    }
    // What a host does that closes descriptors which are not its own.
    try testing.expectEqual(fixture.backend.uring.ring.fd, c.dup2(fixture.fd, fixture.backend.uring.ring.fd));
    fixture.drain();
    for (reads) |*read| {
        try read.expectFailure(.OPNOTSUPP, 0);
        try testing.expect(!read.completion.abandoned); // The kernel never saw them.
    }
    var count: std.atomic.Value(u32) = .init(0);
    const thread = try std.Thread.spawn(.{}, wakeLater, .{ &fixture.backend, &count });
    fixture.backend.tick(.block);
    try testing.expectEqual(1, count.load(.seq_cst));
    thread.join();
    fixture.backend.cancelAll();
    reads[0].answers = 0;
    fixture.backend.submit(&reads[0].completion);
    fixture.drain();
    try reads[0].expectFailure(.OPNOTSUPP, 0);
}

test "reads that the kernel holds when the ring breaks are marked as abandoned" {
    var fixture: Fixture = undefined;
    try fixture.init(.{ .choice = .uring });
    defer fixture.deinit();
    var pipe: [2]c.fd_t = undefined;
    try testing.expectEqual(0, c.pipe(&pipe));
    defer for (pipe) |fd| os.close(fd);
    const held = &struct {
        var read: Read = undefined; // The kernel may write to it for good.
    }.read;
    held.init(pipe[0], 0, 64);
    fixture.backend.submit(&held.completion);
    fixture.backend.tick(.poll);
    try testing.expectEqual(0, held.answers);
    try testing.expectEqual(fixture.backend.uring.ring.fd, c.dup2(fixture.fd, fixture.backend.uring.ring.fd));
    fixture.drain();
    try held.expectFailure(.OPNOTSUPP, 0);
    try testing.expect(held.completion.abandoned);
}

test "without a free descriptor, auto takes threads and says why, and uring refuses" {
    var old: linux.rlimit = undefined;
    try testing.expectEqual(0, c.getrlimit(.NOFILE, &old));
    const none: linux.rlimit = .{ .cur = 0, .max = old.max };
    try testing.expectEqual(0, c.setrlimit(.NOFILE, &none));
    defer _ = c.setrlimit(.NOFILE, &old);
    var diag: Diagnostics = .{};
    var backend: Backend = undefined;
    try testing.expectError(error.BackendMissing, backend.init(.uring, 0, &diag));
    try testing.expect(std.mem.startsWith(u8, diag.message(), "io=\"uring\" was asked for, but "));
    try backend.init(.auto, 0, &diag);
    defer backend.deinit();
    try testing.expectEqualStrings("threads", backend.name());
    try testing.expect(backend.reason().len > 0);
}

test "threads that were asked for need no reason" {
    var diag: Diagnostics = .{};
    var backend: Backend = undefined;
    try backend.init(.threads, 0, &diag);
    defer backend.deinit();
    try testing.expectEqualStrings("", backend.reason());
}
