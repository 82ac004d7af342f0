//! The indexer's command line.

const std = @import("std");
const Allocator = std.mem.Allocator;
const Diagnostics = @import("../base/Diagnostics.zig");
const Format = @import("../utix/format.zig").Format;
const Rule = @import("../index/Indexer.zig").Rule;
const parseRule = @import("../index/metadata.zig").parseRule;
const quote = @import("../tar/quote.zig").quote;

pub const usage =
    \\usage: indexer [options] FILE...
    \\
    \\Writes FILE.utix, the index of a shard, beside each FILE.
    \\
    \\  -f, --file FILE       a shard; the same as FILE alone
    \\      --fmt FORMAT      msgpack (the default) or jsonl
    \\      --meta-rule RULE  KEY:QUERY;QUERY... stores values from each sample's
    \\                        JSON member KEY, as in '.json:.label;.size[0]';
    \\                        may be given more than once
    \\      --check           write nothing; compare the indexes that are there
    \\      --verify          read payloads that have checksums, and compare
    \\  -h, --help            this text
    \\      --version         the version
    \\
    \\The exit status is 0 if every shard was indexed whole, 1 if one was not, and
    \\2 if the command line is wrong.
    \\
;

pub const Args = struct {
    paths: std.ArrayList([:0]const u8) = .empty,
    format: Format = .msgpack,
    rules: std.ArrayList(Rule) = .empty,
    check: bool = false,
    verify: bool = false,
    /// Print something and do nothing else.
    only: ?enum { help, version } = null,
};

pub const Error = error{ BadUsage, BadRule, OutOfMemory };

/// `arguments` are without the program's name, and must outlive the result.
pub fn parse(arena: Allocator, arguments: []const [*:0]const u8, diag: *Diagnostics) Error!Args {
    var args: Args = .{};
    var i: usize = 0;
    var options_end = false;
    while (i < arguments.len) : (i += 1) {
        const argument = std.mem.span(arguments[i]);
        if (options_end or argument.len < 2 or argument[0] != '-') {
            try args.paths.append(arena, argument);
            continue;
        }
        if (std.mem.eql(u8, argument, "--")) {
            options_end = true;
            continue;
        }
        const option, const attached = splitOption(argument);
        switch (std.meta.stringToEnum(Option, option) orelse return diag.fail(error.BadUsage, .other, "unknown option {f}", .{quote(argument)})) {
            .@"-h", .@"--help" => args.only = .help,
            .@"--version" => args.only = .version,
            .@"--check" => args.check = true,
            .@"--verify" => args.verify = true,
            .@"-f", .@"--file", .@"--fmt", .@"--meta-rule" => |with_value| {
                const value = attached orelse blk: {
                    i += 1;
                    if (i == arguments.len) return diag.fail(error.BadUsage, .other, "{s} wants a value", .{option});
                    break :blk std.mem.span(arguments[i]);
                };
                try take(arena, &args, with_value, value, diag);
                continue;
            },
        }
        if (attached != null) return diag.fail(error.BadUsage, .other, "{s} takes no value", .{option});
    }
    if (args.only == null and args.paths.items.len == 0) return diag.fail(error.BadUsage, .other, "no file is given", .{});
    return args;
}

const Option = enum { @"-f", @"--file", @"--fmt", @"--meta-rule", @"--check", @"--verify", @"-h", @"--help", @"--version" };

fn splitOption(argument: [:0]const u8) struct { []const u8, ?[:0]const u8 } {
    if (!std.mem.startsWith(u8, argument, "--")) return .{ argument, null };
    const equals = std.mem.indexOfScalar(u8, argument, '=') orelse return .{ argument, null };
    return .{ argument[0..equals], argument[equals + 1 ..] };
}

fn take(arena: Allocator, args: *Args, option: Option, value: [:0]const u8, diag: *Diagnostics) Error!void {
    switch (option) {
        .@"--fmt" => args.format = std.meta.stringToEnum(Format, value) orelse
            return diag.fail(error.BadUsage, .other, "--fmt: wanted msgpack or jsonl, got {f}", .{quote(value)}),
        .@"--meta-rule" => try args.rules.append(arena, try parseRule(arena, value, diag)),
        .@"-f", .@"--file", .@"--check", .@"--verify", .@"-h", .@"--help", .@"--version" => try args.paths.append(arena, value),
    }
}

test "options in all their forms" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    var diag: Diagnostics = .{};
    const args = try parse(arena.allocator(), &.{ "a.tar", "-f", "b.tar", "--file=c.tar", "--fmt", "jsonl", "--meta-rule", ".json:.a;.b", "--", "-d.tar" }, &diag);
    try std.testing.expectEqual(4, args.paths.items.len);
    try std.testing.expectEqualStrings("-d.tar", args.paths.items[3]);
    try std.testing.expectEqual(.jsonl, args.format);
    try std.testing.expectEqual(2, args.rules.items[0].queries.len);
    try std.testing.expectEqual(.help, (try parse(arena.allocator(), &.{"-h"}, &diag)).only);
}

test "mistakes" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    var diag: Diagnostics = .{};
    const bad = [_][]const [*:0]const u8{ &.{}, &.{"-x"}, &.{"--fmt"}, &.{ "--fmt", "xml", "a" }, &.{"-f"}, &.{"--help=1"} };
    for (bad) |arguments| try std.testing.expectError(error.BadUsage, parse(arena.allocator(), arguments, &diag));
    try std.testing.expectError(error.BadRule, parse(arena.allocator(), &.{ "--meta-rule", "x", "a" }, &diag));
}
