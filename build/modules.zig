//! What is built: the Python extension, the indexer and the test program.

const std = @import("std");

const Compile = std.Build.Step.Compile;
const Mode = std.builtin.OptimizeMode;

/// The stable-ABI extension, installed as `zig-out/python/_native.abi3.so`.
/// Python's symbols are found at load time, in the interpreter that imports it.
pub fn extension(b: *std.Build, target: std.Build.ResolvedTarget, mode: Mode, version: []const u8) *std.Build.Step.InstallArtifact {
    const library = b.addLibrary(.{
        .name = "_native",
        .linkage = .dynamic,
        .root_module = module(b, "src/native.zig", target, mode, version),
        .use_llvm = true,
    });
    linkLuajit(b, library.root_module);
    library.linker_allow_shlib_undefined = true;
    return b.addInstallArtifact(library, .{
        .dest_dir = .{ .override = .{ .custom = "python" } },
        .dest_sub_path = "_native.abi3.so",
    });
}

/// The Python-free `indexer`. Needs no LuaJIT.
pub fn indexer(b: *std.Build, target: std.Build.ResolvedTarget, mode: Mode, version: []const u8) *Compile {
    return b.addExecutable(.{
        .name = "indexer",
        .root_module = module(b, "src/indexer.zig", target, mode, version),
        .use_llvm = true,
    });
}

/// Every `test` block under `src/`. Debug mode: its safety checks are the point.
pub fn tests(b: *std.Build, target: std.Build.ResolvedTarget, version: []const u8) *Compile {
    const filters = b.option([]const []const u8, "test-filter", "Run only the tests whose name contains this") orelse &.{};
    const compiled = b.addTest(.{
        .root_module = module(b, "src/ultar.zig", target, .Debug, version),
        .filters = filters,
        .use_llvm = true,
    });
    linkLuajit(b, compiled.root_module);
    return compiled;
}

fn module(b: *std.Build, root: []const u8, target: std.Build.ResolvedTarget, mode: Mode, version: []const u8) *std.Build.Module {
    const root_module = b.createModule(.{
        .root_source_file = b.path(root),
        .target = target,
        .optimize = mode,
        .link_libc = true,
        .strip = mode != .Debug,
        // LuaJIT raises errors by unwinding through our frames. Without tables
        // an ordinary Lua error ends the process.
        .unwind_tables = .sync,
        // Else the linker takes Zig's own runtime for the probes, and with it its `memcpy`
        // and `memset`, which are slower than those of the C library.
        .stack_check = if (mode == .Debug) null else false,
    });
    const options = b.addOptions();
    options.addOption([]const u8, "version", version);
    root_module.addOptions("build_options", options);
    embedLua(b, root_module);
    return root_module;
}

/// Make each `lua/ultar/NAME.lua` available as `@embedFile("lua/NAME.lua")`.
fn embedLua(b: *std.Build, root_module: *std.Build.Module) void {
    for (lua_modules) |name| {
        root_module.addAnonymousImport(b.fmt("lua/{s}.lua", .{name}), .{
            .root_source_file = b.path(b.fmt("lua/ultar/{s}.lua", .{name})),
        });
    }
}

/// The modules under `lua/ultar`, in the order of their documentation.
pub const lua_modules = [_][]const u8{
    "loader", "utix",    "scandir", "shard",      "shuffle",  "mix",       "json",  "debug",
    "host",   "prelude", "script",  "finalizers", "dropping", "iteration", "where",
};

/// LuaJIT as a shared library of the system, found by pkg-config: Debian's
/// static archive is not position-independent and cannot go into an extension.
fn linkLuajit(b: *std.Build, root_module: *std.Build.Module) void {
    _ = b;
    root_module.linkSystemLibrary("luajit", .{ .use_pkg_config = .force, .preferred_link_mode = .dynamic });
}
