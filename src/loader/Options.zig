//! What an epoch is to deliver, and how it is to read.
const Options = @This();

const std = @import("std");
const Backend = @import("../io/Backend.zig").Backend;
const OpenFile = @import("../engine/OpenFile.zig");
const Remote = @import("../io/Remote.zig");
const Script = @import("../lua/Script.zig");
const View = @import("../dataset/View.zig");

source: Source,
io: Backend.Choice,
access: OpenFile.Access,
threads: u32,
prefetch_rows: u32,
prefetch_bytes: u64,
on_error: OnError,
/// Where URLs lead.
remote: ?*Remote,
dry: bool,

pub const OnError = enum { raise, skip };

/// Where rows come from.
pub const Source = union(enum) {
    script: Script.Source,
    rows: struct {
        view: View,
        /// The entries to read; null for all.
        keys: ?[]const []const u8,
    },
};

/// With copies of a script's texts, and a reference to what it judges. What is
/// given for rows is for who makes their source.
pub fn keep(options: Options, arena: std.mem.Allocator) error{OutOfMemory}!Options {
    var own = options;
    switch (own.source) {
        .script => |*script| {
            inline for (.{ "text", "name", "search_dir", "config" }) |field| {
                @field(script, field) = try arena.dupe(u8, @field(script, field));
            }
            if (script.view) |view| _ = view.retain();
        },
        .rows => {},
    }
    if (own.remote) |remote| _ = remote.retain();
    return own;
}

/// Drop what `keep` took a reference to.
pub fn drop(options: *const Options) void {
    if (options.remote) |remote| remote.release();
    switch (options.source) {
        .script => |script| if (script.view) |view| view.release(),
        .rows => {},
    }
}
