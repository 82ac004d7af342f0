//! The simulated backend keeps the promises that tests of the engine rely on.

const std = @import("std");
const testing = std.testing;
const limits = @import("../base/limits.zig");
const Backend = @import("Backend.zig").Backend;
const Completion = @import("Completion.zig");
const Sim = @import("Sim.zig");

const content = "a shard, sixty-four bytes of it, for the reads below to land in.";

const Read = struct {
    completion: Completion,
    answers: u32 = 0,
    failure: ?Completion.Failure = null,
    target: [8]u8 = undefined,

    fn init(read: *Read, fd: i32, offset: u64) void {
        read.* = .{ .completion = .{ .fd = fd, .target = &read.target, .offset = offset, .callback = note } };
    }

    fn note(completion: *Completion, result: Completion.Result) void {
        const read: *Read = @alignCast(@fieldParentPtr("completion", completion));
        read.answers += 1;
        read.failure = if (result == .failed) result.failed else null;
    }
};

/// What can be told apart about a run.
fn runSeed(seed: u64) !u64 {
    var backend: Backend = .{ .sim = .init(.{
        .seed = seed,
        .files = &.{ "", content },
        .fail_percent = 10,
        .short_percent = 50,
        .delay_percent = 30,
    }) };
    defer backend.deinit();
    var reads: [limits.in_flight_max + 20]Read = undefined;
    for (&reads, 0..) |*read, index| {
        read.init(if (index % 11 == 10) 7 else 1, index % 9 * 8);
        backend.submit(&read.completion);
    }
    var trace: std.hash.Wyhash = .init(0);
    var ticks: u32 = 0;
    while (backend.inFlight() > 0) : (ticks += 1) {
        if (seed % 5 == 4 and ticks == 1) backend.cancelAll();
        backend.tick(if (seed % 2 == 0) .poll else .block);
        for (&reads) |*read| trace.update(std.mem.asBytes(&read.answers));
    }
    for (&reads, 0..) |*read, index| {
        try testing.expectEqual(1, read.answers);
        if (read.failure) |failure| {
            try testing.expect(failure.got < 8);
            const known = [_]std.c.E{ .SUCCESS, .IO, .BADF, .CANCELED };
            for (known) |code| {
                if (failure.errno == Completion.number(code)) break;
            } else return error.TestUnexpectedResult;
        } else {
            try testing.expect(index % 9 != 8 and index % 11 != 10);
            try testing.expectEqualStrings(content[index % 9 * 8 ..][0..8], &read.target);
        }
    }
    return trace.final();
}

test "each read is answered exactly once, whatever order and faults the seed brings" {
    for (0..300) |seed| {
        errdefer std.log.err("seed {d}", .{seed}); // The line that reproduces it.
        try testing.expectEqual(try runSeed(seed), try runSeed(seed));
    }
    try testing.expect(try runSeed(0) != try runSeed(2));
}

test "a simulated EAGAIN that never ends becomes an error" {
    var sim: Sim = .init(.{
        .files = &.{content},
        .fail_percent = 100,
        .fail_errno = Completion.number(.AGAIN),
    });
    defer sim.deinit();
    var read: Read = undefined;
    read.init(0, 0);
    sim.submit(&read.completion);
    sim.tick(.block);
    try testing.expectEqual(Completion.number(.AGAIN), read.failure.?.errno);
}

test "a blocking tick with nothing in flight waits for a wake-up" {
    var sim: Sim = .init(.{});
    defer sim.deinit();
    sim.wake();
    sim.tick(.block);
    const thread = try std.Thread.spawn(.{}, Sim.wake, .{&sim});
    sim.tick(.block);
    thread.join();
}
