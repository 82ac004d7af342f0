//! What an array is made of, by NumPy's typestr: `<u2`, `|b1`, `>f8`.
const Element = @This();

const builtin = @import("builtin");
const std = @import("std");

kind: Kind,
/// In bytes.
size: u8,
/// Of several bytes, in the order that this machine does not have.
is_swapped: bool = false,

pub const Kind = enum { boolean, int, uint, float, complex };

const Description = struct {
    /// A typestr without its order.
    name: [:0]const u8,
    kind: Kind,
    size: u8,
    /// For the buffer protocol, in this machine's order and in one that is named.
    native: [:0]const u8,
    standard: [:0]const u8,
    /// For Arrow, empty where it has nothing of the kind.
    arrow: [:0]const u8,
};

const descriptions = [_]Description{
    .{ .name = "b1", .kind = .boolean, .size = 1, .native = "?", .standard = "?", .arrow = "" }, // Arrow's has a bit each.
    .{ .name = "i1", .kind = .int, .size = 1, .native = "b", .standard = "b", .arrow = "c" },
    .{ .name = "i2", .kind = .int, .size = 2, .native = "h", .standard = "h", .arrow = "s" },
    .{ .name = "i4", .kind = .int, .size = 4, .native = "i", .standard = "i", .arrow = "i" },
    .{ .name = "i8", .kind = .int, .size = 8, .native = "l", .standard = "q", .arrow = "l" },
    .{ .name = "u1", .kind = .uint, .size = 1, .native = "B", .standard = "B", .arrow = "C" },
    .{ .name = "u2", .kind = .uint, .size = 2, .native = "H", .standard = "H", .arrow = "S" },
    .{ .name = "u4", .kind = .uint, .size = 4, .native = "I", .standard = "I", .arrow = "I" },
    .{ .name = "u8", .kind = .uint, .size = 8, .native = "L", .standard = "Q", .arrow = "L" },
    .{ .name = "f2", .kind = .float, .size = 2, .native = "e", .standard = "e", .arrow = "e" },
    .{ .name = "f4", .kind = .float, .size = 4, .native = "f", .standard = "f", .arrow = "f" },
    .{ .name = "f8", .kind = .float, .size = 8, .native = "d", .standard = "d", .arrow = "g" },
    .{ .name = "c8", .kind = .complex, .size = 8, .native = "Zf", .standard = "Zf", .arrow = "" },
    .{ .name = "c16", .kind = .complex, .size = 16, .native = "Zd", .standard = "Zd", .arrow = "" },
};

/// The largest `size`.
pub const size_max = 16;

const little = builtin.cpu.arch.endian() == .little;
const order_native = if (little) "<" else ">";
const order_swapped = if (little) ">" else "<";

/// Null for what is no typestr of ours. Without an order, or with `=` or `|`, it
/// is this machine's.
pub fn parse(text: []const u8) ?Element {
    if (text.len < 2) return null;
    const has_order = std.mem.indexOfScalar(u8, "<>=|", text[0]) != null;
    const rest = if (has_order) text[1..] else text;
    for (descriptions) |description| {
        if (!std.mem.eql(u8, rest, description.name)) continue;
        return .{ .kind = description.kind, .size = description.size, .is_swapped = description.size > 1 and text[0] == order_swapped[0] };
    }
    return null;
}

/// Every typestr that `parse` takes, without its order, for messages.
pub const all_names = blk: {
    var names: []const u8 = "";
    for (descriptions, 0..) |description, i| {
        names = names ++ (if (i == 0) "" else " ") ++ description.name;
    }
    break :blk names;
};

fn place(element: Element) usize {
    for (descriptions, 0..) |description, i| {
        if (description.kind == element.kind and description.size == element.size) return i;
    }
    unreachable; // Made by `parse`, or of the table.
}

/// As NumPy writes it.
pub fn typestr(element: Element) [:0]const u8 {
    const texts = comptime blk: {
        var texts: [2][descriptions.len][:0]const u8 = undefined;
        for (&texts, [_][]const u8{ order_native, order_swapped }) |*of_order, order| {
            for (of_order, descriptions) |*text, description| {
                const shown = if (description.size == 1) "|" else order;
                text.* = shown ++ description.name;
            }
        }
        break :blk texts;
    };
    return texts[@intFromBool(element.is_swapped)][element.place()];
}

/// For the buffer protocol, as of the module `struct`.
pub fn format(element: Element) [:0]const u8 {
    const swapped = comptime blk: {
        var texts: [descriptions.len][:0]const u8 = undefined;
        for (&texts, descriptions) |*text, description| text.* = order_swapped ++ description.standard;
        break :blk texts;
    };
    return if (element.is_swapped) swapped[element.place()] else descriptions[element.place()].native;
}

/// For Arrow's C data interface; null where Arrow has nothing of the kind.
pub fn arrowFormat(element: Element) ?[:0]const u8 {
    const text = descriptions[element.place()].arrow;
    return if (text.len == 0 or element.is_swapped) null else text;
}

test "typestrs there and back" {
    const eql = std.testing.expectEqualStrings;
    for (descriptions) |description| {
        const element = parse(description.name).?;
        try std.testing.expectEqual(element, parse(element.typestr()).?);
        try std.testing.expectEqual(description.size, element.size);
    }
    try eql("<u2", parse("=u2").?.typestr());
    try eql(">u2", parse(">u2").?.typestr());
    try eql(">H", parse(">u2").?.format());
    try eql("|u1", parse("<u1").?.typestr());
    try eql(">q", parse(">i8").?.format());
    try eql("l", parse("<i8").?.format());
    try std.testing.expectEqual(null, parse(">i8").?.arrowFormat());
    for ([_][]const u8{ "", "u", "<", "u3", "f16", "O8", "<u", "u02", "V4", "<<u2", "u2 ", "S3" }) |bad| {
        try std.testing.expectEqual(null, parse(bad));
    }
}
