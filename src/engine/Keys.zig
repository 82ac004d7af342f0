//! The names of entries, each kept once. A training set has a handful of keys
//! and a billion entries, so an entry holds a pointer and not a text.
//!
//! Written by the engine's thread only; the keys themselves never change and
//! live as long as the core, so rows in Python may read them at any time.
const Keys = @This();

const std = @import("std");
const limits = @import("../base/limits.zig");

pub const Key = struct {
    /// Any bytes; need not be UTF-8.
    text: []const u8,
};

arena: std.heap.ArenaAllocator,
map: std.StringHashMapUnmanaged(*const Key) = .empty,
/// Keys seen lately, by address and size of the caller's text: a script passes
/// the same few strings over and over, and this saves hashing them.
recent: [recent_count]*const Key = @splat(&empty_key),

const recent_count = 64;
const empty_key: Key = .{ .text = "" };

pub fn init(gpa: std.mem.Allocator) Keys {
    return .{ .arena = .init(gpa) };
}

pub fn deinit(keys: *Keys) void {
    keys.map.deinit(keys.arena.child_allocator);
    keys.arena.deinit();
}

/// The key with this text. `null` when so many are known already that the
/// caller has to keep this one by itself.
pub fn intern(keys: *Keys, text: []const u8) error{OutOfMemory}!?*const Key {
    const slot = &keys.recent[((@intFromPtr(text.ptr) >> 4) ^ text.len) % recent_count];
    if (std.mem.eql(u8, slot.*.text, text)) return slot.*;

    const key = keys.map.get(text) orelse added: {
        if (keys.map.count() >= limits.interned_keys_max) return null;
        const key = try create(keys.arena.allocator(), text);
        try keys.map.put(keys.arena.child_allocator, key.text, key);
        break :added key;
    };
    slot.* = key;
    return key;
}

/// A key outside the table; `gpa` owns it, free it with `destroy`.
pub fn create(gpa: std.mem.Allocator, text: []const u8) error{OutOfMemory}!*const Key {
    const key = try gpa.create(Key);
    errdefer gpa.destroy(key);
    key.* = .{ .text = try gpa.dupe(u8, text) };
    return key;
}

pub fn destroy(gpa: std.mem.Allocator, key: *const Key) void {
    gpa.free(key.text);
    gpa.destroy(key);
}

test "the same text gives the same key, whatever its address" {
    var keys: Keys = .init(std.testing.allocator);
    defer keys.deinit();
    var copy = ".jpg".*;
    const key = (try keys.intern(".jpg")).?;
    try std.testing.expectEqual(key, (try keys.intern(&copy)).?);
    copy = ".png".*;
    try std.testing.expectEqualStrings(".png", (try keys.intern(&copy)).?.text);
    try std.testing.expectEqualStrings("", (try keys.intern("")).?.text);
}

test "beyond the bound a key is the caller's" {
    var keys: Keys = .init(std.testing.allocator);
    defer keys.deinit();
    var buffer: [16]u8 = undefined;
    for (0..limits.interned_keys_max) |i| {
        _ = (try keys.intern(try std.fmt.bufPrint(&buffer, "{d}", .{i}))).?;
    }
    try std.testing.expectEqual(null, try keys.intern("one more"));
    const own = try Keys.create(std.testing.allocator, "one more");
    Keys.destroy(std.testing.allocator, own);
}
