//! The functions that `lua/ultar` reaches through FFI: about three nanoseconds
//! a call, and the JIT compiles straight through them.
//!
//! None of them raises: a status comes out, and the Lua side raises with the
//! script's line. Numbers come as doubles and are checked here. The layout of
//! `Api` and `Record` is that of `lua/ultar/host.lua`; change both together.

const std = @import("std");
const Host = @import("Host.zig");
const Index = @import("../utix/Index.zig");
const OpenIndex = @import("OpenIndex.zig");
const Order = @import("../base/Order.zig");
const Scan = @import("Scan.zig");
const limits = @import("../base/limits.zig");

pub const Status = enum(i32) {
    done = 0,
    /// The text is in `message`.
    failed = 1,
    /// The iterator is being dropped: the script is to end.
    stopped = 2,
    /// Nothing more to iterate over.
    no_more = 3,
};

pub const Api = extern struct {
    host: *Host,
    open_file: *const @TypeOf(openFile) = openFile,
    close_file: *const @TypeOf(closeFile) = closeFile,
    add_entry: *const @TypeOf(addEntry) = addEntry,
    add_entry_bytes: *const @TypeOf(addEntryBytes) = addEntryBytes,
    add_record: *const @TypeOf(addRecord) = addRecord,
    add_record_key: *const @TypeOf(addRecordKey) = addRecordKey,
    finish_row: *const @TypeOf(finishRow) = finishRow,
    poll: *const @TypeOf(poll) = poll,
    log: *const @TypeOf(log) = log,
    message: *const @TypeOf(message) = message,
    index_open: *const @TypeOf(indexOpen) = indexOpen,
    index_close: *const @TypeOf(indexClose) = indexClose,
    index_count: *const @TypeOf(indexCount) = indexCount,
    index_record: *const @TypeOf(indexRecord) = indexRecord,
    index_key: *const @TypeOf(indexKey) = indexKey,
    scan_open: *const @TypeOf(scanOpen) = scanOpen,
    scan_next: *const @TypeOf(scanNext) = scanNext,
    scan_close: *const @TypeOf(scanClose) = scanClose,
    order_init: *const @TypeOf(orderInit) = orderInit,
    order_at: *const @TypeOf(orderAt) = orderAt,
    order_place: *const @TypeOf(orderPlace) = orderPlace,
    view_next: *const @TypeOf(viewNext) = viewNext,
    view_index: *const @TypeOf(viewIndex) = viewIndex,
};

/// One record of an index, borrowed from it.
pub const Record = extern struct {
    offset: u64,
    iidx: u64,
    stem: [*]const u8,
    stem_size: usize,
    offsets: [*]const u64,
    sizes: [*]const u64,
    keys: [*]const u32,
    count: usize,
    metadata: [*]const u8,
    metadata_size: usize,
};

/// An order in memory of LuaJIT's, which made room for it: `ultar_order`.
pub const LuaOrder = extern struct {
    n: f64,
    seed: f64,
    epoch: f64,
    window: f64,
    native: [native_words]u64,

    const native_words = 64;
    const Native = struct { order: Order, cursor: Order.Cursor };

    comptime {
        std.debug.assert(@sizeOf(Native) <= native_words * @sizeOf(u64) and @alignOf(Native) <= @alignOf(u64));
    }

    fn get(order: *LuaOrder) *Native {
        return @ptrCast(&order.native);
    }
};

/// A `size` of less than 0 is none.
fn openFile(host: *Host, path: [*]const u8, path_size: usize, size: f64, handle: *f64) callconv(.c) Status {
    handle.* = host.openFile(path[0..path_size], wholeNumber(size)) catch |err| return host.statusOf(err);
    return .done;
}

fn closeFile(host: *Host, handle: f64) callconv(.c) Status {
    host.engine.closeFile(handle) catch |err| switch (err) {
        error.BadHandle => return host.badHandle(handle),
        error.Stopped, error.OutOfMemory => |known| return host.statusOf(known),
    };
    return .done;
}

fn addEntry(host: *Host, handle: f64, key: [*]const u8, key_size: usize, offset: f64, size: f64) callconv(.c) Status {
    const start = wholeNumber(offset) orelse return host.badNumber("offset", offset);
    const count = wholeNumber(size) orelse return host.badNumber("size", size);
    const file = host.engine.files.get(handle) orelse return host.badHandle(handle);
    host.checkEntry(key_size, 1) catch |err| return host.statusOf(err);
    host.engine.addEntry(file, key[0..key_size], start, count) catch |err| return host.statusOf(err);
    return .done;
}

