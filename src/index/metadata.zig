//! Metadata rules: values that indexing picks out of JSON members and stores in
//! the index, so that a script can choose samples without reading them.
//!
//!     .json:.label;.size[0]     of the member .json, two queries

const std = @import("std");
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const limits = @import("../base/limits.zig");
const Reader = @import("../msgpack/Reader.zig");
const Writer = @import("../msgpack/Writer.zig");
const json = @import("../utix/json.zig");
const quote = @import("../tar/quote.zig").quote;
const query = @import("query.zig");
const Query = query.Query;

pub const Rule = struct {
    /// Of the members it reads; a missing dot in front is put there.
    key: []const u8,
    queries: []const []const u8,
};

pub const RuleError = error{ BadRule, OutOfMemory };

/// The form that command lines use. The result borrows from `text`.
pub fn parseRule(arena: Allocator, text: []const u8, diag: *Diagnostics) RuleError!Rule {
    const colon = std.mem.indexOfScalar(u8, text, ':') orelse
        return diag.fail(error.BadRule, .other, "metadata rule {f}: wanted KEY:QUERY;QUERY..., got no ':'", .{quote(text)});
    var queries: std.ArrayList([]const u8) = .empty;
    var parts = std.mem.splitScalar(u8, text[colon + 1 ..], ';');
    while (parts.next()) |part| try queries.append(arena, part);
    return .{ .key = text[0..colon], .queries = try queries.toOwnedSlice(arena) };
}

/// Rules, checked, and the values of the sample at hand.
pub const Selector = struct {
    gpa: Allocator,
    arena: std.heap.ArenaAllocator,
    rules: []Compiled = &.{},
    query_count: u32 = 0,
    /// A document as msgpack, and the values kept from all of a sample's.
    document: std.ArrayList(u8) = .empty,
    values: std.ArrayList(u8) = .empty,

    const Compiled = struct {
        key: []const u8,
        queries: []Query,
        /// One a query, in `values`; of size 0 where nothing was found.
        slots: []Slot,
        /// Whether the sample had a member for it already.
        used: bool = false,
    };
    const Slot = struct { start: usize = 0, size: usize = 0 };

    pub fn init(gpa: Allocator, rules: []const Rule, diag: *Diagnostics) RuleError!Selector {
        var selector: Selector = .{ .gpa = gpa, .arena = .init(gpa) };
        errdefer selector.deinit();
        const arena = selector.arena.allocator();
        var texts: std.StringHashMapUnmanaged(void) = .empty;
        const compiled = try arena.alloc(Compiled, rules.len);
        for (rules, compiled) |rule, *into| {
            into.* = .{
                .key = try std.mem.concat(arena, u8, &.{ if (rule.key.len == 0 or rule.key[0] == '.') "" else ".", rule.key }),
                .queries = try arena.alloc(Query, rule.queries.len),
                .slots = try arena.alloc(Slot, rule.queries.len),
            };
            if (rule.queries.len == 0) return diag.fail(error.BadRule, .other, "the metadata rule for {f} has no query", .{quote(rule.key)});
            @memset(into.slots, .{});
            for (rule.queries, into.queries) |text, *made| {
                made.* = query.parse(arena, try arena.dupe(u8, text)) catch |err| switch (err) {
                    error.OutOfMemory => return error.OutOfMemory,
                    error.BadQuery => return diag.fail(error.BadRule, .other, "the metadata rule for {f}: {f} is no query, wanted one like .a.b[0]", .{ quote(rule.key), quote(text) }),
                };
                // Values are stored under the text of their query.
                if ((try texts.getOrPut(arena, made.text)).found_existing)
                    return diag.fail(error.BadRule, .other, "metadata rules: the query {f} is there twice", .{quote(text)});
                selector.query_count += 1;
            }
        }
        selector.rules = compiled;
        return selector;
    }

    pub fn deinit(selector: *Selector) void {
        selector.document.deinit(selector.gpa);
        selector.values.deinit(selector.gpa);
        selector.arena.deinit();
        selector.* = undefined;
    }

    /// Whether the payload of a member with this key is wanted for the sample.
    pub fn wants(selector: *const Selector, key: []const u8) bool {
        for (selector.rules) |rule| {
            if (!rule.used and std.mem.eql(u8, rule.key, key)) return true;
        }
        return false;
    }

    /// On `Malformed`, `parser` says where and why.
    pub fn take(selector: *Selector, key: []const u8, payload: []const u8, parser: *json.Parser) json.Parser.Error!void {
        selector.document.clearRetainingCapacity();
        parser.* = .{
            .text = payload,
            .writer = .{ .gpa = selector.gpa, .out = &selector.document },
            .depth_max = limits.value_depth_max - 1, // The map of all values goes around.
        };
        try parser.parse();
        for (selector.rules) |*rule| {
            if (rule.used or !std.mem.eql(u8, rule.key, key)) continue;
            rule.used = true;
            for (rule.queries, rule.slots) |wanted, *slot| {
                const value = wanted.select(selector.document.items) orelse continue;
                slot.* = .{ .start = selector.values.items.len, .size = value.len };
                try selector.values.appendSlice(selector.gpa, value);
            }
        }
    }

    /// The sample's metadata, a msgpack map, appended to `out`; and forget it.
    pub fn finish(selector: *Selector, out: *std.ArrayList(u8)) error{OutOfMemory}!void {
        if (selector.rules.len == 0) return;
        const writer: Writer = .{ .gpa = selector.gpa, .out = out };
        try writer.map(selector.query_count);
        for (selector.rules) |*rule| {
            for (rule.queries, rule.slots) |wanted, *slot| {
                writer.str(wanted.text) catch |err| switch (err) {
                    error.OutOfMemory => return error.OutOfMemory,
                    error.TooLong => unreachable, // `query.parse` has a bound far below 4 GiB.
                };
                if (slot.size > 0) try writer.raw(selector.values.items[slot.start..][0..slot.size]) else try writer.nil();
                slot.* = .{};
            }
            rule.used = false;
        }
        selector.values.clearRetainingCapacity();
    }
};

