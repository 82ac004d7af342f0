"""Shards in buckets of a real server: everything that takes a path takes their URL."""

import errno
import gc
import pickle
import random
import threading
import time

import h5py
import numpy as np
import pytest

import ultar_dataloader as ultar
from ultar_dataloader import DataLoader, Dataset, ReadError

from .conftest import rows, tar_bytes

SCRIPT = """
local loader = require("ultar.loader")
local utix = require("ultar.utix")
return {
  init_ctx = function(rank, world_size, config) return config end,
  row_generator = function(config)
    for _, url in ipairs(config.shards) do
      local tar = loader:open_file(url)
      for row in utix.open(url .. ".utix"):iter() do
        loader:add_row(tar, row)
        loader:finish_row()
      end
      loader:close_file(tar)
    end
  end,
}
"""


def test_a_dataset_of_shards_in_a_bucket(bucket, expect):
    pattern = bucket.put_shards(4, 25)
    ds = Dataset(pattern, storage_options=bucket.options)

    assert len(ds) == 100
    assert ds.shards[1] == f"{bucket.url}/d/x-001.tar"
    expect(ds, range(100))
    expect(ds, range(100))
    expect(reversed(ds), range(99, -1, -1))
    expect([ds[-1], ds[3]], [99, 3])
    chosen = random.Random(1).choices(range(100), k=300)
    expect(ds.read(chosen), chosen)
    assert [row.keys() for row in ds.select([".txt"])[::50]] == [(".txt",)] * 2
    assert ds.record(30).shard == f"{bucket.url}/d/x-001.tar"
    assert ds[30].sources()[0][0] == f"{bucket.url}/d/x-001.tar"


@pytest.mark.parametrize("given", ["{url}/d", "{url}/d/", "{url}/d/*.tar", "{url}/d/x-00[0-3].tar", "{url}/*/x-*.tar"])
def test_folders_and_globs_of_a_bucket(bucket, expect, given):
    bucket.put_shards(4, 3)
    ds = Dataset(given.format(url=bucket.url), storage_options=bucket.options)
    expect(ds, range(12))


def test_what_is_not_there_is_named(bucket):
    bucket.put_shards(2, 3)
    for given, missing in (
        ("d/y.tar", "d/y.tar: no such object"),
        ("d/y-*.tar", "d/y-*.tar: no such shard"),
        ("d/x-{000..002}.tar", "d/x-002.tar: no such shard, from"),
        ("e/", "no shard in a folder of that name"),
    ):
        with pytest.raises(ReadError) as failure:
            Dataset(f"{bucket.url}/{given}", storage_options=bucket.options)
        assert missing in str(failure.value) and bucket.name in str(failure.value)
        assert failure.value.errno == errno.ENOENT


def test_a_script_opens_urls(bucket, expect):
    bucket.put_shards(3, 20)
    shards = [f"{bucket.url}/d/x-{i:03d}.tar" for i in (2, 0, 1)]
    loader = DataLoader(SCRIPT, {"shards": shards}, storage_options=bucket.options)
    wanted = [*range(40, 60), *range(20), *range(20, 40)]
    expect(loader, wanted)
    stats = loader.stats()
    assert stats["requests"] > 0 and stats["request_bytes"] >= stats["bytes"] and stats["request_p50_ns"] > 0
    expect(pickle.loads(pickle.dumps(loader)), wanted)


def test_a_script_that_opens_what_is_not_there_says_its_line(bucket):
    bucket.put_shards(1, 3)
    loader = DataLoader(SCRIPT, {"shards": [f"{bucket.url}/d/no.tar"]}, storage_options=bucket.options)
    with pytest.raises(ReadError, match=r"script.lua:8: cannot open s3://.*/d/no.tar: no such object") as failure:
        list(loader)
    assert failure.value.errno == errno.ENOENT


def test_a_local_and_a_remote_shard_in_one_dataset(bucket, make_shard, expect):
    local = make_shard(rows(0, 10))
    bucket.put("b.tar", tar_bytes(rows(10, 10)))
    ds = Dataset([local, f"{bucket.url}/b.tar"], storage_options=bucket.options)
    expect(ds, range(20))


def test_payloads_of_no_bytes_and_of_many(bucket):
    samples = {"a": {".x": b""}, "b": {".x": bytes(range(256)) * 40_000}, "c": {".x": b"z"}}
    url = bucket.put("odd.tar", tar_bytes(samples))
    found = [row["x"] for row in Dataset(url, storage_options=bucket.options)]
    assert found == [members[".x"] for members in samples.values()]


