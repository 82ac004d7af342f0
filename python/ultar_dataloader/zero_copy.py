"""Zero-copy shards: samples as views of mapped files, by number.

`DataLoader` is a face for those who know the loader that these shards come from: nothing is
read before it is touched, and nothing is copied. `Dataset`, the other `DataLoader` and scripts
read the shards as well, by an index as of any shard: see docs/formats.md.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import struct
import tempfile
import warnings
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from . import _atomic, _optional, _paths
from ._errors import ReadError, ShardFormatError, WriteError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import DTypeLike, NDArray

__all__ = ["DataLoader", "to_numpy", "to_torch", "write"]

_HEADER = struct.Struct("<IHQQ")
_LENGTH = struct.Struct("<Q")
_MAGIC = 0x5A434C44
_VERSION = 1
_PIECE_BYTES = 4 << 20
# Of Linux, on every architecture that we run on: private pages count when they are written to.
_MAP_NORESERVE = 0x4000


def write(path: str | os.PathLike[str], samples: Iterable[bytes | bytearray | memoryview]) -> None:
    """Write a shard, which takes its place when it is whole.

    Samples go through a temporary file, since their sizes stand in front of them.

    Args:
        path: Where to.
        samples: The bytes of each; they may be empty.

    Raises:
        TypeError: A sample is no bytes.
        WriteError: The shard cannot be written.
    """
    path = os.fspath(path)
    sizes: list[int] = []
    with _atomic.replacing(path) as file, _spool(path) as spool:
        for sample in samples:
            view = memoryview(sample).cast("B")
            try:
                spool.write(view)
            except OSError as error:
                raise WriteError(error.errno, f"{path}: cannot write: {error.strerror}", path) from error
            sizes.append(len(view))
        places = [{"offset": end - size, "size": size} for end, size in zip(accumulate(sizes), sizes, strict=True)]
        metadata = json.dumps({"num_samples": len(sizes), "samples": places}, separators=(",", ":")).encode()
        data_at = _HEADER.size + _LENGTH.size + len(metadata)
        file.write(_HEADER.pack(_MAGIC, _VERSION, _HEADER.size, data_at) + _LENGTH.pack(len(metadata)) + metadata)
        spool.seek(0)
        shutil.copyfileobj(spool, file, _PIECE_BYTES)


def _spool(path: str) -> Any:
    try:
        return tempfile.TemporaryFile(dir=os.path.dirname(path) or ".")
    except OSError as error:
        raise WriteError(error.errno, f"{path}: cannot write: {error.strerror}", path) from error


class DataLoader:
    """The samples of several shards as one sequence, as views of the mapped files.

    Args:
        shard_paths: Shards, folders of ``*.bin``, globs, braces; one, or several.

    Raises:
        ReadError: A shard cannot be read, or a path names none.
        ShardFormatError: A shard is malformed.

    Example:
        >>> loader = DataLoader(["shard-0.bin", "shard-1.bin"])
        >>> image = to_numpy(loader.get_sample(7), numpy.uint8, (224, 224, 3))
    """

    def __init__(self, shard_paths: _paths.Paths) -> None:
        self._shards = [_Shard.map(path) for path in _paths.expand(shard_paths)]
        self._ends = list(accumulate(len(shard.sizes) for shard in self._shards))
        self._last_used = -1
        self._next = 0
        """The shard that `prefetch_next` begins with, unless later ones are in use."""
        self._reader: ThreadPoolExecutor | None = None
        self._reading: list[Future[None]] = []

    @property
    def total_samples(self) -> int:
        """Of all shards."""
        return self._ends[-1] if self._ends else 0

    @property
    def num_shards(self) -> int:
        """How many there are."""
        return len(self._shards)

    def __len__(self) -> int:
        return self.total_samples

    def get_sample(self, index: int) -> memoryview:
        """The bytes of a sample, read-only, without a copy; negative numbers count from the end.

        The view keeps the shard mapped for as long as it lives.

        Raises:
            IndexError: There is no such sample.
        """
        ends = self._ends
        place = index + self.total_samples if index < 0 else index
        number = bisect_right(ends, place)
        if place < 0 or number == len(ends):
            raise IndexError(f"sample {index} is out of range: there are {self.total_samples}")
        if number > 0:
            place -= ends[number - 1]
        self._last_used = number
        shard = self._shards[number]
        offset = shard.offsets[place]
        return shard.view[offset : offset + shard.sizes[place]]

    def get_batch(self, indices: Iterable[int]) -> list[memoryview]:
        """Several samples, in this order.

        Raises:
            IndexError: There is no such sample.
        """
        return [self.get_sample(index) for index in indices]

    def prefetch_next(self, count: int = 1) -> None:
        """Begin to read the next shards into the page cache, in a thread.

        They are those behind the shard of the last sample and behind what was read ahead
        already. At the end there is nothing more to read.
        """
        if count < 0:
            raise ValueError(f"count must not be negative, got {count}")
        begin = max(self._next, self._last_used + 1)
        chosen = self._shards[begin : begin + count]
        self._next = begin + len(chosen)
        if self._reader is None and chosen:
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="ultar-prefetch")
        for shard in chosen:
            assert self._reader is not None
            self._reading.append(self._reader.submit(shard.read))

    def wait_prefetch(self) -> None:
        """Wait until all that `prefetch_next` began is read.

        Raises:
            ReadError: A shard could not be read.
        """
        reading, self._reading = self._reading, []
        for future in reading:
            future.result()

    def close(self) -> None:
        """Stop reading ahead, and let go of the shards. Views stay valid."""
        if self._reader is not None:
            self._reader.shutdown(wait=True, cancel_futures=True)
        self._reader, self._reading = None, []
        self._shards, self._ends = [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Shard(NamedTuple):
    """One shard, mapped."""

    path: str
    view: memoryview
    offsets: array[int]
    """In the file."""
    sizes: array[int]

    @classmethod
    def map(cls, path: str) -> _Shard:
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < _HEADER.size:
                    raise _bad(path, 0, f"the file is cut short: wanted {_HEADER.size} bytes, got {size}")
                # Private and writable, for tensors that are written to: see `to_torch`.
                mapped = mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE | _MAP_NORESERVE)
                view = memoryview(mapped).toreadonly()
        except OSError as error:
            raise ReadError(error.errno, f"{path}: cannot read: {error.strerror}", path) from error
        magic, version, metadata_at, data_at = _HEADER.unpack_from(view)
        if magic != _MAGIC or version != _VERSION:
            raise _bad(path, 0, f"wanted a zero-copy shard of version {_VERSION}, got 0x{magic:08x}, version {version}")
        if not _HEADER.size <= metadata_at <= size - _LENGTH.size or data_at > size:
            raise _bad(path, 6, f"metadata at {metadata_at} and data at {data_at} do not fit {size} bytes")
        (length,) = _LENGTH.unpack_from(view, metadata_at)
        begin = metadata_at + _LENGTH.size
        if length > size - begin:
            raise _bad(path, metadata_at, f"the metadata is cut short: wanted {length} bytes, got {size - begin}")
        offsets, sizes = _places(path, begin, view[begin : begin + length], size - data_at)
        return cls(path, view, array("Q", (data_at + offset for offset in offsets)), sizes)

    def read(self) -> None:
        """Have all of it in the page cache."""
        buffer = bytearray(_PIECE_BYTES)
        try:
            with open(self.path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
        except OSError as error:
            raise ReadError(error.errno, f"{self.path}: cannot read: {error.strerror}", self.path) from error


def _places(path: str, at: int, text: memoryview, data_size: int) -> tuple[array[int], array[int]]:
    """Offset from the data, and size, of each sample; all lie in the file."""
    try:
        metadata = json.loads(bytes(text))
        samples: Sequence[dict[str, int]] = metadata["samples"]
        offsets = array("Q", [sample["offset"] for sample in samples])
        sizes = array("Q", [sample["size"] for sample in samples])
        count = metadata["num_samples"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _bad(path, at, f"the metadata is malformed: {type(error).__name__}: {error}") from error
    if count != len(sizes):
        raise _bad(path, at, f"the metadata has {count!r} for 'num_samples', and {len(sizes)} samples")
    for i, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
        if offset + size > data_size:
            raise _bad(path, at, f"sample {i} has {size} bytes at {offset}, and there are {data_size} bytes of data")
    return offsets, sizes


def _bad(path: str, offset: int, text: str) -> ShardFormatError:
    error = ShardFormatError(f"{path}: at offset {offset}: {text}")
    error.filename, error.offset = path, offset
    return error


def to_numpy(buffer: Any, dtype: DTypeLike, shape: int | Sequence[int]) -> NDArray[Any]:
    """A NumPy array over a buffer, without a copy; read-only where the buffer is.

    Raises:
        ValueError: The buffer has another size.
        ImportError: NumPy is not installed.
    """
    np = _optional.need("numpy", "numpy", "to_numpy")
    array: numpy.ndarray[Any, Any] = np.frombuffer(buffer, dtype).reshape(shape)
    return array


def to_torch(buffer: Any, dtype: Any, shape: int | Sequence[int]) -> Any:
    """A PyTorch tensor over a buffer, without a copy.

    PyTorch has no read-only tensors. What is written to one over a sample goes to a copy of
    the page that other views of the same shard see, but not to the file.

    Args:
        buffer: A sample, or any buffer.
        dtype: A `torch.dtype`.
        shape: Of the tensor.

    Raises:
        ValueError: The buffer has another size.
        ImportError: PyTorch is not installed.
    """
    torch = _optional.need("torch", "torch", "to_torch")
    wanted = (shape,) if isinstance(shape, int) else tuple(shape)
    view = memoryview(buffer)
    if view.nbytes == 0:
        return torch.empty(wanted, dtype=dtype) if 0 in wanted else _refuse(0, wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # It says that buffers may be read-only.
        tensor = torch.frombuffer(view, dtype=dtype)
    try:
        return tensor.reshape(wanted)
    except RuntimeError:
        return _refuse(len(tensor), wanted)


def _refuse(count: int, shape: tuple[int, ...]) -> Any:
    raise ValueError(f"cannot make shape {shape} of {count} elements")
