"""What the extension offers. Its implementation is under `src/py`.

Errors are those of `ultar_dataloader._errors`. Whatever waits releases the GIL and answers
Ctrl-C within 0.1 s.
"""

import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import (
    Any,
    ClassVar,
    Literal,
    Protocol,
    Self,
    TypeAlias,
    TypedDict,
    TypeVar,
    final,
    overload,
    type_check_only,
)

from ._fields import Ragged

__version__: str

_T = TypeVar("_T")
_Feature: TypeAlias = list[bytes] | list[memoryview] | array[float] | array[int]

@type_check_only
class IndexCounts(TypedDict):
    samples: int
    entries: int
    bytes: int
    warnings: list[str]

@type_check_only
class _Stores(Protocol):
    """Where URLs lead."""

    @property
    def native(self) -> Remote: ...
    def start(self) -> None: ...

@type_check_only
class Progress(Protocol):
    """How far an epoch has come, and how that is said in a state."""

    position: int
    def state_dict(self) -> dict[str, Any]: ...
    def position_in(self, state_dict: Mapping[str, Any], /) -> int: ...

@final
class Remote:
    """What native code asks of stores, for threads to answer.

    A request is answered by its number, once. An answer that nobody waits for any more
    goes nowhere.
    """

    def __new__(cls) -> Self: ...
    def next(self, /) -> tuple[int, Literal["read", "size", "local", "list"], str, int, int, int | None, bool] | None:
        """What to fetch, as soon as there is something: number, kind, URL, offset, size in
        bytes, that of the object where it is known, and whether more waits than there are
        servers for. None when there will be nothing any more.
        """

    def answer(self, number: int, data: bytes | bytearray | memoryview, retries: int, /) -> None:
        """The bytes that a request of kind "read" wants, all of them. Rows may be views of them.

        For one of kind "list", the URLs that lie there, each with a NUL behind.
        """

    def answer_size(self, number: int, size: int, retries: int, /) -> None:
        """The size of an object in bytes, for a request of kind "size"."""

    def answer_local(self, number: int, path: str, retries: int, /) -> None:
        """A file with the content of an index, for a request of kind "local"."""

    def fail(self, number: int, errno: int, text: str, retries: int, /) -> None:
        """The request cannot be met; 0 where no number of the kernel fits."""

    def set_size(self, url: str, size: int, /) -> None:
        """Say the size of an object before it is asked for."""

    def close(self, /) -> None:
        """There will be nothing to fetch any more: whoever asks gets an error."""

