"""What networks do to requests: every epoch is whole and right to the byte, or a typed error, and never late."""

import _thread
import errno
import gc
import pickle
import random
import subprocess
import sys
import textwrap
import threading
import time
from array import array
from functools import partial

import h5py
import numpy as np
import pytest

import ultar_dataloader as ultar
from ultar_dataloader import DataLoader, Dataset, ReadError, _store_index, raw

from .conftest import rows, tar_bytes


@pytest.fixture
def options(bucket, proxy):
    return {**bucket.options, "endpoint": proxy.endpoint, "timeout": 0.5, "deadline": 8, "backoff": 0.005}


def is_payload(request):
    return request.method == "GET" and request.range is not None


MENDED = ["drop", "reset", "503", "500", "429", "short", "wrong range", "slow", "silence"]


@pytest.mark.parametrize("fault", MENDED)
def test_one_request_in_three_goes_wrong(bucket, proxy, options, expect, fault):
    pattern = bucket.put_shards(3, 20, size=20_000)
    ds = Dataset(pattern, storage_options=options)
    chance = random.Random(7)
    proxy.plan = lambda request: fault if is_payload(request) and chance.random() < 0.33 else None
    chosen = random.Random(5).sample(range(60), 60)
    expect(ds, range(60), size=20_000)
    epoch = ds[chosen]
    rows_of_epoch = iter(epoch)
    expect(rows_of_epoch, chosen, size=20_000)
    if fault != "slow":
        assert rows_of_epoch.stats()["request_retries"] > 0


def test_all_faults_at_once_while_indexing_and_reading(bucket, proxy, options, expect):
    for number in range(3):
        bucket.put(f"d/x-{number:03d}.tar", tar_bytes(rows(number * 20, 20, 20_000)))
    chance = random.Random(3)
    proxy.plan = lambda _: chance.choice(MENDED) if chance.random() < 0.2 else None
    ultar.index(f"{bucket.url}/d", storage_options=options)
    assert sum(key.endswith(".utix") for key in bucket.listed()) == 3
    ds = Dataset(f"{bucket.url}/d/*.tar", "require", storage_options=options)
    for _ in range(3):
        expect(ds, range(60), size=20_000)


