"""Zero-copy shards: written, mapped, and read as any other shard."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ultar_dataloader as ultar
from ultar_dataloader import zero_copy

SAMPLES = [b"first", b"", bytes(range(240)), b"the last"]


def layout(metadata: object, data: bytes, magic: int = 0x5A434C44, version: int = 1) -> bytes:
    """A shard, by the description of the format rather than by our writer."""
    text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    return struct.pack("<IHQQQ", magic, version, 22, 30 + len(text), len(text)) + text + data


def places(samples: list[bytes]) -> list[dict[str, int]]:
    return [{"offset": sum(map(len, samples[:i])), "size": len(sample)} for i, sample in enumerate(samples)]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(layout({"num_samples": 4, "samples": places(SAMPLES)}, b"".join(SAMPLES)))
    return path


@pytest.fixture
def loader(shard: Path) -> zero_copy.DataLoader:
    zero_copy.write(shard.with_name("b.bin"), [b"x", memoryview(b"yy")])
    zero_copy.write(shard.with_name("c.bin"), [])
    zero_copy.write(shard.with_name("d.bin"), [b"zzz"])
    return zero_copy.DataLoader(shard.parent)


def test_what_is_written_is_read(loader: zero_copy.DataLoader, shard: Path) -> None:
    zero_copy.write(shard.with_name("again"), SAMPLES)
    written = shard.with_name("again").read_bytes()
    magic, version, metadata_at, data_at = struct.unpack_from("<IHQQ", written)
    (length,) = struct.unpack_from("<Q", written, metadata_at)
    assert (magic, version, data_at) == (0x5A434C44, 1, metadata_at + 8 + length)
    assert json.loads(written[30:data_at]) == {"num_samples": 4, "samples": places(SAMPLES)}
    assert written[data_at:] == b"".join(SAMPLES)

    assert (loader.total_samples, loader.num_shards, len(loader)) == (7, 4, 7)
    everything = [*SAMPLES, b"x", b"yy", b"zzz"]
    assert [bytes(loader.get_sample(i)) for i in range(7)] == everything
    assert [bytes(view) for view in loader.get_batch([6, 0, -1, 5, 0])] == [everything[i] for i in (6, 0, 6, 5, 0)]
    for i in (7, -8):
        with pytest.raises(IndexError, match=f"sample {i} is out of range: there are 7"):
            loader.get_sample(i)


def test_nothing_is_copied(loader: zero_copy.DataLoader, shard: Path) -> None:
    sample = loader.get_sample(2)
    assert sample.readonly
    array = zero_copy.to_numpy(sample, np.float32, (3, 20))
    whole = np.frombuffer(sample.obj, np.uint8)  # The mapping of the file.
    where = shard.read_bytes().index(SAMPLES[2])
    assert array.ctypes.data == np.frombuffer(sample, np.uint8).ctypes.data == whole.ctypes.data + where
    assert array.shape == (3, 20) and not array.flags.writeable
    np.testing.assert_array_equal(array.ravel(), np.frombuffer(SAMPLES[2], np.float32))
    loader.close()
    assert bytes(sample) == SAMPLES[2]
    with pytest.raises(ValueError, match="reshape"):
        zero_copy.to_numpy(sample, np.uint8, (3, 20))


def test_tensors(loader: zero_copy.DataLoader, shard: Path) -> None:
    torch = pytest.importorskip("torch")
    before = shard.read_bytes()
    sample = loader.get_sample(2)
    tensor = zero_copy.to_torch(sample, torch.int16, (12, 10))
    assert tensor.data_ptr() == np.frombuffer(sample, np.uint8).ctypes.data
    assert tensor.flatten().tolist() == np.frombuffer(SAMPLES[2], np.int16).tolist()
    tensor += 1  # Not to the file, and not a crash.
    assert shard.read_bytes() == before
    assert zero_copy.to_torch(loader.get_sample(1), torch.uint8, 0).shape == (0,)
    with pytest.raises(ValueError, match=r"cannot make shape \(7,\) of 240 elements"):
        zero_copy.to_torch(sample, torch.uint8, 7)


def test_the_next_shards_are_read_ahead(loader: zero_copy.DataLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(zero_copy._Shard, "read", lambda shard: read.append(Path(shard.path).name))
    loader.prefetch_next()
    loader.wait_prefetch()
    assert read == ["a.bin"]
    loader.get_sample(4)  # Of b.bin.
    loader.prefetch_next(2)
    loader.prefetch_next(5)  # There are no more.
    loader.wait_prefetch()
    assert read == ["a.bin", "c.bin", "d.bin"]
    with pytest.raises(ValueError, match="count must not be negative"):
        loader.prefetch_next(-1)


def test_reading_ahead_reads(loader: zero_copy.DataLoader, shard: Path) -> None:
    loader.prefetch_next(4)
    loader.wait_prefetch()
    loader = zero_copy.DataLoader(shard)
    shard.unlink()
    loader.prefetch_next()
    with pytest.raises(ultar.ReadError, match=r"a\.bin: cannot read: No such file"):
        loader.wait_prefetch()
    loader.wait_prefetch()  # Which was told once.


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "cut short"),
        (layout({}, b"")[:25], "do not fit|wanted a place"),
        (layout({"num_samples": 0, "samples": []}, b"", magic=1), "wanted"),
        (layout({"num_samples": 0, "samples": []}, b"", version=2), "version"),
        (struct.pack("<IHQQQ", 0x5A434C44, 1, 22, 30, 1 << 63), "cut short"),
        (struct.pack("<IHQQQ", 0x5A434C44, 1, (1 << 64) - 1, 30, 0), "do not fit|wanted a place"),
        (struct.pack("<IHQQQ", 0x5A434C44, 1, 22, (1 << 64) - 1, 0), "do not fit|wanted a place"),
        (layout(b'{"num_samples": 1, "samples": [', b""), "malformed"),
        (layout([], b""), "malformed|no number"),
        (layout(b"[" * 100_000, b""), "malformed"),
        (layout({"num_samples": 1, "samples": 3}, b""), "malformed|no list"),
        (layout({"num_samples": 2, "samples": places([b"x"])}, b"x"), "for 'num_samples', and 1 samples"),
        (layout({"num_samples": 1, "samples": [{"offset": 0}]}, b"x"), "malformed|no number 'size'"),
        (layout({"num_samples": 1, "samples": [{"offset": -1, "size": 1}]}, b"x"), "malformed|no number 'offset'"),
        (layout({"num_samples": 1, "samples": [{"offset": 1, "size": 1}]}, b"x"), "sample 0"),
        (layout({"num_samples": 1, "samples": [{"offset": (1 << 64) - 1, "size": 2}]}, b"x"), "sample 0"),
    ],
)
def test_malformed_shards_are_named(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "bad.bin"
    path.write_bytes(content)
    for read in (zero_copy.DataLoader, ultar.index):
        with pytest.raises(ultar.ShardFormatError, match=rf"bad\.bin: at offset \d+: .*({text})") as caught:
            read(path)
        assert caught.value.filename == str(path) and caught.value.offset is not None
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        zero_copy.write(tmp_path / "a.bin", [b"x", "text"])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ultar.WriteError, match="cannot write"):
        zero_copy.write(tmp_path / "none" / "a.bin", [b"x"])


def test_shards_are_shards(shard: Path, script: str, config_of: Callable[[Path], dict[str, object]]) -> None:
    dataset = ultar.Dataset(shard.parent)
    assert [row["bin"] for row in dataset] == SAMPLES
    assert dataset[2]["bin"] == SAMPLES[2]
    rows = ultar.DataLoader(script, config_of(shard))  # type: ignore[arg-type]
    assert [bytes(row.view(".bin")) for row in rows] == SAMPLES
    assert ultar.check(shard).samples == 4