@final
class Pipeline:
    """One epoch: a script's state and the thread that runs it. An iterator of rows.

    Construction compiles the script and runs its ``init_ctx``. Until it is started a
    pipeline is plain memory, and may be carried over a fork. Dropping it stops its thread.

    Args:
        source: The text of the script.
        config: For ``init_ctx``; str, int, float, bool, None, ``os.PathLike``, and lists,
            tuples and mappings of them.
        name: What messages call the script.
        search_dir: Where ``require`` looks first; empty for nowhere.
        rank: From 0 to ``world_size - 1``.
        world_size: Number of processes that share the dataset.
        log_level: Of ``logging``, for what the script prints.
        io: ``"auto"``, ``"uring"`` or ``"threads"``.
        access: ``"auto"``, ``"read"``, ``"mmap"`` or ``"direct"``.
        threads: That copy bytes; 0 for as many as are usual.
        prefetch_rows: Finished rows ahead of the consumer, at most.
        prefetch_bytes: Payload bytes ahead of the consumer, at most.
        on_error: ``"raise"`` or ``"skip"``.
        stores: Where URLs lead. Its ``start`` is called by who waits when nobody answers.
        dry: Read nothing: rows have ``sources`` and no bytes.

    Raises:
        ScriptError: The script does not compile, or ``init_ctx`` failed.
        TypeError: config has a value of a type that is not accepted.
        ValueError: config nests too deeply, or an argument is out of range.
    """

    def __new__(
        cls,
        source: str | bytes,
        config: Mapping[str, object],
        *,
        name: str,
        search_dir: str,
        rank: int,
        world_size: int,
        log_level: int,
        io: str,
        access: str,
        threads: int,
        prefetch_rows: int,
        prefetch_bytes: int,
        on_error: str,
        stores: _Stores | None,
        dry: bool,
    ) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> LoadedRow:
        """The next row. Starts the thread if need be.

        Raises:
            StopIteration: The script is done. Nothing else is reported in this way.
            ScriptError: The script failed; all rows that it finished came before this.
            ReadError: A row cannot be read, with ``on_error="raise"``.
            UltarError: It was closed, or started before a fork.
        """

    def start(self, progress: Progress | None = None, /) -> None:
        """Start the thread now, so that it reads ahead before the first row is asked for.

        Args:
            progress: What states are made by. The first rows, as many as its ``position`` says,
                are dropped without reading them, and so is what the script prints before the
                last of them. None: there are no states. It is remembered where it came to.

        Raises:
            UltarError: It is started already, and has another way of making states.
        """

    def state_dict(self) -> dict[str, Any]:
        """Where it is, as JSON takes it: behind the rows that were delivered.

        Rows ahead do not count; rows that were left out with ``on_error="skip"`` do. After the
        end it is the beginning of an epoch. Also when it is closed.

        Raises:
            UltarError: It iterates a dataset.
        """

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Go on where the state was taken, instead of here. The script starts anew for it.

        Raises:
            TypeError, ValueError: As `DataLoader.load_state_dict`.
            ScriptError: ``init_ctx`` failed this time.
            UltarError: It is closed, iterates a dataset, or another thread is taking rows.
        """

    def stats(self) -> dict[str, object]:
        """Counts, bytes, nanoseconds since the start, and the name of the backend."""

    def close(self) -> None:
        """Stop the thread and free what it had. Rows stay valid. May be called twice."""

    @property
    def last_stats(self) -> dict[str, object]:
        """What `stats` said last, once the pipeline is closed or lost; empty before."""

@final
class LoadedRow(Mapping[str, bytes]):
    """One row: entries under keys, as the script made them.

    ``row[".json"]`` is the payload as new ``bytes``; ``row["json"]`` finds it too where no key
    is exactly ``json``. ``row[0]`` and ``row[-1]`` are entries by their place. A key given
    twice: lookups find the first, `items` has both.

    A row keeps its memory alive, together with its neighbours' in the same read (up to
    512 KiB, or the row itself if that is larger), and so does each view of it.
    """

    def __getitem__(self, key: str | int, /) -> bytes:
        """The payload of an entry, as new bytes.

        Raises:
            KeyError: There is no such key.
            IndexError: There is no such place.
        """

    def __len__(self) -> int:
        """How many entries it has."""

    def __iter__(self) -> Iterator[str]: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
    def __contains__(self, key: object, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool:
        """Whether the other is a row, or a dict, with the same keys and payloads."""

    def keys(self) -> tuple[str, ...]:  # type: ignore[override]
        """The keys, one an entry, in the script's order."""

    def values(self) -> tuple[bytes, ...]:  # type: ignore[override]
        """The payloads, one an entry."""

    def items(self) -> tuple[tuple[str, bytes], ...]:  # type: ignore[override]
        """Keys with payloads, one an entry."""

    def to_dict(self) -> dict[str, bytes]:
        """Keys with payloads. Of a key given twice the first counts, as in ``row[key]``."""

    @overload
    def get(self, key: str | int, /) -> bytes | None: ...
    @overload
    def get(self, key: str | int, default: _T, /) -> bytes | _T: ...
    def view(self, key: str | int, /) -> memoryview:
        """A read-only view of an entry's bytes, without a copy. It keeps them alive.

        Raises:
            KeyError: There is no such key.
            IndexError: There is no such place.
        """

    def sources(self) -> tuple[tuple[str, int, int], ...]:
        """Where each entry comes from: path, offset and size in bytes.

        The path is empty, and the offset 0, for bytes that the script made.
        """

    @property
    def nbytes(self) -> int:
        """Payload bytes of all entries together."""

@final
class Index:
    """The records of an index, which is read and checked when it is opened.

    A record is a dict with ``iidx``, ``offset``, ``str_idx``, ``keys``, ``offsets``, ``sizes``
    and, when present, ``metadata``.

    Raises:
        IndexFormatError: The file is not an index; says at which offset.
        ReadError: It cannot be read.
    """

    def __new__(cls, path: str | bytes | PathLike[str], /) -> Self: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> dict[str, Any]: ...

