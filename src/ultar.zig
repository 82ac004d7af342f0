//! Everything under `src/`, for the test program. A file with tests that is not
//! named here is not tested; `tests/test_structure.py` looks for such files.

test {
    _ = @import("base/Diagnostics.zig");
    _ = @import("base/Permutation.zig");
    _ = @import("base/os.zig");
    _ = @import("base/sync.zig");
    _ = @import("engine/BufferPool.zig");
    _ = @import("engine/Engine_test.zig");
    _ = @import("engine/FileTable.zig");
    _ = @import("engine/Keys.zig");
    _ = @import("engine/merge.zig");
    _ = @import("io/Backend.zig");
    _ = @import("io/Backend_test.zig");
    _ = @import("io/Completion.zig");
    _ = @import("io/File.zig");
    _ = @import("io/Sim_test.zig");
    _ = @import("io/WakeFlag.zig");
    _ = @import("loader/Pipeline_test.zig");
    _ = @import("lua/ffi.zig");
}
