//! `Remote` as its two sides see it: who asks, and who answers.

const std = @import("std");
const Remote = @import("Remote.zig");
const testing = std.testing;

const Bench = struct {
    remote: *Remote,
    client: Remote.Client,
    woken: u32 = 0,

    fn init(bench: *Bench) !void {
        bench.* = .{ .remote = try Remote.create(testing.allocator), .client = .{ .remote = undefined, .wake = wake } };
        bench.client.remote = bench.remote;
    }

    fn deinit(bench: *Bench) void {
        bench.remote.cancel(&bench.client);
        bench.remote.release();
    }

    fn wake(client: *Remote.Client) void {
        const bench: *Bench = @fieldParentPtr("client", client);
        bench.woken += 1;
    }

    fn ask(bench: *Bench, request: *Remote.Request, kind: Remote.Kind, target: []u8) !void {
        const object = try bench.remote.objectOf("s3://bucket/a.tar");
        request.* = .{ .client = &bench.client, .object = object, .kind = kind, .offset = 7, .target = target };
        bench.remote.submit(request);
    }
};

fn lentOf(bytes: []const u8) Remote.Lent {
    return .{ .bytes = bytes, .owner = &returned_count, .return_to = countReturned };
}

var returned_count: u32 = 0;

fn countReturned(owner: *anyopaque) void {
    const count: *u32 = @ptrCast(@alignCast(owner));
    count.* += 1;
}

test "what may be lent is not copied, and is given back by whoever has it" {
    var bench: Bench = undefined;
    try bench.init();
    defer bench.deinit();
    returned_count = 0;
    var requests: [2]Remote.Request = undefined;
    var target: [4]u8 = @splat('-');
    for (&requests) |*request| {
        try bench.ask(request, .read, &target);
        request.may_lend = true;
        try testing.expect(bench.remote.answer(bench.remote.next().?.number, lentOf("abcd"), 0));
    }
    try testing.expectEqualStrings("----", &target);
    try testing.expectEqualStrings("abcd", bench.remote.takeDone(&bench.client).?.lent.?.bytes);
    try testing.expectEqual(0, returned_count);
    bench.remote.cancel(&bench.client);
    try testing.expectEqual(1, returned_count);
}

test "what is asked for is answered, in any order" {
    var bench: Bench = undefined;
    try bench.init();
    defer bench.deinit();
    var requests: [3]Remote.Request = undefined;
    var target: [4]u8 = undefined;
    try bench.ask(&requests[0], .size, &.{});
    try testing.expect(bench.remote.wantsServers());
    try bench.ask(&requests[1], .read, &target);
    try bench.ask(&requests[2], .read, &target);
    const first = bench.remote.next().?;
    const second = bench.remote.next().?;
    const third = bench.remote.next().?;
    try testing.expect(!bench.remote.wantsServers());
    try testing.expectEqual(.size, first.kind);
    try testing.expectEqualStrings("s3://bucket/a.tar", second.url);
    try testing.expectEqual(7, second.offset);
    try testing.expectEqual(4, second.size);
    try testing.expect(first.is_short and !third.is_short);
    try testing.expect(!bench.remote.answer(second.number, lentOf("abcd"), 2));
    try testing.expectEqualStrings("abcd", &target);
    bench.remote.answerFailure(third.number, 5, "why", 0);
    bench.remote.answerSize(first.number, 1 << 40, 0);
    bench.remote.answerSize(first.number, 5, 0); // Again: nobody waits for it.
    try testing.expectEqual(3, bench.woken);
    try testing.expectEqual(&requests[1], bench.remote.takeDone(&bench.client).?);
    const failed = bench.remote.takeDone(&bench.client).?;
    try testing.expectEqual(&requests[2], failed);
    try testing.expectEqualStrings("why", failed.failure.?.text);
    testing.allocator.free(failed.failure.?.text);
    try testing.expectEqual(&requests[0], bench.remote.takeDone(&bench.client).?);
    try testing.expectEqual(1 << 40, bench.remote.sizeOf(requests[0].object).?);
    try testing.expectEqual(null, bench.remote.takeDone(&bench.client));
    const stats = bench.remote.statsOf(&bench.client);
    try testing.expectEqual(5, stats.requests);
    try testing.expectEqual(2, stats.retries);
    try testing.expectEqual(4, stats.bytes);
}

test "who gives up is left alone, whatever comes later" {
    var bench: Bench = undefined;
    try bench.init();
    defer bench.deinit();
    var requests: [3]Remote.Request = undefined;
    var target: [4]u8 = @splat('-');
    for (&requests) |*request| try bench.ask(request, .read, &target);
    const first = bench.remote.next().?;
    const second = bench.remote.next().?;
    bench.remote.answerFailure(first.number, 5, "a text that must be freed", 0);
    bench.remote.cancel(&bench.client);
    try testing.expect(!bench.remote.answer(second.number, lentOf("late"), 0));
    try testing.expectEqualStrings("----", &target);
    try testing.expectEqual(null, bench.remote.takeDone(&bench.client));
    try testing.expectEqual(0, bench.client.pending);
}

test "an answer of a wrong size is a failure, and so is what is asked of a closed store" {
    var bench: Bench = undefined;
    try bench.init();
    defer bench.deinit();
    var requests: [3]Remote.Request = undefined;
    var target: [4]u8 = undefined;
    try bench.ask(&requests[0], .read, &target);
    try testing.expect(!bench.remote.answer(bench.remote.next().?.number, lentOf("abc"), 0));
    try bench.ask(&requests[1], .read, &target);
    bench.remote.close();
    try testing.expectEqual(null, bench.remote.next());
    try bench.ask(&requests[2], .read, &target);
    for (&requests) |*request| {
        try testing.expectEqual(request, bench.remote.takeDone(&bench.client).?);
        testing.allocator.free(request.failure.?.text);
    }
}

test "threads that answer, and one that asks and gives up at random" {
    const Server = struct {
        fn run(remote: *Remote) void {
            while (remote.next()) |job| {
                var bytes: [64]u8 = undefined;
                @memset(&bytes, @truncate(job.offset));
                _ = remote.answer(job.number, lentOf(bytes[0..@intCast(job.size)]), 0);
            }
        }
    };
    var bench: Bench = undefined;
    try bench.init();
    defer bench.deinit();
    var threads: [4]std.Thread = undefined;
    for (&threads) |*thread| thread.* = try std.Thread.spawn(.{}, Server.run, .{bench.remote});
    defer for (threads) |thread| thread.join();
    defer bench.remote.close();
    var prng: std.Random.DefaultPrng = .init(3);
    var requests: [32]Remote.Request = undefined;
    var targets: [32][64]u8 = undefined;
    const object = try bench.remote.objectOf("s3://bucket/a.tar");
    for (0..200) |_| {
        for (&requests, &targets, 0..) |*request, *target, i| {
            @memset(target, 0xff);
            request.* = .{ .client = &bench.client, .object = object, .kind = .read, .offset = i, .target = target };
            bench.remote.submit(request);
        }
        var wanted = prng.random().uintAtMost(usize, requests.len);
        while (wanted > 0) {
            const request = bench.remote.takeDone(&bench.client) orelse continue;
            for (request.target) |byte| try testing.expectEqual(@as(u8, @truncate(request.offset)), byte);
            wanted -= 1;
        }
        bench.remote.cancel(&bench.client);
    }
}
