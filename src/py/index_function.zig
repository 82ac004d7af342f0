//! `index_shard`: the indexer, on a thread of its own, so that the one that
//! called can answer Ctrl-C while it waits.

const std = @import("std");
const Diagnostics = @import("../base/Diagnostics.zig");
const Indexer = @import("../index/Indexer.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const args = @import("args.zig");
const gil = @import("gil.zig");
const os = @import("../base/os.zig");
const raise = @import("raise.zig");
const sync = @import("../base/sync.zig");

const gpa = std.heap.c_allocator;

/// How long the caller is deaf to signals that another thread received.
const wait_ns = 50 * std.time.ns_per_ms;

const Job = struct {
    path: [:0]const u8,
    options: Indexer.Options,
    diag: Diagnostics = .{},
    summary: Indexer.Summary,
    result: Indexer.Error!void = {},
    is_done: std.atomic.Value(bool) = .init(false),
    done: sync.Event = .{},
    stop: std.atomic.Value(bool) = .init(false),

    fn run(job: *Job) void {
        os.blockSignals();
        job.result = Indexer.indexShard(gpa, job.path, job.options, &job.diag, &job.summary);
        job.is_done.store(true, .release);
        job.done.notify();
    }

    /// The GIL is held when this is called, and given away in between.
    fn wait(job: *Job) raise.Error!void {
        while (true) {
            const ticket = job.done.ticket();
            if (job.is_done.load(.acquire)) return;
            {
                const released = gil.release();
                defer released.takeBack();
                job.done.wait(ticket, wait_ns);
            }
            if (abi.PyErr_CheckSignals() != 0) return error.Raised;
        }
    }
};

pub const method: abi.Method = .{
    .name = "index_shard",
    .function = &indexShard,
    .flags = abi.Method.var_args | abi.Method.keywords,
    .doc =
    \\index_shard($module, /, path, *, format, rules, check, verify)
    \\--
    \\
    \\Write the index of a shard, PATH.utix, or with check compare the one that is there.
    ,
};

fn indexShard(module: *abi.Object, arguments: *abi.Object, keywords: ?*abi.Object) callconv(.c) ?*abi.Object {
    return tryIndex(.ofModule(module), arguments, keywords) catch null;
}

fn tryIndex(state: *State, arguments: *abi.Object, keywords: ?*abi.Object) raise.Error!*abi.Object {
    var path: ?*abi.Object = null;
    var format: ?*abi.Object = null;
    var rules: ?*abi.Object = null;
    var check: ?*abi.Object = null;
    var verify: ?*abi.Object = null;
    const names = [_]?[*:0]const u8{ "path", "format", "rules", "check", "verify", null };
    if (abi.PyArg_ParseTupleAndKeywords(arguments, keywords, "O$OOOO:index_shard", &names, &path, &format, &rules, &check, &verify) == 0) {
        return error.Raised;
    }
    var arena: std.heap.ArenaAllocator = .init(gpa);
    defer arena.deinit();
    var job: Job = .{
        .path = try args.path(arena.allocator(), path.?),
        .options = .{
            .format = try args.choice(@FieldType(Indexer.Options, "format"), format.?, "format"),
            .rules = try readRules(arena.allocator(), rules.?),
            .check = try args.boolean(check.?),
            .verify = try args.boolean(verify.?),
        },
        .summary = .init(gpa),
    };
    defer job.summary.deinit();
    job.options.stop = &job.stop;
    try run(&job, state);
    job.result catch |err| switch (err) {
        error.BadTar, error.BadShard, error.BadIndex, error.BadRule, error.ReadFailed, error.WriteFailed, error.Stopped, error.OutOfMemory => {
            return raise.diagnostics(state, &job.diag);
        },
    };
    return toDict(&job.summary);
}

/// The job is over when this returns, however it returns.
fn run(job: *Job, state: *State) raise.Error!void {
    const thread = std.Thread.spawn(.{}, Job.run, .{job}) catch |err| switch (err) {
        error.OutOfMemory => return raise.memory(),
        else => return raise.ours(state, "cannot start a thread: the system refuses to give one more", .{}),
    };
    defer {
        const released = gil.release();
        thread.join();
        released.takeBack();
    }
    errdefer job.stop.store(true, .release);
    try job.wait();
}

/// A sequence of pairs (key, queries), copied.
fn readRules(arena: std.mem.Allocator, object: *abi.Object) raise.Error![]const Indexer.Rule {
    const pairs = abi.PySequence_Tuple(object) orelse return error.Raised;
    defer abi.Py_DecRef(pairs);
    const count = abi.PyTuple_Size(pairs);
    if (count < 0) return error.Raised;
    const rules = arena.alloc(Indexer.Rule, @intCast(count)) catch return raise.memory();
    for (rules, 0..) |*rule, i| {
        const pair = abi.PyTuple_GetItem(pairs, @intCast(i)) orelse return error.Raised;
        if (!abi.isA(pair, .tuple) or abi.PyTuple_Size(pair) != 2) {
            return raise.builtin(abi.PyExc_TypeError, "rules[{d}] must be a pair (key, queries)", .{i});
        }
        rule.* = .{
            .key = try copyText(arena, abi.PyTuple_GetItem(pair, 0) orelse return error.Raised, "key of a rule"),
            .queries = try readQueries(arena, abi.PyTuple_GetItem(pair, 1) orelse return error.Raised),
        };
    }
    return rules;
}

fn readQueries(arena: std.mem.Allocator, object: *abi.Object) raise.Error![]const []const u8 {
    if (abi.isA(object, .str)) {
        return raise.builtin(abi.PyExc_TypeError, "queries of a rule must be a sequence of str, not a str", .{});
    }
    const items = abi.PySequence_Tuple(object) orelse return error.Raised;
    defer abi.Py_DecRef(items);
    const count = abi.PyTuple_Size(items);
    if (count < 0) return error.Raised;
    const queries = arena.alloc([]const u8, @intCast(count)) catch return raise.memory();
    for (queries, 0..) |*query, i| {
        query.* = try copyText(arena, abi.PyTuple_GetItem(items, @intCast(i)) orelse return error.Raised, "query of a rule");
    }
    return queries;
}

pub fn copyText(arena: std.mem.Allocator, object: *abi.Object, name: []const u8) raise.Error![]const u8 {
    const text: args.Text = try .init(object, name);
    defer text.deinit();
    return arena.dupe(u8, text.bytes) catch raise.memory();
}

fn toDict(summary: *const Indexer.Summary) raise.Error!*abi.Object {
    const warnings = abi.PyList_New(@intCast(summary.warnings.items.len)) orelse return error.Raised;
    for (summary.warnings.items, 0..) |warning, i| {
        const text = raise.decode(warning, .readable) orelse {
            abi.Py_DecRef(warnings);
            return error.Raised;
        };
        _ = abi.PyList_SetItem(warnings, @intCast(i), text); // A list of our own: cannot fail.
    }
    return abi.Py_BuildValue(
        "{sKsKsKsN}",
        @as([*:0]const u8, "samples"),
        @as(c_ulonglong, summary.samples),
        @as([*:0]const u8, "entries"),
        @as(c_ulonglong, summary.entries),
        @as([*:0]const u8, "bytes"),
        @as(c_ulonglong, summary.bytes),
        @as([*:0]const u8, "warnings"),
        warnings,
    ) orelse error.Raised;
}
