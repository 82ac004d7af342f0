//! A bound on what one script may allocate. LuaJIT's own allocator does the
//! work, since it keeps addresses where LuaJIT needs them; this counts.
const Memory = @This();

const c = @import("c.zig");

inner: c.Alloc,
inner_userdata: ?*anyopaque,
used_bytes: usize,
max_bytes: usize,

/// Put itself between `lua` and its allocator. Stays where it is until the
/// state is closed.
pub fn install(memory: *Memory, lua: *c.State, max_bytes: usize) void {
    var userdata: ?*anyopaque = null;
    const inner = c.lua_getallocf(lua, &userdata);
    memory.* = .{ .inner = inner, .inner_userdata = userdata, .used_bytes = 0, .max_bytes = max_bytes };
    c.lua_setallocf(lua, allocate, memory);
}

/// Put the state's own allocator back.
pub fn remove(memory: *const Memory, lua: *c.State) void {
    c.lua_setallocf(lua, memory.inner, memory.inner_userdata);
}

fn allocate(userdata: ?*anyopaque, ptr: ?*anyopaque, old_size: usize, new_size: usize) callconv(.c) ?*anyopaque {
    const memory: *Memory = @ptrCast(@alignCast(userdata.?));
    // What was allocated before `install` was not counted, hence saturating.
    const used = (memory.used_bytes -| old_size) +| new_size;
    if (new_size > old_size and used > memory.max_bytes) return null;
    const block = memory.inner(memory.inner_userdata, ptr, old_size, new_size);
    if (block != null or new_size == 0) memory.used_bytes = used;
    return block;
}
