"""Parquets beside shards: as img2dataset leaves them, into indexes and out of them."""

from __future__ import annotations

import datetime
import os
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_tar
from hypothesis import given, settings
from hypothesis import strategies as st

import ultar_dataloader as ultar
from ultar_dataloader.cli.main import main
from ultar_dataloader.side_files import parquet

KEYS = [f"00042000{i}" for i in range(5)]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """Four of five images, as the fifth could not be downloaded."""
    samples = {key: {".jpg": key.encode(), ".json": b'{"key": "%s"}' % key.encode()} for key in KEYS[:4]}
    return write_tar(tmp_path / "00042.tar", samples)


def beside(shard: Path, **columns: Any) -> Path:
    path = shard.with_suffix(".parquet")
    pq.write_table(pa.table(columns), path)
    return path


def all_metadata(shard: Path) -> list[dict[str, Any]]:
    ds = ultar.Dataset(shard, "require")
    return [ds.record(i).metadata for i in range(len(ds))]


def test_columns_become_metadata(shard: Path) -> None:
    beside(
        shard,
        caption=["a", "é", "", None, "x"],
        key=KEYS,
        status=["success"] * 4 + ["failed_to_download"],
        width=pa.array([512, 256, 1024, 2048, None], pa.int32()),
        similarity=pa.array([0.5, 0.25, None, 1, 0], pa.float16()),
        nsfw=[False, True, None, False, None],
        boxes=pa.array([[[1, 2]], [], None, [[3], None], None], pa.list_(pa.list_(pa.uint8()))),
        exif=[{"a": {"b": i}} for i in range(5)],
        license=pa.array(["by", "nc", "by", None, "by"]).dictionary_encode(),
    )
    summary = parquet.index(shard)
    assert (summary.samples, summary.entries) == (4, 8)
    assert summary.warnings == (f"{shard}: {shard.with_suffix('.parquet')}: 1 row without a sample: '000420004'",)
    assert all_metadata(shard)[1] == {
        ".caption": "é",
        ".status": "success",
        ".width": 256,
        ".similarity": 0.25,
        ".nsfw": True,
        ".boxes": [],
        ".exif": {"a": {"b": 1}},
        ".license": "nc",
    }
    assert [list(found.values()) for found in all_metadata(shard)[2:]] == [
        ["", "success", 1024, None, None, None, {"a": {"b": 2}}, "by"],
        [None, "success", 2048, 1.0, False, [[3], None], {"a": {"b": 3}}, None],
    ]
    ds = ultar.Dataset(shard)
    assert [row["jpg"].decode() for row in ds.where('(metadata[".width"] or 0) >= 512')] == [KEYS[0], *KEYS[2:4]]
    assert len(ds.where('metadata[".exif"].a.b == 2 or metadata[".nsfw"]')) == 2
    assert ultar.check(shard).samples == 4


def test_scripts_have_it(shard: Path) -> None:
    beside(shard, key=KEYS, width=[1, 2, 3, 4, 5])
    parquet.index(shard)
    script = """
    local loader, utix = require("ultar.loader"), require("ultar.utix")
    return { init_ctx = function(_, _, config) return config end, row_generator = function(config)
      for row in utix.open(config.idx):iter() do
        loader:add_entry_bytes("w", tostring(row.metadata[".width"]))
        loader:finish_row()
      end
    end }"""
    assert [row["w"] for row in ultar.DataLoader(script, {"idx": f"{shard}.utix"})] == [b"1", b"2", b"3", b"4"]


def test_there_and_back(shard: Path, tmp_path: Path) -> None:
    ultar.index(shard, metadata_rules=[".json:.key"])
    beside(shard, key=KEYS, width=[1, 2, 3, 4, 5], __offsets__=[0] * 5)
    parquet.index(shard, columns=["width"])
    before = Path(f"{shard}.utix").read_bytes()
    assert all_metadata(shard)[0] == {".key": KEYS[0], ".width": 1}
    (tmp_path / "out").mkdir()
    assert parquet.write(shard, folder=tmp_path / "out").samples == 4
    table = pq.read_table(tmp_path / "out/00042.parquet")
    record = ultar.Dataset(shard).record(1)
    assert table.slice(1, 1).to_pylist() == [
        {
            "key": record.stem,
            "__keys__": list(record.keys),
            "__offsets__": list(record.offsets),
            "__sizes__": list(record.sizes),
            ".key": KEYS[1],
            "width": 2,
        }
    ]
    parquet.index(shard, folder=tmp_path / "out")
    assert Path(f"{shard}.utix").read_bytes() == before
    parquet.index(shard, folder=tmp_path / "out", force=True)  # All of it is in the parquet.
    assert Path(f"{shard}.utix").read_bytes() == before
    parquet.write(shard, columns=[".width"], folder=tmp_path / "out")
    assert pq.read_schema(tmp_path / "out/00042.parquet").names[4:] == ["width"]
    with pytest.raises(ValueError, match="there is no metadata 'x': there is .key, width"):
        parquet.write(shard, columns=["x"])


