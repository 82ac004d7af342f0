//! The steps: `zig build` (extension and indexer), `zig build test`, `zig build fuzz`.

const std = @import("std");
const modules = @import("build/modules.zig");

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const optimize = b.option(std.builtin.OptimizeMode, "optimize", "ReleaseSafe unless told") orelse .ReleaseSafe;
    const version = @import("build.zig.zon").version;

    const native = modules.extension(b, target, optimize, version);
    b.getInstallStep().dependOn(&native.step);
    b.step("native", "Build the Python extension only").dependOn(&native.step);

    const indexer = modules.indexer(b, target, optimize, version);
    b.getInstallStep().dependOn(&b.addInstallArtifact(indexer, .{}).step);

    const tests = modules.tests(b, target, version);
    b.step("test", "Run the Zig tests").dependOn(&b.addRunArtifact(tests).step);
}
