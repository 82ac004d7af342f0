//! The arguments of `Pipeline`, checked. The facade checks them too, with more
//! to say; what gets past it is an error here and never more than that.

const std = @import("std");
const Pipeline = @import("../loader/Pipeline.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const config = @import("config.zig");
const raise = @import("raise.zig");
const remote_type = @import("remote_type.zig");

const names = [_][:0]const u8{
    "source", "config",  "name",          "search_dir",     "rank",     "world_size", "log_level", "io",
    "access", "threads", "prefetch_rows", "prefetch_bytes", "on_error", "stores",     "dry",
};

pub const Given = struct {
    /// Its texts are borrowed from the fields below.
    native: Pipeline.Options = undefined,
    log_level: c_long = 0,
    /// Borrowed from the arguments.
    stores: ?*abi.Object = null,
    source: ?args.Text = null,
    name: ?args.Text = null,
    search_dir: ?args.Text = null,
    config: []u8 = &.{},

    pub fn parse(given: *Given, gpa: std.mem.Allocator, state: *State, arguments: *abi.Object, keywords: ?*abi.Object) raise.Error!void {
        // Borrowed from the arguments.
        var objects: [names.len]?*abi.Object = @splat(null);
        try unpack(arguments, keywords, &objects);
        const all: [names.len]*abi.Object = @bitCast(objects);

        given.source = try .init(all[0], "source");
        given.name = try .init(all[2], "name");
        given.search_dir = try .init(all[3], "search_dir");
        given.log_level = try args.int(c_long, all[6], "log_level");
        const rank = try args.int(u32, all[4], "rank");
        const world_size = try args.int(u32, all[5], "world_size");
        if (rank >= world_size) {
            return raise.builtin(abi.PyExc_ValueError, "rank must be below world_size ({d}), got {d}", .{ world_size, rank });
        }
        given.native = .{
            .source = .{ .script = .{
                .text = given.source.?.bytes,
                .name = given.name.?.bytes,
                .search_dir = given.search_dir.?.bytes,
                .config = "",
                .rank = rank,
                .world_size = world_size,
            } },
            .io = try args.choice(@FieldType(Pipeline.Options, "io"), all[7], "io"),
            .access = try args.choice(@FieldType(Pipeline.Options, "access"), all[8], "access"),
            .threads = try args.int(u32, all[9], "threads"),
            .prefetch_rows = try args.int(u32, all[10], "prefetch_rows"),
            .prefetch_bytes = try args.int(u64, all[11], "prefetch_bytes"),
            .on_error = try args.choice(@FieldType(Pipeline.Options, "on_error"), all[12], "on_error"),
            .remote = try remote_type.ofStores(state, all[13]),
            .dry = try args.boolean(all[14]),
        };
        given.stores = all[13];
        // Last, as it is the longest and may run code of the caller's.
        given.config = try config.toMsgpack(gpa, state, all[1]);
        given.native.source.script.config = given.config;
    }

    pub fn deinit(given: *Given, gpa: std.mem.Allocator) void {
        inline for (.{ &given.source, &given.name, &given.search_dir }) |text| {
            if (text.*) |held| held.deinit();
        }
        gpa.free(given.config);
    }
};

/// All are required, so that each default stands in one place, the facade.
fn unpack(arguments: *abi.Object, keywords: ?*abi.Object, objects: *[names.len]?*abi.Object) raise.Error!void {
    const format = "OO$" ++ "O" ** (names.len - 2) ++ ":Pipeline";
    var c_names: [names.len + 1]?[*:0]const u8 = @splat(null);
    for (c_names[0..names.len], names) |*c_name, name| c_name.* = name.ptr;
    var places: std.meta.Tuple(&(.{*?*abi.Object} ** names.len)) = undefined;
    inline for (&places, objects) |*place, *object| place.* = object;
    const parsed = @call(.auto, abi.PyArg_ParseTupleAndKeywords, .{ arguments, keywords, format, &c_names } ++ places);
    if (parsed == 0) return error.Raised;
}
