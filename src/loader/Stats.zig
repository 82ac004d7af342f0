//! Where the time of an epoch goes, and what it has come to: for Python.
const Stats = @This();

const Pipeline = @import("Pipeline.zig");
const Remote = @import("../io/Remote.zig");
const os = @import("../base/os.zig");

rows: u64,
rows_skipped: u64,
bytes: u64,
reads: u64,
read_bytes: u64,
rows_ahead: u64,
bytes_ahead: u64,
in_flight: u64,
script_ns: u64,
storage_ns: u64,
consumer_ns: u64,
stall_ns: u64,
/// Sent to stores, with those that were sent again; their bytes; and how long they
/// took, all tries together.
requests: u64,
request_bytes: u64,
request_retries: u64,
request_p50_ns: u64,
request_p90_ns: u64,
request_p99_ns: u64,
/// Empty before the first start.
backend: []const u8,
/// Why it is not the better one, or empty. Valid while the pipeline is.
backend_reason: []const u8,

/// As of now.
pub fn of(pipeline: *Pipeline) Stats {
    const engine = &pipeline.engine;
    const counters = &engine.stats;
    const storage_ns = counters.storage_ns.get();
    const consumer_ns = counters.consumer_ns.get();
    const ended_ns = pipeline.ended_ns.load(.acquire);
    const until_ns = if (ended_ns != 0) ended_ns else os.monotonicNs();
    const wall_ns = if (pipeline.started_ns == 0) 0 else until_ns - pipeline.started_ns;
    const asked: Remote.Stats = if (pipeline.options.remote) |remote| remote.statsOf(&engine.client) else .{};
    const has_backend = engine.backend_ready.load(.acquire);
    return .{
        .rows = counters.rows.get(),
        .rows_skipped = counters.rows_skipped.get(),
        .bytes = counters.bytes.get(),
        .reads = counters.reads.get(),
        .read_bytes = counters.read_bytes.get(),
        .rows_ahead = engine.queue.rowsAhead(),
        .bytes_ahead = engine.queue.bytesAhead(),
        .in_flight = asked.pending + if (has_backend) engine.backend.inFlight() else 0,
        // Whatever is not spent waiting is spent in the script.
        .script_ns = wall_ns -| storage_ns -| consumer_ns,
        .storage_ns = storage_ns,
        .consumer_ns = consumer_ns,
        .stall_ns = counters.stall_ns.get(),
        .requests = asked.requests,
        .request_bytes = asked.bytes,
        .request_retries = asked.retries,
        .request_p50_ns = asked.latency.percentileNs(50),
        .request_p90_ns = asked.latency.percentileNs(90),
        .request_p99_ns = asked.latency.percentileNs(99),
        .backend = if (has_backend) engine.backend.name() else "",
        .backend_reason = if (has_backend) engine.backend.reason() else "",
    };
}