@final
class Order(Sequence[int]):
    """The numbers from 0 to n-1 in shuffled order, computed when they are asked for.

    Made by `ultar_dataloader.order`, which says what order it is. Some hundred bytes,
    whatever n is; immutable, hashable, and pickled as its arguments.

    Raises:
        TypeError: An argument is no int.
        ValueError: n, seed or epoch is not from 0 to 2**53, or window not from 1.
    """

    def __new__(cls, n: int, seed: int, epoch: int = 0, *, window: int | None = None) -> Self: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, place: int, /) -> int: ...
    @overload
    def __getitem__(self, places: slice, /) -> array[int]:
        """The row at a place, or the rows at many, as a new ``array("Q")`` of 8 bytes each.

        Long slices are computed without the GIL.

        Raises:
            IndexError: There is no such place.
        """

    def __iter__(self) -> Iterator[int]: ...
    def __contains__(self, row: object, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool:
        """Whether the other is an order with the same arguments."""

    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[int, int, int], dict[str, int | None]]: ...
    def index(self, row: int, /) -> int:  # type: ignore[override]
        """The place of a row: ``order[order.index(row)] == row``. Computed, not searched for.

        Raises:
            ValueError: There is no such row.
        """

    def count(self, row: object, /) -> int:
        """1 for a row of the order, else 0."""

    @property
    def seed(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def window(self) -> int | None:
        """As given, or None where the whole order is one window."""

    @property
    def block(self) -> int | None:
        """How many neighbouring rows the order keeps near; None without a window."""

@final
class Dataset:
    """The rows of many shards as one sequence. Opens the index of each, which has the same place.

    Raises:
        IndexFormatError: An index is malformed.
        ReadError: An index cannot be read.
    """

    def __new__(cls, paths: Sequence[str], indexes: Sequence[str], /) -> Self: ...
    def __len__(self) -> int: ...
    def counts(self, /) -> list[int]:
        """Rows of each shard, in order."""

    def has_decoded(self, /) -> bool:
        """Whether some rows are decoded when they are asked for, by who serves stores."""

    def record(self, row: int, /) -> tuple[int, dict[str, Any]]:
        """The number of a row's shard, and its record there as `Index` has it.

        Raises:
            IndexError: There is no such row.
        """

    def reader(self, keys: Sequence[str] | None, access: str, stores: object, /) -> RowReader:
        """What reads single rows in the calling thread: all their entries, or those of ``keys``.

        Args:
            keys: None for all.
            access: As for `pipeline`.
            stores: As for `pipeline`; its ``start`` was called. None where rows are all ranges of files.
        """

    def gatherer(
        self,
        fields: Sequence[tuple[str, str, Sequence[int | None]]],
        /,
        *,
        access: str,
        threads: int,
        stores: _Stores | None,
    ) -> Gatherer:
        """What reads batches of rows into arrays, one a field.

        Args:
            fields: Key, typestr and shape of each. A shape that begins with None: that dimension
                differs from row to row. Under a key that ends with "npy" payloads are ``.npy``
                files of this type and shape, else the elements themselves.
            access: ``"mmap"`` copies out of mapped shards, ``"read"`` and ``"direct"`` read;
                ``"auto"`` maps shards where all of them together fit well into memory.
            threads: That copy; 0 for as many as are usual.
            stores: As for `pipeline`, but started by the caller.

        Raises:
            ValueError: A field has a dtype that is not known, or is absurdly large.
        """

    def where(self, expression: str, count: int, start: int, step: int, rows: array[int] | None, /) -> Pipeline:
        """The numbers of the rows for which a Lua expression is true, of those that are given
        as for `pipeline`: the entry ``rows`` of each piece has some, as unsigned integers of 64 bits.

        Raises:
            IndexError: A place or row is out of range.
            ScriptError: The expression does not compile. While iterating: it fails for a row.
        """

    def pipeline(
        self,
        /,
        *,
        count: int,
        start: int,
        step: int,
        order: Order | None,
        rows: array[int] | None,
        keys: Sequence[str] | None,
        io: str,
        access: str,
        threads: int,
        prefetch_rows: int,
        prefetch_bytes: int,
        on_error: str,
        stores: _Stores | None,
    ) -> Pipeline:
        """An epoch over places of the dataset.

        Args:
            count: Places, from ``start`` in steps of ``step``, which may be negative.
            order: Leads each place to another one; None: to itself.
            rows: Leads what comes of that to a row number: unsigned integers of 64 bits.
            keys: The entries to read; None for all.

        Raises:
            IndexError: A place or row is out of range.
        """

@final
class Gatherer:
    """Batches of rows as arrays, read by threads in the order of submission. Threads may share it."""

    def submit(self, rows: array[int], /) -> None:
        """Begin to read these rows, unsigned integers of 64 bits, as the next batch. Never waits.

        Raises:
            IndexError: There is no such row.
            UltarError: It is closed, or was made before a fork.
        """

    def take(self, /) -> tuple[Array | Ragged, ...]:
        """The oldest batch that was submitted, one part a field; `Ragged` where a shape begins with None.

        Raises:
            FieldError: A payload is not what its field says, or there is none.
            ReadError: A payload cannot be read.
            MemoryError: There is no memory for the batch.
            UltarError: Nothing is submitted, it is closed, or was made before a fork.
        """

    def close(self, /) -> None:
        """Stop the threads and free what they had. Arrays stay valid. May be called twice."""

    @property
    def pending(self) -> int:
        """Batches that were submitted and not taken."""

@final
class Array:
    """Elements of one type in native memory, in C order, from an address that is a multiple of 64.

    ``numpy.asarray(a)``, ``torch.from_dlpack(a)``, ``pyarrow.array(a)`` and ``memoryview(a)`` make
    no copy, may be written to, and keep the memory alive.
    """

    def __len__(self) -> int: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str:
        """NumPy's typestr, as ``"<u2"``."""

    @property
    def nbytes(self) -> int: ...
    def __dlpack__(
        self,
        *,
        stream: None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """A capsule for ``from_dlpack``, without a copy unless one is asked for.

        Raises:
            BufferError: Another device is wanted, or the byte order is not this machine's.
        """

    def __dlpack_device__(self) -> tuple[int, int]: ...
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        """Capsules with an Arrow array, without a copy; what has several dimensions is a fixed-size list.

        Raises:
            BufferError: Arrow has no such elements: those of b1, c8, c16, or in the other byte order.
        """

@final
class RowReader:
    """Single rows of a dataset, read in the calling thread. Threads may share it."""

    def read(self, row: int, /) -> LoadedRow:
        """The row of that number.

        Raises:
            IndexError: There is no such row.
            ReadError: It cannot be read.
        """

def index_shard(
    path: str | bytes | PathLike[str],
    *,
    format: Literal["msgpack", "jsonl"],
    rules: Sequence[tuple[str, Sequence[str]]],
    check: bool,
    verify: bool,
    index_path: str | None,
    stores: _Stores | None,
) -> IndexCounts:
    """Write the index of a shard, at ``index_path`` or ``PATH.utix``, or with ``check`` compare the one that is there.

    With ``verify``, payloads that have checksums are read, and compared with them.

    Raises:
        ShardFormatError: The shard is malformed; says at which offset. Of a tar, TarFormatError.
        IndexFormatError: With ``check``: the index is malformed or does not match.
        ReadError: The shard (or with ``check`` the index) cannot be read.
        WriteError: The index cannot be written.
    """

def crc32c(data: bytes | bytearray | memoryview, /) -> int:
    """The CRC-32C of a buffer, masked as TFRecord files store it."""

def parse_example(data: bytes | memoryview, /) -> tuple[dict[str, _Feature], dict[str, list[_Feature]]]:
    """The features of a serialized example by name, and the lists of features of a sequence.

    Raises:
        ShardFormatError: The message is malformed; says at which byte.
    """

def read_item(descriptor: int, offset: int, size: int, index: int, key: str, /) -> bytes | None:
    """The payload of a tar member, if its header says that it is that item of that size; None otherwise.

    Args:
        descriptor: Of the tar.
        offset: Of the payload.
        size: Of the payload.
        index: Of the item: ``{index:012d}{key}`` is the name of the member.
        key: The rest of the name.
    """
