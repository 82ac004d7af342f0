"""Roxxel archives: `Roxxel` as those know it who used the package, and the same archives as shards."""

from __future__ import annotations

import itertools
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import ultar_dataloader as ultar
from ultar_dataloader.roxxel import Roxxel

PAYLOADS = [b"first", b"2", bytes(range(256)) * 300, b"the last"]


def layout(payloads: list[bytes]) -> bytes:
    """An archive, by the description of the format rather than by our writer."""
    ends = list(itertools.accumulate(map(len, payloads)))
    data = b"".join(payloads)
    return data + struct.pack(f"<{len(ends)}q", *ends) + struct.pack("<qq8s", len(ends), len(data), b"ROXXEL01")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.rox"
    path.write_bytes(layout(PAYLOADS))
    return path


def contents(dataset: Roxxel) -> list[bytes]:
    return [bytes(record) for record in dataset]


def test_what_is_written_is_the_format(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "written.rox"
    Roxxel(str(path)).write([b"first", b"", b"2"])
    Roxxel(path).write(iter(PAYLOADS[2:]))  # Appended; empty payloads are left out.
    assert path.read_bytes() == archive.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.rox", "written.rox"]


def test_a_sequence_of_arrays(archive: Path) -> None:
    with Roxxel(str(archive)) as dataset:
        assert len(dataset) == 4
        assert [bytes(dataset[i]) for i in (0, 3, -1, -4)] == [b"first", b"the last", b"the last", b"first"]
        assert [bytes(record) for record in dataset[3:0:-2]] == [b"the last", b"2"]
        assert contents(dataset) == PAYLOADS
        assert dataset[1].dtype == np.uint8 and not dataset[1].flags.writeable
        for i in (4, -5):
            with pytest.raises(IndexError, match=r"^Record index out of range\.$"):
                dataset[i]
        kept = dataset[2]
        assert dataset.index_table is not None and dataset.index_table.tolist() == [5, 6, 76806, 76814]
        assert np.shares_memory(kept, dataset.raw_data)
    assert bytes(kept) == PAYLOADS[2]
    assert dataset.raw_data is None
    assert len(dataset) == 4  # Which opens it again.


def test_tokens_as_one_array(tmp_path: Path) -> None:
    path = str(tmp_path / "tokens.rox")
    documents = [np.arange(n, dtype=np.uint16) for n in (7, 1, 30)]
    Roxxel(path).write(document.tobytes() for document in documents)
    with Roxxel(path) as dataset:
        assert dataset.raw_data is not None
        np.testing.assert_array_equal(dataset.raw_data.view(np.uint16), np.concatenate(documents))


def test_shards_of_a_size(tmp_path: Path) -> None:
    base = tmp_path / "data.rox"
    payloads = [bytes([i]) * 50 for i in range(20)]
    Roxxel(str(base)).write(payloads[:9], max_shard_bytes=300)
    # Four payloads, four places and a footer are 256 bytes, and five 314.
    assert [path.stat().st_size for path in sorted(tmp_path.iterdir())] == [256, 256, 82]
    Roxxel(str(base)).write(payloads[9:], max_shard_bytes=300)
    shards = sorted(tmp_path.glob("data_*.rox"))
    assert [path.stat().st_size for path in shards] == [256] * 5
    for given in (str(tmp_path / "data_*.rox"), list(map(str, shards))):
        with Roxxel(given) as dataset:
            assert contents(dataset) == payloads
            assert [bytes(dataset[i]) for i in (0, 4, 19, -20)] == [payloads[i] for i in (0, 4, 19, 0)]
            assert dataset.raw_data is None
    Roxxel(str(base)).write([b"x" * 1000, b"y"], max_shard_bytes=300)  # One that fits nowhere has its own.
    assert sorted(path.stat().st_size for path in tmp_path.glob("data_*.rox"))[-1] == 1032


def failing(payloads: list[bytes], error: BaseException) -> Iterator[bytes]:
    yield from payloads
    raise error


def test_an_error_while_appending_leaves_the_archive(archive: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(KeyError):
        Roxxel(str(archive)).write(failing([b"new"], KeyError()))
    with pytest.raises(FileNotFoundError) as caught:  # The generator's own, not a failure to write.
        Roxxel(str(archive)).write(failing([b"new"], FileNotFoundError(2, "gone")))
    assert not isinstance(caught.value, ultar.WriteError)
    with pytest.raises(TypeError, match="must exclusively yield raw python 'bytes' objects"):
        Roxxel(str(archive)).write([b"new", "text"])  # type: ignore[list-item]
    assert archive.read_bytes() == before
    assert os.listdir(archive.parent) == ["a.rox"]


@pytest.mark.parametrize("max_shard_bytes", [None, 1 << 30])
def test_a_kill_while_appending_leaves_the_archive(archive: Path, max_shard_bytes: int | None) -> None:
    shard = archive if max_shard_bytes is None else archive.rename(archive.with_name("a_0000.rox"))
    before = shard.read_bytes()
    program = f"""
import os, signal
from ultar_dataloader.roxxel import Roxxel
def payloads():
    for _ in range(100):
        yield bytes(1 << 20)
    os.kill(os.getpid(), signal.SIGKILL)
Roxxel({str(archive)!r}).write(payloads(), {max_shard_bytes})
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert shard.read_bytes() == before
    Roxxel(str(archive)).write([b"later"], max_shard_bytes)
    with Roxxel(str(shard)) as dataset:
        assert contents(dataset) == [*PAYLOADS, b"later"]


def test_a_reader_keeps_what_it_opened(archive: Path) -> None:
    with Roxxel(str(archive)) as dataset:
        Roxxel(str(archive)).write([b"new"])
        assert contents(dataset) == PAYLOADS
    assert contents(dataset) == [*PAYLOADS, b"new"]


def test_what_is_no_archive_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.rox"
    path.write_bytes(b"no archive" * 10)
    Roxxel(str(path)).write([b"x"])
    assert path.read_bytes() == layout([b"x"])
    assert "Invalid signature in existing archive" in caplog.text
    assert (tmp_path / "a.rox.damaged").read_bytes() == b"no archive" * 10


def test_nobody_elses_records_are_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.rox"
    Roxxel(str(path)).write([b"one"])

    def payloads() -> Iterator[bytes]:
        yield b"mine"
        Roxxel(str(path)).write([b"theirs"])

    with pytest.raises(ultar.WriteError, match="written by somebody else"):
        Roxxel(str(path)).write(payloads())
    assert path.read_bytes() == layout([b"one", b"theirs"])


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="filepath must be a string"):
        Roxxel(3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="No matching files found"):
        Roxxel(str(tmp_path / "*.rox")).open()
    with pytest.raises(ValueError, match="No filepath specified to write to"):
        Roxxel([]).write([b"x"])
    with pytest.raises(FileNotFoundError, match="Missing dataset shard file at"):
        len(Roxxel(str(tmp_path / "none.rox")))
    with pytest.raises(ValueError, match="max_shard_bytes must be positive"):
        Roxxel(str(tmp_path / "a.rox")).write([b"x"], 0)
    with pytest.raises(ultar.WriteError, match="cannot write"):
        Roxxel(str(tmp_path / "none" / "a.rox")).write([b"x"])


DAMAGES: list[tuple[Callable[[bytes], bytes], str, str]] = [
    (lambda whole: whole[:20], "size is less than footer size", "cut short|not a Roxxel archive"),
    (lambda whole: whole[:-1], "Corrupted signature", "not a Roxxel archive"),
    (lambda whole: whole[1:], "do not fit", "do not fit"),
    (lambda whole: whole[:-24] + struct.pack("<qq8s", -1, 10, b"ROXXEL01"), "do not fit", "do not fit"),
    (lambda whole: whole[:-24] + struct.pack("<qq8s", 1 << 60, 1 << 62, b"ROXXEL01"), "do not fit", "do not fit"),
    (lambda whole: whole[:-40] + struct.pack("<q", -5) + whole[-32:], "is said to be from", "record 2 ends at -5"),
]


@pytest.mark.parametrize(("damage", "text", "index_text"), DAMAGES)
def test_damaged_archives_are_named(
    archive: Path, damage: Callable[[bytes], bytes], text: str, index_text: str
) -> None:
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(ultar.ShardFormatError, match=text) as caught, Roxxel(str(archive)) as dataset:
        contents(dataset)
    assert isinstance(caught.value, ValueError) and caught.value.filename == str(archive)
    with pytest.raises(ultar.ShardFormatError, match=rf"a\.rox: at offset \d+: .*({index_text})") as caught:
        ultar.index(archive)
    assert not isinstance(caught.value, ultar.TarFormatError) and caught.value.offset is not None


def test_archives_are_shards(archive: Path, script: str, config_of: Callable[[Path], dict[str, object]]) -> None:
    Roxxel(str(archive.with_name("b.rox"))).write([b'{"label": 3}', b'{"label": 4}'])
    dataset = ultar.Dataset(archive.parent)
    assert [row["bin"] for row in dataset] == [*PAYLOADS, b'{"label": 3}', b'{"label": 4}']
    assert dataset[-1]["bin"] == b'{"label": 4}'
    assert dataset.record(1) == ultar.Record(str(archive), "1", (".bin",), (5,), (1,))
    rows = ultar.DataLoader(script, config_of(archive))  # type: ignore[arg-type]
    assert [bytes(row.view(".bin")) for row in rows] == PAYLOADS
    ultar.index(dataset.shards[1], metadata_rules=[".bin:.label"])
    assert len(ultar.Dataset(dataset.shards[1:]).where('metadata[".label"] == 4')) == 1


def test_streams_and_arrays_of_payloads(archive: Path) -> None:
    stream = ultar.Dataset(archive).shuffle(seed=3).batch(3, collate={".bin": ("u1", (None,))})
    seen = []
    for batch in stream:
        values, offsets = (np.asarray(part) for part in batch[".bin"])
        seen += [values[begin:end].tobytes() for begin, end in itertools.pairwise(offsets)]
    assert sorted(seen) == sorted(PAYLOADS)


def test_what_a_shard_is_by_its_name_and_by_its_bytes(archive: Path, tmp_path: Path) -> None:
    other = archive.rename(tmp_path / "shard-0")
    assert ultar.index(other).samples == len(PAYLOADS)
    misnamed = tmp_path / "shard.tar"
    misnamed.write_bytes(other.read_bytes())
    with pytest.raises(ultar.TarFormatError, match="not a tar"):
        ultar.index(misnamed)


def test_appending_makes_the_index_old(archive: Path) -> None:
    assert ultar.index(archive).samples == 4
    os.utime(f"{archive}.utix", ns=(0, 0))
    Roxxel(str(archive)).write([b"more"])
    assert len(ultar.Dataset(archive)) == 5


def test_folders_of_shards(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none of ours")
    assert ultar.Dataset(tmp_path).shards == (str(archive),)
    (tmp_path / "x.npz").write_bytes(b"")
    with pytest.raises(ultar.ReadError, match=r"NPZ and Roxxel files in this folder"):
        ultar.Dataset(tmp_path)
    assert ultar.Dataset(tmp_path / "*.rox").shards == (str(archive),)
