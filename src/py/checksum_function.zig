//! `crc32c`: the checksum of TFRecord files.

const abi = @import("abi.zig");
const crc32c = @import("../base/crc32c.zig");
const gil = @import("gil.zig");
const raise = @import("raise.zig");

pub const method: abi.Method = .{
    .name = "crc32c",
    .function = &masked,
    .flags = abi.Method.one_arg,
    .doc =
    \\crc32c($module, data, /)
    \\--
    \\
    \\The CRC-32C of a buffer, masked as TFRecord files store it.
    ,
};

/// Below this, giving away the GIL costs more than the checksum.
const long_bytes = 64 * 1024;

fn masked(_: *abi.Object, data: *abi.Object) callconv(.c) ?*abi.Object {
    return tryMasked(data) catch null;
}

fn tryMasked(data: *abi.Object) raise.Error!*abi.Object {
    var buffer: abi.Buffer = undefined;
    if (abi.PyObject_GetBuffer(data, &buffer, 0) != 0) return error.Raised;
    defer abi.PyBuffer_Release(&buffer);
    const size: usize = @intCast(buffer.size);
    var crc: crc32c.Crc = .{};
    if (size > 0) {
        const bytes: [*]const u8 = @ptrCast(buffer.bytes.?);
        const released = if (size >= long_bytes) gil.release() else null;
        defer if (released) |state| state.takeBack();
        crc.add(bytes[0..size]);
    }
    return abi.PyLong_FromUnsignedLongLong(crc.masked()) orelse error.Raised;
}
