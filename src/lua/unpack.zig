//! msgpack to Lua values: configuration and metadata. Maps and arrays become
//! tables; nil leaves its key absent; strings and binary become strings.

const std = @import("std");
const Reader = @import("../msgpack/Reader.zig");
const c = @import("c.zig");
const limits = @import("../base/limits.zig");

const Error = Reader.Error || error{ NumberTooLarge, BadKey };

/// `unpack(bytes) -> value`, for Lua. Raises on what is malformed.
pub fn unpack(lua: *c.State) callconv(.c) c_int {
    var size: usize = 0;
    const bytes = c.luaL_checklstring(lua, 1, &size);
    push(lua, bytes[0..size]);
    return 1;
}

/// Push the value. Raises on what is malformed, so call it protected.
pub fn push(lua: *c.State, bytes: []const u8) void {
    var reader: Reader = .{ .bytes = bytes };
    pushValue(lua, &reader, 0) catch |err| {
        _ = switch (err) {
            error.NumberTooLarge => c.luaL_error(lua, "a number at byte %d is beyond 2^53, which Lua numbers hold exactly", at(&reader)),
            error.BadKey => c.luaL_error(lua, "a key at byte %d is no string or number", at(&reader)),
            error.TooDeep => c.luaL_error(lua, "values nest deeper than %d at byte %d", @as(c_int, limits.value_depth_max), at(&reader)),
            error.WrongType => c.luaL_error(lua, "no msgpack value at byte %d", at(&reader)),
            error.NeedMore, error.CutShort => c.luaL_error(lua, "msgpack is cut short at byte %d of %d", at(&reader), toInt(bytes.len)),
        };
    };
}

fn at(reader: *const Reader) c_int {
    return toInt(reader.at);
}

fn toInt(number: usize) c_int {
    return std.math.cast(c_int, number) orelse std.math.maxInt(c_int);
}

fn pushValue(lua: *c.State, reader: *Reader, depth: u32) Error!void {
    if (depth > limits.value_depth_max) return error.TooDeep;
    if (c.lua_checkstack(lua, 4) == 0) return error.TooDeep;
    switch (try reader.peek()) {
        .nil => {
            _ = try reader.skip();
            c.lua_pushnil(lua);
        },
        .boolean => c.lua_pushboolean(lua, @intFromBool(try reader.boolean())),
        .uint => {
            const start = reader.at;
            const value = try reader.uint();
            if (value > limits.lua_integer_max) {
                reader.at = start;
                return error.NumberTooLarge;
            }
            c.lua_pushnumber(lua, @floatFromInt(value));
        },
        .negative => {
            const start = reader.at;
            const value = try reader.negative();
            if (value < -limits.lua_integer_max) {
                reader.at = start;
                return error.NumberTooLarge;
            }
            c.lua_pushnumber(lua, @floatFromInt(value));
        },
        .float => c.lua_pushnumber(lua, try reader.float()),
        .str, .bin => c.pushString(lua, try reader.str()),
        .array => {
            const count = try reader.array();
            c.lua_createtable(lua, toInt(@min(count, table_hint_max)), 0);
            for (0..count) |i| {
                try pushValue(lua, reader, depth + 1);
                c.lua_rawseti(lua, -2, toInt(i + 1));
            }
        },
        .map => {
            const count = try reader.map();
            c.lua_createtable(lua, 0, toInt(@min(count, table_hint_max)));
            for (0..count) |_| {
                switch (try reader.peek()) {
                    .str, .bin, .uint, .negative, .float, .boolean => {},
                    else => return error.BadKey,
                }
                const start = reader.at;
                try pushValue(lua, reader, depth + 1);
                if (c.lua_rawequal(lua, -1, -1) == 0) { // NaN is no key.
                    reader.at = start;
                    return error.BadKey;
                }
                try pushValue(lua, reader, depth + 1);
                c.lua_rawset(lua, -3);
            }
        },
        .ext, .invalid => return error.WrongType,
    }
}

/// Room made in a table before its values are seen to be there.
const table_hint_max = 1024;
