//! `read_item`: an item of a `LoadIt`, from its tar, if it is that item.

const std = @import("std");
const Header = @import("../tar/Header.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const gil = @import("gil.zig");
const os = @import("../base/os.zig");
const raise = @import("raise.zig");

pub const method: abi.Method = .{
    .name = "read_item",
    .function = &readItem,
    .flags = abi.Method.fast,
    .doc =
    \\read_item($module, descriptor, offset, size, index, key, /)
    \\--
    \\
    \\The payload of a tar member, if its header says that it is that item of that size; None otherwise.
    ,
};

fn readItem(_: *abi.Object, given: [*]const *abi.Object, count: isize) callconv(.c) ?*abi.Object {
    return tryReadItem(given[0..@intCast(count)]) catch null;
}

fn tryReadItem(given: []const *abi.Object) raise.Error!*abi.Object {
    if (given.len != 5) return raise.builtin(abi.PyExc_TypeError, "read_item() takes 5 arguments, got {d}", .{given.len});
    const descriptor = try args.int(os.fd_t, given[0], "descriptor");
    const offset = try args.int(u63, given[1], "offset");
    const size = try args.int(u63, given[2], "size");
    const index = try args.int(u63, given[3], "index");
    const key: args.Text = try .init(given[4], "key");
    defer key.deinit();
    if (offset < Header.block_bytes) return abi.none();

    const item = abi.PyBytes_FromStringAndSize(null, size) orelse return error.Raised;
    errdefer abi.Py_DecRef(item);
    var bytes: [*]u8 = undefined;
    var bytes_count: isize = undefined;
    if (abi.PyBytes_AsStringAndSize(item, &bytes, &bytes_count) != 0) return error.Raised;

    // The header in the same read: a file that another one has replaced cannot come in between.
    var header: [Header.block_bytes]u8 = undefined;
    const pieces = [_]std.posix.iovec{
        .{ .base = &header, .len = header.len },
        .{ .base = bytes, .len = size },
    };
    const released = gil.release();
    const got = os.preadv(descriptor, &pieces, offset - header.len);
    released.takeBack();

    // Why it is not is found out, and said, by the caller.
    const is_whole = switch (got) {
        .ok => |count| count == header.len + @as(usize, size),
        .err => false,
    };
    if (is_whole and isOf(&header, index, key.bytes, size)) return item;
    abi.Py_DecRef(item);
    return abi.none();
}

fn isOf(block: *const [Header.block_bytes]u8, index: u63, key: []const u8, size: u63) bool {
    const header = Header.parse(block) catch return false;
    var buffer: [64]u8 = undefined;
    const name = std.fmt.bufPrint(&buffer, "{d:0>12}{s}", .{ index, key }) catch return false;
    return header.size == size and std.mem.eql(u8, header.name, name);
}
