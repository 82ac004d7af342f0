"""The lines of the comparison: what each one measures, and what we want to reach on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trial:
    """How contestants are run. Lines with equal trials share the runs."""

    data: str
    views: bool = False
    picks: int = 0
    """Rows to read at random, at scale 1; 0 for all in order."""
    shuffled: bool = False
    """All rows at random."""
    cold: bool = False
    """Without the files in the page cache."""
    task: str = "rows"
    """Or "batches" of them, or what else contestants do: those of one line only."""

    @property
    def has_rows(self) -> bool:
        """Whether what is done gives payloads that can be compared."""
        return self.task not in ("index", "idle", "resume", "start", "memory")


@dataclass(frozen=True)
class Goal:
    """What our figure is to be: `factor` times the best of the contestants `of`, or `factor` itself."""

    factor: float
    of: str = ""
    """The start of their names; empty for an absolute goal."""


@dataclass(frozen=True)
class Line:
    letter: str
    title: str
    trial: Trial
    goals: tuple[Goal, ...]
    metric: str = "rows_per_s"
    unit: str = "rows/s"
    less_is_better: bool = False

    @property
    def name(self) -> str:
        return f"{self.letter}: {self.title}"


IN_ORDER = Trial("big")
VIEWS = Trial("big", views=True)
MEMORY_MB = 64 * 1024 * 1024 / 1e6 + 40  # What the loader may hold ahead by default, and as much again for all else.
STORE_GOALS = (Goal(0.9, "obstore"), Goal(2.0, "s3fs"), Goal(2.0, "s3torchconnector"))

LINES = (
    Line(
        "A",
        "100 KB rows in order, as bytes, warm",
        IN_ORDER,
        (Goal(1.4, "itar"), Goal(1.0, "limit: pread")),
    ),
    Line("B", "100 KB rows in order, as views, warm", VIEWS, (Goal(1.3, "limit: mmap"),)),
    Line("C", "tiny rows in order, as bytes, warm", Trial("tiny"), (Goal(1.0, "lance"),)),
    Line("D", "5000 random 100 KB rows, as bytes, warm", Trial("big", picks=5000), (Goal(1.2, "limit: pread"),)),
    Line(
        "E",
        "building the index of tiny members, warm",
        Trial("tiny", task="index"),
        (Goal(4e6),),
        unit="members/s",
    ),
    Line("E", "building the index of big members, warm", Trial("big", task="index"), (), unit="members/s"),
    Line("F", "100 KB rows in order, cold", Trial("big", cold=True), (Goal(0.95, "limit: sequential"),)),
    Line("G", "2000 random 100 KB rows, cold", Trial("big", picks=2000, cold=True), (Goal(0.9, "limit: fio"),)),
    Line("H", "20000 random 4 KB records, cold", Trial("record", picks=20_000, cold=True), (Goal(0.8, "limit: fio"),)),
    Line(
        "I",
        "peak memory over line A, above what the process had before",
        IN_ORDER,
        (Goal(MEMORY_MB),),
        metric="peak_mb",
        unit="MB",
        less_is_better=True,
    ),
    Line(
        "J",
        "CPU time of line B, user and system, for 1000 rows",
        VIEWS,
        (Goal(0.013), Goal(1.0, "limit: mmap")),
        metric="cpu_s_per_1000_rows",
        unit="s",
        less_is_better=True,
    ),
    Line(
        "K",
        "CPU time of an idle loader in 2 s",
        Trial("big", task="idle"),
        (),
        metric="idle_cpu_ms",
        unit="ms",
        less_is_better=True,
    ),
    Line(
        "L",
        "a shuffled epoch of 100 KB rows, as bytes, warm",
        Trial("big", shuffled=True),
        (Goal(1.4, "itar"), Goal(1.0, "limit: pread"), Goal(1 / 1.3, "limit: ultar, in order")),
    ),
    Line(
        "M", "a shuffled epoch of tiny rows, as bytes, warm", Trial("tiny", shuffled=True), (Goal(2.0, "limit: pread"),)
    ),
    Line("N", "20000 random 4 KB records, as bytes, warm", Trial("record", picks=20_000), (Goal(1.0, "limit: pread"),)),
    Line(
        "O",
        "batches of 256 rows of 2048 uint16, shuffled, each one array, warm",
        Trial("array", shuffled=True, task="batches"),
        (Goal(1.0, "turboloader"),),
    ),
    Line(
        "P",
        "resuming at 90 % of an epoch of 10 M tiny rows, to the first row",
        Trial("tiny", task="resume"),
        (Goal(1.0),),
        metric="first_row_s",
        unit="s",
        less_is_better=True,
    ),
    Line(
        "Q",
        "from the start of a process to the first 64 shuffled rows of 16 shards",
        Trial("start", task="start"),
        (Goal(0.15),),
        metric="first_batch_s",
        unit="s",
        less_is_better=True,
    ),
    Line(
        "R",
        "anonymous memory of an open dataset, for a million rows of two members",
        Trial("tiny", task="memory"),
        (Goal(80),),
        metric="mb_per_million_rows",
        unit="MB",
        less_is_better=True,
    ),
    Line(
        "S",
        "2000 rows of 100 KB from an S3 server of this machine, in order, as views",
        Trial("store", views=True, task="objects"),
        STORE_GOALS,
    ),
    Line(
        "S",
        "2000 rows of 100 KB from an S3 server of this machine, shuffled, as views",
        Trial("store", views=True, shuffled=True, task="objects"),
        STORE_GOALS,
    ),
    Line(
        "X",
        "20000 random items of a cached iterable, 4 KB each, warm",
        Trial("record", picks=20_000, task="items"),
        (Goal(3.0, "pickle: a shard"),),
        unit="items/s",
    ),
    Line(
        "T",
        "TFRecord: tiny examples in order, parsed, warm",
        Trial("tiny", task="examples"),
        (Goal(3.0, "tfrecord"),),
    ),
    Line(
        "U",
        "TFRecord: 4 KB records in order, as views, warm",
        Trial("record", views=True, task="records"),
        (Goal(3.0, "tfrecord"),),
    ),
    Line(
        "U",
        "TFRecord: 4 KB records in order, as bytes, warm",
        Trial("record", task="records"),
        (Goal(3.0, "tfrecord"),),
    ),
    Line(
        "V",
        "TFRecord: 4 KB records in order, all checksums compared, warm",
        Trial("record", views=True, task="checked"),
        (Goal(3.0, "plain loop"),),
    ),
    Line(
        "W",
        "NPZ: a stored member of each of 2000 archives, 4 KB, warm",
        Trial("array", views=True, picks=2000, task="members"),
        (Goal(2.0, "NumPy: load"),),
    ),
    Line(
        "Y",
        "zero-copy shards: 5000 random samples of 100 KB, as views, warm",
        Trial("big", views=True, picks=5000, task="samples"),
        (Goal(3.0, "read() loop"), Goal(1.0, "NumPy: memmap")),
    ),
    Line(
        "Y",
        "zero-copy shards: 20000 random samples of 4 KB, as views, warm",
        Trial("record", views=True, picks=20_000, task="samples"),
        (Goal(3.0, "read() loop"), Goal(1.0, "NumPy: memmap")),
    ),
    Line(
        "S",
        "zero-copy shards: 5000 random samples of 100 KB, again, as views, warm",
        Trial("big", views=True, picks=5000, task="samples again"),
        (Goal(3.0, "read() loop"), Goal(1.0, "NumPy: memmap")),
    ),
    Line(
        "S",
        "zero-copy shards: 20000 random samples of 4 KB, again, as views, warm",
        Trial("record", views=True, picks=20_000, task="samples again"),
        (Goal(3.0, "read() loop"), Goal(1.0, "NumPy: memmap")),
    ),
    Line(
        "Z",
        "Roxxel: 20000 random records of 4 KB, as views, warm",
        Trial("record", views=True, picks=20_000, task="archive"),
        (Goal(1.0, "roxxel"),),
    ),
    Line(
        "Z",
        "Roxxel: 4 KB records in order, as views, warm",
        Trial("record", views=True, task="archive"),
        (Goal(1.0, "roxxel"),),
    ),
)
