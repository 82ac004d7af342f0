"""What this machine and Python can do at best: plain loops over the same files, memory, and fio.

The loops know where every payload lies before their clock starts, which no loader does.
"""

import json
import mmap
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .. import measures
from ..data import ARRAY_SIZE, BATCH_ROWS, NPY_HEADER, Data
from . import Batches, Job, Rows, contestant

Place = tuple[int, list[tuple[int, int]]]
"""Number of the file, and begin and end of each payload in it."""


def places(job: Job) -> list[Place]:
    from ultar_dataloader._native import Index

    found = []
    for file, path in enumerate(job.data.tars):
        for record in Index(f"{path}.utix"):  # type: ignore[attr-defined]
            begins = [record["offset"] + offset for offset in record["offsets"]]
            found.append((file, [(at, at + size) for at, size in zip(begins, record["sizes"], strict=True)]))
    return found if job.picks is None else [found[number] for number in job.picks]


@contestant("limit: pread a row", lines="ABCDFGHIJLMN")
def pread_row(job: Job) -> Rows:
    files = [os.open(path, os.O_RDONLY) for path in job.data.tars]
    wrap: Callable[[bytes], Any] = memoryview if job.views else bytes
    rows = [
        (files[file], spans[-1][1] - spans[0][0], spans[0][0], [(a - spans[0][0], b - spans[0][0]) for a, b in spans])
        for file, spans in places(job)
    ]
    job.start()
    pread = os.pread
    for file, size, begin, spans in rows:
        span = wrap(pread(file, size, begin))
        yield [span[a:b] for a, b in spans]


@contestant("limit: pread an entry", lines="ACDFGHILMN")
def pread_entry(job: Job) -> Rows:
    files = [os.open(path, os.O_RDONLY) for path in job.data.tars]
    rows = [(files[file], [(b - a, a) for a, b in spans]) for file, spans in places(job)]
    job.start()
    pread = os.pread
    for file, spans in rows:
        yield [pread(file, size, begin) for size, begin in spans]


@contestant("limit: pread an entry, all rows held", lines="N")
def pread_all(job: Job) -> Rows:
    """What a list of all rows costs: memory that is touched for the first time."""
    files = [os.open(path, os.O_RDONLY) for path in job.data.tars]
    rows = [(files[file], [(b - a, a) for a, b in spans]) for file, spans in places(job)]
    job.start()
    return [[os.pread(file, size, begin) for size, begin in spans] for file, spans in rows]


@contestant("limit: mmap", lines="ABCDFGHIJLMN")
def mapped(job: Job) -> Rows:
    where = places(job)
    job.start()
    maps: list[Any] = []
    for path in job.data.tars:
        with path.open("rb") as file:
            maps.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    return slices(maps if not job.views else [memoryview(one) for one in maps], where)


@contestant("limit: memory", lines="ABCDLMN")
def memory(job: Job) -> Rows:
    """The files are in memory already: what is left is the making of objects, and a copy if they are bytes."""
    held: list[Any] = [path.read_bytes() for path in job.data.tars]
    where = places(job)
    job.start()
    return slices([memoryview(one) for one in held] if job.views else held, where)


@contestant("limit: memcpy", lines="AC")
def memcpy(job: Job) -> int:
    """Each row copied into the same buffer: no objects are made, and the buffer stays in the CPU's cache."""
    held = [memoryview(path.read_bytes()) for path in job.data.tars]
    rows = [(held[file][spans[0][0] : spans[-1][1]], spans[-1][1] - spans[0][0]) for file, spans in places(job)]
    buffer = memoryview(bytearray(max(size for _, size in rows)))
    job.start()
    for row, size in rows:
        buffer[:size] = row
    return len(rows)


def slices(sources: list[Any], where: list[Place]) -> Rows:
    for file, spans in where:
        source = sources[file]
        yield [source[a:b] for a, b in spans]


@contestant("limit: sequential, buffered", lines="F")
def sequential(job: Job) -> int:
    for path in job.data.tars:
        _read_whole(path, 0)
    return job.data.rows


@contestant("limit: sequential, direct", lines="F")
def sequential_direct(job: Job) -> int:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda path: _read_whole(path, os.O_DIRECT), job.data.tars))
    return job.data.rows


def _read_whole(path: Path, flags: int) -> None:
    buffer = mmap.mmap(-1, 4 << 20)  # Aligned, as direct reads want it.
    file = os.open(path, os.O_RDONLY | flags)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    while os.readv(file, [buffer]) == len(buffer):
        pass
    os.close(file)


@contestant("limit: fio 128 KB", lines="G")
def fio_128k(job: Job) -> dict[str, float]:
    read = _fio(job.data.tars, "--bs=128k", "--iodepth=32")
    return {"rows_per_s": read["bw_bytes"] / (job.data.payload_bytes / job.data.rows)}


@contestant("limit: fio 4 KB", lines="H")
def fio_4k(job: Job) -> dict[str, float]:
    return {"rows_per_s": _fio(job.data.tars, "--bs=4k", "--iodepth=64")["iops"]}


def _fio(paths: Iterable[Path], *options: str) -> dict[str, Any]:
    if shutil.which("fio") is None:
        raise RuntimeError("fio is not installed (Debian: apt install fio)")
    command = ["fio", "--name=limit", "--rw=randread", "--ioengine=io_uring", "--direct=1", "--readonly"]
    command += ["--runtime=3", "--time_based", "--output-format=json", *options]
    command += ["--filename=" + ":".join(map(str, paths))]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(result.stdout[result.stdout.index("{") :])["jobs"][0]["read"]


def prepare_array(data: Data, folder: Path) -> None:
    """All rows as one array, as those have their data who need no shards."""
    with (folder / "all.u2").open("wb") as file:
        file.writelines(row[0][len(NPY_HEADER) :] for row in data.all_rows())


def mapped_array(folder: Path) -> Any:
    import numpy

    return numpy.memmap(folder / "all.u2", "<u2", "r").reshape(-1, ARRAY_SIZE)


ARRAY: dict[str, Any] = {"lines": "O", "pip": ["numpy"], "imports": ["numpy"], "prepare": prepare_array}


@contestant("limit: NumPy, mapped", **ARRAY)
def gather_mapped(job: Job) -> Batches:
    return _gathered(job, mapped_array(job.data.of_peer("limits")))


@contestant("limit: NumPy, in memory", **ARRAY)
def gather_in_memory(job: Job) -> Batches:
    return _gathered(job, mapped_array(job.data.of_peer("limits")).copy())


def _gathered(job: Job, rows: Any) -> Batches:
    import numpy

    picks = numpy.array(job.picks)
    job.start()
    return (rows[picks[at : at + BATCH_ROWS]] for at in range(0, len(picks), BATCH_ROWS))


@contestant("limit: Python alone", lines="Q")
def first_batch(job: Job) -> dict[str, float]:
    rows = min(measures.BATCH_ROWS, job.data.rows)
    return measures.first_batch(f"batch = range({rows})", rows)
