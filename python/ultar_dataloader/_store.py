"""Indexes and open files, shared by the views of a dataset."""

from __future__ import annotations

import os
import threading
from array import array

from . import _native
from ._errors import ReadError


class Store:
    """The indexes and open files that views share, opened when they are needed."""

    def __init__(self, paths: tuple[str, ...], counts: str | None = None) -> None:
        self.paths = paths
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
            self._reset()

    def native(self) -> _native.Dataset:
        self._here()
        with self._lock:
            if self._native is None:
                native = _native.Dataset(self.paths)
                self._check(native)
                self._native = native
            return self._native

    def _check(self, native: _native.Dataset) -> None:
        """That rows have the numbers that they had before."""
        if self._counts is not None and self._counts != _digest(native):
            raise ReadError(None, "the shards have other rows now than when this dataset was made: make it anew")

    def fingerprint(self) -> str:
        """As `Dataset.fingerprint`."""
        import hashlib  # Late, as it loads OpenSSL, which most programs get by without.

        counts = self.native().counts()
        digest = hashlib.blake2b(digest_size=16)
        for path, count in zip(self.paths, counts, strict=True):
            try:
                size = 0 if path.endswith("/") else os.path.getsize(path)
            except OSError as error:
                raise ReadError(error.errno, f"{path}: {error.strerror}", path) from error
            digest.update(f"{os.path.basename(path.rstrip('/'))}\0{size}\0{count}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def reader(self, keys: tuple[str, ...] | None, access: str) -> _native.RowReader:
        native = self.native()
        with self._lock:
            found = self._readers.get((keys, access))
            if found is None:
                found = self._readers[keys, access] = native.reader(keys, access)
            return found

    def close(self) -> None:
        self._here()
        with self._lock:
            self._note_counts()
            self._native = None
            self._readers = {}

    def _note_counts(self) -> None:
        if self._counts is None and self._native is not None:
            self._counts = _digest(self._native)

    def __reduce__(self) -> tuple[object, ...]:
        self._here()
        with self._lock:
            self._note_counts()
        return type(self), (self.paths, self._counts)


def _digest(native: _native.Dataset) -> str:
    """Tells whether shards have as many rows as they had, each."""
    import hashlib

    return hashlib.blake2b(array("Q", native.counts()).tobytes(), digest_size=16).hexdigest()
