//! The `.utix` format: one msgpack map a sample, in tar order, with no header
//! around them; or the same maps as JSON, one a line. docs/utix-format.md has
//! the whole story.
//!
//!     iidx      uint     number of the sample, from 0
//!     offset    uint     where in the shard the first payload starts
//!     str_idx   str      the stem
//!     keys      [str]    one a member, with the leading dot
//!     offsets   [uint]   where each payload starts, from `offset`
//!     sizes     [uint]   bytes in each payload
//!     metadata  {}       query -> value; only when metadata was asked for

pub const Format = enum { msgpack, jsonl };

/// In the order in which they are written.
pub const Field = enum { iidx, offset, str_idx, keys, offsets, sizes, metadata };

/// A record to be written. The slices are the caller's; the three lists have
/// one length.
pub const Record = struct {
    iidx: u64,
    offset: u64,
    stem: []const u8,
    keys: []const []const u8,
    offsets: []const u64,
    sizes: []const u64,
    /// A msgpack map with strings as keys; empty when there is none.
    metadata: []const u8 = "",
};

pub const suffix = ".utix";