def test_samples_without_a_row(shard: Path) -> None:
    side = beside(shard, uid=KEYS[1:4], width=[1, 2, 3])
    with pytest.raises(
        ultar.IndexFormatError,
        match=r"00042\.parquet: does not describe .*00042\.tar: sample 0, '000420000': wanted a row with this key",
    ) as caught:
        parquet.index(shard, key="uid")
    assert caught.value.filename == str(side)
    summary = parquet.index(shard, key="uid", missing="null")
    assert summary.warnings == (f"{shard}: {side}: 1 sample without a row: '000420000'",)
    assert [found[".width"] for found in all_metadata(shard)] == [None, 1, 2, 3]
    with pytest.raises(ValueError, match="missing must be 'error' or 'null', got 'skip'"):
        parquet.index(shard, missing="skip")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="columns must be several"):
        parquet.index(shard, columns="width")


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"width": [1]}, r"column 'key' is not among width"),
        ({"key": [1]}, "column 'key': wanted strings, the stems of samples, got int64"),
        ({"key": [*KEYS[:4], None]}, "row 4: wanted a key in column 'key', got null"),
        ({"key": [*KEYS[:4], KEYS[1]]}, "row 4: key '000420001' is there twice"),
        ({"key": KEYS, "x": [b"x"] * 5}, "column 'x': no index holds binary; choose other columns"),
        ({"key": KEYS, "x": [datetime.datetime(2024, 1, 1)] * 5}, r"column 'x': no index holds timestamp\[us\]"),
        ({"key": KEYS, "x": [[Decimal("1.5")]] * 5}, "column 'x': no index holds list<"),
        ({"key": KEYS, "x": [0, 1, 2**53 + 1, 3, 4]}, r"column 'x': row 2: 9007199254740993 is beyond 2\^53"),
        ({"key": KEYS, "x": [{"a": [-(2**60)]}] * 5}, "column 'x': row 0: -1152921504606846976 is beyond"),
    ],
)
def test_what_no_index_holds(shard: Path, columns: dict[str, Any], text: str) -> None:
    side = beside(shard, **columns)
    with pytest.raises(ultar.IndexFormatError, match=text) as caught:
        parquet.index(shard)
    assert caught.value.filename == str(side) and not Path(f"{shard}.utix").exists()