test "values of several members, null where absent" {
    const gpa = std.testing.allocator;
    var diag: Diagnostics = .{};
    var selector: Selector = try .init(gpa, &.{ .{ .key = ".json", .queries = &.{ ".w", ".x.y" } }, .{ .key = "cls", .queries = &.{"."} } }, &diag);
    defer selector.deinit();
    var out: std.ArrayList(u8) = .empty;
    defer out.deinit(gpa);
    var parser: json.Parser = undefined;
    try std.testing.expect(selector.wants(".json") and selector.wants(".cls") and !selector.wants(".jpg"));
    try selector.take(".json", "{\"w\": 640}", &parser);
    try std.testing.expect(!selector.wants(".json"));
    try selector.take(".cls", " 7\n", &parser);
    try selector.finish(&out);
    try std.testing.expectEqualSlices(u8, "\x83\xa2.w\xcd\x02\x80\xa4.x.y\xc0\xa1.\x07", out.items);
    out.clearRetainingCapacity();
    try selector.finish(&out);
    try std.testing.expectEqualSlices(u8, "\x83\xa2.w\xc0\xa4.x.y\xc0\xa1.\xc0", out.items);
    try std.testing.expectError(error.Malformed, selector.take(".json", "{\"w\":", &parser));
}

test "the text of a rule" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    var diag: Diagnostics = .{};
    const rule = try parseRule(arena.allocator(), ".json:.a;.b[0]", &diag);
    try std.testing.expectEqualStrings(".json", rule.key);
    try std.testing.expectEqual(2, rule.queries.len);
    try std.testing.expectError(error.BadRule, parseRule(arena.allocator(), ".json", &diag));
    for ([_][]const u8{ ".json:", ".json:a", ".json:.a;", ".json:.a;.a" }) |text| {
        const bad = try parseRule(arena.allocator(), text, &diag);
        try std.testing.expectError(error.BadRule, Selector.init(std.testing.allocator, &.{bad}, &diag));
        try std.testing.expectEqual(.other, diag.kind);
    }
}
