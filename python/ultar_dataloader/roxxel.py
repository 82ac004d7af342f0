"""Roxxel archives: payloads one behind the other in a file, with a table of their ends behind them.

`Roxxel` is a face for those who know the package of that name, version 0.1.0: the same
calls, files and errors. It maps archives and needs NumPy. `Dataset`, `DataLoader` and scripts
read archives as well, by an index as of any shard: see docs/formats.md.
"""

from __future__ import annotations

import glob
import logging
import mmap
import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain
from itertools import count as count_from
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self, SupportsIndex, overload

from . import _atomic, _optional
from ._errors import ReadError, ShardFormatError, WriteError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

__all__ = ["Roxxel"]

_FOOTER = struct.Struct("<qq8s")
_MAGIC = b"ROXXEL01"
_COPY_BYTES = 16 << 20
_log = logging.getLogger("ultar_dataloader")


class Roxxel:
    """The payloads of one archive, or of several as one sequence.

    A payload is a read-only array of bytes that no copy was made for: it is the file itself,
    and keeps the file's mapping alive. Archives open when they are first needed.

    Args:
        filepath: An archive, a pattern with ``*`` or ``?``, or a list of archives.

    Attributes:
        filepaths: The archives.
        raw_data: Of a single archive that is open, all payloads as one array of bytes:
            ``raw_data.view(numpy.uint16)`` are tokens. Else None.
        index_table: Of a single archive that is open, where each payload ends in it. Else None.

    Raises:
        TypeError: `filepath` is neither a path nor a list.

    Example:
        >>> Roxxel("tokens.rox").write(tokens.tobytes() for tokens in documents)
        >>> with Roxxel("tokens.rox") as archive:
        ...     archive[0].view(numpy.uint16)
    """

    def __init__(self, filepath: str | os.PathLike[str] | list[str] = "./stream_reservoir.rox") -> None:
        if isinstance(filepath, list):
            self.filepaths = [os.fspath(path) for path in filepath]
        elif isinstance(filepath, (str, os.PathLike)):
            path = os.fspath(filepath)
            self.filepaths = sorted(glob.glob(path)) if "*" in path or "?" in path else [path]
        else:
            raise TypeError("filepath must be a string (file/pattern) or a list of strings.")
        self.raw_data: NDArray[numpy.uint8] | None = None
        self.index_table: NDArray[numpy.int64] | None = None
        self._shards: list[_Shard] = []
        self._ends: list[int] = []
        """The number behind the last record of each shard."""
        self._is_open = False

    def write(self, data_generator: Iterable[bytes], max_shard_bytes: int | None = None) -> None:
        """Append payloads; empty ones are left out.

        Archives are replaced in one step when all is written, so a crash, or an error of the
        generator, leaves the archive that was there. For that, its payloads are copied.

        Args:
            data_generator: The payloads, each `bytes`.
            max_shard_bytes: None for one archive at `filepath`. Else files
                ``NAME_0000.rox``, ``NAME_0001.rox`` and so on, none larger than this unless one
                payload is; writing goes on in the last of them while it is smaller. Those that
                are full take their place at once.

        Raises:
            TypeError: A payload is no `bytes`.
            ValueError: There is no path to write to, or `max_shard_bytes` is not positive.
            WriteError: An archive cannot be written.
        """
        self.close()
        if not self.filepaths:
            raise ValueError("No filepath specified to write to.")
        if max_shard_bytes is not None and max_shard_bytes < 1:
            raise ValueError(f"max_shard_bytes must be positive, got {max_shard_bytes}")
        payloads = _checked(data_generator)
        if max_shard_bytes is None:
            _append(self.filepaths[0], payloads, None)
            return
        base = self.filepaths[0].removesuffix(".rox")
        number = 0
        while os.path.exists(_shard_path(base, number)):
            number += 1
        if number > 0:
            last = _shard_path(base, number - 1)
            if os.path.getsize(last) < max_shard_bytes and _footer_of(last) is not None:
                number -= 1
        first: bytes | None = next(payloads, None)
        while first is not None:
            path = _shard_path(base, number)
            first = _append(path, chain([first], payloads), max_shard_bytes)
            number += 1
            if first is not None:
                _log.info("Shard limit reached. Creating new shard: %s", _shard_path(base, number))

    def open(self) -> None:
        """Map the archives.

        Raises:
            FileNotFoundError: An archive is not there, or a pattern has none.
            ReadError: An archive cannot be read.
            ShardFormatError: An archive is malformed. It is a ValueError.
        """
        if self._is_open:
            return
        if not self.filepaths:
            raise FileNotFoundError("No matching files found for the specified dataset path/pattern.")
        shards = [_Shard.map(path) for path in self.filepaths]
        self._shards, self._ends, total = shards, [], 0
        for shard in shards:
            total += len(shard.table)
            self._ends.append(total)
        if len(shards) == 1:
            self.raw_data, self.index_table = shards[0].data, shards[0].ends
        self._is_open = True

    def close(self) -> None:
        """Let go of the archives. Arrays that were taken from them stay valid."""
        self._shards, self._ends = [], []
        self.raw_data = self.index_table = None
        self._is_open = False

    def __len__(self) -> int:
        self.open()
        return self._ends[-1]

    @overload
    def __getitem__(self, idx: SupportsIndex) -> NDArray[numpy.uint8]: ...
    @overload
    def __getitem__(self, idx: slice) -> list[NDArray[numpy.uint8]]: ...
    def __getitem__(self, idx: Any) -> Any:
        if not self._is_open:
            self.open()
        total = self._ends[-1]
        if isinstance(idx, slice):
            return [self._record(i) for i in range(*idx.indices(total))]
        place = idx.__index__()
        if place < 0:
            place += total
        if not 0 <= place < total:
            raise IndexError("Record index out of range.")
        return self._record(place)

    def __iter__(self) -> Iterator[NDArray[numpy.uint8]]:
        self.open()
        for shard in self._shards:
            for i in range(len(shard.table)):
                yield shard.record(i)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record(self, place: int) -> NDArray[numpy.uint8]:
        ends = self._ends
        if len(ends) == 1:
            return self._shards[0].record(place)
        number = bisect_right(ends, place)
        return self._shards[number].record(place - (ends[number - 1] if number else 0))


