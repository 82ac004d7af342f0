//! `indexer`: makes the indexes of shards. Needs neither Python nor LuaJIT.

const std = @import("std");
const c = std.c;
const version = @import("build_options").version;
const Diagnostics = @import("base/Diagnostics.zig");
const args = @import("cli/args.zig");
const run = @import("cli/run.zig");

const status_failed = 1;
const status_usage = 2;
/// Shells say 128 and the signal's number.
const status_signal = 128;

/// Set by a signal, so that temporary files are removed before the end.
var stop: std.atomic.Value(bool) = .init(false);
var stop_signal: std.atomic.Value(u8) = .init(0);

pub fn main(init: std.process.Init.Minimal) u8 {
    const gpa = std.heap.c_allocator;
    var arena: std.heap.ArenaAllocator = .init(gpa);
    defer arena.deinit();
    return start(gpa, arena.allocator(), init.args.vector) catch {
        run.complain("out of memory", .{});
        return status_failed;
    };
}

fn start(gpa: std.mem.Allocator, arena: std.mem.Allocator, vector: []const [*:0]const u8) error{OutOfMemory}!u8 {
    var diag: Diagnostics = .{};
    const parsed = args.parse(arena, vector[@min(1, vector.len)..], &diag) catch |err| switch (err) {
        error.OutOfMemory => return error.OutOfMemory,
        error.BadUsage, error.BadRule => {
            run.complain("{s}; see indexer --help", .{diag.message()});
            return status_usage;
        },
    };
    if (parsed.only) |only| {
        const said = run.say(switch (only) {
            .help => args.usage,
            .version => "indexer " ++ version ++ "\n",
        });
        return if (said) 0 else status_failed;
    }
    handleSignals();
    const all_done = try run.run(gpa, arena, parsed.paths.items, .{
        .format = parsed.format,
        .rules = parsed.rules.items,
        .check = parsed.check,
        .verify = parsed.verify,
        .stop = &stop,
    });
    if (stop.load(.monotonic)) return status_signal | (stop_signal.load(.monotonic) & 0x7f);
    return if (all_done) 0 else status_failed;
}

fn handleSignals() void {
    // The second one of a kind kills, should the first not be enough.
    var action: c.Sigaction = .{
        .handler = .{ .handler = noteSignal },
        .mask = std.posix.sigemptyset(),
        .flags = c.SA.RESETHAND,
    };
    for ([_]c.SIG{ .INT, .TERM, .HUP }) |signal| _ = c.sigaction(signal, &action, null);
    // A limit on file sizes is an error of the write then.
    action.handler = .{ .handler = c.SIG.IGN };
    _ = c.sigaction(.XFSZ, &action, null);
}

fn noteSignal(signal: c.SIG) callconv(.c) void {
    stop_signal.store(@truncate(@intFromEnum(signal)), .monotonic);
    stop.store(true, .monotonic);
}
