//! How long things took, for percentiles: counts by size, four to each doubling,
//! from a microsecond to hours. A percentile is right to a fifth.
const Latency = @This();

const std = @import("std");

counts: [bucket_count]u64 = @splat(0),
total: u64 = 0,

const bucket_count = 140;

pub fn add(latency: *Latency, ns: u64) void {
    latency.counts[bucketOf(ns / std.time.ns_per_us)] += 1;
    latency.total += 1;
}

/// The time, in nanoseconds, that `percent` of all stayed within; 0 when there were none.
pub fn percentileNs(latency: *const Latency, percent: u64) u64 {
    var seen: u64 = 0;
    for (latency.counts, 0..) |count, bucket| {
        seen += count;
        if (count > 0 and seen * 100 >= latency.total * percent) return endOf(bucket) * std.time.ns_per_us;
    }
    return 0;
}

/// Four steps to each power of two.
fn bucketOf(us: u64) usize {
    if (us < 4) return us;
    const exponent = std.math.log2_int(u64, us);
    const quarter = (us >> (exponent - 2)) & 3;
    return @min(bucket_count - 1, 4 * (@as(usize, exponent) - 1) + quarter);
}

fn endOf(bucket: usize) u64 {
    if (bucket < 4) return bucket + 1;
    const exponent: u6 = @intCast(bucket / 4 + 1);
    return (@as(u64, 4 + bucket % 4 + 1)) << (exponent - 2);
}

test "percentiles lie just above what they count" {
    var latency: Latency = .{};
    try std.testing.expectEqual(0, latency.percentileNs(50));
    for (1..1001) |ms| latency.add(ms * std.time.ns_per_ms);
    for ([_]u64{ 1, 50, 90, 99 }) |percent| {
        const exact: f64 = @floatFromInt(percent * 10 * std.time.ns_per_ms);
        const got: f64 = @floatFromInt(latency.percentileNs(percent));
        try std.testing.expect(got >= exact and got <= 1.26 * exact);
    }
    for ([_]u64{ 0, 3, 4, 5, 7, 8, 1 << 20, std.math.maxInt(u64) }) |us| {
        const bucket = bucketOf(us);
        try std.testing.expect(bucket == bucket_count - 1 or us < endOf(bucket));
    }
}
