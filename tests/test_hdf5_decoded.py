"""HDF5 datasets whose rows are no ranges of the file: compressed, cut by chunks, never written."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import obstore
import pytest

import ultar_dataloader as ultar
from ultar_dataloader import _decoding, _hdf5_source, hdf5

ROWS = 70
IMAGES = np.random.default_rng(1).integers(-9, 9, (ROWS, 20, 30), np.int16)


def write(path: Path) -> Path:
    """A file with datasets of all kinds."""
    with h5py.File(path, "w") as file:
        file["plain"] = IMAGES
        for name, how in {
            "gzip": {"compression": "gzip"},
            "shuffled": {"compression": "gzip", "shuffle": True, "chunks": (8, 7, 11)},
            "only_shuffled": {"shuffle": True},
            "lzf": {"compression": "lzf", "shuffle": True},
            "fletcher32": {"fletcher32": True, "compression": "gzip"},
            "scaled": {"scaleoffset": 0},
            "one": {"compression": "gzip", "chunks": (1, 20, 30)},
            "cut": {"chunks": (8, 7, 30)},
        }.items():
            file.create_dataset(name, data=IMAGES, **{"chunks": (8, 20, 30), **how})
        file.create_dataset("big/endian", data=IMAGES.astype(">f8") / 3, chunks=(3, 20, 30), compression="gzip")
        file.create_dataset("odd", data=IMAGES.view("V6"), chunks=(9, 20, 3), compression="gzip", shuffle=True)
        file.create_dataset("none", (ROWS, 0), "f4")
        file.create_dataset("unwritten", (ROWS, 3), "i4", fillvalue=5)
        resized = file.create_dataset("holes", (40, 4), "f4", maxshape=(None, 4), chunks=(16, 4), fillvalue=7)
        resized[:5] = 1
        resized.resize((ROWS, 4))
        shorter = file.create_dataset("shorter", data=np.arange(100), maxshape=(None,), chunks=(8,), compression="gzip")
        shorter.resize((ROWS,))
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((ROWS,))
        h5py.h5d.create(file.id, b"compact", h5py.h5t.NATIVE_INT32, space, plist).write(
            h5py.h5s.ALL, h5py.h5s.ALL, np.arange(ROWS, dtype=np.int32)
        )
        file["flags"] = np.arange(ROWS) % 3 == 0
        file["scalar"] = 3
        file["empty"] = h5py.Empty("f4")
        arrays = file.create_dataset("arrays", (ROWS,), np.dtype(("<f4", (3,))), compression="gzip")
        arrays[...] = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
        layout = h5py.VirtualLayout((ROWS, 20, 30), np.int16)
        layout[:] = h5py.VirtualSource(file["lzf"])
        file.create_virtual_dataset("virtual", layout)
    return path


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All datasets, as h5py reads them."""
    found: dict[str, Any] = {}
    with h5py.File(write(tmp_path_factory.mktemp("wanted") / "a.h5")) as file:
        file.visititems(lambda name, one: found.update({name: one[...]}) if getattr(one, "shape", ()) else None)
    return found


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write(tmp_path / "a.h5")


def compare(rows: Iterable[ultar.LoadedRow], wanted: dict[str, Any], numbers: Iterable[int], path: Any) -> None:
    decode = hdf5.Decoder(path)
    for number, row in zip(numbers, rows, strict=True):
        arrays = decode(row)
        assert set(arrays) == set(wanted)
        for name, array in arrays.items():
            assert array.dtype == wanted[name].dtype
            np.testing.assert_array_equal(array, wanted[name][number], err_msg=f"{name} {number}")


def test_rows_are_those_that_h5py_reads(shard: Path, wanted: dict[str, Any], io: Any) -> None:
    dataset = ultar.Dataset(shard, io=io)
    keys = dataset.record(0).keys
    decoded = [key[1:] for key, at in zip(keys, dataset.record(0).offsets, strict=True) if at >= 1 << 52]
    assert set(wanted) - set(decoded) == {"plain", "flags", "none"}
    assert dataset.record(ROWS - 1).offsets[-1] < 1 << 53
    compare(dataset, wanted, range(ROWS), shard)
    compare(reversed(dataset), wanted, range(ROWS - 1, -1, -1), shard)
    chosen = random.Random(2).choices(range(ROWS), k=100)
    compare(dataset.read(chosen), wanted, chosen, shard)
    compare([dataset[-1], *dataset.read([3, 0])], wanted, [ROWS - 1, 3, 0], shard)
    assert list(dataset.select([".lzf"])[4]) == [".lzf"]
    assert dataset.select([".lzf"])[4]["lzf"] == IMAGES[4].tobytes()
    assert ultar.check(shard).entries == ROWS * len(wanted)


