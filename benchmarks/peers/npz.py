"""Archives of NumPy whose members are stored: one member of each of many archives, at random."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from ultar_dataloader import Dataset, LoadedRow, index, npz

from ..data import ARRAY_SIZE, NPY_HEADER, Data
from . import Job, Rows, contestant

ARCHIVES = 2000
"""At scale 1."""


def prepare(data: Data, folder: Path) -> None:
    import numpy

    # Those that the line picks, as more files than that are of no use.
    picked = set(data.picks(max(1, round(ARCHIVES * min(1.0, data.scale)))))
    for number, row in enumerate(data.all_rows()):
        if number in picked:
            tokens = numpy.frombuffer(row[0], "<u2", ARRAY_SIZE, len(NPY_HEADER))
            numpy.savez(folder / f"{number:06}.npz", tokens=tokens, label=number)
    index(folder.glob("*.npz"))


def paths_of(job: Job) -> list[Path]:
    return [job.data.of_peer("npz") / f"{number:06}.npz" for number in job.picks or ()]


def arrays(rows: Iterable[LoadedRow]) -> Rows:
    return ([memoryview(npz.array(row, "tokens"))] for row in rows)  # type: ignore[arg-type]


def ours(job: Job, options: dict[str, Any]) -> Rows:
    """The archives are opened as a data set while the clock runs, as each is by NumPy."""
    return arrays(Dataset(paths_of(job), **options))


def by_number(job: Job) -> Rows:
    ds = Dataset(paths_of(job))
    return arrays(map(ds.__getitem__, range(len(ds))))


NUMPY: dict[str, Any] = {"lines": "W", "pip": ["numpy"], "imports": ["numpy"], "prepare": prepare}
contestant("ultar", **NUMPY)(partial(ours, options={}))
contestant("ultar (access=mmap)", **NUMPY)(partial(ours, options={"access": "mmap"}))
contestant("ultar (one by one)", **NUMPY)(by_number)


@contestant("NumPy: load", **NUMPY)
def load(job: Job) -> Rows:
    import numpy

    for path in paths_of(job):
        with numpy.load(path) as archive:
            yield [memoryview(archive["tokens"])]
