//! Setting up an io_uring, on kernels that know more or less of it.

const std = @import("std");
const linux = std.os.linux;
const os = @import("../base/os.zig");
const Completion = @import("Completion.zig");

/// Flags from best to plainest; older kernels know fewer.
const flag_sets = [_]u32{
    linux.IORING_SETUP_SINGLE_ISSUER | linux.IORING_SETUP_DEFER_TASKRUN | linux.IORING_SETUP_COOP_TASKRUN,
    linux.IORING_SETUP_COOP_TASKRUN,
    0,
};

/// Done with our own `io_uring_setup`: `IoUring.init` writes to stderr about
/// numbers that it does not know, and keeps them to itself.
pub fn open(entries: u16) os.Result(linux.IoUring) {
    for (flag_sets) |flags| {
        var params = std.mem.zeroInit(linux.io_uring_params, .{ .flags = flags });
        const returned = linux.io_uring_setup(entries, &params);
        switch (linux.errno(returned)) {
            .SUCCESS => return map(@intCast(returned), params, entries),
            .INVAL => continue,
            else => |code| return .{ .err = @intFromEnum(code) },
        }
    }
    return .{ .err = Completion.number(.INVAL) };
}

/// The kernel opened `fd` close-on-exec. Takes it over.
fn map(fd: os.fd_t, params: linux.io_uring_params, entries: u16) os.Result(linux.IoUring) {
    // FAST_POLL came with 5.7, later than all else that is used here.
    const wanted = linux.IORING_FEAT_SINGLE_MMAP | linux.IORING_FEAT_NODROP | linux.IORING_FEAT_FAST_POLL;
    if (params.features & wanted != wanted or params.sq_entries < entries or params.cq_entries < entries) {
        os.close(fd);
        return .{ .err = Completion.number(.NOSYS) };
    }
    const sq = linux.IoUring.SubmissionQueue.init(fd, params) catch |err| {
        os.close(fd);
        return .{ .err = Completion.number(switch (err) {
            error.AccessDenied, error.PermissionDenied => .PERM,
            else => .NOMEM,
        }) };
    };
    const cq = linux.IoUring.CompletionQueue.init(fd, params, sq) catch |err| switch (err) {};
    return .{ .ok = .{ .fd = fd, .sq = sq, .cq = cq, .flags = params.flags, .features = params.features } };
}
