"""The threads that answer what native code asks of stores."""

from __future__ import annotations

import atexit
import errno
import os
import threading
import time
import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any

from . import _asking, _native, _records, _store_index, _store_paths
from ._decoding import Decoding
from ._stores import Options, StoreError, Stores

_END_SECONDS = 1.0
"""How long the end of the interpreter waits for requests under way."""


class Fetching:
    """Stores for the pipelines of one loader. Threads start when something is asked for."""

    def __init__(self, storage_options: Mapping[str, Any] | None, logins: Mapping[str, str] | None = None) -> None:
        self.stores = Stores(Options.parse(storage_options), logins)
        self.storage_options = None if storage_options is None else dict(storage_options)
        self.native = _native.Remote()
        self.decoding = Decoding(self.stores)
        self._servers = _Servers(self.native, self.stores, self.decoding)
        self._process = os.getpid()
        weakref.finalize(self, self._servers.close)

    def start(self) -> None:
        """Have somebody answer. Called by pipelines that wait."""
        self._servers.start()

    def close(self) -> None:
        """Give up whatever is asked for, now and from here on."""
        self._servers.close()

    def here(self) -> Fetching:
        """This, or in the child of a fork, where no thread is, another one like it."""
        if self._process == os.getpid() or not (self.stores.is_used() or self._servers.is_started()):
            return self
        return Fetching(self.storage_options, self.stores.logins)


class _Servers:
    """Knows nothing of who asks, so that it ends when they are gone."""

    def __init__(self, native: _native.Remote, stores: Stores, decoding: Decoding) -> None:
        self._native = native
        self._stores = stores
        self._decoding = decoding
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._process = os.getpid()
        _all.add(self)

    def is_started(self) -> bool:
        return bool(self._threads)

    def start(self) -> None:
        with self._lock:
            if self._threads:
                return
        self._add()

    def _add(self) -> None:
        with self._lock:
            if len(self._threads) >= self._stores.options.requests:
                return
            thread = threading.Thread(target=self._run, name="ultar-fetch", daemon=True)
            self._threads.append(thread)
            _threads.add(thread)
            try:
                thread.start()
            except RuntimeError:
                self._threads.pop()
                if not self._threads:
                    raise

    def _run(self) -> None:
        native = self._native
        while (job := native.next()) is not None:
            number, kind, url, offset, size, object_size, is_short = job
            if is_short:
                self._add()
            try:
                if kind == "read" and offset >= _records.DECODED_MIN:
                    native.answer(number, self._decoding.read(url, offset, size), 0)
                elif kind == "read":
                    data, retries = self._stores.insist(partial(self._stores.read, url, offset, size, object_size))
                    native.answer(number, data, retries)
                    del data
                elif kind == "size":
                    version, retries = self._stores.insist(partial(self._stores.version, url))
                    native.answer_size(number, version.size, retries)
                elif kind == "list":
                    names = _store_paths.entries(url, self._stores)
                    native.answer(number, "".join(f"{name}\0" for name in names).encode(), 0)
                else:
                    native.answer_local(number, _store_index.of_script(self._stores, url), 0)
            except StoreError as failure:
                native.fail(number, failure.number, failure.text, failure.retries)
            except BaseException as error:
                # A thread that ends without an answer would leave somebody waiting for ever.
                native.fail(number, errno.EIO, f"{type(error).__name__}: {error}", 0)

    def close(self) -> None:
        if self._process != os.getpid():
            return  # In the child of a fork: whoever had the locks is not here.
        self._stores.ending.set()
        self._native.close()


_all: weakref.WeakSet[_Servers] = weakref.WeakSet()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
"""Also those of servers that are no more, which may be at their last step: to close files."""


@atexit.register
def end() -> None:
    """Have servers end, if they do so soon."""
    for one in list(_all):
        one.close()
    until = time.monotonic() + _END_SECONDS
    for thread in list(_threads):
        if thread.is_alive():  # Not in the child of a fork.
            thread.join(max(0.0, until - time.monotonic()))
    _asking.join(until)