fn addEntryBytes(host: *Host, key: [*]const u8, key_size: usize, data: [*]const u8, data_size: usize) callconv(.c) Status {
    host.checkEntry(key_size, 1) catch |err| return host.statusOf(err);
    host.engine.addBytes(key[0..key_size], data[0..data_size]) catch |err| return host.statusOf(err);
    return .done;
}

fn addRecord(host: *Host, handle: f64, index: *OpenIndex, number: f64) callconv(.c) Status {
    const file = host.engine.files.get(handle) orelse return host.badHandle(handle);
    const record = recordAt(index, number) orelse return host.badRecord(index.index, number);
    host.checkEntry(0, record.keys.len) catch |err| return host.statusOf(err);
    for (record.keys, record.offsets, record.sizes) |key, offset, size| {
        host.engine.addEntry(file, index.index.keyText(key), record.offset + offset, size) catch |err| return host.statusOf(err);
    }
    return .done;
}

fn addRecordKey(host: *Host, handle: f64, index: *OpenIndex, number: f64, key: [*]const u8, key_size: usize) callconv(.c) Status {
    const file = host.engine.files.get(handle) orelse return host.badHandle(handle);
    const record = recordAt(index, number) orelse return host.badRecord(index.index, number);
    host.checkEntry(key_size, 1) catch |err| return host.statusOf(err);
    for (record.keys, record.offsets, record.sizes) |id, offset, size| {
        if (!std.mem.eql(u8, index.index.keyText(id), key[0..key_size])) continue;
        host.engine.addEntry(file, key[0..key_size], record.offset + offset, size) catch |err| return host.statusOf(err);
        return .done;
    }
    return host.noSuchKey(index.index, record, key[0..key_size]);
}

fn finishRow(host: *Host) callconv(.c) Status {
    host.checkMayEmit() catch |err| return host.statusOf(err);
    host.engine.finishRow() catch |err| return host.statusOf(err);
    return .done;
}

fn poll(host: *Host) callconv(.c) Status {
    host.engine.poll() catch |err| return host.statusOf(err);
    return .done;
}

fn log(host: *Host, text: [*]const u8, size: usize) callconv(.c) Status {
    host.engine.log(false, text[0..size]) catch |err| return host.statusOf(err);
    return .done;
}

fn message(host: *Host, size: *usize) callconv(.c) [*]const u8 {
    const text = host.failure.message();
    size.* = text.len;
    return text.ptr;
}

fn indexOpen(host: *Host, path: [*]const u8, path_size: usize, index: **OpenIndex) callconv(.c) Status {
    index.* = host.openIndex(path[0..path_size]) catch |err| return host.statusOf(err);
    return .done;
}

fn indexClose(index: *OpenIndex) callconv(.c) void {
    index.close();
}

fn indexCount(index: *OpenIndex) callconv(.c) f64 {
    return @floatFromInt(index.index.count);
}

fn indexRecord(host: *Host, index: *OpenIndex, number: f64, out: *Record) callconv(.c) Status {
    const record = recordAt(index, number) orelse return host.badRecord(index.index, number);
    out.* = .{
        .offset = record.offset,
        .iidx = record.iidx,
        .stem = record.stem.ptr,
        .stem_size = record.stem.len,
        .offsets = record.offsets.ptr,
        .sizes = record.sizes.ptr,
        .keys = record.keys.ptr,
        .count = record.keys.len,
        .metadata = record.metadata.ptr,
        .metadata_size = record.metadata.len,
    };
    return .done;
}

fn indexKey(index: *OpenIndex, key: u32, size: *usize) callconv(.c) ?[*]const u8 {
    if (!index.index.hasKey(key)) return null;
    const text = index.index.keyText(key);
    size.* = text.len;
    return text.ptr;
}

fn scanOpen(host: *Host, path: [*]const u8, path_size: usize, scan: **Scan) callconv(.c) Status {
    scan.* = host.openScan(path[0..path_size]) catch |err| return host.statusOf(err);
    return .done;
}

