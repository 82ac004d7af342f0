//! The files a script has open, by handle. A handle is a number that a script
//! may also make up, so it carries a generation: one that was closed, or never
//! given out, is recognised.
const FileTable = @This();

const std = @import("std");
const limits = @import("../base/limits.zig");
const OpenFile = @import("OpenFile.zig");

slots: std.ArrayList(Slot) = .empty,
/// Slots that are free, last freed first.
free: std.ArrayList(u32) = .empty,
/// Files with a descriptor that are open for the script.
count: usize = 0,

const Slot = struct { generation: u32, file: ?*OpenFile };

/// Handles are whole numbers that a Lua number holds exactly.
const generation_max = limits.lua_integer_max / limits.open_files_max - 1;

pub fn deinit(table: *FileTable, gpa: std.mem.Allocator) void {
    for (table.slots.items) |slot| {
        const file = slot.file orelse continue;
        file.endUse();
        file.release();
    }
    table.slots.deinit(gpa);
    table.free.deinit(gpa);
}

/// Take over `file` and give it a handle.
pub fn add(table: *FileTable, gpa: std.mem.Allocator, file: *OpenFile) error{ OutOfMemory, TooManyFiles }!f64 {
    const index = table.free.pop() orelse added: {
        if (table.slots.items.len == limits.open_files_max) return error.TooManyFiles;
        // Reserved here, so that closing never needs memory.
        try table.free.ensureTotalCapacity(gpa, table.slots.items.len + 1);
        try table.slots.append(gpa, .{ .generation = 1, .file = null });
        break :added @as(u32, @intCast(table.slots.items.len - 1));
    };
    table.slots.items[index].file = file;
    if (file.remote == null) table.count += 1;
    return @floatFromInt(@as(u64, table.slots.items[index].generation) * limits.open_files_max + index);
}

/// The file behind a handle; null when it is not one, or closed.
pub fn get(table: *const FileTable, handle: f64) ?*OpenFile {
    const index = table.indexOf(handle) orelse return null;
    return table.slots.items[index].file;
}

/// Null when the handle is not an open one.
pub fn remove(table: *FileTable, handle: f64) ?*OpenFile {
    const index = table.indexOf(handle) orelse return null;
    const slot = &table.slots.items[index];
    defer {
        if (slot.file.?.remote == null) table.count -= 1;
        slot.file = null;
        // A slot whose generations are used up is not used again.
        if (slot.generation < generation_max) {
            slot.generation += 1;
            table.free.appendAssumeCapacity(index);
        }
    }
    return slot.file;
}

fn indexOf(table: *const FileTable, handle: f64) ?u32 {
    if (!(handle >= 0 and handle < limits.lua_integer_max and handle == @floor(handle))) return null; // NaN too.
    const number: u64 = @intFromFloat(handle);
    const index = number % limits.open_files_max;
    if (index >= table.slots.items.len) return null;
    const slot = table.slots.items[index];
    if (slot.file == null or slot.generation != number / limits.open_files_max) return null;
    return @intCast(index);
}

test "made-up, closed and reused handles are told apart" {
    const gpa = std.testing.allocator;
    var diag: @import("../base/Diagnostics.zig") = .{};
    var open_count: usize = 0;
    var table: FileTable = .{};
    defer table.deinit(gpa);
    const first = try table.add(gpa, try OpenFile.open(gpa, "/proc/self/status", &open_count, &diag));
    try std.testing.expect(table.get(first) != null);
    for ([_]f64{ 0, -1, 0.5, 1e300, first + 1, first * 2, std.math.nan(f64), std.math.inf(f64) }) |bad| {
        try std.testing.expectEqual(null, table.get(bad));
    }
    const file = table.remove(first).?;
    file.endUse();
    file.release();
    try std.testing.expectEqual(0, open_count);
    try std.testing.expectEqual(null, table.remove(first));
    const second = try table.add(gpa, try OpenFile.open(gpa, "/proc/self/status", &open_count, &diag));
    try std.testing.expect(second != first);
    try std.testing.expectEqual(null, table.get(first));
}
