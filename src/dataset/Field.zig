//! What a user says of one key: its payloads are arrays of this type and shape.
//! Under a key that ends with "npy" they are `.npy` files, else the elements as
//! they are.
const Field = @This();

const std = @import("std");
const Element = @import("Element.zig");
const Npy = @import("Npy.zig");

key: []const u8,
element: Element,
/// The first dimension differs from row to row.
is_ragged: bool,
/// Of a row's array, without a ragged dimension.
shape: []const u64,
/// Of a whole row, or of one along the ragged dimension.
bytes: usize,
is_npy: bool,

/// Null where an array would have more bytes than there can be. Borrows the texts.
pub fn init(key: []const u8, element: Element, is_ragged: bool, shape: []const u64) ?Field {
    var bytes: u64 = element.size;
    var is_empty = false;
    // Empty or not, no dimension is absurd.
    for (shape) |size| {
        if (size == 0) is_empty = true else bytes = std.math.mul(u64, bytes, size) catch return null;
        if (bytes > bytes_max) return null;
    }
    return .{
        .key = key,
        .element = element,
        .is_ragged = is_ragged,
        .shape = shape,
        .bytes = if (is_empty) 0 else @intCast(bytes),
        .is_npy = std.mem.endsWith(u8, key, "npy"),
    };
}

/// Far more than memory has, and so little that sums do not overflow.
pub const bytes_max = 1 << 46;

/// Whether it is what a row's member is called: `npy` finds `.npy`, as in `row["npy"]`.
pub fn isCalled(field: *const Field, name: []const u8) bool {
    if (std.mem.eql(u8, name, field.key)) return true;
    return name.len == field.key.len + 1 and name[0] == '.' and std.mem.eql(u8, name[1..], field.key);
}

/// Whether elements under this header can be used as they are.
pub fn fits(field: *const Field, npy: *const Npy) bool {
    const element = Element.parse(npy.descr) orelse return false;
    if (!std.meta.eql(element, field.element)) return false;
    const shape = npy.shape();
    if (npy.is_fortran and shape.len > 1) return false;
    if (!field.is_ragged) return std.mem.eql(u64, shape, field.shape);
    return shape.len > 0 and std.mem.eql(u64, shape[1..], field.shape);
}

/// What is wanted, as Python writes it: `<u2 (None, 3)`.
pub fn format(field: Field, writer: *std.Io.Writer) std.Io.Writer.Error!void {
    try writer.print("{s} ", .{field.element.typestr()});
    try writeShape(writer, field.shape, field.is_ragged);
}

/// The same of what is there.
pub const Found = struct {
    npy: *const Npy,

    pub fn format(found: Found, writer: *std.Io.Writer) std.Io.Writer.Error!void {
        try writer.print("{s} ", .{found.npy.descr[0..@min(found.npy.descr.len, 100)]});
        try writeShape(writer, found.npy.shape(), false);
        if (found.npy.is_fortran) try writer.writeAll(" in Fortran order");
    }
};

fn writeShape(writer: *std.Io.Writer, shape: []const u64, is_ragged: bool) std.Io.Writer.Error!void {
    try writer.writeAll("(");
    if (is_ragged) try writer.writeAll(if (shape.len == 0) "None," else "None, ");
    for (shape, 0..) |size, i| try writer.print("{s}{d}", .{ if (i == 0) "" else ", ", size });
    try writer.writeAll(if (shape.len == 1 and !is_ragged) ",)" else ")");
}

test "what fits" {
    const element: Element = Element.parse("<u2").?;
    const fixed = Field.init(".npy", element, false, &.{ 3, 4 }).?;
    const ragged = Field.init("npy", element, true, &.{4}).?;
    var npy: Npy = .{ .size = 0, .descr = "<u2", .is_fortran = false, .dims = undefined, .dims_count = 2 };
    npy.dims[0..2].* = .{ 3, 4 };
    try std.testing.expect(fixed.fits(&npy) and ragged.fits(&npy));
    npy.dims[0] = 9;
    try std.testing.expect(!fixed.fits(&npy) and ragged.fits(&npy));
    npy.is_fortran = true;
    try std.testing.expect(!ragged.fits(&npy));
    try std.testing.expect(ragged.isCalled(".npy") and ragged.isCalled("npy") and !fixed.isCalled("npy"));
    try std.testing.expectEqual(null, Field.init("a", element, false, &.{ 1 << 40, 0, 1 << 40 }));
    try std.testing.expectEqual(0, Field.init("a", element, false, &.{ 1 << 20, 0 }).?.bytes);
    var buffer: [64]u8 = undefined;
    try std.testing.expectEqualStrings("<u2 (3, 4), <u2 (None, 4)", try std.fmt.bufPrint(&buffer, "{f}, {f}", .{ fixed, ragged }));
}
