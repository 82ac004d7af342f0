"""Building and checking the indexes of many shards, several at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from . import _native, _paths, _progress, _store_index, hdf5, raw
from ._errors import IndexFormatError, ReadError
from ._fetching import Fetching
from ._stores import is_url, without_login

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ._native import IndexCounts

JOBS = 8
"""Shards that are indexed at once unless the caller says otherwise, on however few cores: each
has one read under way, for where a header lies is known only when the one before is read."""

Rule = tuple[str, list[str]]
"""Values to pick out of a member: its key, and the queries."""


class IndexProgress(NamedTuple):
    """How far an indexing is, after one more shard."""

    path: str
    shards_done: int
    shards_total: int
    bytes_done: int
    """Of the shards' sizes, not of payload."""
    bytes_total: int


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What an indexing, or a check, came to."""

    shards: int
    """Shards that were indexed (or checked) whole."""
    skipped: int
    """Shards whose index was up to date already, and was left as it is."""
    samples: int
    """In the indexed shards, as are entries and bytes."""
    entries: int
    bytes: int
    """Of payload."""
    seconds: float
    warnings: tuple[str, ...] = ()
    """Oddities that an index can live with, such as a key twice in one sample."""
    failures: tuple[tuple[str, Exception], ...] = ()
    """The shards that could not be indexed, and why."""


def index(
    paths: _paths.Paths,
    *,
    force: bool = False,
    jobs: int | None = None,
    format: Literal["msgpack", "jsonl"] = "msgpack",
    metadata_rules: Iterable[str | tuple[str, Sequence[str]]] = (),
    verify: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | Callable[[IndexProgress], object] = False,
    storage_options: Mapping[str, Any] | None = None,
) -> IndexSummary:
    """Build the index of each shard, beside it: ``shard.tar.utix`` for ``shard.tar``.

    A shard is a tar, or another container that docs/formats.md describes: which one is told by
    its name, or else by its bytes.

    A shard is skipped when its index is up to date: not older than the shard, of this
    format, and with the metadata that the rules ask for. An index is replaced in one step,
    so whoever reads meanwhile sees the old one or the new one. A bad shard does not keep the
    others from being indexed.

    Args:
        paths: Files, folders (the ``*.tar`` in them, or else the shards of another container),
            globs, braces such as ``shard-{000..127}.tar``, and lists of wids (``shards.json``);
            one, or several. A shard that they name twice is indexed once.
        force: Build indexes that are up to date, too.
        jobs: Shards to work on at once. None: 8, on however few cores, since it is storage
            that is waited for; 1 for a disk that must not seek.
        format: ``"msgpack"``, or ``"jsonl"`` for the same maps as lines of JSON.
        metadata_rules: Values to pick out of JSON members, as ``".json:.label;.width"`` or
            ``(".json", [".label", ".width"])``.
        verify: Read the payloads that have checksums, which are those of TFRecord files, and
            compare.
        on_error: ``"raise"`` the first error when all else is done, or ``"skip"`` the bad
            shards and name them in ``failures``.
        progress: True shows a bar when standard error is a terminal. A function is called
            after each shard, in the calling thread.
        storage_options: For shards in object stores, as for `DataLoader`. Only their headers
            are read, where payloads are large. The index is put beside the object; where the
            store refuses that it stays in the cache of this machine, with a warning.

    Raises:
        ShardFormatError: A shard is malformed, or cut off; of a tar it is a TarFormatError.
            Notes on it name the other bad ones.
        ReadError: A shard cannot be read, or a path or pattern names none.
        WriteError: An index cannot be written.
        ValueError: An argument is out of range.
    """
    if format not in ("msgpack", "jsonl"):
        raise ValueError(f"format must be 'msgpack' or 'jsonl', got {format!r}")
    rules = [_rule(rule) for rule in metadata_rules]
    fetching = Fetching(storage_options)

    def build(path: str) -> IndexCounts | None:
        if path.endswith("/") and is_url(path):
            return _without_rules(path, rules, raw.renew(path, format, fetching.stores))
        if is_url(path):
            return _store_index.build(
                fetching,
                path,
                None if force else partial(_fits, format, rules),
                format=format,
                rules=rules,
                verify=verify,
            )
        if not force and _is_up_to_date(path, format, rules):
            return None
        if path.endswith("/"):
            return _without_rules(path, rules, raw.renew(path, format, None))
        if hdf5.is_hdf5(path):
            return _without_rules(path, rules, hdf5.index(path, format=format))
        return _native.index_shard(
            path, format=format, rules=rules, check=False, verify=verify, index_path=None, stores=None
        )

    return Run(build, "indexing", progress, fetching).over(paths, jobs, on_error)


def check(
    paths: _paths.Paths,
    *,
    jobs: int | None = None,
    metadata_rules: Iterable[str | tuple[str, Sequence[str]]] = (),
    verify: bool = False,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | Callable[[IndexProgress], object] = False,
    storage_options: Mapping[str, Any] | None = None,
) -> IndexSummary:
    """Compare each index with its shard, and change nothing. Reads the shards anew.

    The arguments are those of `index`. Metadata is compared where rules are given.

    Raises:
        IndexFormatError: An index is malformed, or does not describe its shard.
        ShardFormatError: A shard is malformed, or cut off; of a tar it is a TarFormatError.
        ReadError: A shard or its index cannot be read, or a path or pattern names none.
    """
    rules = [_rule(rule) for rule in metadata_rules]
    fetching = Fetching(storage_options)

    def compare(path: str) -> IndexCounts:
        if path.endswith("/"):
            return _without_rules(path, rules, raw.check(path, fetching.stores if is_url(path) else None))
        if is_url(path):
            at, stores = _store_index.fetch(fetching.stores, path, any_age=True), fetching
            if hdf5.is_hdf5(path, fetching.stores):
                return _without_rules(path, rules, hdf5.check(path, fetching.stores, at))
        elif hdf5.is_hdf5(path):
            return _without_rules(path, rules, hdf5.check(path))
        else:
            at, stores = None, None
        return _native.index_shard(
            path, format="msgpack", rules=rules, check=True, verify=verify, index_path=at, stores=stores
        )

    return Run(compare, "checking", progress, fetching).over(paths, jobs, on_error)


def _rule(rule: str | tuple[str, Sequence[str]]) -> Rule:
    if isinstance(rule, str):
        key, _, queries = rule.partition(":")
        parsed = (key, [query for query in queries.split(";") if query])
    else:
        key, queries_given = rule
        parsed = (key, [queries_given] if isinstance(queries_given, str) else list(queries_given))
    if not parsed[1]:
        raise ValueError(f"a metadata rule must be KEY:QUERY;QUERY..., such as .json:.label;.width, got {rule!r}")
    return parsed


def _without_rules(path: str, rules: list[Rule], counts: IndexCounts) -> IndexCounts:
    if rules:
        counts["warnings"].append(f"{path}: metadata rules do nothing with this container")
    return counts


def index_path(path: str) -> str:
    """Where the index of a shard lies."""
    return path.rstrip("/") + ".utix"


def is_fresh(path: str) -> bool:
    """Whether a shard has an index that is not older than it. Takes microseconds."""
    try:
        of_index, of_shard = os.stat(index_path(path)), os.stat(path)
    except OSError:
        return False
    return of_index.st_size > 0 and of_index.st_mtime_ns >= of_shard.st_mtime_ns


def _is_up_to_date(path: str, format: str, rules: list[Rule]) -> bool:
    return is_fresh(path) and _fits(format, rules, index_path(path))


def _fits(format: str, rules: list[Rule], path: str) -> bool:
    """Whether an index is of the format, and has what the rules ask for."""
    try:
        with open(path, "rb") as file:
            is_jsonl = file.read(1) == b"{"
    except OSError:
        return False
    return is_jsonl == (format == "jsonl") and (not rules or _carries(path, rules))


def _carries(path: str, rules: list[Rule]) -> bool:
    """Whether the first record has what the rules ask for; all records then do."""
    try:
        metadata = _native.Index(path)[0].get("metadata", {})
    except (OSError, ValueError, IndexError):
        return False
    return all(query in metadata for _, queries in rules for query in queries)


@dataclass(slots=True)
class Run:
    """One pass over shards, with what it came to so far."""

    work: Callable[[str], IndexCounts | None]
    title: str
    progress: bool | Callable[[IndexProgress], object]
    fetching: Fetching
    plan: Callable[[list[str]], object] = list
    """Called with all shards, in order, before any work."""
    shards: int = 0
    skipped: int = 0
    samples: int = 0
    entries: int = 0
    bytes: int = 0
    warnings: list[tuple[str, str]] = field(default_factory=list)
    outcomes: dict[str, Exception] = field(default_factory=dict)

    def over(self, given: _paths.Paths, jobs: int | None, on_error: str) -> IndexSummary:
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        if jobs is None:
            jobs = JOBS
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        begin = time.monotonic()
        paths = self._once_each(self._expanded(given))
        self.plan(paths)
        if self.progress is True:
            with _progress.bar(self.title) as show:
                self._all(paths, jobs, show)
        else:
            self._all(paths, jobs, self.progress or (lambda _: None))
        # As the shards were named, not as threads happened to end.
        place = {path: i for i, path in enumerate(paths)}
        failures = tuple(sorted(self.outcomes.items(), key=lambda outcome: place.get(outcome[0], -1)))
        warnings = sorted(self.warnings, key=lambda warning: place[warning[0]])
        if failures and on_error == "raise":
            raise _noted(failures, len(failures) + self.shards + self.skipped)
        return IndexSummary(
            shards=self.shards,
            skipped=self.skipped,
            samples=self.samples,
            entries=self.entries,
            bytes=self.bytes,
            seconds=time.monotonic() - begin,
            warnings=tuple(text for _, text in warnings),
            failures=failures,
        )

    def _expanded(self, given: _paths.Paths) -> list[str]:
        """All shards that are named. A path that names none is a failure like that of a shard."""
        found: list[str] = []
        for path in _paths.listed(given):
            try:
                found += _paths.expand_one(path, self.fetching.stores)
            except (IndexFormatError, ReadError) as error:
                self.outcomes[without_login(path)[0]] = error
        return found

    def _once_each(self, paths: list[str]) -> list[str]:
        """The paths less those that name a file for a second time.

        An index lies beside its shard, so a second name elsewhere goes without: say so.
        """
        seen: dict[tuple[int, int], str] = {}
        kept = []
        for path in dict.fromkeys(paths):
            if is_url(path):
                kept.append(path)
                continue
            try:
                stat = os.stat(path)
            except OSError:
                kept.append(path)  # Its own failure, when its turn comes.
                continue
            first = seen.setdefault((stat.st_dev, stat.st_ino), path)
            if first is path:
                kept.append(path)
            elif _place(first) != _place(path):
                text = f"{path}: the same file as {first}; indexed once, with the index beside {first}"
                self.warnings.append((first, text))
        return kept

    def _all(self, paths: list[str], jobs: int, show: Callable[[IndexProgress], object]) -> None:
        sizes = {path: self._size(path) for path in paths}
        total, done_count, done_bytes = sum(sizes.values()), 0, 0
        each = self._in_threads(paths, jobs) if jobs > 1 and len(paths) > 1 else self._here(paths)
        for path, result in each:
            self._take(path, result)
            done_count, done_bytes = done_count + 1, done_bytes + sizes[path]
            show(IndexProgress(path, done_count, len(paths), done_bytes, total))

    def _here(self, paths: list[str]) -> Iterator[tuple[str, Callable[[], IndexCounts | None]]]:
        """In this thread, where Ctrl-C stops the work on a shard at once."""
        for path in paths:
            yield path, partial(self.work, path)

    def _in_threads(self, paths: list[str], jobs: int) -> Iterator[tuple[str, Callable[[], IndexCounts | None]]]:
        """In threads. Ctrl-C waits for the shards that are being worked on."""
        # Only here: it takes longer to import than many a program needs to its first batch.
        from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

        pool = ThreadPoolExecutor(jobs, thread_name_prefix="ultar-index")
        try:
            rest = iter(paths)
            waiting: dict[Future[IndexCounts | None], str] = {}
            while True:
                # A few ahead, not all: to wait takes as long as there are futures.
                waiting.update((pool.submit(self.work, path), path) for path in islice(rest, 4 * jobs - len(waiting)))
                if not waiting:
                    break
                # With a time limit: so Ctrl-C is noticed on every system.
                done, _ = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result
        except BaseException:
            self.fetching.close()  # What a store is asked for is not waited for.
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _size(self, path: str) -> int:
        try:
            if not is_url(path):
                return os.stat(path).st_size
            known = self.fetching.stores.known(path)
            return known.size if known else 0
        except OSError:
            return 0

    def _take(self, path: str, result: Callable[[], IndexCounts | None]) -> None:
        try:
            counts = result()
        except Exception as error:
            self.outcomes[path] = error
            return
        if counts is None:
            self.skipped += 1
            return
        self.shards += 1
        self.samples += counts["samples"]
        self.entries += counts["entries"]
        self.bytes += counts["bytes"]
        self.warnings += [(path, text if path in text else f"{path}: {text}") for text in counts["warnings"]]


def _place(path: str) -> tuple[str, str]:
    folder, name = os.path.split(path)
    return os.path.realpath(folder), name


def _noted(failures: tuple[tuple[str, Exception], ...], count: int) -> Exception:
    """The first error, with notes that name the others."""
    first = failures[0][1]
    if len(failures) > 1:
        first.add_note(f"{len(failures)} of {count} shards failed; the others are:")
        for _, error in failures[1:]:
            first.add_note(f"  {error}")
    return first
