//! The LuaJIT C API that we use, declared by hand: no headers at build time.
//! Lua 5.1 semantics (https://www.lua.org/manual/5.1/manual.html#3) plus what
//! LuaJIT adds (https://luajit.org/ext_c_api.html).

pub const State = opaque {};
pub const CFunction = *const fn (lua: *State) callconv(.c) c_int;
pub const Alloc = *const fn (userdata: ?*anyopaque, ptr: ?*anyopaque, old_size: usize, new_size: usize) callconv(.c) ?*anyopaque;

pub const registry_index: c_int = -10000;
pub const globals_index: c_int = -10002;

/// What `lua_resume` and the protected calls answer.
pub const ok: c_int = 0;
pub const yielded: c_int = 1;
pub const error_memory: c_int = 4;

pub const type_string: c_int = 4;

pub extern fn luaL_newstate() ?*State;
pub extern fn lua_close(lua: *State) void;
pub extern fn luaL_openlibs(lua: *State) void;
pub extern fn lua_newthread(lua: *State) *State;
pub extern fn lua_getallocf(lua: *State, userdata: *?*anyopaque) Alloc;
pub extern fn lua_setallocf(lua: *State, f: Alloc, userdata: ?*anyopaque) void;

pub extern fn lua_call(lua: *State, nargs: c_int, nresults: c_int) void;
pub extern fn lua_cpcall(lua: *State, f: CFunction, userdata: ?*anyopaque) c_int;
pub extern fn lua_resume(thread: *State, nargs: c_int) c_int;
pub extern fn lua_error(lua: *State) c_int;
pub extern fn luaL_error(lua: *State, format: [*:0]const u8, ...) c_int;
pub extern fn luaL_loadbuffer(lua: *State, source: [*]const u8, size: usize, name: [*:0]const u8) c_int;
pub extern fn luaL_traceback(lua: *State, of: *State, message: ?[*:0]const u8, level: c_int) void;
pub extern fn luaL_callmeta(lua: *State, index: c_int, event: [*:0]const u8) c_int;

pub extern fn lua_settop(lua: *State, index: c_int) void;
pub extern fn lua_pushvalue(lua: *State, index: c_int) void;
pub extern fn lua_remove(lua: *State, index: c_int) void;
pub extern fn lua_xmove(from: *State, to: *State, n: c_int) void;
pub extern fn lua_checkstack(lua: *State, extra: c_int) c_int;
pub extern fn lua_type(lua: *State, index: c_int) c_int;
pub extern fn lua_typename(lua: *State, tag: c_int) [*:0]const u8;
pub extern fn lua_tolstring(lua: *State, index: c_int, size: ?*usize) ?[*]const u8;
pub extern fn lua_touserdata(lua: *State, index: c_int) ?*anyopaque;
pub extern fn luaL_checklstring(lua: *State, index: c_int, size: *usize) [*]const u8;

pub extern fn lua_pushnil(lua: *State) void;
pub extern fn lua_pushboolean(lua: *State, value: c_int) void;
pub extern fn lua_pushnumber(lua: *State, value: f64) void;
pub extern fn lua_pushlstring(lua: *State, text: [*]const u8, size: usize) void;
pub extern fn lua_pushcclosure(lua: *State, f: CFunction, upvalues: c_int) void;
pub extern fn lua_createtable(lua: *State, array_count: c_int, field_count: c_int) void;
pub extern fn lua_getfield(lua: *State, index: c_int, name: [*:0]const u8) void;
pub extern fn lua_setfield(lua: *State, index: c_int, name: [*:0]const u8) void;
pub extern fn lua_rawequal(lua: *State, a: c_int, b: c_int) c_int;
pub extern fn lua_concat(lua: *State, n: c_int) void;
pub extern fn lua_rawset(lua: *State, index: c_int) void;
pub extern fn lua_rawseti(lua: *State, index: c_int, n: c_int) void;

pub fn pushString(lua: *State, text: []const u8) void {
    lua_pushlstring(lua, text.ptr, text.len);
}

pub fn pop(lua: *State, n: c_int) void {
    lua_settop(lua, -n - 1);
}
