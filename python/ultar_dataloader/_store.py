"""Indexes and open files, shared by the views of a dataset."""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from . import _index, _native, _store_index
from ._errors import ReadError
from ._fetching import Fetching
from ._stores import StoreError, is_url


class Store:
    """The indexes and open files that views share, opened when they are needed."""

    def __init__(
        self, paths: tuple[str, ...], fetching: Fetching, indexes: tuple[str, ...], counts: str | None = None
    ) -> None:
        self.paths = paths
        self.has_urls = any(map(is_url, paths))
        self.fetching = fetching
        self._indexes = indexes
        self._tell_sizes()
        self._counts = counts
        self._native: _native.Dataset | None = None
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._readers: dict[tuple[object, str], _native.RowReader] = {}

    def _here(self) -> None:
        # The child of a fork has neither the parent's threads nor the state of its locks.
        # What is native goes on there by itself, and shares its memory with the parent.
        if self._process != os.getpid():
            self.fetching = self.fetching.here()
            self._tell_sizes()
            self._reset()

    def _tell_sizes(self) -> None:
        """What listing has said need not be asked for again, shard by shard."""
        if not self.has_urls:
            return
        for path in filter(is_url, self.paths):
            if (known := self.fetching.stores.known(path)) is not None:
                self.fetching.native.set_size(path, known.size)

    def native(self) -> _native.Dataset:
        self._here()
        with self._lock:
            if self._native is None:
                native = _native.Dataset(self.paths, self._indexes)
                self._check(native)
                self._native = native
            return self._native

    def _check(self, native: _native.Dataset) -> None:
        """That rows have the numbers that they had before."""
        if self._counts is not None and self._counts != _digest(native):
            raise ReadError(None, "the shards have other rows now than when this dataset was made: make it anew")

    @property
    def is_fetched(self) -> bool:
        """Whether threads answer for rows: those of objects, and what is decoded."""
        return self.has_urls or self.native().has_decoded()

    def fingerprint(self) -> str:
        """As `Dataset.fingerprint`."""
        import hashlib  # Late, as it loads OpenSSL, which most programs get by without.

        counts = self.native().counts()
        digest = hashlib.blake2b(digest_size=16)
        for path, count in zip(self.paths, counts, strict=True):
            try:
                size = 0 if path.endswith("/") else self._size(path)
            except StoreError as failure:
                raise ReadError(failure.number, f"{path}: {failure.text}", path) from failure
            except OSError as error:
                raise ReadError(error.errno, f"{path}: {error.strerror}", path) from error
            digest.update(f"{os.path.basename(path.rstrip('/'))}\0{size}\0{count}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def _size(self, path: str) -> int:
        return self.fetching.stores.size(path) if is_url(path) else os.path.getsize(path)

    def reader(self, keys: tuple[str, ...] | None, access: str) -> _native.RowReader:
        native = self.native()
        with self._lock:
            found = self._readers.get((keys, access))
            if found is None:
                fetching = self.fetching if native.has_decoded() else None
                if fetching is not None:
                    fetching.start()
                found = self._readers[keys, access] = native.reader(keys, access, fetching)
            return found

    def close(self) -> None:
        self._here()
        with self._lock:
            self._note_counts()
            self._native = None
            self._readers = {}
            self.fetching.decoding.close()

    def _note_counts(self) -> None:
        if self._counts is None and self._native is not None:
            self._counts = _digest(self._native)

    def __reduce__(self) -> tuple[object, ...]:
        self._here()
        with self._lock:
            self._note_counts()
        # What was given by name. Keys of the environment and of profiles are not among it.
        return _reopen, (self.paths, self.fetching.storage_options, self._counts, self.fetching.stores.logins)


def _reopen(
    paths: tuple[str, ...], storage_options: Mapping[str, Any] | None, counts: str | None, logins: dict[str, str]
) -> Store:
    fetching = Fetching(storage_options, logins)
    return Store(paths, fetching, prepare(paths, "require", fetching), counts)


def _digest(native: _native.Dataset) -> str:
    """Tells whether shards have as many rows as they had, each."""
    import hashlib

    return hashlib.blake2b(array("Q", native.counts()).tobytes(), digest_size=16).hexdigest()


def prepare(paths: Sequence[str], mode: str, fetching: Fetching) -> tuple[str, ...]:
    """The files with the indexes of shards, for a dataset: built or downloaded if need be.

    Raises what `index` does.
    """
    if mode != "require":
        # First without threads and futures, which a million shards take seconds to pass through.
        stale = [path for path in paths if not is_url(path) and (mode == "rebuild" or not _index.is_fresh(path))]
        if stale:
            _index.index(stale, force=True)
    urls = [path for path in paths if is_url(path)]
    if not urls:
        return tuple(map(_index.index_path, paths))
    from concurrent.futures import ThreadPoolExecutor, wait

    find = partial(_store_index.find, fetching, mode=mode)
    with ThreadPoolExecutor(min(len(urls), fetching.stores.options.requests), thread_name_prefix="ultar-index") as pool:
        try:
            found = {}
            for url, future in [(url, pool.submit(find, url)) for url in urls]:
                # With a time limit: so Ctrl-C is noticed on every system.
                while wait([future], timeout=0.1).not_done:
                    pass
                found[url] = future.result()
        except BaseException:
            # Of an error, or Ctrl-C: nobody waits for the others.
            fetching.close()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return tuple(found.get(path) or _index.index_path(path) for path in paths)
