//! Rows of a dataset in some order: what walks and filters are given.
const View = @This();

const Dataset = @import("Dataset.zig");
const Numbers = @import("Numbers.zig");

dataset: *Dataset,
numbers: Numbers,

/// The same, with references of its own.
pub fn retain(view: View) View {
    view.dataset.retain();
    if (view.numbers.list) |list| list.retain();
    return view;
}

/// Any thread.
pub fn release(view: View) void {
    if (view.numbers.list) |list| list.release();
    view.dataset.release();
}
