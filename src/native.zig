//! The Python extension: what CPython looks for in it.

const std = @import("std");
const abi = @import("py/abi.zig");
const module = @import("py/module.zig");

/// No stack of its own for the signals of each thread: a quarter of a megabyte, which the
/// C library takes as memory of the thread, and where it has none ends the process.
pub const std_options: std.Options = .{ .signal_stack_size = null };

/// What must not happen ends the process, after a line that says what. The standard
/// library's way would link all of its input and output.
pub const panic = std.debug.FullPanic(end);

fn end(message: []const u8, _: ?usize) noreturn {
    for ([_][]const u8{ "ultar-dataloader: panic: ", message, "\n" }) |part| _ = std.c.write(2, part.ptr, part.len);
    std.c.abort();
}

export fn PyInit__native() callconv(.c) ?*abi.Object {
    return module.init();
}
