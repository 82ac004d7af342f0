//! Everything under `src/`, for the test program. A file with tests that is not
//! named here is not tested; `tests/test_structure.py` looks for such files.

test {
    _ = @import("base/Diagnostics.zig");
    _ = @import("base/Divider.zig");
    _ = @import("base/Order.zig");
    _ = @import("base/Permutation.zig");
    _ = @import("base/os.zig");
    _ = @import("base/sync.zig");
    _ = @import("cli/args.zig");
    _ = @import("cli/run.zig");
    _ = @import("dataset/Dataset.zig");
    _ = @import("dataset/Dataset_test.zig");
    _ = @import("dataset/Numbers.zig");
    _ = @import("dataset/OpenShards.zig");
    _ = @import("engine/BufferPool.zig");
    _ = @import("engine/Engine_test.zig");
    _ = @import("engine/FileTable.zig");
    _ = @import("engine/Keys.zig");
    _ = @import("engine/merge.zig");
    _ = @import("index/Indexer.zig");
    _ = @import("index/Window.zig");
    _ = @import("index/indexer_test.zig");
    _ = @import("index/metadata.zig");
    _ = @import("index/query.zig");
    _ = @import("io/Backend.zig");
    _ = @import("io/Backend_test.zig");
    _ = @import("io/Completion.zig");
    _ = @import("io/File.zig");
    _ = @import("io/Latency.zig");
    _ = @import("io/Mapping.zig");
    _ = @import("io/Remote_test.zig");
    _ = @import("io/Sim_test.zig");
    _ = @import("io/WakeFlag.zig");
    _ = @import("loader/Pipeline_test.zig");
    _ = @import("lua/ffi.zig");
    _ = @import("msgpack/Reader.zig");
    _ = @import("msgpack/Writer.zig");
    _ = @import("msgpack/fuzz_test.zig");
    _ = @import("tar/Header.zig");
    _ = @import("tar/Scanner.zig");
    _ = @import("tar/fuzz_test.zig");
    _ = @import("tar/pax.zig");
    _ = @import("tar/quote.zig");
    _ = @import("tar/sample.zig");
    _ = @import("tar/scanner_test.zig");
    _ = @import("utix/Columns.zig");
    _ = @import("utix/Index.zig");
    _ = @import("utix/RecordReader.zig");
    _ = @import("utix/fuzz_test.zig");
    _ = @import("utix/index_test.zig");
    _ = @import("utix/json.zig");
    _ = @import("utix/usual.zig");
    _ = @import("utix/writer.zig");
}
