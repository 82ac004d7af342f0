//! Reads, by the best way this machine allows. `inline else` makes the compiler
//! hold every backend to the same declarations: no vtable, no drift.
//!
//! One thread, the engine's, calls everything but `wake`. Reads are submitted at
//! any time and in any number; they begin in the order of their submission, at
//! most `in_flight_max` at once, and end in any order. Callbacks run inside
//! `tick` only.

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const os = @import("../base/os.zig");
const Completion = @import("Completion.zig");
const Sim = @import("Sim.zig");
const Threads = @import("Threads.zig");
const Uring = @import("Uring.zig");
const WakeFlag = @import("WakeFlag.zig");

pub const Backend = union(enum) {
    uring: Uring,
    threads: Threads,
    /// For tests: `.{ .sim = .init(options) }`.
    sim: Sim,

    pub const Choice = enum {
        /// io_uring where kernel and sandbox allow it, else threads.
        auto,
        uring,
        threads,
    };

    pub const Wait = WakeFlag.Wait;

    /// In place, as the kernel and threads keep its address; on the thread that
    /// will tick. Fails only for `.uring`. No backend needs memory beyond itself.
    ///
    /// `threads` is how many threads copy bytes at once; 0: one. Without io_uring as many
    /// wait for storage, or some for 0.
    pub fn init(backend: *Backend, choice: Choice, threads: u32, diag: *Diagnostics) error{BackendMissing}!void {
        var reason_buffer: [Threads.reason_max]u8 = undefined;
        var why_not: []const u8 = "";
        if (choice != .threads) {
            backend.* = .{ .uring = undefined };
            switch (backend.uring.init(threads)) {
                .ok => return,
                .err => |errno| {
                    why_not = explain(errno, &reason_buffer);
                    if (choice == .uring) {
                        diag.set(.other, "io=\"uring\" was asked for, but {s}", .{why_not});
                        diag.errno = errno;
                        return error.BackendMissing;
                    }
                },
            }
        }
        backend.* = .{ .threads = undefined };
        backend.threads.init(threads, why_not);
    }

    /// Nothing may be in flight (see `cancelAll`), and no `wake` under way.
    pub fn deinit(backend: *Backend) void {
        switch (backend.*) {
            inline else => |*chosen| chosen.deinit(),
        }
        backend.* = undefined;
    }

    pub fn name(backend: *const Backend) []const u8 {
        return @tagName(backend.*);
    }

    /// Why it is not io_uring, in one line; empty when there is nothing to say.
    /// Borrows from the backend.
    pub fn reason(backend: *const Backend) []const u8 {
        return switch (backend.*) {
            .threads => |*threads| threads.reason(),
            .uring, .sim => "",
        };
    }

    /// The completion and its target stay in place until its callback runs. No
    /// system call: the next tick makes it.
    pub fn submit(backend: *Backend, completion: *Completion) void {
        switch (backend.*) {
            inline else => |*chosen| chosen.submit(completion),
        }
    }

    /// Hand over what is queued, in one system call; run the callbacks of what
    /// is done. They may submit, which goes out with the next tick.
    ///
    /// `.block` returns when a callback ran, or `wake` was called at any time
    /// since the last blocking tick returned; with nothing in flight, it waits
    /// for a `wake`.
    pub fn tick(backend: *Backend, wait: Wait) void {
        switch (backend.*) {
            inline else => |*chosen| chosen.tick(wait),
        }
    }

    /// End a blocking tick, this one or the next. From any thread, until
    /// `deinit`. No system call unless the engine thread sleeps.
    pub fn wake(backend: *Backend) void {
        switch (backend.*) {
            inline else => |*chosen| chosen.wake(),
        }
    }

    /// Reads submitted and not answered.
    pub fn inFlight(backend: *const Backend) u32 {
        return switch (backend.*) {
            inline else => |*chosen| chosen.inFlight(),
        };
    }

    /// Stop what can be stopped: it fails with ECANCELED, and so does what is
    /// submitted before nothing is in flight any more. Tick until then.
    pub fn cancelAll(backend: *Backend) void {
        switch (backend.*) {
            inline else => |*chosen| chosen.cancelAll(),
        }
    }
};

/// The line that a puzzled user will look for.
fn explain(errno: os.Errno, buffer: *[Threads.reason_max]u8) []const u8 {
    const code = std.enums.fromInt(std.c.E, errno) orelse .IO;
    switch (code) {
        .PERM, .ACCES => return "io_uring is forbidden here (seccomp, or sysctl kernel.io_uring_disabled)",
        .NOSYS => return "this kernel has no io_uring, or one older than Linux 5.7, or a sandbox hides it",
        .MFILE => return "io_uring needs two more open files than this process may have (ulimit -n)",
        .NFILE => return "io_uring needs two more open files than this machine may have (sysctl fs.file-max)",
        .NOMEM => return "io_uring got no memory for its queues (ulimit -l is too low, or memory is short)",
        else => {
            var text: [128]u8 = undefined;
            return std.fmt.bufPrint(buffer, "io_uring does not start: {s} (errno {d})", .{ os.describe(errno, &text), errno }) catch
                "io_uring does not start";
        },
    }
}

test "every refusal has a reason that fits" {
    var buffer: [Threads.reason_max]u8 = undefined;
    for (1..200) |errno| {
        const line = explain(@intCast(errno), &buffer);
        try std.testing.expect(line.len > 20);
        try std.testing.expect(line.len <= Threads.reason_max);
    }
    try std.testing.expect(std.mem.indexOf(u8, explain(1, &buffer), "seccomp") != null);
    try std.testing.expectEqualStrings("io_uring does not start: No such file or directory (errno 2)", explain(2, &buffer));
}
