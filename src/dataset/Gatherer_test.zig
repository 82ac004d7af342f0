//! `Gatherer` over real files, with both ways of reading.

const std = @import("std");
const Gatherer = @import("Gatherer.zig");
test {
    std.testing.refAllDecls(Gatherer);
}
