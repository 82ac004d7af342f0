//! Let other Python threads run while this one does not touch Python.
//!
//!     const released = gil.release();
//!     defer released.takeBack();

const abi = @import("abi.zig");

pub const Released = struct {
    thread: *abi.ThreadState,

    /// In the interpreter's last moments this may end the thread instead of
    /// returning, so no `defer` may be relied on to free what others wait for.
    pub fn takeBack(released: Released) void {
        abi.PyEval_RestoreThread(released.thread);
    }
};

/// A pending exception is kept.
pub fn release() Released {
    return .{ .thread = abi.PyEval_SaveThread() };
}