class _Shard(NamedTuple):
    """One archive, mapped."""

    path: str
    data: NDArray[numpy.uint8]
    ends: NDArray[numpy.int64]
    table: memoryview[int]
    """The same as `ends`, and quicker to take one number from."""

    @classmethod
    def map(cls, path: str) -> _Shard:
        np = _optional.need("numpy", "numpy", "Roxxel")
        if not os.path.exists(path):
            raise FileNotFoundError(f"Missing dataset shard file at {path}.")
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < _FOOTER.size:
                    raise _bad(path, f"Corrupted shard {path}: size is less than footer size.", 0)
                mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise ReadError(error.errno, f"{path}: cannot read: {error.strerror}", path) from error
        count, data_size, magic = _FOOTER.unpack_from(mapped, size - _FOOTER.size)
        if magic != _MAGIC:
            raise _bad(path, f"Corrupted signature in shard {path}.", size - 8)
        if count < 0 or data_size < 0 or data_size + 8 * count + _FOOTER.size != size:
            told = f"its footer tells of {count} records and {data_size} bytes of payload"
            raise _bad(path, f"Corrupted shard {path}: {told}, which do not fit its {size} bytes.", size - _FOOTER.size)
        table = memoryview(mapped)[data_size : size - _FOOTER.size].cast("q")
        data = np.frombuffer(mapped, np.uint8, data_size)
        ends = np.frombuffer(mapped, np.dtype("<i8"), count, data_size)
        return cls(path, data, ends, table)

    def record(self, i: int) -> NDArray[numpy.uint8]:
        begin, end = self.table[i - 1] if i else 0, self.table[i]
        if not 0 <= begin <= end <= len(self.data):
            text = f"Corrupted shard {self.path}: record {i} is said to be from {begin} to {end}."
            raise _bad(self.path, text, len(self.data) + 8 * i)
        return self.data[begin:end]


def _bad(path: str, text: str, offset: int) -> ShardFormatError:
    error = ShardFormatError(text)
    error.filename, error.offset = path, offset
    return error


def _shard_path(base: str, number: int) -> str:
    return f"{base}_{number:04d}.rox"


def _checked(payloads: Iterable[bytes]) -> Iterator[bytes]:
    for payload in payloads:
        if not isinstance(payload, bytes):
            raise TypeError("Data generator must exclusively yield raw python 'bytes' objects.")
        if payload:
            yield payload


def _footer_of(path: str) -> tuple[int, int] | None:
    """Records and bytes of payload of an archive; None where there is none that is whole."""
    try:
        with open(path, "rb") as file:
            return _footer(file)
    except FileNotFoundError:
        return None


def _footer(file: BinaryIO) -> tuple[int, int] | None:
    size = file.seek(0, os.SEEK_END)
    if size < _FOOTER.size:
        return None
    file.seek(size - _FOOTER.size)
    count, data_size, magic = _FOOTER.unpack(file.read(_FOOTER.size))
    is_whole = magic == _MAGIC and count >= 0 and data_size >= 0 and data_size + 8 * count + _FOOTER.size == size
    return (count, data_size) if is_whole else None


def _append(path: str, payloads: Iterator[bytes], max_bytes: int | None) -> bytes | None:
    """Write an archive anew with what it has and what is to come, and put it in its place.

    Returns the first payload that it had no room for.
    """
    first = next(payloads, None)
    if first is None:
        return None
    left: bytes | None = None
    ends = array("q")
    with _atomic.replacing(path) as file:
        before = _identity(path)
        size = _take_over(path, file, ends)
        for payload in chain([first], payloads):
            if max_bytes is not None and ends and size + len(payload) + 8 * (len(ends) + 1) + 24 > max_bytes:
                left = payload
                break
            file.write(payload)
            size += len(payload)
            ends.append(size)
        file.write(ends)
        file.write(_FOOTER.pack(len(ends), size, _MAGIC))
        if _identity(path) != before:
            raise WriteError(None, f"{path}: was written by somebody else while it was appended to", path)
    name = os.path.basename(path)
    _log.info("Finalized shard %s - Records: %d, Data Bytes: %d", name, len(ends), size)
    return left


def _identity(path: str) -> tuple[int, ...] | None:
    """Which file it is, and of what age; None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _take_over(path: str, file: _atomic.Output, ends: array[int]) -> int:
    """Copy the payloads of the archive at `path`, if there is one; their size."""
    try:
        old = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return 0
    with old:
        footer = _footer(old)
        if footer is None:
            if old.seek(0, os.SEEK_END) > 0:
                # It may be all that is left of an archive, and somebody may want to save what can be.
                kept = next(name for i in count_from(0) if not os.path.lexists(name := f"{path}.damaged{i or ''}"))
                os.link(path, kept)
                _log.warning(
                    "Invalid signature in existing archive. Overwriting/starting fresh... (%s, kept as %s)", path, kept
                )
            return 0
        count, size = footer
        old.seek(0)
        rest = size
        while rest > 0 and (piece := old.read(min(rest, _COPY_BYTES))):
            file.write(piece)
            rest -= len(piece)
        old.seek(size)
        ends.fromfile(old, count)
    return size
