"""Calls on threads, their results in order, and what comes next made ahead on a thread."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .._errors import UltarError

if TYPE_CHECKING:
    from concurrent.futures import Future

_Unit = TypeVar("_Unit")
_Result = TypeVar("_Result")

_FIRST = 2
"""What "auto" begins with."""
_DEPTH_MAX = 64
"""Elements that "auto" prefetches, at most."""


def ordered(
    function: Callable[[_Unit], _Result],
    units: Iterator[_Unit],
    calls: int | Literal["auto"],
    bytes_max: int,
    size: Callable[[_Unit], int],
) -> Iterator[_Result]:
    """The function's results, in order of the units, which are read ahead as calls allow.

    Args:
        calls: At once; 1 for calls on this thread.
        bytes_max: Of units that wait or are worked on. One always may.
        size: Of a unit, in bytes.
    """
    if calls == 1:
        return map(function, units)
    return _on_threads(function, units, calls, bytes_max, size)


def _on_threads(
    function: Callable[[_Unit], _Result],
    units: Iterator[_Unit],
    calls: int | Literal["auto"],
    bytes_max: int,
    size: Callable[[_Unit], int],
) -> Iterator[_Result]:
    from concurrent.futures import ThreadPoolExecutor  # Not for those who iterate without threads.

    most = min(32, len(os.sched_getaffinity(0)) + 4) if calls == "auto" else calls
    allowed = min(_FIRST, most) if calls == "auto" else calls
    pool = ThreadPoolExecutor(most, "ultar-map")
    pending: deque[tuple[Future[_Result], int]] = deque()
    held, more = 0, True
    try:
        while True:
            # One more than there are threads at work, so that none waits for this one.
            while more and len(pending) <= allowed and (held < bytes_max or not pending):
                try:
                    unit = next(units)
                except StopIteration:
                    more = False
                    break
                except Exception:
                    # What came before it is good, and comes first.
                    for future, _ in pending:
                        yield future.result()
                    raise
                held += (bytes_of := size(unit))
                pending.append((pool.submit(function, unit), bytes_of))
            if not pending:
                return
            future, bytes_of = pending.popleft()
            if not future.done() and len(pending) >= allowed:
                allowed = min(allowed * 2, most)
            yield future.result()
            held -= bytes_of
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Ahead(Iterator[_Result]):
    """An iterator's elements, made ahead by a thread. Dropped or closed, the thread ends."""

    def __init__(self, elements: Iterator[_Result], depth: int | Literal["auto"], bytes_max: int) -> None:
        self._shared = _Shared(_FIRST if depth == "auto" else depth, depth == "auto", bytes_max)
        self._process = os.getpid()
        threading.Thread(target=_produce, args=(elements, self._shared), name="ultar-prefetch", daemon=True).start()

    def __next__(self) -> _Result:
        if self._process != os.getpid():
            raise UltarError("this iterator was started before a fork: iterate the stream anew in the child")
        element: _Result = self._shared.take()
        return element

    def close(self) -> None:
        """Have the thread end, after what it is at."""
        if self._process == os.getpid():  # A child has no such thread, and the lock in whatever state.
            self._shared.stop()

    __del__ = close


class _Shared:
    """What the thread and the consumer share."""

    def __init__(self, depth: int, grows: bool, bytes_max: int) -> None:
        self._changed = threading.Condition()
        self._ready: deque[tuple[Any, int]] = deque()
        self._depth = depth
        self._grows = grows
        self._was_full = False
        self._held = 0
        self._bytes_max = bytes_max
        self._stopped = False
        self._ended: BaseException | None = None

    def put(self, element: Any) -> bool:
        """Waits for room. False when nobody wants more."""
        size = size_of(element[0])
        with self._changed:
            self._ready.append((element, size))
            self._held += size
            self._changed.notify_all()
            while not self._stopped and self._is_full():
                self._was_full = True
                self._changed.wait()
            return not self._stopped

    def end(self, why: BaseException) -> None:
        with self._changed:
            self._ended = why
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify_all()

    def take(self) -> Any:
        with self._changed:
            if not self._ready and self._was_full and self._grows:
                # It was full, and yet the consumer has to wait: it takes many at once.
                self._depth = min(self._depth * 2, _DEPTH_MAX)
                self._was_full = False
            while not self._ready:
                if self._ended is not None:
                    raise self._ended
                if self._stopped:
                    raise UltarError("the iterator is closed")
                self._changed.wait()
            element, size = self._ready.popleft()
            self._held -= size
            self._changed.notify_all()
            return element

    def _is_full(self) -> bool:
        return len(self._ready) >= self._depth or (self._held >= self._bytes_max and bool(self._ready))


def _produce(elements: Iterator[Any], shared: _Shared) -> None:
    # No reference to `Ahead`: it is what keeps the thread wanted.
    try:
        for element in elements:
            if not shared.put(element):
                return
        shared.end(StopIteration())
    except BaseException as error:
        shared.end(error)
    finally:
        close = getattr(elements, "close", None)
        if close is not None:
            close()


def size_of(value: Any) -> int:
    """Bytes of a batch or row, as far as they can be seen without effort."""
    if isinstance(value, dict):
        return sum(map(size_of, value.values()))
    if isinstance(value, (list, tuple)):
        # Neighbours are alike: a few tell about all.
        few = value[:4]
        return sum(map(size_of, few)) * len(value) // len(few) if few else 0
    size = getattr(value, "nbytes", 0)
    return size if isinstance(size, int) else 0
