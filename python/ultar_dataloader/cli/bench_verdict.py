"""What bounds a loader, told from the figures of `bench`, and what to change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .._progress import bytes_text
from .bench_rounds import Measure

PASS_SECONDS_MIN = 0.02
"""With less to read than this takes, starting and ending is what would be measured."""
VIEWS_GAIN = 1.2
"""How many times as fast views have to be for bytes to be what counts."""
STORAGE_USED = 0.7
"""The share of bare reads' speed from which storage has no more to give."""


class Verdict(NamedTuple):
    """One word to test for, and one line to read."""

    bound_by: str
    text: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the figures do not say themselves."""

    rows: int
    payload_bytes: int
    cached: bool
    access: str
    io: str
    remote: bool
    """Some of the shards are in stores."""
    every_row: bool
    """The script is that of `bench`, which does nothing that could be left out."""


class _Costs(NamedTuple):
    """Where a row's time goes on the engine's thread, in nanoseconds."""

    script: float
    """Also the engine's own bookkeeping."""
    reading: float
    """Waiting for storage, or copying from the page cache."""
    consumer: float
    """Waiting for Python to take rows."""

    @property
    def largest(self) -> str:
        return self._fields[self.index(max(self))]

    def share(self, name: str) -> str:
        return f"{getattr(self, name) / max(sum(self), 1e-9):.0%} of the time"


def verdict(found: dict[str, Measure], around: Circumstances) -> Verdict:
    """The first thing to change, if speed is wanted."""
    views, as_bytes = found["views"], found["bytes"]
    if around.rows / max(as_bytes.rows_per_s, 1e-9) < PASS_SECONDS_MIN:
        have = f"{around.rows:,} rows, {bytes_text(around.payload_bytes)}"
        return Verdict("too_little", f"too little data to tell: {have}; name more shards")
    if around.access == "mmap" and not around.cached:
        # Storage is waited for by whoever touches the bytes: views show none of it.
        return _waiting(found["storage"], as_bytes, around)
    gain = views.rows_per_s / max(as_bytes.rows_per_s, 1e-9)
    waiting = as_bytes.ns_per_row("consumer_ns") > as_bytes.ns_per_row("storage_ns")
    if gain >= VIEWS_GAIN and waiting:
        text = f"bound by Python making bytes: views are {gain:.1f} times as fast; use row.view(key)"
        return Verdict("bytes", text)
    best = max(views, as_bytes, key=lambda measure: measure.rows_per_s)
    costs = _costs(found["script"], best)
    if costs.largest == "consumer":
        return Verdict("python", _python(costs, gain))
    if costs.largest == "script":
        return Verdict("script", _script(costs, found["script"], around))
    return _reading(costs, found["storage"], best, around)


def _costs(script_alone: Measure, taken: Measure) -> _Costs:
    """The script's part is known from the rows that were made without reading; the rest is reading."""
    working = taken.ns_per_row("script_ns", "storage_ns")
    script = min(script_alone.ns_per_row("script_ns", "storage_ns"), working)
    return _Costs(script, working - script, taken.ns_per_row("consumer_ns"))


def _python(costs: _Costs, gain: float) -> str:
    small = "take entries as small as these as bytes, not as views; " if gain * VIEWS_GAIN <= 1 else ""
    return (
        f"bound by Python taking rows one by one ({costs.share('consumer')}): {small}"
        "put more entries into a row in the script, or split the shards over more ranks"
    )


def _script(costs: _Costs, script_alone: Measure, around: Circumstances) -> str:
    head = f"bound by the script ({costs.share('script')}; {script_alone.rows_per_s:,.0f} rows/s with nothing read): "
    if around.every_row:
        return head + "put more samples into a row in a script of your own, or split the shards over more ranks"
    return head + "do less for each row, more in init_ctx, or split the rows over more ranks"


def _reading(costs: _Costs, storage: Measure, taken: Measure, around: Circumstances) -> Verdict:
    speed = f"{storage.read_bytes_per_s / 1e9:.2f} GB/s"
    if around.cached and around.access == "mmap":
        head = f"bound by the page cache ({costs.share('reading')}; bare reads give {speed}): "
        return Verdict("copy", head + "read fewer keys, or split the shards over more ranks")
    if around.cached:
        head = f"bound by the copy from the page cache ({costs.share('reading')}; bare reads give {speed}): "
        return Verdict("copy", head + 'try access="mmap"')
    return _waiting(storage, taken, around)


def _waiting(storage: Measure, taken: Measure, around: Circumstances) -> Verdict:
    speed = f"{storage.read_bytes_per_s / 1e9:.2f} GB/s"
    used = taken.rows_per_s / max(storage.rows_per_s, 1e-9)
    if used >= STORAGE_USED:
        head = f"bound by storage: it gives {speed}, of which {min(used, 1):.0%} is used; "
        return Verdict("storage", head + "read fewer keys or rows, or put the shards on faster storage")
    if around.remote:
        head = f"bound by waiting for the store ({used:.0%} of the {speed} that bare requests get is used): "
        return Verdict("latency", head + "try a larger prefetch_bytes, or more requests in storage_options")
    choices = [] if around.access == "direct" else ['access="direct"']
    if around.access != "mmap":
        choices.append('io="uring"' if around.io == "threads" else 'io="threads"')
    head = f"bound by waiting for storage ({used:.0%} of the {speed} that bare reads get is used): "
    return Verdict("latency", f"{head}try {', '.join(choices)}, or a larger prefetch_bytes")
