"""Metadata of a shard's samples in a parquet beside it: `00042.parquet` for `00042.tar`.

A row of it is a sample, whose stem is in the column `key`. Column `width` is the metadata
`.width`, as if a rule had picked it out of a JSON. Columns of which the name begins with two underscores
say where samples are in the shard; they are written, and passed over when read. Needs pyarrow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from .. import _atomic, _index, _native, _optional, _paths, _records
from .._errors import IndexFormatError
from .._progress import count_text
from . import _shards

if TYPE_CHECKING:
    from .._index import IndexProgress, IndexSummary
    from .._native import IndexCounts

__all__ = ["index", "write"]

_WHOLE_MAX = 1 << 53
"""Magnitude up to which Lua's numbers hold whole numbers."""
_DEPTH_MAX = 32
"""Depth of lists and structures: half of what an index takes."""


def write(
    shards: _paths.Paths,
    *,
    columns: Iterable[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | Callable[[IndexProgress], object] = False,
) -> IndexSummary:
    """Write a parquet for each shard, with a row for each sample, in order.

    ``key`` is the stem; ``__keys__``, ``__offsets__`` and ``__sizes__`` have an element an entry, offsets and sizes in
    bytes of the shard; the metadata of the index is in columns without the dot that its queries begin with.

    Args:
        shards: As for `ultar_dataloader.index`. Indexes that are missing are built.
        columns: Which metadata. None: all.
        folder: Where to. None: beside each shard.
        jobs, on_error, progress: As for `ultar_dataloader.index`.

    Raises:
        WriteError: A file cannot be written, a stem is not UTF-8, or a query has values of several types.
        IndexFormatError: An index is malformed, or it has metadata and is older than its shard.
        ValueError: Two shards have the same parquet, or there is no such metadata.
        ShardFormatError, ReadError: As `ultar_dataloader.index`.
        ImportError: pyarrow is not installed.
    """
    _pyarrow("writing parquet")
    chosen = None if columns is None else _several(columns)

    def work(path: str) -> IndexCounts:
        _refuse_older(path)
        opened, warnings = _shards.opened(path)
        records = [opened[number] for number in range(len(opened))]
        side = _side(path, folder)
        _write(side, _columns(side, records, chosen))
        return _shards.counts(len(records), (size for record in records for size in record["sizes"]), warnings)

    return _shards.each(
        work,
        "writing parquet",
        shards,
        jobs=jobs,
        on_error=on_error,
        progress=progress,
        side_of=lambda path: _side(path, folder),
    )


def index(
    shards: _paths.Paths,
    *,
    key: str = "key",
    columns: Iterable[str] | None = None,
    missing: Literal["error", "null"] = "error",
    folder: str | os.PathLike[str] | None = None,
    force: bool = False,
    jobs: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | Callable[[IndexProgress], object] = False,
) -> IndexSummary:
    """Put the columns of parquets into the indexes of their shards, as metadata.

    Column ``width`` becomes ``metadata[".width"]``. Metadata under other names stays as it is. Rows of the parquet
    that are no sample of the shard, such as failed downloads, are counted in a warning.

    Args:
        shards: As for `ultar_dataloader.index`. Indexes that are missing or older are built.
        key: The column with the stems.
        columns: Which others. None: all, less those whose name begins with two underscores.
        missing: What of a sample that has no row: ``"error"``, or ``"null"`` for null in all columns, with a warning.
        folder: Where the parquets are. None: beside each shard.
        force: Build indexes that are up to date anew, without the metadata that they have.
        jobs, on_error, progress: As for `ultar_dataloader.index`.

    Raises:
        IndexFormatError: A parquet is malformed, lacks a column or a sample, has a key twice, or has values that no
            index holds: other types than booleans, numbers, strings, and lists and structures of these, or
            whole numbers beyond 2**53, which Lua does not hold. Or an index with metadata is older than its shard.
        ReadError: A file cannot be read.
        WriteError: An index cannot be written.
        ValueError: An argument is out of range, or two shards have the same parquet.
        ShardFormatError: As `ultar_dataloader.index`.
        ImportError: pyarrow is not installed.
    """
    if missing not in ("error", "null"):
        raise ValueError(f"missing must be 'error' or 'null', got {missing!r}")
    _pyarrow("reading parquet")
    chosen = None if columns is None else _several(columns)

    def work(path: str) -> IndexCounts:
        side = _side(path, folder)
        if not force:
            _refuse_older(path)
        rows, names = _rows(side, key, chosen)
        opened, warnings = _shards.opened(path, force=force)
        records = [opened[number] for number in range(len(opened))]
        metadata, found = _matched(path, side, records, rows, dict.fromkeys(names), missing)
        _records.write(path, map(_members, records), "msgpack", metadata)
        return _shards.counts(len(records), (size for record in records for size in record["sizes"]), warnings + found)

    return _shards.each(
        work,
        "reading parquet",
        shards,
        jobs=jobs,
        on_error=on_error,
        progress=progress,
        side_of=lambda path: _side(path, folder),
    )


def _pyarrow(purpose: str) -> Any:
    """With its module for parquet, `pq`."""
    pa = _optional.need("pyarrow", "parquet", purpose)
    _optional.need("pyarrow.parquet", "parquet", purpose)
    return pa


def _several(columns: Iterable[str]) -> list[str]:
    if isinstance(columns, str):
        raise TypeError(f"columns must be several, as in [{columns!r}], got a str")
    return list(dict.fromkeys(columns))


def _side(path: str, folder: str | os.PathLike[str] | None) -> str:
    return _shards.place(folder, os.path.splitext(path.rstrip("/"))[0] + ".parquet")


def _refuse_older(path: str) -> None:
    """An index that is older than its shard would be built anew, and its metadata lost."""
    if _index.is_fresh(path) or not os.path.exists(_index.index_path(path)):
        return
    if _shards.metadata_of(_native.Index(_index.index_path(path))[0]):
        text = "is older than its shard, and has metadata: build it anew, with the rules or parquets that it is of"
        raise _shards.bad(_index.index_path(path), text)


def _members(record: Mapping[str, Any]) -> tuple[str, list[_records.Member]]:
    each = zip(record["keys"], record["offsets"], record["sizes"], strict=True)
    return record["str_idx"], [_records.Member(key, record["offset"] + offset, size) for key, offset, size in each]


def _rows(side: str, key: str, chosen: list[str] | None) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Metadata by stem, and the names it has."""
    pa = _pyarrow(f"{side}: reading parquet")
    _shards.size_of(side)  # Which says why it cannot be read.
    try:
        with open(side, "rb") as opened:
            file = pa.parquet.ParquetFile(opened)
            schema = file.schema_arrow
            names = [name for name in schema.names if name != key and not name.startswith("__")]
            names = names if chosen is None else chosen
            _check_columns(side, schema, key, names)
            table = file.read([key, *names], use_threads=False)
            stems = table.column(key).to_pylist()
            values = [table.column(name).to_pylist() for name in names]
    except IndexFormatError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError, pa.lib.ArrowException) as error:
        raise _shards.bad(side, f"not a parquet file that can be read: {error}") from error
    rows: dict[str, dict[str, Any]] = {}
    queries = [name if name.startswith(".") else f".{name}" for name in names]
    for number, (stem, *row) in enumerate(zip(stems, *values, strict=True)):
        if stem is None:
            raise _shards.bad(side, f"row {number}: wanted a key in column {key!r}, got null")
        if stem in rows:
            raise _shards.bad(side, f"row {number}: key {stem!r} is there twice")
        rows[stem] = {query: _plain(side, query, number, value) for query, value in zip(queries, row, strict=True)}
    return rows, queries


def _check_columns(side: str, schema: Any, key: str, names: list[str]) -> None:
    pa = _pyarrow(f"{side}: reading parquet")
    for name in (key, *names):
        if schema.names.count(name) != 1:
            there = "there twice" if name in schema.names else f"not among {', '.join(schema.names)}"
            raise _shards.bad(side, f"column {name!r} is {there}")
    types = pa.types
    kind = schema.field(key).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not any(is_kind(kind) for is_kind in (types.is_string, types.is_large_string, types.is_string_view)):
        raise _shards.bad(side, f"column {key!r}: wanted strings, the stems of samples, got {kind}")
    for name in names:
        kind = schema.field(name).type
        if not _holds(types, kind, 0):
            raise _shards.bad(
                side, f"column {name!r}: no index holds {kind}; choose other columns, or write it as text"
            )


def _holds(types: Any, kind: Any, depth: int) -> bool:
    if depth == _DEPTH_MAX:
        return False
    if types.is_dictionary(kind):
        return _holds(types, kind.value_type, depth + 1)
    if types.is_struct(kind):
        return all(_holds(types, kind.field(i).type, depth + 1) for i in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _holds(types, kind.value_type, depth + 1)
    plain = (
        types.is_null,
        types.is_boolean,
        types.is_integer,
        types.is_floating,
        types.is_string,
        types.is_large_string,
    )
    return any(is_kind(kind) for is_kind in (*plain, types.is_string_view))


def _plain(side: str, query: str, number: int, value: Any) -> Any:
    """A value of Arrow as one that an index holds."""
    kind = type(value)
    if kind is int:
        if not -_WHOLE_MAX <= value <= _WHOLE_MAX:
            column = query.removeprefix(".")
            text = f"row {number}: {value} is beyond 2^53, which Lua holds; choose other columns, or write it as text"
            raise _shards.bad(side, f"column {column!r}: {text}")
        return value
    if kind is list:
        return [_plain(side, query, number, item) for item in value]
    if kind is dict:
        return {name: _plain(side, query, number, item) for name, item in value.items()}
    # NumPy's, where Python has no such type: of 16 bits.
    return float(value) if value is not None and kind not in (str, bool, float) else value


def _matched(
    path: str,
    side: str,
    records: list[dict[str, Any]],
    rows: dict[str, dict[str, Any]],
    nulls: dict[str, None],
    missing: str,
) -> tuple[list[dict[str, Any]], list[str]]:
    """The metadata of each record, and warnings."""
    metadata, without = [], []
    for number, record in enumerate(records):
        stem = record["str_idx"]
        if stem not in rows:
            if missing == "error":
                text = f"sample {number}, {stem!r}: wanted a row with this key, got none among {len(rows)}"
                raise _shards.bad(side, f"does not describe {path}: {text}")
            without.append(stem)
        metadata.append({**_shards.metadata_of(record), **rows.get(stem, nulls)})
    stems = {record["str_idx"] for record in records}
    extra = [stem for stem in rows if stem not in stems]
    warnings = []
    for names, noun, lacking in ((without, "sample", "row"), (extra, "row", "sample")):
        if names:
            more = " …" if len(names) > 1 else ""
            warnings.append(f"{side}: {count_text(len(names), noun)} without a {lacking}: {names[0]!r}{more}")
    return metadata, warnings


def _columns(side: str, records: list[dict[str, Any]], chosen: list[str] | None) -> dict[str, list[Any]]:
    """Of a parquet to be written, by name."""
    columns: dict[str, list[Any]] = {
        "key": [record["str_idx"] for record in records],
        "__keys__": [record["keys"] for record in records],
        "__offsets__": [[record["offset"] + offset for offset in record["offsets"]] for record in records],
        "__sizes__": [record["sizes"] for record in records],
    }
    queries = dict.fromkeys(query for record in records for query in _shards.metadata_of(record))
    there = {_column_name(query): query for query in queries}
    if len(there) < len(queries):
        raise _shards.unfit(side, "two queries of the metadata would be one column")
    for name in there if chosen is None else map(_column_name, chosen):
        if name not in there:
            raise ValueError(f"{side}: there is no metadata {name!r}: there is {', '.join(there) or 'none'}")
        columns[name] = [_shards.metadata_of(record).get(there[name]) for record in records]
    return columns


def _column_name(query: str) -> str:
    """Such that it is `query` again when it is read."""
    name = query.removeprefix(".")
    return query if name in ("", "key") or name.startswith(("__", ".")) else name


def _write(side: str, columns: dict[str, list[Any]]) -> None:
    pa = _pyarrow(f"{side}: writing parquet")
    integers = pa.list_(pa.uint64())
    types = {"key": pa.string(), "__keys__": pa.list_(pa.string()), "__offsets__": integers, "__sizes__": integers}
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values, types.get(name))
        except (pa.lib.ArrowException, UnicodeError, OverflowError, TypeError, ValueError) as error:
            raise _shards.unfit(side, f"column {name!r}: {error}") from error
    sink = pa.BufferOutputStream()
    try:
        pa.parquet.write_table(pa.table(arrays), sink)
    except (pa.lib.ArrowException, ValueError) as error:
        raise _shards.unfit(side, str(error)) from error
    with _atomic.replacing(side) as file:
        file.write(sink.getvalue())
