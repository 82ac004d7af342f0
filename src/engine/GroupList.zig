//! Groups in a row, first in, first out, linked through `next`.
const GroupList = @This();

const Group = @import("Group.zig");

first: ?*Group = null,
last: ?*Group = null,
count: u32 = 0,

pub fn push(list: *GroupList, group: *Group) void {
    group.next = null;
    if (list.last) |last| last.next = group else list.first = group;
    list.last = group;
    list.count += 1;
}

pub fn pop(list: *GroupList) ?*Group {
    const group = list.first orelse return null;
    list.first = group.next;
    if (list.first == null) list.last = null;
    group.next = null;
    list.count -= 1;
    return group;
}
