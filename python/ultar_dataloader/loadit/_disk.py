"""The folder of a cache: which items are in which shard, and the shards that are there.

    metadata.json            version, compression, max_shard_length, info
    layout                   a line a shard, with the number of the item after its last one;
                             at last "end" (the iterator ended there) or "cut" (it was told to)
    lock                     place 0: whoever writes; place 1 + n: whoever makes or opens shard n
    shards/000000000512.tar  the shard whose first item is 512, and 000000000512.tar.utix; and
                             000000000512.tar.places: offset and size of each item, and the size
                             of the tar, as 64-bit numbers; it is read faster, and may be missing

A shard is there when its index is: it comes last, and goes first. The layout is only ever
appended to; it has shards that were evicted, too.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

from .. import _native
from .._errors import CacheError, ReadError, UltarError, WriteError
from ._evict import SUFFIXES, clean, make_room
from ._locks import Lock, LockFile
from ._metadata import Metadata
from ._options import Options
from ._packed import KEYS, Blob, places_of, read_whole, tar_pieces
from ._rows import Rows
from ._shard import Shard

_DIGITS_MAX = 18
"""Of the number of an item: more than there ever are, and few enough for 64 bits."""
_INDEX_BYTES = 96
"""A record of an index, at most: what is set aside before a shard is written."""


class CacheFolder:
    """What threads and processes share. Any thread may call anything."""

    def __init__(self, options: Options) -> None:
        self.root = options.root_dir
        self.shards = os.path.join(self.root, "shards")
        self._layout = os.path.join(self.root, "layout")
        self._mode = options.mode
        self._limit = options.memory_limit
        self._makes = options.create_it is not None
        self._locks = LockFile(os.path.join(self.root, "lock"), options.mode)
        self.metadata = Metadata(self.root, options)
        self.ends: list[int] = []
        """Of each shard that is known: the number of the item after its last one."""
        self.ended: str | None = None
        """"end" or "cut" once it is known that no shard follows."""
        self.rows: weakref.WeakValueDictionary[int, Rows] = weakref.WeakValueDictionary()
        """The shards that are open, and those in memory. None where memory is limited: what is evicted must be gone."""
        self._all_rows: weakref.WeakSet[Rows] = weakref.WeakSet()
        """Also those that others have replaced, while somebody still reads them."""
        self.at_end: Callable[[int], None] = lambda end: None
        """Called with the number of items once that is known."""
        self._reset()
        if options.create_it is not None:
            self._create()
        self.metadata.load()
        self.key = KEYS[self.metadata.compression]
        self.refresh()

    def _reset(self) -> None:
        self._reading = threading.Lock()
        self._opening = threading.RLock()  # Freeing a loader, which closes it, may come at any place.
        self._read_bytes = 0
        self._cleaned = False

    def _create(self) -> None:
        with self._writing(self.shards):
            os.makedirs(self.shards, exist_ok=True)
        if not self.metadata.exists():
            with self._writing(self.root), self._locks.lock(0):
                self.metadata.create()

    def after_fork(self) -> None:
        self.ends, self.ended = [], None
        self._reset()

    @property
    def end(self) -> int:
        """How many items are known to be."""
        ends = self.ends
        return ends[-1] if ends else 0

    @property
    def length(self) -> int | None:
        return self.end if self.ended else None

    def span(self, number: int) -> tuple[int, int]:
        """First item of a known shard, and the one after its last."""
        return (self.ends[number - 1] if number else 0), self.ends[number]

    def number(self, index: int) -> int:
        """The shard that has an item; of one that is not known yet, how many are."""
        return bisect_right(self.ends, index)

    def path(self, start: int) -> str:
        return os.path.join(self.shards, f"{start:012d}.tar")

    def refresh(self) -> None:
        """Learn what other processes have added.

        Raises:
            CacheError: The layout is damaged.
            ReadError: It cannot be read.
        """
        try:
            with self._reading:
                self._refresh()
        except FileNotFoundError as error:
            raise self._broken("it was deleted while it was in use") from error
        except OSError as error:
            raise ReadError(error.errno, f"{self._layout}: cannot be read: {error.strerror}", self._layout) from error

    def _refresh(self) -> None:
        try:
            size = os.stat(self._layout).st_size
        except FileNotFoundError:
            size = 0
        if size < self._read_bytes:
            raise self._broken("it is shorter than it was: was the cache deleted while it was in use?")
        if size > self._read_bytes:
            with open(self._layout, "rb") as file:
                file.seek(self._read_bytes)
                self._take(file.read())

    def _take(self, text: bytes) -> None:
        # A line without its end is being written, or its writer died.
        for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
            word = line.strip()
            if self.ended is None and word in (b"end", b"cut"):
                self.ended = word.decode()
                self.at_end(self.end)
            else:
                self.ends.append(self._checked(word))
            self._read_bytes += len(line)

    def _checked(self, word: bytes) -> int:
        """The end of the next shard."""
        got, most, ends = word[:40].decode(errors="backslashreplace"), self.metadata.shard_limits[0], self.ends
        if self.ended is not None:
            raise self._broken(f"{got!r} follows after {self.ended!r}")
        end = int(word) if word.isdigit() and len(word) <= _DIGITS_MAX else 0
        if end <= self.end or (most is not None and end > self.end + most):
            to = "" if most is None else f" and at most {self.end + most}"
            raise self._broken(f"line {len(ends) + 1} must be a number above {self.end}{to}, got {got!r}")
        if most is not None and ends and self.end != most * len(ends):
            raise self._broken(f"line {len(ends)} is not the last one, and must be {most * len(ends)}, got {self.end}")
        return end

    def _broken(self, why: str) -> CacheError:
        error = CacheError(f"{self._layout}: {why}")
        error.filename = self._layout
        return error

    def _append(self, *words: object) -> None:
        """Add lines to the layout. Needs lock 0, and all that is there to be known."""
        line = "".join(f"{word}\n" for word in words).encode()
        file = os.open(self._layout, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, self._mode)
        try:
            # Over what a writer that died may have left behind the last whole line.
            os.ftruncate(file, self._read_bytes)
            os.pwrite(file, line, self._read_bytes)
        finally:
            os.close(file)
        self.refresh()

    def finish(self, how: str) -> None:
        """Say that no item follows the known ones."""
        with self._writing(self._layout), self._locks.lock(0):
            self.refresh()
            if self.ended is None:
                self._append(how)

    def set_info(self, info: object) -> None:
        with self._writing(self.root), self._locks.lock(0):
            self.metadata.set_info(info)

    def try_lock(self, number: int, *, shared: bool = False) -> Lock | None:
        """The right to make a shard, or a share in the right to open it; None when it is taken."""
        with self._writing(self.root):
            return self._locks.try_lock(1 + number, shared=shared)

    def there(self, number: int) -> bool:
        path = self.path(self.span(number)[0])
        return os.path.exists(f"{path}.utix") and os.path.exists(path)

    def all_there(self) -> bool:
        self.refresh()
        return self.ended is not None and all(map(self.there, range(len(self.ends))))

    def open(self, number: int) -> Shard | None:
        """A shard that is on disk; None where it is not, or somebody makes it. As `load` otherwise."""
        shard = self._opened(number)
        if shard is not None:
            return shard
        lock = self.try_lock(number, shared=True)
        if lock is None:
            return None
        with lock:
            return self.load(number)

    def _opened(self, number: int) -> Shard | None:
        """One that is open, or was: each read of it says whether the file is still the same."""
        rows = self.rows.get(number)
        return None if rows is None else Shard(rows.start, rows, rows.key, rows.path)

    def load(self, number: int) -> Shard | None:
        """A shard that is on disk; None where it is not. Needs a share in its lock.

        Raises:
            CacheError: What is there is not that shard.
            ReadError: It cannot be read.
        """
        shard = self._opened(number)
        if shard is not None:
            return shard
        start, end = self.span(number)
        path = self.path(start)
        try:
            shard = self._load(number, start, end - start, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ReadError(error.errno, f"{path}: cannot be read: {error.strerror}", path) from error
        except ValueError as error:
            raise self.damaged(path, str(error)) from error
        if len(shard.blobs) != end - start:
            raise self.damaged(path, f"it has {len(shard.blobs)} items, not {end - start}")
        with contextlib.suppress(OSError):
            # For eviction: this one was wanted now. Of the index, so that it stays newer than its tar.
            os.utime(path + ".utix", ns=(time.time_ns(),) * 2)
        return shard

    def damaged(self, path: str, why: str) -> CacheError:
        error = CacheError(f"{path}: this is no shard of the cache, or a damaged one: {why}")
        error.filename = path
        return error

    def _load(self, number: int, start: int, count: int, path: str) -> Shard:
        if not os.path.exists(path + ".utix"):
            raise FileNotFoundError
        if self._limit is not None:
            # In memory: an open file would keep its place on the disk once it is evicted.
            return Shard(start, *read_whole(path, start), path)
        rows = Rows(path, start, count)
        if self._makes and not rows.noted:
            self._note(path, rows.places)
        with self._opening:
            self.rows[number] = rows
            self._all_rows.add(rows)
        return Shard(start, rows, rows.key, path)

    def forget(self, number: int) -> None:
        """Look at the file again before it is read next."""
        rows = self.rows.pop(number, None)
        if rows is not None:
            rows.close()

    def close(self) -> None:
        """Close all files."""
        with self._opening:
            for rows in self._all_rows:
                rows.close()

    def store(self, number: int, shard: Shard, blobs: Sequence[Blob], *, evict: bool) -> bool:
        """Write a shard, and add it to the layout. Needs its lock. Whether there was room for it.

        Args:
            number: Of the shard; one more than there are is added.
            shard: What to write.
            blobs: Its items.
            evict: Make room, where memory is limited, by deleting those used least recently.

        Raises:
            WriteError: It cannot be written.
        """
        path = self.path(shard.start)
        with self._writing(path), self._locks.lock(0):
            self.refresh()
            places = places_of(map(len, blobs))
            if self._limit is not None:
                size = places[-1] + len(places) * places.itemsize + _INDEX_BYTES * len(blobs)
                room = make_room(self.shards, self._limit - size, self._lock_at, os.path.basename(path), evict)
            else:
                room = True
                if not self._cleaned:
                    clean(self.shards)
            self._cleaned = True
            if room:
                self._write(path, shard, blobs, places)
            if number == len(self.ends):
                self._append(shard.start + len(blobs))
        return room

    def _write(self, path: str, shard: Shard, blobs: Sequence[Blob], places: array[int]) -> None:
        # Nobody else writes: whoever has lock 0 may use this name, and deletes what has it.
        temporary = f"{path}.tmp"
        try:
            self._write_file(temporary, tar_pieces(shard.start, blobs, shard.key))
            self._write_file(f"{temporary}.places", [places.tobytes()])
            _native.index_shard(
                temporary, format="msgpack", rules=[], check=False, verify=False, index_path=None, stores=None
            )
            os.chmod(f"{temporary}.utix", self._mode)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}.utix")
            for suffix in SUFFIXES:
                os.rename(temporary + suffix, path + suffix)
        except BaseException:
            for suffix in SUFFIXES:
                with contextlib.suppress(OSError):
                    os.unlink(temporary + suffix)
            raise

    def _note(self, path: str, places: array[int]) -> None:
        """Write the places of a shard that somebody has copied without them, or damaged."""
        with contextlib.suppress(OSError), self._locks.lock(0):  # It would only save time.
            self._write_file(f"{path}.tmp.places", [places.tobytes()])
            os.rename(f"{path}.tmp.places", f"{path}.places")

    def _write_file(self, path: str, pieces: Iterable[Blob]) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, self._mode)
        with open(file, "wb", buffering=1 << 20) as out:
            os.fchmod(file, self._mode)
            out.writelines(pieces)

    def drop(self, number: int) -> None:
        """Take a damaged shard out of the cache. Needs its lock."""
        path = self.path(self.span(number)[0])
        self.forget(number)
        for suffix in reversed(SUFFIXES):
            with self._writing(path), contextlib.suppress(FileNotFoundError):
                os.unlink(path + suffix)

    def _lock_at(self, start: int) -> Lock | None:
        """The lock of the shard that begins with an item."""
        return self.try_lock(self.number(start))

    @contextlib.contextmanager
    def _writing(self, path: str) -> Iterator[None]:
        try:
            yield
        except UltarError:
            raise
        except OSError as error:
            raise WriteError(error.errno, f"{path}: cannot be written: {error.strerror}", path) from error
