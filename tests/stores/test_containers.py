"""Each container in a bucket: a dataset, a stream, arrays and a script have what they have of the same file."""

from pathlib import Path

import numpy as np
import pytest

import ultar_dataloader as ultar
from ultar_dataloader import DataLoader, Dataset, ShardFormatError, npz, roxxel, tfrecord, zero_copy

from .conftest import tar_bytes

RECIPE = Path(ultar.__file__).parent / "lua/recipes/every_row.lua"
RECORDS = [np.full(6, i, "<u2").tobytes() for i in range(300)]


def arrays(i):
    return {"x": np.full((3, 2), i, "<u2"), "y": np.arange(i % 5)}


def write_npz(path, compressed=False):
    (np.savez_compressed if compressed else np.savez)(path, **arrays(7))


def write_tar(path):
    path.write_bytes(tar_bytes({f"{i:03}": {".bin": record} for i, record in enumerate(RECORDS)}))


CONTAINERS = {
    "tar": (write_tar, ".bin"),
    "rox": (lambda path: roxxel.Roxxel(path).write(RECORDS), ".bin"),
    "bin": (lambda path: zero_copy.write(path, RECORDS), ".bin"),
    "tfrecord": (lambda path: tfrecord.write(path, RECORDS), ".bin"),
    "npz": (write_npz, "x.npy"),
}


@pytest.fixture(params=CONTAINERS)
def shard(request, bucket, tmp_path):
    """A shard as a file and as an object, and a key in it whose payloads are six numbers."""
    suffix = request.param
    write, key = CONTAINERS[suffix]
    path = tmp_path / f"shard.{suffix}"
    write(path)
    return path, bucket.put(f"d/shard.{suffix}", path.read_bytes()), key


def contents(rows):
    return [row.items() for row in rows]


def test_a_container_in_a_bucket(shard, bucket):
    path, url, key = shard
    wanted = Dataset(path)
    everything = contents(wanted)
    for given in (url, f"{bucket.url}/d", f"{bucket.url}/d/*{path.suffix}"):
        assert contents(Dataset(given, storage_options=bucket.options)) == everything
    ds = Dataset(url, storage_options=bucket.options)
    assert ds.fingerprint == wanted.fingerprint
    places = [len(ds) - 1, 0, len(ds) // 2]
    assert contents(ds.read(places)) == contents(wanted.read(places))
    assert ds[-1].items() == wanted[-1].items()

    def shuffled(of):
        return list(of.shuffle(seed=2).shard(1, 2).map(lambda row: row.values()[0]).batch(7, collate=list))

    assert shuffled(ds) == shuffled(wanted)

    shape = ("u2", (3, 2)) if path.suffix == ".npz" else ("u2", (6,))
    for collate in ({key: shape}, {key: ("u2", (None, *shape[1][1:]))}):
        for found, local in zip(ds.batch(70, collate=collate), wanted.batch(70, collate=collate), strict=True):
            parts = (
                [(found[key], local[key])] if collate[key] == shape else list(zip(found[key], local[key], strict=True))
            )
            assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in parts)

    script = DataLoader.from_file(RECIPE, {"shards": [url]}, storage_options=bucket.options)
    assert contents(script) == everything  # By the index in the cache.
    assert ultar.index(url, storage_options=bucket.options).skipped == 1  # Which is put beside the object.
    assert f"d/{path.name}.utix" in bucket.listed()
    assert ultar.check(url, storage_options=bucket.options).samples == len(wanted)
    assert ultar.index(url, force=True, storage_options=bucket.options).samples == len(wanted)
    script = DataLoader.from_file(RECIPE, {"shards": [url]}, storage_options=bucket.options)
    assert contents(script) == everything


def test_a_container_that_is_cut_off(shard, bucket):
    path, _, _ = shard
    url = bucket.put(
        f"cut/shard{path.suffix}", path.read_bytes()[:-3] if path.suffix != ".tar" else path.read_bytes()[:700]
    )
    with pytest.raises(ShardFormatError) as failure:
        Dataset(url, storage_options=bucket.options)
    assert str(failure.value).startswith(url)


def test_archives_whose_members_are_deflated(bucket, tmp_path):
    for compressed in (False, True):
        path = tmp_path / "a.npz"
        write_npz(path, compressed)
        ds = Dataset(bucket.put(f"{compressed}.npz", path.read_bytes()), storage_options=bucket.options)
        found = npz.load(ds[0])
        assert {name: value.tolist() for name, value in found.items()} == {
            name: value.tolist() for name, value in arrays(7).items()
        }


def test_checksums_of_records_in_a_bucket(bucket, tmp_path):
    path = tmp_path / "a.tfrecord"
    tfrecord.write(path, RECORDS)
    data = bytearray(path.read_bytes())
    url = bucket.put("a.tfrecord", bytes(data))
    assert ultar.index(url, verify=True, storage_options=bucket.options).samples == len(RECORDS)
    data[12 + 3] ^= 1
    url = bucket.put("a.tfrecord", bytes(data))
    with pytest.raises(ShardFormatError, match="checksum|CRC"):
        ultar.index(url, verify=True, force=True, storage_options=bucket.options)
