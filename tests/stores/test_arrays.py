"""Batches of declared fields from stores: the same arrays as from files, or an error that names the payload."""

import errno
import io
import random
import time

import numpy as np
import obstore
import pytest

import ultar_dataloader as ultar
from ultar_dataloader import Dataset, FieldError, ReadError

from .conftest import tar_bytes

ROWS = 60
FIELDS = {".npy": ("u2", (3, 5)), ".cls": ("i8", ()), ".box.npy": ("f4", (None, 4)), ".ids": ("i4", (None,))}


def npy(value):
    out = io.BytesIO()
    np.save(out, value)
    return out.getvalue()


def sample(i, pad=0):
    return {
        ".npy": npy(np.full((3, 5), i, "<u2")),
        ".pad": bytes(pad),
        ".cls": np.int64(i).tobytes(),
        ".box.npy": npy(np.full((i % 4, 4), i, "<f4")),
        ".ids": np.arange(i % 7, dtype="<i4").tobytes(),
    }


def check(batch, numbers):
    assert np.asarray(batch[".npy"]).tolist() == [np.full((3, 5), i).tolist() for i in numbers]
    assert np.asarray(batch[".cls"]).tolist() == numbers
    for key, wanted in (
        (".box.npy", [[[i] * 4] * (i % 4) for i in numbers]),
        (".ids", [[*range(i % 7)] for i in numbers]),
    ):
        values, offsets = np.asarray(batch[key].values), np.asarray(batch[key].offsets)
        assert [values[offsets[i] : offsets[i + 1]].tolist() for i in range(len(numbers))] == wanted


