"""The facade over the native pipeline: checks arguments, starts epochs, steps aside."""

from __future__ import annotations

import os
import reprlib
import weakref
from collections.abc import Mapping
from operator import index as as_int
from typing import Any, Literal, Self

from . import _native, _resume
from ._errors import ScriptError
from ._fetching import Fetching

PREFETCH_ROWS = 4096
PREFETCH_BYTES = 64 * 1024 * 1024

IO_CHOICES = ("auto", "uring", "threads")
THREADS_MAX = 64
ACCESS_CHOICES = ("auto", "read", "mmap", "direct")
ON_ERROR_CHOICES = ("raise", "skip")

_INFO, _WARNING = 20, 30
"""As in `logging`, which is imported when there is something to log."""

_U32_MAX = 2**32 - 1
_I64_MAX = 2**63 - 1


class DataLoader:
    """Rows, in the order in which a Lua script finishes them.

    The script runs on a thread of its own, which reads ahead of the consumer. What is ahead
    is bounded by ``prefetch_rows`` and ``prefetch_bytes``; rows that the caller keeps are
    the caller's, and stay valid for as long as they are held.

    ``iter(loader)`` starts an epoch from the beginning, each time. Two iterators are
    independent. An iterator that is dropped stops reading and gives its memory back.

    A loader can be pickled (its script starts anew where it is unpickled), shared by
    threads, and carried over a fork before iteration has begun.

    ``state_dict()`` says how many rows were delivered, exactly, and ``load_state_dict()`` goes on
    behind them, also in another process: the script runs again from its beginning, and what
    it finishes up to there is dropped, not read and not printed (files are opened, though). It
    must therefore make the same rows each time, as shuffles with a seed do. Script, config, rank
    and world_size must be those of the state; prefetching, ``io``, ``access`` and ``threads``
    may be others. Modules in ``search_dir`` and the shards are not compared; a script
    that now ends before the position is an `UltarError`.

    Args:
        src: The text of the script. For a script in a file there is `from_file`.
        config: Handed to the script's ``init_ctx`` as a table. Values are str, int, float,
            bool, None, ``os.PathLike``, and lists, tuples and dicts of them.
        rank: This process, from 0 to ``world_size - 1``.
        world_size: Number of processes that share the dataset.
        debug: Log what the script prints at WARNING, so that it shows without any
            configuration of logging. Else it is logged at INFO. The logger is
            ``ultar_dataloader.script``.
        name: What messages call the script.
        search_dir: Folder in which the script's ``require`` looks first. None: nowhere.
        prefetch_rows: Finished rows to hold ready, at least 1.
        prefetch_bytes: Bytes of payload to hold ready, at least 1. A row that is larger
            passes alone.
        io: How to read: ``"uring"``, ``"threads"``, or ``"auto"``, which takes io_uring where
            it is allowed. `stats` says which it is.
        access: How bytes of files reach rows. ``"read"``: by way of the page cache into
            buffers that only rows have, which is right for every file, and what ``"auto"``
            takes. ``"mmap"``: rows are views of the page cache, without a copy; the fastest
            for local shards that nobody changes. If a shard becomes shorter all the same,
            what is lost reads as zeros in views that are out there, and the next row is a
            `ReadError`. ``"direct"``: past the page cache, for fast disks and datasets
            larger than memory. A file that refuses is read plainly, with a warning.
        threads: How many threads copy bytes, from 1 to 64, where reading from the page cache is
            what takes the time. None: one. Storage is waited for by the kernel; without
            io_uring by as many threads, or eight. The order of rows does not depend on it.
        storage_options: For URLs that the script opens: endpoint, region, credentials and so on,
            as docs/object-stores.md has them; what is not given comes from the environment.
        on_error: What to do with a row that cannot be read: ``"raise"``, or ``"skip"`` it with
            a warning in the log. Errors of the script are always raised.

    Raises:
        ScriptError: The script does not compile, or ``init_ctx`` failed.
        ValueError: An argument is out of range, or config nests too deeply.
        TypeError: An argument, or a value in config, has a type that is not accepted.

    Example:
        >>> loader = DataLoader(script, {"tar_path": "shard.tar"})
        >>> for row in loader:
        ...     caption = row[".txt"].decode()
    """

    def __init__(
        self,
        src: str | bytes,
        config: Mapping[str, object] | None = None,
        rank: int = 0,
        world_size: int = 1,
        debug: bool = False,
        *,
        name: str | None = None,
        search_dir: str | os.PathLike[str] | None = None,
        prefetch_rows: int = PREFETCH_ROWS,
        prefetch_bytes: int = PREFETCH_BYTES,
        io: Literal["auto", "uring", "threads"] = "auto",
        access: Literal["auto", "read", "mmap", "direct"] = "auto",
        threads: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(src, (str, bytes)):
            raise TypeError(
                f"src must be the text of a script (str or bytes), got {type(src).__name__}; "
                "for a path there is DataLoader.from_file(path)"
            )
        if config is not None and not isinstance(config, Mapping):
            raise TypeError(f"config must be a mapping or None, got {type(config).__name__}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a str or None, got {type(name).__name__}")
        world_size = _int_within("world_size", world_size, 1, _U32_MAX)
        self._debug = bool(debug)
        self._fetching = Fetching(storage_options)
        self._arguments: dict[str, Any] = {
            "source": src,
            "config": {} if config is None else config,
            "name": "script.lua" if name is None else name,
            "search_dir": "" if search_dir is None else os.path.abspath(search_dir),
            "rank": _int_within("rank", rank, 0, world_size - 1),
            "world_size": world_size,
            **reading_options(io, access, threads, prefetch_rows, prefetch_bytes, on_error),
        }
        # Serves the first `iter`, and says now what is wrong with the script. A list, for
        # its `pop` is atomic: of two threads that iterate at once, one gets it.
        self._prepared = [self._prepare()]
        self._remember(self._prepared[0])
        # Later epochs see what this one saw. After `_prepare`: it is known to be finite.
        self._arguments["config"] = _copy(self._arguments["config"])
        self._origin = _resume.Origin(self._arguments)
        self._progress = _resume.Progress(self._origin)
        # Where the next epoch begins, if it was told. In a list, as above.
        self._loaded: list[int] = []

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        config: Mapping[str, object] | None = None,
        rank: int = 0,
        world_size: int = 1,
        debug: bool = False,
        **options: Any,
    ) -> Self:
        """Load a script from a file.

        Messages name the script by ``path``, and its ``require`` looks in the folder of the
        file first. All other arguments are those of `DataLoader`.

        Raises:
            OSError: The file cannot be read.
        """
        path = os.fspath(path)
        with open(path, "rb") as file:
            src = file.read()
        options.setdefault("name", path)
        options.setdefault("search_dir", os.path.dirname(os.path.abspath(path)))
        return cls(src, config, rank, world_size, debug, **options)

    def __iter__(self) -> _native.Pipeline:
        fetching = self._fetching.here()
        if fetching is not self._fetching:
            # What was prepared before a fork asks threads that are not here.
            self._fetching = fetching
            self._prepared.clear()
        try:
            epoch = self._prepared.pop()
        except IndexError:
            epoch = self._prepare()
        self._remember(epoch)
        try:
            position = self._loaded.pop()
        except IndexError:
            position = 0
        progress = _resume.Progress(self._origin, position)
        progress.iterator = weakref.ref(epoch)
        epoch.start(progress)
        self._progress = progress
        return epoch

    def state_dict(self) -> dict[str, Any]:
        """How far the iterator that was made last has come, as JSON takes it.

        It counts the rows that were delivered, and those that ``on_error="skip"`` left out
        before them; rows ahead do not count. After the end, and before anything was iterated,
        it is the beginning of an epoch. The iterator has the same method.
        """
        if loaded := self._loaded[-1:]:
            return self._origin.state(loaded[0])
        epoch = self._progress.iterator()
        return self._progress.state_dict() if epoch is None else epoch.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Have the next ``iter(loader)`` go on where the state was taken.

        It holds for that one; the one after it begins with the first row. The iterator has the
        same method, which holds for itself.

        Raises:
            TypeError: The state is no mapping, or its position no int.
            ValueError: It is no state of a loader, or that of another script, config, rank or
                world_size: the message says which.
        """
        self._loaded[:] = [self._origin.position_in(state_dict)]

    def stats(self) -> dict[str, object]:
        """Where the time went, in the epoch that was started last.

        Counts, bytes and nanoseconds since its start, as of now; after its end the last
        ones. Of ``script_ns``, ``storage_ns``, ``consumer_ns`` the largest says what the
        reader thread waited for; ``stall_ns`` is how long the consumer waited for it.

        Returns:
            ``rows``, ``rows_skipped``, ``bytes`` of payload; ``reads`` and ``read_bytes``;
            ``rows_ahead``, ``bytes_ahead``, ``in_flight`` at this moment; the times; of stores
            ``requests``, ``request_bytes``, ``request_retries`` and ``request_p50_ns``, ``_p90_ns``,
            ``_p99_ns``; and ``backend``, with ``backend_reason`` if it is not io_uring.
        """
        epoch = self._latest()
        return dict(self._last_stats) if epoch is None or self._last_stats else epoch.stats()

    def _remember(self, epoch: _native.Pipeline) -> None:
        # Weakly: an epoch ends when its iterator is lost. Its last statistics stay.
        self._latest = weakref.ref(epoch)
        self._last_stats = epoch.last_stats

    def _prepare(self) -> _native.Pipeline:
        level = _WARNING if self._debug else _INFO
        try:
            return _native.Pipeline(**self._arguments, log_level=level, stores=self._fetching, dry=self._dry)
        except ScriptError as error:
            source = self._arguments["source"]
            if isinstance(source, str) and source.endswith(".lua") and "\n" not in source:
                error.add_note(f"src is the text of a script; for a file use DataLoader.from_file({source!r})")
            raise

    # Rows without bytes, for looking at what a script would read.
    _dry = False

    def __reduce__(self) -> tuple[object, ...]:
        # A position that was loaded goes along, and is a place of its own from there on.
        loaded = {"_loaded": self._loaded[-1:]} if self._loaded else None
        own = {"debug": self._debug, "storage_options": self._fetching.storage_options}
        return _unpickle, (type(self), {**self._arguments, **own}), loaded

    def __repr__(self) -> str:
        values = self._arguments
        shown = [repr(values["name"])]
        if values["config"]:
            shown.append(f"config={reprlib.repr(values['config'])}")
        shown.append(f"rank={values['rank']}, world_size={values['world_size']}")
        for name, usual in _USUAL:
            if values[name] != usual:
                shown.append(f"{name}={values[name]!r}")
        return f"<{type(self).__name__} {', '.join(shown)}>"


_USUAL = (
    ("prefetch_rows", PREFETCH_ROWS),
    ("prefetch_bytes", PREFETCH_BYTES),
    ("io", "auto"),
    ("access", "auto"),
    ("threads", 0),
    ("on_error", "raise"),
)


def reading_options(
    io: object, access: object, threads: object, prefetch_rows: object, prefetch_bytes: object, on_error: object
) -> dict[str, Any]:
    """The arguments that say how to read, checked, as native pipelines take them."""
    return {
        "io": _one_of("io", io, IO_CHOICES),
        "access": _one_of("access", access, ACCESS_CHOICES),
        "threads": 0 if threads is None else _int_within("threads", threads, 1, THREADS_MAX),
        "prefetch_rows": _int_within("prefetch_rows", prefetch_rows, 1, _U32_MAX),
        "prefetch_bytes": _int_within("prefetch_bytes", prefetch_bytes, 1, _I64_MAX),
        "on_error": _one_of("on_error", on_error, ON_ERROR_CHOICES),
    }


def _unpickle(cls: type[DataLoader], arguments: dict[str, Any]) -> DataLoader:
    arguments = dict(arguments)
    arguments["search_dir"] = arguments["search_dir"] or None
    arguments["threads"] = arguments["threads"] or None
    return cls(arguments.pop("source"), **arguments)


def _int_within(name: str, value: object, low: int, high: int) -> int:
    try:
        number = as_int(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an int, got {type(value).__name__}: {value!r}") from None
    if not low <= number <= high:
        raise ValueError(f"{name} must be from {low} to {high}, got {number}")
    return number


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        wanted = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {wanted}, got {value!r}")
    return value


def _copy(value: Any) -> Any:
    """A copy of a config that later changes of the original do not reach."""
    if isinstance(value, Mapping):
        return {key: _copy(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(inner) for inner in value]
    return value
