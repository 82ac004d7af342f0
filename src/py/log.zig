//! What the script prints and what the engine warns of, to Python's loggers.

const Pipeline = @import("../loader/Pipeline.zig");
const State = @import("State.zig");
const abi = @import("abi.zig");
const raise = @import("raise.zig");

/// `logging.WARNING`
const level_warning = 30;

/// Runs Python code, which may do anything, raise included.
pub fn forward(state: *State, log: Pipeline.Log, script_level: c_long) raise.Error!void {
    // First, for another thread may take the next one once Python code runs.
    const text = raise.decode(log.text, .readable) orelse return error.Raised;
    defer abi.Py_DecRef(text);
    const logger = try if (log.warning) state.logger(.engine_logger) else state.logger(.script_logger);
    const level: c_long = if (log.warning) level_warning else script_level;
    // With no arguments, `logging` leaves percent signs alone.
    const result = abi.PyObject_CallMethod(logger, "log", "lO", level, text) orelse return error.Raised;
    abi.Py_DecRef(result);
}