def test_wrong_credentials_are_an_error_at_once(bucket):
    bucket.put_shards(1, 3)
    begin = time.monotonic()
    for options in ({"secret_access_key": "wrong"}, {"anonymous": True}):
        given = {**bucket.options, **options}
        if "anonymous" in options:
            given = {key: value for key, value in given.items() if "key" not in key}
        with pytest.raises(ReadError, match="access is denied") as failure:
            Dataset(f"{bucket.url}/d/x-000.tar", storage_options=given)
        assert failure.value.errno == errno.EACCES
    assert time.monotonic() - begin < 5


def test_credentials_from_the_environment_and_from_a_profile(bucket, expect, monkeypatch, tmp_path):
    url = bucket.put_shards(1, 3)
    keys = {name: bucket.options[name] for name in ("access_key_id", "secret_access_key")}
    plain = {name: value for name, value in bucket.options.items() if name not in (*keys, "endpoint", "region")}
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[work]\n" + "".join(f"aws_{name} = {value}\n" for name, value in keys.items())
    )
    config = f"[profile work]\nregion = us-east-1\nendpoint_url = {bucket.options['endpoint']}\n"
    (tmp_path / ".aws" / "config").write_text(config)
    expect(Dataset(url, storage_options={**plain, "profile": "work"}), range(3))
    with pytest.raises(ValueError, match="there is no profile 'play'"):
        Dataset(url, storage_options={**plain, "profile": "play"})
    for name, value in (*keys.items(), ("endpoint", bucket.options["endpoint"]), ("region", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name.upper()}", value)
    expect(Dataset(url, storage_options=plain), range(3))


def test_many_objects_are_listed_once_and_shuffled_by_seed(bucket, server):
    import asyncio

    import obstore

    from ultar_dataloader._paths import expand
    from ultar_dataloader._stores import Options, Stores

    from .proxy import Proxy

    count = 10_000

    async def put_all() -> None:
        """In half the time that threads take."""
        numbers = iter(range(count))

        async def put_some() -> None:
            for i in numbers:
                await obstore.put_async(bucket.store, f"many/{i:05d}.bin", b"%05d" % i)

        await asyncio.gather(*(put_some() for _ in range(64)))

    asyncio.run(put_all())
    proxy = Proxy(server.port)
    try:
        stores = Stores(Options.parse({**bucket.options, "endpoint": proxy.endpoint}))
        urls = expand(f"{bucket.url}/many/*.bin", stores)
        assert len(proxy.seen) <= count / 1000 + 1
    finally:
        proxy.stop()
    assert urls == [f"{bucket.url}/many/{i:05d}.bin" for i in range(count)]
    script = """
    local loader = require("ultar.loader")
    return {
      init_ctx = function(_, _, config) return config end,
      row_generator = function(config)
        for _, url in ipairs(config.urls) do
          local file = loader:open_file(url)
          loader:add_entry(file, "number", 0, 5)
          loader:finish_row()
          loader:close_file(file)
        end
      end,
    }
    """

    def epoch(seed: int) -> list[int]:
        chosen = ultar.order(count, seed)[:300]
        loader = DataLoader(script, {"urls": [urls[i] for i in chosen]}, storage_options=bucket.options)
        found = [int(row["number"]) for row in loader]
        assert found == list(chosen)
        return found

    first, other = epoch(1), epoch(2)
    assert epoch(1) == first and epoch(2) == other and first != other


def test_a_hundred_archives_of_arrays_by_ranges(bucket):
    import io

    np = pytest.importorskip("numpy")
    import zipfile

    wanted, places = [], []
    for i in range(100):
        array = np.random.default_rng(i).standard_normal((50, 40), dtype=np.float32)
        out = io.BytesIO()
        np.savez(out, x=array)
        url = bucket.put(f"npz/{i:03d}.npz", out.getvalue())
        with zipfile.ZipFile(out) as archive:
            info = archive.getinfo("x.npy")
            # Stored as it is: a range of the object, behind the member's header.
            head = out.getvalue()[info.header_offset :][:30]
            offset = (
                info.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
            )
        places.append({"url": url, "offset": offset, "size": info.file_size})
        wanted.append(array)
    script = """
    local loader = require("ultar.loader")
    return {
      init_ctx = function(_, _, config) return config end,
      row_generator = function(config)
        for _, place in ipairs(config.places) do
          loader:add_entry(loader:open_file(place.url), "x.npy", place.offset, place.size)
          loader:finish_row()
        end
      end,
    }
    """
    loader = DataLoader(script, {"places": places}, storage_options=bucket.options)
    for _ in range(2):
        found = [np.load(io.BytesIO(row["x.npy"])) for row in loader]
        assert len(found) == 100
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_dataset_travels_by_pickle(bucket, expect):
    ds = Dataset(bucket.put_shards(2, 10), storage_options=bucket.options)
    expect(pickle.loads(pickle.dumps(ds))[5:15], range(5, 15))
    assert pickle.loads(pickle.dumps(ds)).fingerprint == ds.fingerprint


def test_threads_share_a_dataset(bucket, expect):
    ds = Dataset(bucket.put_shards(2, 50), storage_options=bucket.options)
    failures = []

    def work(seed: int) -> None:
        try:
            chosen = random.Random(seed).sample(range(100), 20)
            expect([ds[i] for i in chosen], chosen)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures


def test_threads_that_fetch_end_with_their_dataset(bucket, expect):
    ds = Dataset(bucket.put_shards(2, 50), storage_options=bucket.options)
    expect(ds, range(100))
    kept = ds[7]
    assert any(thread.name == "ultar-fetch" for thread in threading.enumerate())
    del ds
    gc.collect()
    until = time.monotonic() + 10
    while any(thread.name == "ultar-fetch" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert kept["txt"] == b"text 7"


def test_a_stream_of_shards_in_a_bucket(bucket):
    import json

    ds = Dataset(bucket.put_shards(3, 20), storage_options=bucket.options)

    def made(rank: int = 0, world_size: int = 1):
        stream = ds.shuffle(seed=3).shard(rank, world_size)
        return stream.map(lambda row: {"text": row["txt"].decode(), "size": len(row.view(".bin"))}).batch(7).prefetch()

    stream = made()
    first = [batch["text"] for batch in stream]
    numbers = [int(text.split()[1]) for batch in first for text in batch]
    assert sorted(numbers) == list(range(60))
    assert [batch["text"] for batch in stream] != first
    assert [batch["text"] for batch in made()] == first
    begun = made()
    batches = iter(begun)
    assert [next(batches)["text"] for _ in range(3)] == first[:3]
    again = made()
    again.load_state_dict(json.loads(json.dumps(begun.state_dict())))
    assert [batch["text"] for batch in again] == first[3:]


def test_other_containers_in_a_bucket(bucket):
    import struct

    records = [b"%d" % i * (i % 50) for i in range(200)]
    data = b"".join(records)
    ends = struct.pack(f"<{len(records)}q", *(sum(map(len, records[: i + 1])) for i in range(len(records))))
    url = bucket.put("r/a.rox", data + ends + struct.pack("<qq8s", len(records), len(data), b"ROXXEL01"))
    for given in (url, f"{bucket.url}/r"):
        ds = Dataset(given, storage_options=bucket.options)
        assert [row[0] for row in ds] == records
        assert ds[150][0] == records[150]


def test_hdf5_in_a_bucket(bucket, tmp_path):
    images = np.random.default_rng(1).integers(0, 9, (200, 50, 50), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["plain"] = images
        file.create_dataset("gzip", data=images, chunks=(16, 50, 20), compression="gzip", shuffle=True)
        file.create_dataset("lzf", data=images, chunks=(16, 50, 50), compression="lzf")
    url = bucket.put("d/a.h5", (tmp_path / "a.h5").read_bytes())
    assert ultar.index(url, storage_options=bucket.options).samples == 200
    assert bucket.listed() == ["d/a.h5", "d/a.h5.utix"]
    ds = Dataset(f"{bucket.url}/d", "require", storage_options=bucket.options)
    loader = DataLoader(SCRIPT, {"shards": [url]}, storage_options=bucket.options)
    wanted = [*range(200), *range(200), 150, 3]
    for number, row in zip(wanted, [*ds, *loader, *ds.read([150, 3])], strict=True):
        assert [bytes(payload) for payload in row.values()] == [images[number].tobytes()] * 3
    fresh = Dataset(url, storage_options=bucket.options).select([".gzip"])
    assert fresh[-1]["gzip"] == images[-1].tobytes()
    bucket.put("d/a.h5", (tmp_path / "a.h5").read_bytes()[:-1] + b"x")
    with pytest.raises(ReadError, match="changed") as failure:
        fresh[0]
    assert failure.value.errno == errno.ESTALE