def test_scripts_and_streams_read_them(
    shard: Path, wanted: dict[str, Any], script: str, config_of: Callable[[Path], Any], io: Any
) -> None:
    ultar.index(shard)
    loader = ultar.DataLoader(script, config_of(shard), io=io)
    for _ in range(2):
        compare(loader, wanted, range(ROWS), shard)
    stats = loader.stats()
    assert stats["rows"] == ROWS and stats["requests"] > 0  # type: ignore[operator]
    decode = hdf5.Decoder(shard)
    stream = ultar.Dataset(shard, io=io).shuffle(seed=3).map(decode).batch(16)
    batches = list(stream)
    assert batches == [] or sorted(np.concatenate([b["shorter"] for b in batches])) == list(range(ROWS))
    for batch in batches:
        np.testing.assert_array_equal(batch["lzf"], IMAGES[batch["shorter"]])


def test_batches_of_fields_of_them(shard: Path, wanted: dict[str, Any]) -> None:
    """Beside those that are ranges of the same file."""
    ultar.index(shard)
    fields: dict[str, Any] = {
        key: (array.dtype.str, array.shape[1:])
        for name, array in wanted.items()
        if (key := f".{name}") in ultar.Dataset(shard)[0]
        and array.dtype.kind in "iuf"
        and array.dtype.str[0] != ">"
        and array.shape[1:]
    }
    assert {".plain", ".lzf"} <= set(fields)
    seen = 0
    for batch in ultar.Dataset(shard).shuffle(seed=3).batch(16, collate=fields):
        arrays = {key: np.asarray(batch[key]) for key in fields}
        for row in range(len(arrays[".lzf"])):
            (number,) = np.flatnonzero((arrays[".lzf"][row] == IMAGES).all(axis=(1, 2)))
            for key in fields:
                np.testing.assert_array_equal(arrays[key][row], wanted[key[1:]][number])
            seen += 1
    assert seen == ROWS


def test_little_room_is_enough(shard: Path, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_decoding, "CACHE_BYTES", 10_000)
    monkeypatch.setattr(_decoding, "_FILES", 1)
    other = write(shard.with_name("b.h5"))
    dataset = ultar.Dataset([shard, other], prefetch_bytes=100_000)
    chosen = random.Random(4).sample(range(2 * ROWS), 2 * ROWS)
    compare(dataset.read(chosen), wanted, [number % ROWS for number in chosen], shard)
    assert (
        dataset._store.fetching.decoding._bands._kept <= 10_000 + ROWS * 1200 + 512
    )  # The largest band goes beyond it.


def test_rows_of_more_than_a_request(tmp_path: Path) -> None:
    rows = np.arange(3 * 3_000_000, dtype=np.int64).reshape(3, -1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=rows, chunks=(1, 500_000), compression="gzip", compression_opts=1)
    for number, row in enumerate(ultar.Dataset(tmp_path / "a.h5")):
        np.testing.assert_array_equal(np.frombuffer(row.view("x"), np.int64), rows[number])


