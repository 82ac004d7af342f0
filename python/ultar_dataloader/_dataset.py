"""The rows of many shards as one sequence, read where they are asked for."""

from __future__ import annotations

import operator
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, cycle, islice
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, SupportsIndex, TypedDict, overload

from . import _loader, _native, _paths
from ._fetching import Fetching
from ._store import Store, prepare
from ._stores import is_url
from ._stream.streamable import Streamable

if TYPE_CHECKING:
    from ._stream.stream import Stream

_FEW = 8
"""Rows that are sooner read one by one than by a thread that has to be started."""
_PIECE = 512
"""Rows from which on one more thread is worth its start; such threads take turns with so many."""
_READERS = 4
"""Threads that read at once for a caller who waits, unless there are options that say how many."""


@dataclass(frozen=True, slots=True)
class Record:
    """What an index says of a row; nothing of it is read from the shard."""

    shard: str
    """Path of the shard."""
    stem: str
    keys: tuple[str, ...]
    offsets: tuple[int, ...]
    """In bytes, of each payload in the shard."""
    sizes: tuple[int, ...]
    """In bytes, of each payload."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What metadata rules stored, by query."""


class Dataset(Streamable, Sequence[_native.LoadedRow]):
    """A map-style dataset over plain shards: ``len``, ``ds[i]``, slices, lists of rows.

    Rows are numbered through all shards, in the order of the shards. Views made by slices,
    lists, `select` and `where` share the indexes and read nothing before a row is asked for.

    A dataset can be pickled (it opens its shards anew where it is unpickled), used by threads
    at once, and carried over a fork, after which parent and child share the memory of its indexes.

    Args:
        shards: A tar or a shard of another container, a folder of them, a glob, a brace pattern,
            the JSON of wids, or several of these. A shard that is named twice is there once.
        index: ``"auto"`` builds indexes that are missing or older than their shard,
            ``"require"`` takes them as they are, ``"rebuild"`` builds all.
        io, access, threads, prefetch_rows, prefetch_bytes: As for `DataLoader`.
        storage_options: For shards in object stores, as for `DataLoader`.
        on_error: With ``"skip"``, iteration and `read` leave out rows that cannot be read,
            with a warning in the log; ``ds[i]`` always raises.

    Raises:
        ReadError: A path names no shard, or an index cannot be read.
        ShardFormatError: A shard is malformed, when its index is built; of a tar, TarFormatError.
        IndexFormatError: An index is malformed.
        ValueError: An argument is out of range.

    Example:
        >>> ds = Dataset("shards/train-{000..127}.tar")
        >>> ds[-1]["txt"]
        >>> wide = ds.where('metadata[".width"] >= 512').select([".jpg"])
    """

    def __init__(
        self,
        shards: _paths.Paths,
        index: Literal["auto", "require", "rebuild"] = "auto",
        *,
        io: Literal["auto", "uring", "threads"] = "auto",
        access: Literal["auto", "read", "mmap", "direct"] = "auto",
        threads: int | None = None,
        prefetch_rows: int = _loader.PREFETCH_ROWS,
        prefetch_bytes: int = _loader.PREFETCH_BYTES,
        on_error: Literal["raise", "skip"] = "raise",
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if index not in ("auto", "require", "rebuild"):
            raise ValueError(f"index must be 'auto', 'require' or 'rebuild', got {index!r}")
        options = _loader.reading_options(io, access, threads, prefetch_rows, prefetch_bytes, on_error)
        # Absolute, as it may be opened again by a process that works elsewhere.
        fetching = Fetching(storage_options)
        named = _paths.expand(shards, fetching.stores)
        paths = tuple(dict.fromkeys(path if is_url(path) else _paths.absolute(path) for path in named))
        self._store = Store(paths, fetching, prepare(paths, index, fetching))
        self._options = options
        self._keys: tuple[str, ...] | None = None
        self._rows: range | array[int] = range(len(self._store.native()))

    @property
    def shards(self) -> tuple[str, ...]:
        """Paths of all shards, also of those that the view has no row of."""
        return self._store.paths

    @property
    def fingerprint(self) -> str:
        """Of what the shards hold: their names, sizes and counts of rows, but not their folders.

        Raises:
            ReadError: A shard is not there.
        """
        return self._store.fingerprint()

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> _native.LoadedRow: ...
    @overload
    def __getitem__(self, index: slice | Iterable[SupportsIndex], /) -> Self: ...
    def __getitem__(self, index: Any, /) -> Any:
        if isinstance(index, slice):
            return self._view(self._rows[index])
        # An array has `__index__` as well, for the case that it is of one number.
        if hasattr(index, "__index__") and not getattr(index, "ndim", 0):
            return self._few(array("Q", [self._row(index)]))[0]
        return self._view(self._rows_at(index))

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[_native.LoadedRow]:
        """What PyTorch's fetchers call with the indices of a batch: `read`."""
        return self.read(indices)

    def __iter__(self) -> Iterator[_native.LoadedRow]:
        """All rows in order, read ahead by a thread."""
        return self._pipeline(self._rows)

    def __reversed__(self) -> Iterator[_native.LoadedRow]:
        """All rows from the last to the first, read ahead as well."""
        return self._pipeline(self._rows[::-1])

    def read(self, indices: Iterable[SupportsIndex]) -> list[_native.LoadedRow]:
        """The rows at these places, in this order and as often as they are named.

        They are read at once, so that a disk or the kernel can work on many; thousands of
        them by several threads, of which there are as many as ``threads`` says, else a few.

        Raises:
            IndexError: A place is out of range.
            ReadError: A row cannot be read.
        """
        rows = self._rows_at(indices)
        if len(rows) <= _FEW and self._options["on_error"] == "raise":
            return self._few(rows)
        shares = self._shares(len(rows))
        if shares == 1:
            return list(self._pipeline(rows))
        pieces = [rows[begin : begin + _PIECE] for begin in range(0, len(rows), _PIECE)]
        threads: int = self._options["threads"] // shares
        parts = [array("Q") for _ in range(shares)]
        for piece, part in zip(pieces, cycle(parts), strict=False):
            part.extend(piece)
        pipelines = [self._pipeline(part, threads=threads) for part in parts]
        for pipeline in pipelines[1:]:
            pipeline.start()
        turns = zip(cycle(pipelines), pieces, strict=False)
        return list(chain.from_iterable(islice(pipeline, len(piece)) for pipeline, piece in turns))

    def select(self, keys: Iterable[str]) -> Self:
        """The same rows with these entries only; what a row does not have is absent from it.

        Raises:
            TypeError: A key is no str.
        """
        if isinstance(keys, str):
            raise TypeError(f"keys must be several, as in [{keys!r}], got a str")
        chosen = tuple(keys)
        for key in chosen:
            if not isinstance(key, str):
                raise TypeError(f"a key must be str, got {type(key).__name__}: {key!r}")
        if self._keys is not None:
            chosen = tuple(key for key in chosen if key in self._keys)
        view = self._view(self._rows)
        view._keys = chosen
        return view

    def where(self, expression: str) -> Self:
        """The rows for which a Lua expression is true, found by the index alone.

        It may use ``stem``, ``keys[".jpg"]`` (true where there is such an entry),
        ``sizes[".jpg"]`` (bytes, nil where there is none) and ``metadata[".width"]``
        (what metadata rules stored, nil where nothing is). Of a view, its rows only are asked.

        Raises:
            ScriptError: The expression does not compile, or fails for a row, which is named.
        """
        if not isinstance(expression, str):
            raise TypeError(f"expression must be str, got {type(expression).__name__}")
        native = self._store.native()
        places = _places(self._rows)
        found: array[int] = array("Q")
        for chunk in native.where(expression, places["count"], places["start"], places["step"], places["rows"]):
            found.frombytes(chunk.view("rows"))
        return self._view(found)

    def record(self, index: SupportsIndex) -> Record:
        """What the index says of the row at a place.

        Raises:
            IndexError: The place is out of range.
        """
        shard, record = self._store.native().record(self._row(index))
        return Record(
            shard=self.shards[shard],
            stem=record["str_idx"],
            keys=tuple(record["keys"]),
            offsets=tuple(record["offset"] + offset for offset in record["offsets"]),
            sizes=tuple(record["sizes"]),
            metadata=record.get("metadata", {}),
        )

    def stream(self) -> Stream:
        from ._stream.source import DatasetSource
        from ._stream.stream import Stream

        return Stream(DatasetSource(self))

    def close(self) -> None:
        """Give back indexes and files. Rows stay valid; what is asked for next opens them again."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _row(self, index: SupportsIndex) -> int:
        place = operator.index(index)
        try:
            return self._rows[place]
        except IndexError:
            raise IndexError(f"row {place} is out of range: there are {len(self._rows)}") from None

    def _rows_at(self, indices: Iterable[Any]) -> array[int]:
        """Row numbers of places, which `array` turns into numbers faster than any loop."""
        try:
            if isinstance(indices, (str, bytes, bytearray)) or (isinstance(indices, list) and _has_bool(indices)):
                raise TypeError
            places: array[int] = array("q", indices)
        except TypeError:
            self._refuse(indices)
        except OverflowError:
            raise IndexError(f"a row is out of range: there are {len(self._rows)}") from None
        if not places:
            return array("Q")
        count = len(self._rows)
        low, high = min(places), max(places)
        if low < -count or high >= count:
            self._row(low if low < -count else high)
        if low >= 0 and self._rows == range(count):
            return array("Q", places)
        return array("Q", map(self._rows.__getitem__, places))

    def _refuse(self, indices: object) -> NoReturn:
        shown = type(indices).__name__
        try:
            odd = next(index for index in indices if isinstance(index, bool) or not hasattr(index, "__index__"))  # type: ignore[attr-defined]
            shown = f"{shown} with {odd!r} in it"
        except (TypeError, StopIteration):
            pass
        raise TypeError(f"rows are named by an int, a slice, or several ints, got {shown}")

    def _view(self, rows: range | array[int]) -> Self:
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view._rows = rows
        return view

    def _shares(self, count: int) -> int:
        """How many threads read so many rows at the same time, while their caller waits."""
        if count < 2 * _PIECE or self._options["on_error"] == "skip" or self._store.has_urls:
            return 1  # As a piece may then have less rows than were asked for; and one thread asks stores for many.
        allowed: int = self._options["threads"] or min(len(os.sched_getaffinity(0)), _READERS)
        return min(allowed, count // _PIECE)

    def _few(self, rows: array[int]) -> list[_native.LoadedRow]:
        """Rows, none of which may be left out, without reading ahead."""
        if self._store.has_urls or (len(rows) > 1 and self._store.is_fetched):
            # Whoever waits for a store starts what fetches, and answers Ctrl-C; several rows are decoded at once.
            return list(self._pipeline(rows, on_error="raise"))
        reader = self._store.reader(self._keys, self._options["access"])
        return [reader.read(row) for row in rows]

    def _pipeline(
        self, rows: range | array[int], order: _native.Order | None = None, **options: Any
    ) -> _native.Pipeline:
        """An epoch over rows of the store; with an order, over places of the order of all rows of the view."""
        places = _places(rows)
        if order is not None and not self._has_all_rows:
            places["rows"] = self._rows if isinstance(self._rows, array) else array("Q", self._rows)
        native = self._store.native()
        stores = self._store.fetching if self._store.is_fetched else None
        return native.pipeline(**places, order=order, keys=self._keys, stores=stores, **{**self._options, **options})

    def _numbers(self, places: Iterable[range | array[int]], order: _native.Order | None) -> array[int]:
        """The store's numbers of the rows at places of an order of the view."""
        numbers: array[int] = array("Q")
        for piece in places:
            if order is None:
                numbers.extend(array("Q", piece))
            elif isinstance(piece, range):
                numbers.extend(order[piece.start : piece.stop : piece.step])
            else:
                numbers.extend(map(order.__getitem__, piece))
        return numbers if self._has_all_rows else array("Q", map(self._rows.__getitem__, numbers))

    def _gatherer(self, fields: Sequence[tuple[str, str, Sequence[int | None]]]) -> _native.Gatherer:
        options = self._options
        native = self._store.native()
        stores = self._store.fetching if self._store.is_fetched else None
        if stores is not None:
            stores.start()
        return native.gatherer(fields, access=options["access"], threads=options["threads"], stores=stores)

    @property
    def _has_all_rows(self) -> bool:
        return self._rows == range(len(self._store.native()))

    def _view_fingerprint(self) -> str:
        """Of the shards and of which rows the view has, in which order."""
        if self._has_all_rows:
            return self.fingerprint
        import hashlib  # Late, as it loads OpenSSL.

        digest = hashlib.blake2b(self.fingerprint.encode(), digest_size=16)
        digest.update(repr(self._rows).encode() if isinstance(self._rows, range) else self._rows.tobytes())
        return digest.hexdigest()

    def _places_with_stem(self, stem: str) -> list[int]:
        escaped = "".join(f"\\{byte:03d}" for byte in stem.encode(errors="surrogateescape"))
        found = self.where(f'stem == "{escaped}"')._rows
        return list(found if self._has_all_rows else map(self._rows.index, found))

    def _with_options(self, options: dict[str, Any]) -> Self:
        view = self._view(self._rows)
        view._options = _loader.reading_options(
            **{**self._options, "threads": self._options["threads"] or None, **options}
        )
        return view

    def __repr__(self) -> str:
        shards = len(self.shards)
        shown = f"{len(self):,} rows of {shards:,} shard{'' if shards == 1 else 's'}"
        if shards:
            shown += f", {os.path.basename(self.shards[0])}{' …' if shards > 1 else ''}"
        if self._keys is not None:
            shown += f", only {' '.join(self._keys) or 'no entry'}"
        return f"<{type(self).__name__} {shown}>"


def _has_bool(indices: list[Any]) -> bool:
    # A mask, as NumPy has them, would name the rows 0 and 1 many times.
    return bool(indices) and isinstance(indices[0], bool)


class _Places(TypedDict):
    """Rows as native pipelines take them."""

    count: int
    start: int
    step: int
    rows: array[int] | None


def _places(rows: range | array[int]) -> _Places:
    if isinstance(rows, range) and len(rows) > 0:
        return {"count": len(rows), "start": rows.start, "step": rows.step, "rows": None}
    return {"count": len(rows), "start": 0, "step": 1, "rows": rows if isinstance(rows, array) else None}