def test_files_that_are_no_parquet(shard: Path) -> None:
    side = beside(shard, key=KEYS, width=[1, 2, 3, 4, 5])
    whole = side.read_bytes()
    for content in (b"", b"PAR1", whole[:-1], whole[4:], whole[: len(whole) // 2], b"x" * 1000):
        side.write_bytes(content)
        with pytest.raises(ultar.IndexFormatError, match=r"00042\.parquet: not a parquet file that can be read"):
            parquet.index(shard)
    side.unlink()
    with pytest.raises(ultar.ReadError, match=r"00042\.parquet: No such file"):
        parquet.index(shard)
    side.mkdir()
    with pytest.raises(ultar.IndexFormatError, match="Is a directory"):
        parquet.index(shard)


def test_damaged_parquets_are_errors(shard: Path) -> None:
    side = beside(shard, key=KEYS, width=[1, 2, 3, 4, 5], tags=[["a"], [], None, ["b", "c"], ["d"]])
    whole = side.read_bytes()
    rng = random.Random(7)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        side.write_bytes(damaged)
        with suppress(ultar.IndexFormatError):
            parquet.index(shard)
    assert len(ultar.Dataset(shard)) == 4


def test_what_no_parquet_holds(tmp_path: Path) -> None:
    mixed = write_tar(tmp_path / "a.tar", {"0": {".json": b'{"x": 1}'}, "1": {".json": b'{"x": "a"}'}})
    ultar.index(mixed, metadata_rules=[".json:.x"])
    with pytest.raises(ultar.WriteError, match=r"a\.parquet: cannot write: column 'x': "):
        parquet.write(mixed)
    assert parquet.write(mixed, columns=[]).samples == 2
    empty = write_tar(tmp_path / "b.tar", {"0": {".json": b'{"x": {}}'}})
    ultar.index(empty, metadata_rules=[".json:.x"])
    with suppress(ultar.WriteError):  # Structures without fields: newer versions of Arrow write them.
        parquet.write(empty)
    bytes_name = write_tar(tmp_path / "c.tar", {"\udcff": {".json": b"{}"}})
    with pytest.raises(ultar.WriteError, match=r"c\.parquet: cannot write: column 'key'"):
        parquet.write(bytes_name)


def test_metadata_is_not_lost_to_a_newer_shard(shard: Path) -> None:
    beside(shard, key=KEYS, width=[1, 2, 3, 4, 5])
    parquet.index(shard)
    os.utime(f"{shard}.utix", (1, 1))
    for convert in (parquet.write, parquet.index):
        with pytest.raises(ultar.IndexFormatError, match=r"tar\.utix: is older than its shard, and has metadata"):
            convert(shard)
    assert all_metadata(shard)[0] == {".width": 1}
    parquet.index(shard, force=True)
    assert parquet.write(shard).shards == 1


def test_other_containers_have_metadata_too(tmp_path: Path) -> None:
    from ultar_dataloader import zero_copy

    zero_copy.write(tmp_path / "a.bin", (bytes([i]) for i in range(3)))
    beside(tmp_path / "a.bin", key=["0", "1", "2"], even=[True, False, True])
    parquet.index(tmp_path / "a.bin")
    assert [row["bin"] for row in ultar.Dataset(tmp_path / "a.bin").where('metadata[".even"]')] == [b"\0", b"\2"]


VALUES = st.sampled_from(
    [
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
        st.lists(st.integers(-40, 300), max_size=20),
        st.lists(st.lists(st.text(max_size=3), max_size=2) | st.none(), max_size=3),
        st.fixed_dictionaries({"a": st.none() | st.integers(0, 70_000), "b": st.lists(st.booleans(), max_size=2)}),
    ]
)


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(data=st.data(), kinds=st.lists(VALUES, max_size=4), count=st.integers(1, 20))
def test_any_values_come_back(data: st.DataObject, kinds: list[st.SearchStrategy[Any]], count: int) -> None:
    columns = {
        f"c{i}": data.draw(st.lists(st.none() | kind, min_size=count, max_size=count)) for i, kind in enumerate(kinds)
    }
    with tempfile.TemporaryDirectory() as folder:
        tar = write_tar(Path(folder, "a.tar"), {str(i): {".x": b""} for i in range(count)})
        beside(tar, key=[str(i) for i in range(count)], **columns)
        parquet.index(tar)
        wanted = [{f".{name}": values[i] for name, values in columns.items()} for i in range(count)]
        assert all_metadata(tar) == wanted
        parquet.write(tar)
        parquet.index(tar)
        assert all_metadata(tar) == wanted


def test_the_command(shard: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(shard.parent)
    beside(shard, uid=KEYS[:3], width=[1, 2, 3], height=[1, 2, 3])
    assert main(["convert", "--from", "parquet", "00042.tar", "--key", "uid", "--column", "width"]) == 1
    assert "sample 3, '000420003': wanted a row" in capsys.readouterr().err
    line = "convert --from parquet 00042.tar --key uid --column width --missing null"
    assert main(line.split()) == 0
    assert all_metadata(shard)[2:] == [{".width": 3}, {".width": None}]
    (shard.parent / "out").mkdir()
    assert main(["convert", "--to", "parquet", "00042.tar", "--dir", "out", "--column", "width"]) == 0
    assert pq.read_table(shard.parent / "out/00042.parquet").column("width").to_pylist() == [1, 2, 3, None]


def test_the_library_that_is_missing_is_named(
    shard: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    calls: list[Callable[..., object]] = [parquet.write, parquet.index]
    for call in calls:
        with pytest.raises(ImportError, match=r"parquet needs pyarrow: pip install 'ultar-dataloader\[parquet\]'"):
            call(shard)
    assert main(["convert", "--to", "parquet", str(shard)]) == 1
    assert "pip install 'ultar-dataloader[parquet]'" in capsys.readouterr().err
