//! A row that the consumer holds: two words, and one reference to its group.
const Row = @This();

const Group = @import("Group.zig");
const Mapping = @import("../io/Mapping.zig");

group: *Group,
index: u32,

pub const Entry = struct {
    key: []const u8,
    /// Empty in a dry run.
    bytes: []const u8,
    /// Where it comes from: empty for bytes that the script made.
    path: []const u8,
    offset: u64,
    /// Bytes that are, or in a dry run would be, read.
    size: u64,
};

pub fn count(row: Row) u32 {
    return row.group.row_ends.items[row.index] - row.group.rowStart(row.index);
}

pub fn entry(row: Row, i: u32) Entry {
    const e = &row.group.entries.items[row.group.rowStart(row.index) + i];
    return .{
        .key = e.key.text,
        .bytes = if (e.payload) |payload| payload[0..e.size] else "",
        .path = if (e.file) |file| file.path else "",
        .offset = if (e.file != null) e.offset else 0,
        .size = e.size,
    };
}

/// The mapping of bytes of the row that were there and are not to be trusted any
/// more, if so. To be asked after they were copied.
pub fn lostMapping(row: Row) ?*Mapping {
    if (row.group.mapped.items.len == 0) return null;
    for (row.group.rowEntries(row.index)) |e| {
        if (Group.lostMapping(e)) |mapping| return mapping;
    }
    return null;
}

/// Give the row up. Any thread.
pub fn release(row: Row) void {
    row.group.release();
}
