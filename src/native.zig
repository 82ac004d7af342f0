//! The Python extension: what CPython looks for in it.

const abi = @import("py/abi.zig");
const module = @import("py/module.zig");

export fn PyInit__native() callconv(.c) ?*abi.Object {
    return module.init();
}
