//! One Lua state with one script in it: loaded and `init_ctx` run by `load`,
//! then its `row_generator` by `generate`. Both may run on different threads,
//! one after the other.
//!
//! Everything that a script can make fail runs inside a coroutine or a
//! protected call. A stopped script yields and is never resumed.
const Script = @This();

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const Engine = @import("../engine/Engine.zig");
const Host = @import("Host.zig");
const Memory = @import("Memory.zig");
const c = @import("c.zig");
const ffi = @import("ffi.zig");
const limits = @import("../base/limits.zig");
const preload = @import("preload.zig");
const unpack = @import("unpack.zig");
const View = @import("../dataset/View.zig");

host: Host,
api: ffi.Api,
memory: Memory,
lua: *c.State,
/// Coroutines with a function and its arguments ready on their stacks.
loading: *c.State,
generating: *c.State,

pub const Source = struct {
    text: []const u8,
    /// Names the script in messages.
    name: []const u8,
    /// Where `require` looks first; empty for nowhere.
    search_dir: []const u8,
    /// A msgpack map.
    config: []const u8,
    rank: u32,
    world_size: u32,
    /// Rows that the script is to judge, with `ultar.where`. Outlives the script.
    view: ?View = null,
};

pub const Error = error{
    /// `diag` has the message and, where there is one, the traceback.
    ScriptFailed,
    Stopped,
};

/// Make the state, with the modules in it. `script` stays where it is.
pub fn init(script: *Script, gpa: std.mem.Allocator, engine: *Engine, source: *const Source, diag: *Diagnostics) Error!void {
    script.host = .{ .gpa = gpa, .engine = engine, .view = source.view };
    script.api = .{ .host = &script.host };
    script.lua = c.luaL_newstate() orelse return diag.fail(error.ScriptFailed, .memory, "out of memory for a Lua state", .{});
    errdefer script.deinit();
    script.memory.install(script.lua, limits.script_memory_max);

    var setup: Setup = .{ .script = script, .source = source };
    if (c.lua_cpcall(script.lua, Setup.run, &setup) != c.ok) {
        const text = script.popMessage();
        return diag.fail(error.ScriptFailed, .other, "setting up Lua failed: {s}", .{text});
    }
}

pub fn deinit(script: *Script) void {
    // LuaJIT frees its arena only while its own allocator is in place.
    script.memory.remove(script.lua);
    script.host.is_closing = true;
    c.lua_close(script.lua);
    script.host.deinit();
}

/// Run the script's top level and its `init_ctx`.
pub fn load(script: *Script, diag: *Diagnostics) Error!void {
    return script.run(script.loading, load_arguments, diag);
}

/// Run `row_generator`, which calls the engine, until it returns.
pub fn generate(script: *Script, diag: *Diagnostics) Error!void {
    script.host.may_emit = true;
    defer script.host.may_emit = false;
    try script.run(script.generating, 0, diag);
    const left_over = script.host.engine.rowEntryCount();
    if (left_over > 0) {
        return diag.fail(error.ScriptFailed, .script, "row_generator returned with {d} entries that no finish_row() closed", .{left_over});
    }
}

/// Arguments of `script.load`, as `Setup` pushes them.
const load_arguments = 6;

const Setup = struct {
    script: *Script,
    source: *const Source,

    /// Runs protected: any of this may run out of memory.
    fn run(lua: *c.State) callconv(.c) c_int {
        const setup: *Setup = @ptrCast(@alignCast(c.lua_touserdata(lua, 1).?));
        const script = setup.script;
        const source = setup.source;
        c.luaL_openlibs(lua);
        preload.install(lua, &script.api);

        c.lua_getfield(lua, c.globals_index, "require");
        c.pushString(lua, "ultar.script");
        c.lua_call(lua, 1, 1); // [script]

        script.loading = newThread(lua, "ultar.loading");
        c.lua_getfield(lua, -1, "load");
        c.pushString(lua, source.text);
        c.pushString(lua, source.name);
        c.pushString(lua, source.search_dir);
        c.lua_pushnumber(lua, @floatFromInt(source.rank));
        c.lua_pushnumber(lua, @floatFromInt(source.world_size));
        unpack.push(lua, source.config);
        c.lua_xmove(lua, script.loading, 1 + load_arguments);

        script.generating = newThread(lua, "ultar.generating");
        c.lua_getfield(lua, -1, "generate");
        c.lua_xmove(lua, script.generating, 1);
        return 0;
    }

    /// A coroutine that the registry keeps alive.
    fn newThread(lua: *c.State, name: [*:0]const u8) *c.State {
        const thread = c.lua_newthread(lua);
        c.lua_setfield(lua, c.registry_index, name);
        return thread;
    }
};

