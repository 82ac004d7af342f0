//! What indexing a shard found.
const Summary = @This();

const std = @import("std");
const Allocator = std.mem.Allocator;
const limits = @import("../base/limits.zig");

arena: std.heap.ArenaAllocator,
samples: u64 = 0,
entries: u64 = 0,
/// Of payload.
bytes: u64 = 0,
/// The first few, one line each.
warnings: std.ArrayList([]const u8) = .empty,
/// All of them.
warnings_count: u64 = 0,

pub fn init(gpa: Allocator) Summary {
    return .{ .arena = .init(gpa) };
}

pub fn deinit(summary: *Summary) void {
    summary.arena.deinit(); // Holds the list, too.
    summary.* = undefined;
}

pub fn warn(summary: *Summary, comptime fmt: []const u8, args: anytype) Allocator.Error!void {
    summary.warnings_count += 1;
    if (summary.warnings_count > limits.index_warnings_max) return;
    const arena = summary.arena.allocator();
    try summary.warnings.append(arena, try std.fmt.allocPrint(arena, fmt, args));
}
