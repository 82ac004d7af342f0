"""Rows that are no ranges of a file, decoded by the threads that answer native code.

What was decoded stays for a while, as rows that are near one another are decoded together.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from . import _native
from ._errors import ReadError, UltarError
from ._stores import StoreError, Stores, is_url

if TYPE_CHECKING:
    from ._hdf5_file import Column, File

CACHE_BYTES = 64 << 20
"""Decoded rows that one loader keeps, and decodes at once; more if that is a single chunk."""

_FILES = 64
"""Open files of one loader."""

_EACH_BYTES = 512
"""What keeping something costs beside its bytes."""

_T = TypeVar("_T")


class Decoding:
    """Decodes rows of all files that one loader reads. For any thread."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self.close()

    def close(self) -> None:
        """Forget all files; each is closed when nobody reads from it any more."""
        self._versions: dict[str, object] = {}
        self._files: _Kept[File] = _Kept(_FILES)
        self._bands: _Kept[memoryview] = _Kept(CACHE_BYTES)

    def read(self, path: str, offset: int, size: int) -> bytes:
        """What is at an offset from `DECODED_MIN` on.

        Raises:
            StoreError: It cannot be had.
        """
        try:
            file = self._files.get(path, 1, partial(self._open, path))
        except UltarError as error:
            text = str(error).removeprefix(f"{path}: ")
            raise StoreError(getattr(error, "errno", None) or errno.EIO, text) from error
        column = file.column_at(offset)
        if column is None or offset + size > column.end:
            raise StoreError(errno.ESTALE, "there is no such row: the file was changed after it was indexed")
        try:
            return self._rows(file, column, offset, size)
        except StoreError as failure:
            row = (offset - column.base) // column.row_bytes
            text = f"dataset {column.name}, row {row}: {failure.text}"
            raise StoreError(failure.number, text, retries=failure.retries) from failure

    def _rows(self, file: File, column: Column, offset: int, size: int) -> bytes:
        pieces, at, end = [], offset - column.base, offset - column.base + size
        while at < end:
            if self._stores.ending.is_set():
                raise StoreError(0, "the file was closed")
            number, begin = divmod(at, column.band_bytes)
            make = partial(file.decode, column, number)
            band = self._bands.get((file.path, column.base, number), column.band_bytes + _EACH_BYTES, make)
            pieces.append(band[begin : begin + end - at])
            at += len(pieces[-1])
        return b"".join(pieces)  # A copy: else one row would keep all of its band.

    def _open(self, path: str) -> File:
        from ._hdf5_file import File

        file = File(path, self._stores)
        version = file.source.version
        if self._versions.setdefault(path, version) != version:
            raise StoreError(errno.ESTALE, "the file was changed while it was in use")
        self._compare_with_index(file)
        return file

    def _compare_with_index(self, file: File) -> None:
        """That what the index beside it says of its first row is so; the others follow from that."""
        from . import _store_index

        index = file.path + _store_index.SUFFIX
        if is_url(file.path):
            try:
                index = _store_index.fetch(self._stores, file.path, any_age=True)
            except ReadError:
                return
        elif not os.path.exists(index):
            return
        if (difference := file.differs(_native.Index(index)[0])) is not None:
            raise StoreError(errno.ESTALE, f"the file was changed after it was indexed: {difference}")


class _One(Generic[_T]):
    """A value that is there, or will be, unless it fails."""

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.is_over = False
        self.value: _T | None = None
        self.failure: BaseException | None = None


class _Kept(Generic[_T]):
    """Values, made once for all who want them at a time, and kept while there is room."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._changed = threading.Condition()
        self._all: OrderedDict[Hashable, _One[_T]] = OrderedDict()
        self._kept = 0
        """Cost of those that are there, as the next of those that will be."""
        self._made = 0

    def get(self, key: Hashable, cost: int, make: Callable[[], _T]) -> _T:
        one = self._one(key, cost, make)
        failure = one.failure
        if failure is None:
            return one.value  # type: ignore[return-value]
        try:
            raise failure
        finally:
            del one, failure  # Else they keep each other, and open files, until garbage is collected.

    def _one(self, key: Hashable, cost: int, make: Callable[[], _T]) -> _One[_T]:
        with self._changed:
            found = self._all.get(key)
            if found is not None:
                self._all.move_to_end(key)
                self._changed.wait_for(lambda: found.is_over)
                return found
            one = self._all[key] = _One(cost)
            self._changed.wait_for(lambda: self._made == 0 or self._made + cost <= self._room)
            self._made += cost
        try:
            one.value = make()
        except BaseException as error:
            one.failure = error.with_traceback(None)
        with self._changed:
            self._made -= cost
            one.is_over = True
            if one.failure is None:
                self._kept += cost
                self._make_room(key)
            else:
                del self._all[key]
            self._changed.notify_all()
        return one

    def _make_room(self, newest: Hashable) -> None:
        while self._kept > self._room:
            oldest = next((key for key, one in self._all.items() if one.is_over and key != newest), None)
            if oldest is None:
                return
            self._kept -= self._all.pop(oldest).cost