def damage(path: Path, name: str, row: int) -> None:
    """Flip bits in the middle of the chunk of a row."""
    with h5py.File(path) as file:
        info = file[name].id.get_chunk_info(row // file[name].chunks[0])
    with path.open("r+b") as raw:
        raw.seek(info.byte_offset + info.size // 2)
        there = raw.read(8)
        raw.seek(info.byte_offset + info.size // 2)
        raw.write(bytes(byte ^ 255 for byte in there))


@pytest.mark.parametrize("name", ["gzip", "fletcher32", "shuffled"])
def test_a_damaged_chunk_costs_its_rows_only(
    shard: Path, name: str, caplog: pytest.LogCaptureFixture, script: str, config_of: Callable[[Path], Any]
) -> None:
    damage(shard, name, 0 if name == "shuffled" else 9)
    lost = range(8) if name == "shuffled" else range(8, 16)
    hdf5.index(shard, [name])
    dataset = ultar.Dataset(shard, on_error="skip")
    for rows in (dataset, ultar.DataLoader(script, config_of(shard), on_error="skip")):
        got = [np.frombuffer(row[name], np.int16).reshape(20, 30) for row in rows]
        np.testing.assert_array_equal(got, np.delete(IMAGES, lost, axis=0))
    with pytest.raises(
        ultar.ReadError, match=rf"a\.h5: entry \".{name}\" .*: dataset {name}, row {lost[3]}: "
    ) as caught:
        dataset[lost[3]]
    assert caught.value.errno == errno.EIO and caught.value.filename == str(shard)
    assert caught.value.length == 1200
    with pytest.raises(ultar.ReadError, match=rf"dataset {name}, row {lost[0]}: rows .* cannot be decoded"):
        list(ultar.Dataset(shard))


def test_two_chunks_of_one_place_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=IMAGES, chunks=(8, 20, 30), compression="gzip")
    ultar.index(path)
    key = np.array([24, 0, 0, 0], "<u8").tobytes()  # The place of a chunk, as the file has it.
    raw = path.read_bytes()
    assert raw.count(key) == 1
    path.write_bytes(raw.replace(key, bytes(len(key))))
    dataset = ultar.Dataset(path, "require")
    with pytest.raises(ultar.ReadError, match=r"dataset x, row 3: .* there are two chunks \(0, 0, 0\)"):
        dataset[3]


def test_a_file_that_is_changed_in_use_is_noticed(shard: Path) -> None:
    dataset = ultar.Dataset(shard).select([".gzip", ".lzf"])
    assert dataset[0]["gzip"] == IMAGES[0].tobytes()
    os.utime(shard, ns=(1, 1))
    for key in ("gzip", "lzf"):
        with pytest.raises(ultar.ReadError, match="row 40: the file was changed while it was in use") as caught:
            dataset.select([f".{key}"])[40]
        assert caught.value.errno == errno.ESTALE
    dataset.close()
    assert dataset[40]["lzf"] == IMAGES[40].tobytes()


def test_an_index_of_another_file_is_noticed(shard: Path) -> None:
    ultar.index(shard)
    with h5py.File(shard, "a") as file:
        del file["gzip"]
        file.create_dataset("gzip", data=IMAGES.astype("f8"), compression="gzip")
    dataset = ultar.Dataset(shard, "require").select([".gzip"])
    with pytest.raises(ultar.ReadError, match="was changed after it was indexed: dataset gzip had its first row at"):
        dataset[3]
    dataset = ultar.Dataset(shard)
    assert len(dataset[3]["gzip"]) == 4800
    with h5py.File(shard, "a") as file:
        file["shorter"].resize((ROWS - 1,))
    dataset = ultar.Dataset(shard, "require").select([".shorter"])
    with pytest.raises(ultar.ReadError, match="there is no such row: the file was changed after it was indexed"):
        dataset[-1]
    shard.write_bytes(b"no HDF5")
    with pytest.raises(ultar.ReadError, match=r"a\.h5: .*not an HDF5 file that can be read"):
        ultar.Dataset(shard, "require").select([".gzip"])[3]


def test_threads_share_a_dataset(shard: Path) -> None:
    dataset = ultar.Dataset(shard).select([".lzf", ".gzip", ".virtual"])
    failures: list[BaseException] = []

    def read(seed: int) -> None:
        try:
            for number in random.Random(seed).sample(range(ROWS), 20):
                assert {bytes(payload) for payload in dataset[number].values()} == {IMAGES[number].tobytes()}
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_child_of_a_fork_opens_files_anew(shard: Path, script: str, config_of: Callable[[Path], Any]) -> None:
    ultar.index(shard)
    dataset = ultar.Dataset(shard)
    loader = ultar.DataLoader(script, config_of(shard))
    held = iter(dataset)
    next(held)
    assert len(list(loader)) == ROWS
    child = os.fork()
    if child == 0:
        try:
            assert [row["lzf"] for row in loader] == [image.tobytes() for image in IMAGES]
            assert dataset[5]["gzip"] == IMAGES[5].tobytes()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert sum(1 for _ in held) == ROWS - 1
    assert dataset[6]["lzf"] == IMAGES[6].tobytes()


def open_files() -> int:
    gc.collect()
    return int(h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_ALL))


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not is_so() and time.monotonic() < until:
        time.sleep(0.01)
    assert is_so()


def test_handles_are_given_back(shard: Path, wanted: dict[str, Any]) -> None:
    before = open_files(), len(os.listdir("/proc/self/fd"))
    dataset = ultar.Dataset(shard)
    copy = pickle.loads(pickle.dumps(dataset))
    row = dataset[3]
    compare(copy, wanted, range(ROWS), shard)
    assert open_files() > before[0]
    dataset.close()
    copy.close()
    wait_until(lambda: open_files() <= before[0])
    compare([row, dataset[4]], wanted, [3, 4], shard)
    del dataset, copy, row
    wait_until(lambda: open_files() <= before[0] and len(os.listdir("/proc/self/fd")) <= before[1])


def test_reading_names_the_extra(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ultar.index(shard)
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert ultar.Dataset(shard).select([".plain"])[3]["plain"] == IMAGES[3].tobytes()
    with pytest.raises(ultar.ReadError, match=r"needs h5py: pip install 'ultar-dataloader\[hdf5\]'"):
        ultar.Dataset(shard)[3]


def test_the_command_knows_them(shard: Path, command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert command("index", shard).returncode == 0
    assert ".lzf" in command("inspect", shard).stdout
    ran = command("bench", shard)
    assert ran.returncode != 0 and "its rows are decoded, so no bare reads give the same" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_object_in_a_store(
    shard: Path, wanted: dict[str, Any], script: str, config_of: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(shard.parent))
    with h5py.File(shard, "a") as file:
        file["large"] = np.zeros((ROWS, 100_000), np.uint8)
    wanted = {**wanted, "large": np.zeros((ROWS, 100_000), np.uint8)}
    store = ultar.memory_store("hdf5")
    obstore.put(store, "d/a.h5", shard.read_bytes())
    obstore.put(store, "d/unnamed", shard.read_bytes())
    url = "memory://hdf5/d/a.h5"
    read_bytes: list[int] = []
    read = _hdf5_source.Object.read
    monkeypatch.setattr(
        _hdf5_source.Object, "read", lambda self, at, size: read_bytes.append(size) or read(self, at, size)
    )
    assert ultar.index(url).entries == ROWS * len(wanted)
    assert sum(read_bytes) < 1_500_000 < 7_000_000
    assert (ultar.index(url).skipped, ultar.check(url).samples) == (1, ROWS)
    for path in (url, "memory://hdf5/d/unnamed"):
        dataset = ultar.Dataset(path)
        compare(dataset, wanted, range(ROWS), url)
        compare([dataset[-1], dataset[3]], wanted, [ROWS - 1, 3], url)
    compare(ultar.DataLoader(script, config_of(url)), wanted, range(ROWS), url)
    assert hdf5.index(url, ["lzf", "plain"])["entries"] == 2 * ROWS
    assert set(ultar.Dataset(url)[3]) == {".lzf", ".plain"}
    dataset = ultar.Dataset(path).select([".shorter"])
    dataset[3]
    obstore.put(store, "d/unnamed", shard.read_bytes()[:-1] + b"x")
    with pytest.raises(ultar.ReadError, match="the object was changed while it was in use") as caught:
        list(dataset[8:])
    assert caught.value.errno == errno.ESTALE


def test_objects_that_are_malformed_are_named(shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = ultar.memory_store("hdf5-bad")
    for content in (b"", b"no HDF5", shard.read_bytes()[:9000]):
        obstore.put(store, "a.h5", content)
        with pytest.raises(ultar.ShardFormatError, match=r"memory://hdf5-bad/a\.h5: not an HDF5 file that can be read"):
            ultar.index("memory://hdf5-bad/a.h5")
    with pytest.raises(ultar.ReadError, match="no such object"):
        hdf5.index("memory://hdf5-bad/none.h5")


def test_a_program_may_end_at_any_time(shard: Path) -> None:
    for end in ("", "del dataset", "del rows", "import os; os.kill(os.getpid(), 2)", "sys.exit(0)"):
        code = f"""
            import sys, ultar_dataloader as ultar
            dataset = ultar.Dataset({os.fspath(shard)!r})
            dataset[3]
            rows = iter(dataset)
            next(rows)
            {end}
        """
        ran = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode in (0, -2), (end, ran.stderr)
        assert "Error" not in ran.stderr, (end, ran.stderr)
