"""Work that may take as long as a network does, off the threads of users, which stay open to Ctrl-C."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import TypeVar

_LOOK_SECONDS = 0.1
"""Between two looks whether to go on waiting."""
_T = TypeVar("_T")
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


class EndedError(Exception):
    """Nobody waits any more."""


def apart(work: Callable[[], _T], ending: threading.Event) -> _T:
    """What `work` returns or raises, in a thread of its own, which is left behind when `ending` is set.

    Raises:
        EndedError: It was.
    """
    outcome: list[_T] = []
    failure: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)
        done.set()

    thread = threading.Thread(target=run, name="ultar-ask", daemon=True)
    _threads.add(thread)
    thread.start()
    while not done.wait(_LOOK_SECONDS):
        if ending.is_set():
            raise EndedError
    if failure:
        raise failure[0]
    return outcome[0]


def join(until: float) -> None:
    """Wait for threads that were left behind, to a time of `time.monotonic`."""
    for thread in list(_threads):
        if thread.is_alive():  # Not in the child of a fork.
            thread.join(max(0.0, until - time.monotonic()))
