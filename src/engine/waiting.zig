//! The engine's thread waits here: for room in the budget, for reads, for pages;
//! and hands over what is complete.

const std = @import("std");
const Backend = @import("../io/Backend.zig").Backend;
const Engine = @import("Engine.zig");
const fetching = @import("fetching.zig");
const Group = @import("Group.zig");
const Stats = @import("Stats.zig");
const limits = @import("../base/limits.zig");
const mapped = @import("mapped.zig");
const os = @import("../base/os.zig");
const reading = @import("reading.zig");

/// Until the budget has room for the group. Reads go on meanwhile.
pub fn forRoom(engine: *Engine, group: *const Group) error{Stopped}!void {
    engine.queue.adapt();
    if (engine.queue.hasRoom(group.rowCount(), group.cost_bytes)) return;
    engine.queue.noteFull();
    engine.queue.room_wanted.store(true, .seq_cst);
    defer engine.queue.room_wanted.store(false, .seq_cst);
    while (true) {
        if (engine.stopping.load(.seq_cst)) return error.Stopped;
        const ticket = engine.idle.ticket();
        engine.queue.adapt();
        if (engine.queue.hasRoom(group.rowCount(), group.cost_bytes)) return;
        if (!engine.backend_ready.raw) {
            engine.idle.wait(ticket, std.time.ns_per_s);
        } else if (engine.under_way.first != null) {
            turn(engine, &engine.stats.storage_ns);
        } else {
            turn(engine, &engine.stats.consumer_ns);
        }
    }
}

/// Reads in order through the page cache are fastest when few are under way: the
/// kernel reads ahead by itself, into memory that stays in the cache.
pub fn forShallows(engine: *Engine, group: *const Group) error{Stopped}!void {
    if (engine.options.dry or !reading.isInOrder(group, &engine.scratch)) return;
    const depth = @max(2, limits.ordered_bytes_in_flight / reading.readSize(&engine.scratch));
    while (engine.slow_waits < limits.slow_waits_max and engine.backend.inFlight() >= depth) {
        if (engine.isStopping()) return error.Stopped;
        const start_ns = os.monotonicNs();
        turn(engine, &engine.stats.storage_ns);
        // Storage that answers late, as over a network, is asked for more at once.
        if (os.monotonicNs() - start_ns > limits.slow_wait_ns) engine.slow_waits += 1;
    }
}

/// Wait until something gets on.
pub fn turn(engine: *Engine, counter: *Stats.Counter) void {
    const start_ns = os.monotonicNs();
    if (engine.under_way.first) |group| {
        if (group.mapped_pending) mapped.complete(group, &engine.mapped_pace, &engine.backend);
        tick(engine, if (group.reads_pending > 0) .block else .poll);
    } else tick(engine, .block);
    counter.add(os.monotonicNs() - start_ns);
}

pub fn tick(engine: *Engine, wait: Backend.Wait) void {
    engine.backend.tick(wait);
    fetching.takeDone(engine);
    publish(engine);
}

/// Hand over the groups at the front that are complete.
pub fn publish(engine: *Engine) void {
    while (engine.under_way.first) |group| {
        if (group.mapped_pending) {
            // The kernel has time to read ahead, unless somebody waits for it.
            if (engine.mapped_pace.holdsBack(engine.under_way.count) and !engine.queue.isStarving()) return;
            mapped.complete(group, &engine.mapped_pace, &engine.backend);
        }
        if (group.reads_pending > 0) return;
        _ = engine.under_way.pop();
        group.endFileUse();
        engine.queue.push(group);
    }
}