def test_hdf5_over_a_bad_network(bucket, proxy, options, tmp_path):
    images = np.random.default_rng(1).integers(0, 9, (100, 50, 50), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("gzip", data=images, chunks=(8, 50, 50), compression="gzip")
        file.create_dataset("lzf", data=images, chunks=(8, 50, 50), compression="lzf")
    url = bucket.put("a.h5", (tmp_path / "a.h5").read_bytes())
    chance = random.Random(3)
    proxy.plan = lambda _: chance.choice(MENDED) if chance.random() < 0.2 else None
    ultar.index(url, storage_options=options)
    ds = Dataset(url, storage_options=options)
    for image, row in zip(images, ds, strict=True):
        assert row["gzip"] == row["lzf"] == image.tobytes()
    ds = Dataset(url, storage_options={**options, "deadline": 0.8})
    proxy.plan = lambda request: "503" if is_payload(request) else None
    with pytest.raises(ReadError, match="503 Service Unavailable") as failure:
        list(ds)
    assert failure.value.errno == errno.EIO and failure.value.filename == url


@pytest.mark.parametrize(
    ("fault", "number", "text"),
    [
        ("503", errno.EIO, "503 Service Unavailable"),
        ("drop", errno.EIO, "error sending request"),
        ("short", errno.EIO, "given up after"),
        ("silence", errno.EIO, "given up after"),
        ("wrong range", errno.EIO, "given up after"),
        ("403", errno.EACCES, "access is denied"),
        ("whole", errno.EINVAL, "ange"),
    ],
)
def test_what_does_not_end_is_an_error_in_time(bucket, proxy, options, fault, number, text):
    pattern = bucket.put_shards(1, 20)
    ds = Dataset(pattern, storage_options={**options, "deadline": 0.8})
    proxy.plan = lambda request: fault if is_payload(request) else None
    begin = time.monotonic()
    with pytest.raises(ReadError, match=text) as failure:
        list(ds)
    assert time.monotonic() - begin < 10
    assert failure.value.errno == number
    assert failure.value.filename == f"{bucket.url}/d/x-000.tar"
    assert failure.value.offset == 512 and failure.value.length == 6
    assert "wanted 6 bytes at offset 512, got 0" in str(failure.value)


def test_rows_of_what_can_be_had_are_there_when_others_are_skipped(bucket, proxy, options, expect, caplog):
    pattern = bucket.put_shards(3, 10)
    ds = Dataset(pattern, storage_options={**options, "deadline": 0.3}, on_error="skip")
    proxy.plan = lambda request: "503" if is_payload(request) and "x-001" in request.path else None
    found = iter(ds)
    expect(found, [*range(10), *range(20, 30)])
    assert found.stats()["rows_skipped"] == 10
    assert "x-001.tar" in caplog.text


@pytest.mark.parametrize("same_size", [True, False])
def test_an_object_that_changes_is_an_error_and_not_mixed_data(bucket, options, expect, same_size):
    pattern = bucket.put_shards(2, 20)
    ds = Dataset(pattern, storage_options=options)
    expect(ds, range(40))
    changed = rows(20, 20, 5000 if same_size else 5001)
    changed["000020"][".txt"] = b"text xx"
    bucket.put("d/x-001.tar", tar_bytes(changed))
    with pytest.raises(ReadError, match="the object was changed while it was in use") as failure:
        list(ds)
    assert failure.value.errno == errno.ESTALE
    assert failure.value.filename == f"{bucket.url}/d/x-001.tar"
    expect(ds[:20], range(20))
    with pytest.raises(ReadError, match="was changed"):
        ds[-1]


def test_an_object_that_is_removed(bucket, options):
    import obstore

    ds = Dataset(bucket.put_shards(1, 5), storage_options=options)
    obstore.delete(bucket.store, "d/x-000.tar")
    with pytest.raises(ReadError, match="no such object") as failure:
        list(ds)
    assert failure.value.errno == errno.ENOENT


def test_an_iterator_that_is_dropped_does_not_wait_for_requests(bucket, proxy, options):
    ds = Dataset(bucket.put_shards(2, 50), storage_options={**options, "timeout": 30, "deadline": 60})
    kept = next(iter(ds))
    proxy.plan = lambda request: "silence" if is_payload(request) else None
    for _ in range(3):
        epoch = iter(ds[::-1])
        epoch.start()
        until = time.monotonic() + 10
        while epoch.stats()["in_flight"] == 0 and time.monotonic() < until:
            time.sleep(0.01)
        begin = time.monotonic()
        del epoch
        assert time.monotonic() - begin < 1
    gc.collect()
    assert kept["txt"] == b"text 0"


@pytest.mark.parametrize("epoch", ["ds", 'ds.batch(2, collate={".txt": ("u1", (6,))})'])
def test_the_end_of_the_program_does_not_wait_for_requests(bucket, proxy, options, epoch):
    pattern = bucket.put_shards(1, 50)
    proxy.plan = lambda request: "silence" if request.range and ".utix" not in request.path else None
    code = f"""
    import threading
    from ultar_dataloader import Dataset
    ds = Dataset({pattern!r}, storage_options={ {**options, "timeout": 30, "deadline": 60}!r})
    epoch = iter({epoch})
    starting = threading.Thread(target=lambda: next(epoch), daemon=True)
    starting.start()
    starting.join(0.3)
    print("started", flush=True)
    """
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")
    assert time.monotonic() - begin < 10


def test_a_server_that_is_not_there(bucket):
    options = {**bucket.options, "endpoint": "http://127.0.0.1:1", "deadline": 0.3}
    with pytest.raises(ReadError, match="given up after"):
        Dataset(f"{bucket.url}/d/*.tar", storage_options=options)


LISTING = """
local scandir = require("ultar.scandir")
return { init_ctx = function(_, _, config) return config end,
         row_generator = function(config) scandir.open(config.url) end }
"""

WAITS = {
    "row": lambda ds, url, options: ds[3],
    "arrays": lambda ds, url, options: list(ds.batch(2, collate={".txt": ("u1", (6,))})),
    "dataset": lambda ds, url, options: Dataset(f"{url}/d/x-000.tar", storage_options=options),
    "list": lambda ds, url, options: Dataset(f"{url}/d/*.tar", storage_options=options),
    "several": lambda ds, url, options: pickle.loads(pickle.dumps(ds)),
    "index": lambda ds, url, options: ultar.index([f"{url}/{i}.tar" for i in range(3)], storage_options=options),
    "build": lambda ds, url, options: _store_index._build(
        ds._store.fetching, ds.shards[0], format="msgpack", rules=[], verify=False
    ),
    "raw": lambda ds, url, options: raw.index(f"{url}/d", storage_options=options),
    "script": lambda ds, url, options: list(DataLoader(LISTING, {"url": url}, storage_options=options)),
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_while_the_server_is_silent(bucket, proxy, options, wait):
    options = {**options, "timeout": 30, "deadline": 60}
    ds = Dataset(bucket.put_shards(2, 20), storage_options=options)
    proxy.plan = lambda _: "silence"
    threading.Timer(0.3, _thread.interrupt_main).start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        WAITS[wait](ds, bucket.url, options)
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize("fields", [False, True])
def test_closing_while_the_server_is_silent(bucket, proxy, options, fields):
    """By another thread, while one waits for a row or a batch."""
    ds = Dataset(bucket.put_shards(1, 20), storage_options={**options, "timeout": 30, "deadline": 60})
    proxy.plan = lambda request: "silence" if is_payload(request) else None
    if fields:
        store = ds._store
        store.fetching.start()
        batches = store.native().gatherer([(".txt", "|u1", (6,))], access="auto", threads=0, stores=store.fetching)
        batches.submit(array("Q", range(5)))
        take, close = batches.take, batches.close
    else:
        epoch = iter(ds)
        take, close = partial(next, epoch), epoch.close
    threading.Timer(0.3, close).start()
    begin = time.monotonic()
    with pytest.raises(ultar.UltarError, match="is closed"):
        take()
    assert time.monotonic() - begin < 3


def test_the_child_of_a_fork_says_what_is_wrong(bucket, options):
    pattern = bucket.put_shards(1, 5)
    code = f"""
    import os, sys, warnings
    warnings.simplefilter("ignore")
    from ultar_dataloader import Dataset
    ds = Dataset({pattern!r}, storage_options={options!r})
    assert len(list(ds)) == 5
    child = os.fork()
    if child == 0:
        try:
            print(len(list(ds)))
        except Exception as error:
            print(type(error).__name__, error)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ReadError") and "start processes with 'spawn'" in done.stdout
