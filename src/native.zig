//! The Python extension: what CPython looks for in it.

const std = @import("std");
const abi = @import("py/abi.zig");
const module = @import("py/module.zig");

/// No stack of its own for the signals of each thread: a quarter of a megabyte, which the
/// C library takes as memory of the thread, and where it has none ends the process.
pub const std_options: std.Options = .{ .signal_stack_size = null };

export fn PyInit__native() callconv(.c) ?*abi.Object {
    return module.init();
}