fn scanNext(host: *Host, scan: *Scan, path: *[*]const u8, path_size: *usize) callconv(.c) Status {
    const next = scan.next(&host.failure) catch |err| return host.statusOf(err);
    const text = next orelse return .no_more;
    path.* = text.ptr;
    path_size.* = text.len;
    return .done;
}

fn scanClose(scan: *Scan) callconv(.c) void {
    scan.close();
}

/// A window of 0 is none.
fn orderInit(order: *LuaOrder, n: f64, seed: f64, epoch: f64, window: f64) callconv(.c) bool {
    const count = wholeNumber(n) orelse return false;
    const seed_number = wholeNumber(seed) orelse return false;
    const epoch_number = wholeNumber(epoch) orelse return false;
    const size = wholeNumber(window) orelse return false;
    order.* = .{ .n = n, .seed = seed, .epoch = epoch, .window = window, .native = @splat(0) };
    order.get().* = .{ .order = .init(count, seed_number, epoch_number, if (size == 0) null else size), .cursor = .{} };
    return true;
}

/// The number at place `i`, from 0; -1 where there is none.
fn orderAt(order: *LuaOrder, i: f64) callconv(.c) f64 {
    const native = order.get();
    const place = wholeNumber(i) orelse return -1;
    if (place >= native.order.n) return -1;
    return @floatFromInt(native.cursor.at(&native.order, place));
}

/// Where `number` stands, from 0; -1 for what is none of the order.
fn orderPlace(order: *LuaOrder, number: f64) callconv(.c) f64 {
    const native = order.get();
    const row = wholeNumber(number) orelse return -1;
    return if (row < native.order.n) @floatFromInt(native.order.placeOf(row)) else -1;
}

/// Some of the rows to judge, from `first` on: `number` of a row in its dataset, and
/// its `record` in `shard`.
pub const Places = extern struct {
    count: f64,
    numbers: [places_max]u64,
    records: [places_max]f64,
    shards: [places_max]f64,

    const places_max = 1024;
};

fn viewNext(host: *Host, first: f64, places: *Places) callconv(.c) Status {
    const view = host.view orelse return .no_more;
    const start = wholeNumber(first) orelse return .no_more;
    if (start >= view.numbers.count) return .no_more;
    host.engine.poll() catch |err| return host.statusOf(err);
    const count: usize = @intCast(@min(Places.places_max, view.numbers.count - start));
    view.numbers.fill(start, places.numbers[0..count]);
    var near: u32 = 0;
    for (places.numbers[0..count], places.records[0..count], places.shards[0..count]) |number, *record, *shard| {
        const place = view.dataset.locate(number, near);
        near = place.shard;
        record.* = @floatFromInt(place.record);
        shard.* = @floatFromInt(place.shard);
    }
    places.count = @floatFromInt(count);
    return .done;
}

/// The index of a shard of the dataset, and the shard's path.
fn viewIndex(host: *Host, number: f64, index: **OpenIndex, path: *[*]const u8, path_size: *usize) callconv(.c) Status {
    const view = host.view orelse return .no_more;
    const shards = view.dataset.shards.items;
    const i = wholeNumber(number) orelse return .no_more;
    if (i >= shards.len) return .no_more;
    const shard = shards[@intCast(i)];
    index.* = OpenIndex.share(host, shard.index) catch |err| return host.statusOf(err);
    path.* = shard.path.ptr;
    path_size.* = shard.path.len;
    return .done;
}

fn recordAt(index: *const OpenIndex, number: f64) ?Index.Record {
    return index.record(wholeNumber(number) orelse return null);
}

/// The only door for numbers from scripts. NaN compares false and stays out.
fn wholeNumber(value: f64) ?u64 {
    if (!(value >= 0 and value <= limits.lua_integer_max and value == @floor(value))) return null;
    return @intFromFloat(value);
}

test "only whole numbers that a double holds exactly pass" {
    try std.testing.expectEqual(0, wholeNumber(-0.0).?);
    try std.testing.expectEqual(limits.lua_integer_max, wholeNumber(limits.lua_integer_max).?);
    for ([_]f64{ -1, 0.5, 1e300, std.math.nan(f64), std.math.inf(f64), -std.math.inf(f64), limits.lua_integer_max + 2 }) |bad| {
        try std.testing.expectEqual(null, wholeNumber(bad));
    }
}
