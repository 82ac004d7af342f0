//! Every bound, in one place, each with its reason. A queue without a bound is
//! a memory leak that has not happened yet.

const assert = @import("std").debug.assert;

/// Payload bytes (with the gaps that are read along) that rows share in one
/// group. A held view keeps its group alive, so this bounds what a small view
/// can pin; it is also the size up to which neighbouring reads are merged, and
/// 512 KiB stays in the second-level cache between the read and its use.
pub const group_bytes_target = 512 * 1024;
/// The same with `access="mmap"`, where a group pins no memory.
pub const mapped_group_bytes_target = 1024 * 1024;
/// Rows in one group: tiny rows cross to Python this many at a time.
pub const group_rows_max = 1024;
/// Groups without rows that are kept for the next ones: more than are under way, but not
/// those of a list of rows that was held, each of which has kilobytes.
pub const spare_groups_max = 256;
/// Entries of one file that lie at most this far apart share a read.
pub const read_gap_max = 8 * 1024;
/// One submission to the kernel; longer ranges are several, so that they run
/// in parallel and can be stopped in between.
pub const read_bytes_max = 4 * 1024 * 1024;
/// The same three for objects in stores, where a request costs tens of milliseconds and
/// as much as several hundred kilobytes do: what merges, what goes into one group, and
/// what one request asks for.
pub const remote_gap_max = 256 * 1024;
pub const remote_group_bytes_target = 2 * 1024 * 1024;
pub const remote_read_bytes_max = 8 * 1024 * 1024;
/// From here on an offset is no place in a file, but in what is decoded of it when it is
/// asked for: beyond any file, and up to the largest number that Lua holds exactly.
pub const decoded_offset_min = 1 << 52;

pub fn isDecoded(offset: u64) bool {
    return offset >= decoded_offset_min and offset < lua_integer_max;
}

/// Answers from here on stay where they are; smaller ones are copied, which costs less
/// than to keep the books of who has them.
pub const remote_lent_bytes_min = 32 * 1024;
/// Files mapped at once, with `access="mmap"`: further ones are read.
pub const mappings_max = 16 * 1024;
/// Pages of mapped files that one loader keeps present, for they count as memory of the
/// process; more are given up at once, which costs a fifth of doing so range by range.
pub const mapped_bytes_max = 256 * 1024 * 1024;
/// Direct reads whose blocks are larger than a page do not fit our buffers.
pub const direct_alignment_max = 4096;
/// Ranges of a file that follow one on the other before the kernel is left to guess
/// the next: a few may do so by chance.
pub const sequential_streak_min = 8;
/// What a loader uses of its budget in bytes before it knows that it needs more.
pub const window_bytes_first = 8 * 1024 * 1024;
/// Bytes in reads under way of files that are read in order. More is slower by a
/// quarter and more, measured where 64 MiB were the alternative.
pub const ordered_bytes_in_flight = 8 * 1024 * 1024;
/// Unless storage took so long for one of them, so many times.
pub const slow_wait_ns = 10 * 1_000_000;
pub const slow_waits_max = 4;
/// Groups of mapped rows that the kernel reads ahead before the first is waited for.
pub const mapped_groups_ahead = 16;
/// Reads the kernel may hold at once.
pub const in_flight_max = 128;
/// Threads of the backend that has no io_uring, unless the user says how many.
pub const read_threads_default = 8;
/// The most that the user may say: beyond it they only wait for each other.
pub const read_threads_max = 64;
/// Reads of what is cached that a thread makes before it hands them over: each time it
/// wakes the engine's thread, which costs as much as several reads.
pub const read_share_max = 64;
/// Times in a row that the kernel may say "try again" (EAGAIN, EINTR) before a
/// read fails: far beyond chance, and still over within milliseconds.
pub const read_retries_max = 1000;

