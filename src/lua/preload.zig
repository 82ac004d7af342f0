//! Puts the modules of `lua/ultar`, which are embedded here, where `require`
//! finds them, and hands `ultar.host` the engine's functions.

const std = @import("std");
const c = @import("c.zig");
const ffi = @import("ffi.zig");
const unpack = @import("unpack.zig");

const names = [_][:0]const u8{
    "loader",  "utix",   "scandir",    "shard",    "shuffle",   "mix",   "json", "debug",
    "prelude", "script", "finalizers", "dropping", "iteration", "where",
};

/// May raise: call it protected. `api` must outlive the state.
pub fn install(lua: *c.State, api: *const ffi.Api) void {
    c.lua_getfield(lua, c.globals_index, "package");
    c.lua_getfield(lua, -1, "loaded"); // [package, loaded]
    load(lua, "@ultar/host.lua", @embedFile("lua/host.lua"));
    // As bytes, since a light userdata does not hold every address everywhere.
    c.pushString(lua, std.mem.asBytes(&api));
    c.lua_pushcclosure(lua, unpack.unpack, 0);
    c.lua_call(lua, 2, 1); // [package, loaded, host]
    c.lua_setfield(lua, -2, "ultar.host");

    c.lua_getfield(lua, -2, "preload"); // [package, loaded, preload]
    inline for (names) |name| {
        load(lua, "@ultar/" ++ name ++ ".lua", @embedFile("lua/" ++ name ++ ".lua"));
        c.lua_setfield(lua, -2, "ultar." ++ name);
    }
    c.pop(lua, 3);
}

fn load(lua: *c.State, name: [*:0]const u8, source: []const u8) void {
    if (c.luaL_loadbuffer(lua, source.ptr, source.len, name) != c.ok) _ = c.lua_error(lua);
}