/// Run a prepared coroutine to its end. A script that yields by itself is
/// resumed at once: the engine never asks it to wait that way.
fn run(script: *Script, thread: *c.State, nargs: c_int, diag: *Diagnostics) Error!void {
    var arguments = nargs;
    while (true) {
        const status = c.lua_resume(thread, arguments);
        arguments = 0;
        switch (status) {
            c.ok => {
                c.lua_settop(thread, 0);
                return;
            },
            c.yielded => {
                c.lua_settop(thread, 0);
                script.host.engine.poll() catch |err| switch (err) {
                    error.Stopped => return error.Stopped,
                    error.OutOfMemory => return diag.fail(error.ScriptFailed, .memory, "out of memory", .{}),
                };
            },
            else => {
                // A script that caught the first sign of its end and then failed
                // has still been stopped.
                if (script.host.engine.isStopping()) return error.Stopped;
                return script.takeError(thread, status, diag);
            },
        }
    }
}

/// Turn the error that ended a coroutine into a report. The dead coroutine
/// still has its stack, so the traceback is read there.
fn takeError(script: *Script, thread: *c.State, status: c_int, diag: *Diagnostics) Error {
    // The report itself may need a little of what the script used up.
    script.memory.max_bytes += report_bytes_max;
    defer script.memory.max_bytes -= report_bytes_max;

    var report: Report = .{ .thread = thread, .diag = diag, .traceback = status != c.error_memory };
    if (c.lua_cpcall(script.lua, Report.run, &report) != c.ok) {
        diag.set(.script, "{s}", .{script.popMessage()});
    }
    // Where the script died of a file or an index, say so by the type.
    const cause = &script.host.failure;
    const text = diag.message();
    if (cause.kind != .none and cause.kind != .script and std.mem.indexOf(u8, text, cause.message()) != null) {
        diag.kind = cause.kind;
        diag.errno = cause.errno;
        diag.offset = cause.offset;
        diag.size = cause.size;
        diag.setPath(cause.path());
    }
    return error.ScriptFailed;
}

const report_bytes_max = 16 * 1024 * 1024;

const Report = struct {
    thread: *c.State,
    diag: *Diagnostics,
    traceback: bool,

    fn run(lua: *c.State) callconv(.c) c_int {
        const report: *Report = @ptrCast(@alignCast(c.lua_touserdata(lua, 1).?));
        c.lua_xmove(report.thread, lua, 1);
        if (c.lua_type(lua, -1) != c.type_string and c.luaL_callmeta(lua, -1, "__tostring") == 0) {
            c.pushString(lua, "(error object is a ");
            c.pushString(lua, std.mem.span(c.lua_typename(lua, c.lua_type(lua, -2))));
            c.pushString(lua, " value)");
            c.lua_concat(lua, 3);
        }
        var size: usize = 0;
        const text = c.lua_tolstring(lua, -1, &size) orelse "(no message)";
        if (!report.traceback) {
            report.diag.set(.script, "{s}", .{text[0..size]});
            return 0;
        }
        c.luaL_traceback(lua, report.thread, null, 0);
        var trace_size: usize = 0;
        const trace = c.lua_tolstring(lua, -1, &trace_size) orelse "";
        report.diag.set(.script, "{s}\n{s}", .{ cut(text[0..size]), trace[0..trace_size] });
        return 0;
    }

    /// Leave room for the traceback behind a long message.
    fn cut(text: []const u8) []const u8 {
        return text[0..@min(text.len, Diagnostics.message_max / 2)];
    }
};

fn popMessage(script: *Script) []const u8 {
    var size: usize = 0;
    const text = c.lua_tolstring(script.lua, -1, &size) orelse return "(no message)";
    // Not popped: the text lives as long as it is on the stack.
    return text[0..size];
}