/// Files that one script may hold open at the same time.
pub const open_files_max = 1 << 20;
/// Files that a script has closed and that rows are still to be read from: a
/// process may by default have 1024 descriptors, and most of them are not ours.
pub const closed_files_max = 16;
/// Unused payload memory that a dataset keeps for the next batch or epoch.
pub const dataset_free_bytes_max = 64 * 1024 * 1024;
/// Files that a walk through a dataset holds open: rows at random return to each,
/// and opening one anew costs as much as reading several rows. So an eighth of the
/// descriptors that the process may have, within bounds.
pub const dataset_files_share = 8;
pub const dataset_files_min = 32;
pub const dataset_files_max = 8192;
/// Threads that may read single rows of a dataset at once.
pub const dataset_readers_max = 8;
/// Bytes in the header of a `.npy` file: NumPy itself refuses more than 10 000.
pub const npy_header_bytes_max = 64 * 1024;
/// Dimensions of an array, as many as NumPy allows.
pub const array_dims_max = 64;
/// Fields of a batch: each has an array of its own.
pub const gather_fields_max = 256;
/// Threads that copy rows into batches, unless the user says how many: more seldom
/// get more out of the memory, and leave less to those who train.
pub const gather_threads_default = 4;
/// What one of them copies before it looks for other work: long enough to be worth
/// a lock, and short enough that several share a batch of some megabytes.
pub const gather_chunk_bytes_min = 256 * 1024;
/// Pieces of files, and of memory, in one system call; Linux takes 1024.
pub const gather_pieces_max = 1024;
/// Batches that are asked of storage ahead, after one had to wait for it.
pub const gather_batches_ahead = 64;
/// Shards that are in memory as a whole, and stay there, are mapped to be copied
/// from: those of a dataset that takes at most this part of it.
pub const gather_mapped_share = 4;
/// Threads that fetch batches from stores, unless the user says how many: they wait, each
/// for a batch, and together have as many requests under way as a store may be sent.
pub const gather_fetch_threads_default = 8;
/// Requests that one of them has under way, and the bytes of their answers.
pub const gather_requests_max = 64;
pub const gather_fetch_bytes_max = 32 * 1024 * 1024;
/// Threads that read the indexes of a dataset at once.
pub const dataset_open_threads_max = 8;
/// Bytes in a key. Keys name entries, and this is far beyond any name.
pub const key_bytes_max = 64 * 1024;
/// Distinct keys that are kept for reuse; a script that makes up more of them
/// pays for each anew.
pub const interned_keys_max = 4096;
/// Entries in one row.
pub const row_entries_max = 1 << 24;

/// A member's name, or the pax records before it: far beyond PATH_MAX, and
/// little enough to hold. Malformed tars claim gigabytes.
pub const tar_name_bytes_max = 1024 * 1024;
/// Members in one sample, and so in one record of an index.
pub const record_members_max = row_entries_max;
/// One record of an index, which is read whole: room for the largest sample.
pub const record_bytes_max = 512 * 1024 * 1024;
/// A JSON member that metadata rules read; captions and boxes are kilobytes.
pub const metadata_payload_bytes_max = 64 * 1024 * 1024;
/// What a container says of its members, where that has to be read whole: a JSON text of a
/// zero-copy shard, or the headers of a zip. Far more than any has, and malformed ones claim it.
pub const container_metadata_bytes_max = 1 << 30;
/// What one read of an index, or of a tar with small members, brings in.
pub const index_window_bytes = 256 * 1024;
/// Reads of a tar whose payloads are large, so that they are not read along.
pub const header_window_bytes = 4 * 1024;
/// Warnings that indexing one shard keeps; the rest are only counted.
pub const index_warnings_max = 16;
/// The same two for an object in a store, and where members lie farther apart than the
/// third only their headers are read. One request after the other: each brings as much as
/// passes in the time that the next would take to begin.
pub const remote_index_window_bytes = 4 * 1024 * 1024;
pub const remote_header_window_bytes = 16 * 1024;
pub const remote_index_stride_max = 512 * 1024;
/// Shards that the indexer works on at once, on however few cores: where a
/// header lies is known only when the one before is read, so a shard of large
/// members has one read under way, and storage is kept busy by several shards.
pub const index_threads_max = 8;

/// The largest whole number that a Lua number holds exactly.
pub const lua_integer_max = 1 << 53;
/// Memory of one script. A script that needs more is told so by Lua, before the
/// machine runs out and the kernel picks a victim.
pub const script_memory_max = 2 * 1024 * 1024 * 1024;
/// Depth to which values may nest, in a configuration or in metadata.
pub const value_depth_max = 64;

/// How long a dropped iterator waits for a script that does not return.
pub const stop_wait_ns = 250 * 1_000_000;

comptime {
    assert(in_flight_max >= read_threads_max);
    assert(group_bytes_target <= read_bytes_max);
}
