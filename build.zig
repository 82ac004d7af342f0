//! The steps: `zig build` makes extension and indexer, `zig build test` runs the Zig tests.

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
    const install_indexer = b.addInstallArtifact(indexer, .{});
    b.getInstallStep().dependOn(&install_indexer.step);
    b.step("indexer", "Build the indexer only").dependOn(&install_indexer.step);

    const tests = modules.tests(b, target, version);
    b.step("test", "Run the Zig tests").dependOn(&b.addRunArtifact(tests).step);
}