@pytest.mark.parametrize("pad", [0, 300_000])
def test_the_arrays_are_those_of_files(bucket, make_shard, pad):
    """With payloads that share a request, and with such as do not; some shards are files."""
    for number in range(2):
        samples = {f"{i:03}": sample(i, pad) for i in range(number * 20, number * 20 + 20)}
        bucket.put(f"d/x-{number}.tar", tar_bytes(samples))
    local = make_shard({f"{i:03}": sample(i) for i in range(40, ROWS)})
    ds = Dataset([f"{bucket.url}/d", local], storage_options=bucket.options)
    for seed in (1, 2):
        stream = ds.shuffle(seed=seed).batch(7, collate=FIELDS)
        numbers = list(ultar.order(ROWS, seed))
        batches = list(stream)
        assert len(batches) == -(-ROWS // 7)
        for at, batch in zip(range(0, ROWS, 7), batches, strict=True):
            check(batch, numbers[at : at + 7])
    chosen = random.Random(3).choices(range(ROWS), k=50)
    (batch,) = ds[chosen].batch(50, collate=FIELDS)
    check(batch, chosen)


def test_payloads_that_take_several_requests(bucket):
    size = 9_000_000
    big = {
        f"{i}": {".bin": random.Random(i).randbytes(size), ".npy": npy(np.arange(size // 4, dtype="<i4"))}
        for i in range(2)
    }
    ds = Dataset(bucket.put("big.tar", tar_bytes(big)), storage_options=bucket.options)
    fields = {".bin": ("u1", (size,)), ".npy": ("i4", (size // 4,))}
    for _ in range(2):
        (batch,) = ds.batch(2, collate=fields)
        assert [bytes(row) for row in np.asarray(batch[".bin"])] == [members[".bin"] for members in big.values()]
        assert (np.asarray(batch[".npy"]) == np.arange(size // 4)).all()
    (batch,) = ds.batch(2, collate={".npy": ("i4", (None,))})
    assert np.asarray(batch[".npy"].offsets).tolist() == [0, size // 4, size // 2]


@pytest.mark.parametrize("shape", [(4,), (None,)])
def test_headers_of_any_length(bucket, shape):
    header = "{'descr': '<i4', 'fortran_order': False, 'shape': (4,), }"
    samples = {}
    for i, length in enumerate((118, 700, 20_000)):
        text = header.ljust(length - 1).encode() + b"\n"
        payload = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + np.full(4, i, "<i4").tobytes()
        samples[str(i)] = {".npy": payload}
    ds = Dataset(bucket.put("h.tar", tar_bytes(samples)), storage_options=bucket.options)
    (batch,) = ds.batch(3, collate={".npy": ("i4", shape)})
    values = batch[".npy"] if shape == (4,) else batch[".npy"].values
    assert np.asarray(values).reshape(3, 4).tolist() == [[i] * 4 for i in range(3)]


@pytest.mark.parametrize(
    ("key", "payload", "field", "text"),
    [
        (".npy", b"no array at all", ("u2", (3, 5)), "got no .npy file"),
        (".npy", b"", ("u2", (3, 5)), "got no .npy file"),
        (".npy", b"", ("u2", (None, 5)), "got no .npy file"),
        (".npy", npy(np.zeros((3, 5), "<f4")), ("u2", (3, 5)), r"wanted <u2 \(3, 5\), got <f4 \(3, 5\)"),
        (".npy", npy(np.zeros((3, 5), "<f4")), ("u2", (None, 5)), r"got <f4 \(3, 5\)"),
        (".cls", b"1234567", ("i8", ()), "wanted 8 bytes for <i8"),
    ],
)
def test_a_payload_that_does_not_fit_is_named(bucket, key, payload, field, text):
    samples = {f"{i:03}": sample(i) for i in range(5)}
    samples["003"][key] = payload
    url = bucket.put("odd.tar", tar_bytes(samples))
    ds = Dataset(url, storage_options=bucket.options)
    with pytest.raises(FieldError, match=text) as failure:
        list(ds.batch(5, collate={key: field}))
    assert f'{url}: row 3 ("003"), key "{key}"' in str(failure.value)
    with pytest.raises(FieldError, match="the row has no such key"):
        list(ds.batch(5, collate={".nothing": field}))


def test_what_cannot_be_had_is_named(bucket, proxy):
    options = {**bucket.options, "endpoint": proxy.endpoint, "deadline": 0.5}
    url = bucket.put("x.tar", tar_bytes({f"{i:03}": sample(i) for i in range(ROWS)}))
    ds = Dataset(url, storage_options=options)
    proxy.plan = lambda request: "503" if request.range else None
    for fields in ({".cls": ("i8", ())}, {".box.npy": ("f4", (None, 4))}):
        with pytest.raises(ReadError, match="given up after .*503") as failure:
            list(ds.batch(8, collate=fields))
        assert failure.value.errno == errno.EIO and failure.value.filename == url
        assert f'{url}: row 0 ("000"), key "{next(iter(fields))}": wanted' in str(failure.value)
    proxy.plan = lambda _: None
    numbers = [np.asarray(batch[".cls"]).tolist() for batch in ds.batch(ROWS, collate={".cls": ("i8", ())})]
    assert numbers == [[*range(ROWS)]]
    obstore.put(bucket.store, "x.tar", tar_bytes({f"{i:03}": sample(i + 1) for i in range(ROWS)}))
    with pytest.raises(ReadError, match="the object was changed") as failure:
        list(ds.batch(8, collate={".cls": ("i8", ())}))
    assert failure.value.errno == errno.ESTALE
    obstore.delete(bucket.store, "x.tar")
    with pytest.raises(ReadError, match="no such object"):
        list(ds.batch(8, collate={".cls": ("i8", ())}))


def test_faults_are_mended(bucket, proxy):
    options = {**bucket.options, "endpoint": proxy.endpoint, "timeout": 0.5, "backoff": 0.005}
    url = bucket.put("x.tar", tar_bytes({f"{i:03}": sample(i, 300_000) for i in range(ROWS)}))
    ds = Dataset(url, storage_options=options)
    chance = random.Random(2)
    kinds = ["drop", "reset", "503", "short", "wrong range"]
    proxy.plan = lambda request: chance.choice(kinds) if request.range and chance.random() < 0.3 else None
    numbers = list(ultar.order(ROWS, 1))
    for at, batch in zip(range(0, ROWS, 8), ds.shuffle(seed=1).batch(8, collate=FIELDS), strict=True):
        check(batch, numbers[at : at + 8])


def test_a_stream_that_is_dropped_does_not_wait_for_requests(bucket, proxy):
    options = {**bucket.options, "endpoint": proxy.endpoint, "timeout": 30, "deadline": 60}
    ds = Dataset(bucket.put("x.tar", tar_bytes({f"{i:03}": sample(i) for i in range(ROWS)})), storage_options=options)
    silent = []
    proxy.plan = lambda request: "silence" if request.range and silent else None
    batches = iter(ds.batch(10, collate=FIELDS))
    kept = next(batches)
    silent.append(True)
    del batches
    batches = iter(ds.batch(20, collate=FIELDS))
    import _thread
    import threading

    threading.Timer(0.3, _thread.interrupt_main).start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    del batches
    assert time.monotonic() - begin < 5
    check(kept, [*range(10)])
