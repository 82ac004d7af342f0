"""`index` and `check`: what is skipped, what fails, what is reported; and the names of shards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
from conftest import write_tar

import ultar_dataloader as ultar
from ultar_dataloader import _native, _paths

Make = Callable[..., Path]
CATS = {"cat": {".txt": b"a cat", ".json": b'{"label": 3, "size": [4, 5]}'}, "dog": {".txt": b"", ".json": b"{}"}}


def utix(shard: Path) -> Path:
    return Path(f"{shard}.utix")


def records(shard: Path) -> list[dict[str, object]]:
    index = _native.Index(utix(shard))
    return [index[i] for i in range(len(index))]


def test_an_index_says_where_everything_is(make_shard: Make) -> None:
    shard = make_shard(CATS, index=False)

    summary = ultar.index(shard)

    assert (summary.shards, summary.skipped, summary.samples, summary.entries) == (1, 0, 2, 4)
    assert summary.bytes == sum(len(payload) for members in CATS.values() for payload in members.values())
    assert summary.seconds > 0
    assert summary.warnings == ()
    assert summary.failures == ()
    data = shard.read_bytes()
    with utix(shard).open("rb") as file:
        # Not by our own reader: this is an interchange format.
        found = list(msgpack.Unpacker(file))
    assert [record["iidx"] for record in found] == [0, 1]
    for record, (stem, members) in zip(found, CATS.items(), strict=True):
        assert (record["str_idx"], record["keys"]) == (stem, list(members))
        for offset, size, payload in zip(record["offsets"], record["sizes"], members.values(), strict=True):
            assert data[record["offset"] + offset :][:size] == payload


def test_jsonl_has_the_same_records(make_shard: Make) -> None:
    shard = make_shard(CATS)
    binary = records(shard)

    assert ultar.index(shard, format="jsonl").shards == 1  # Another format is not up to date.

    assert [json.loads(line) for line in utix(shard).read_text().splitlines()] == binary
    assert records(shard) == binary


def test_what_is_up_to_date_is_skipped(make_shard: Make) -> None:
    shard = make_shard(CATS)
    assert ultar.index(shard).skipped == 1
    assert ultar.index(shard, force=True).shards == 1

    newer = utix(shard).stat().st_mtime_ns + 1_000_000_000
    os.utime(shard, ns=(newer, newer))
    assert ultar.index(shard).shards == 1


def test_an_empty_index_is_not_up_to_date(make_shard: Make) -> None:
    shard = make_shard(CATS)
    utix(shard).write_bytes(b"")
    assert ultar.index(shard).shards == 1
    assert len(records(shard)) == 2


@pytest.mark.parametrize("rule", [".json:.label;.size[1]", (".json", [".label", ".size[1]"])])
def test_metadata_rules_pick_values_out(make_shard: Make, rule: str | tuple[str, list[str]]) -> None:
    shard = make_shard(CATS)

    assert ultar.index(shard, metadata_rules=[rule]).shards == 1  # The index there has no metadata.
    assert ultar.index(shard, metadata_rules=[rule]).skipped == 1
    assert ultar.index(shard).skipped == 1  # More than what is asked for.

    assert [record["metadata"] for record in records(shard)] == [
        {".label": 3, ".size[1]": 5},
        {".label": None, ".size[1]": None},
    ]
    assert ultar.check(shard, metadata_rules=[rule]).shards == 1


@pytest.mark.parametrize("rule", [".json", ".json:", ":", "", (".json", [])])
def test_a_rule_without_a_query_is_an_error(make_shard: Make, rule: str | tuple[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="must be KEY:QUERY"):
        ultar.index(make_shard(CATS), metadata_rules=[rule])


def test_a_bad_shard_does_not_stop_the_others(make_shard: Make, tmp_path: Path) -> None:
    good = [make_shard(CATS, f"good-{i}.tar", index=False) for i in range(3)]
    bad = [tmp_path / "bad-0.tar", tmp_path / "bad-1.tar"]
    for path in bad:
        path.write_bytes(good[0].read_bytes()[:600])

    with pytest.raises(ultar.TarFormatError, match=r"bad-0\.tar") as caught:
        ultar.index([bad[0], *good, bad[1]], jobs=2)

    assert caught.value.filename is not None
    assert caught.value.filename.endswith("bad-0.tar")
    assert any("bad-1.tar" in note for note in caught.value.__notes__)
    assert all(utix(path).exists() for path in good)
    assert not any(utix(path).exists() for path in bad)

    summary = ultar.index([*bad, *good], force=True, on_error="skip")
    assert summary.shards == 3
    assert [path for path, _ in summary.failures] == list(map(str, bad))


def test_a_failure_leaves_the_old_index(make_shard: Make) -> None:
    shard = make_shard(CATS)
    before = utix(shard).read_bytes()
    shard.write_bytes(b"no tar at all" * 100)
    with pytest.raises(ultar.TarFormatError):
        ultar.index(shard, force=True)
    assert utix(shard).read_bytes() == before
    assert sorted(path.name for path in shard.parent.iterdir()) == [shard.name, utix(shard).name]


def test_check_finds_what_differs(make_shard: Make) -> None:
    shard = make_shard(CATS)
    assert ultar.check(shard).samples == 2
    before = utix(shard).read_bytes()

    write_tar(shard, {"cat": {".txt": b"another"}})

    with pytest.raises(ultar.IndexFormatError, match="utix"):
        ultar.check(shard)
    assert utix(shard).read_bytes() == before
    utix(shard).unlink()
    with pytest.raises(ultar.ReadError) as caught:
        ultar.check(shard)
    assert caught.value.filename == str(utix(shard))


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_counts_up_to_the_end(make_shard: Make, jobs: int) -> None:
    shards = [make_shard(CATS, f"{i}.tar", index=False) for i in range(4)]
    seen: list[ultar.IndexProgress] = []

    ultar.index(shards, progress=seen.append, jobs=jobs)

    assert [now.shards_done for now in seen] == [1, 2, 3, 4]
    assert {now.path for now in seen} == set(map(str, shards))
    assert seen[-1].bytes_done == seen[-1].bytes_total == sum(shard.stat().st_size for shard in shards)


def test_a_file_of_two_names_is_indexed_once(make_shard: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = make_shard(CATS, "a.tar", index=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.tar").symlink_to(shard)
    (tmp_path / "hard.tar").hardlink_to(shard)
    monkeypatch.chdir(tmp_path)

    summary = ultar.index(["a.tar", "./a.tar", shard, "elsewhere/b.tar", "hard.tar"])

    assert summary.shards == 1
    assert len(summary.warnings) == 2  # The other two are the same name, differently written.
    assert all("with the index beside a.tar" in text for text in summary.warnings)
    assert not utix(elsewhere / "b.tar").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"format": "xml"}, "format must be"), ({"jobs": 0}, "jobs must be"), ({"on_error": "ignore"}, "on_error must")],
)
def test_arguments_are_checked(make_shard: Make, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ultar.index(make_shard(CATS), **arguments)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("s-08.tar", "s-09.tar", "s-10.tar", "s-10.tar.utix", "a{1,2}.tar", "x/t.tar", "y/t.tar"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("s-08.tar", ["s-08.tar"]),
        (["s-10.tar", "s-08.tar"], ["s-10.tar", "s-08.tar"]),
        ("s-{08..10}.tar", ["s-08.tar", "s-09.tar", "s-10.tar"]),
        ("s-{10..09}.tar", ["s-10.tar", "s-09.tar"]),
        ("s-{10,08}.tar", ["s-10.tar", "s-08.tar"]),
        ("{x,y}/*.tar", ["x/t.tar", "y/t.tar"]),
        ("{x,s-{08,09}.tar}", ["x/t.tar", "s-08.tar", "s-09.tar"]),
        ("s-*.tar", ["s-08.tar", "s-09.tar", "s-10.tar"]),
        ("s-0[89].tar", ["s-08.tar", "s-09.tar"]),
        ("a{1,2}.tar", ["a{1,2}.tar"]),  # It exists under this very name.
        (Path("x"), ["x/t.tar"]),
        (".", ["./a{1,2}.tar", "./s-08.tar", "./s-09.tar", "./s-10.tar"]),
    ],
    ids=str,
)
def test_names_of_shards(folder: Path, given: _paths.Paths, names: list[str]) -> None:
    assert _paths.expand(given) == names


@pytest.mark.parametrize("given", ["none.tar", "none-*.tar", "s-{08..11}.tar", "{x,z}", "{08..10", "s-{}.tar"])
def test_a_name_that_is_nothing_is_an_error(folder: Path, given: str) -> None:
    with pytest.raises(ultar.ReadError, match="no such shard") as caught:
        _paths.expand(["s-08.tar", given])
    assert caught.value.filename == given


def test_a_folder_without_shards_is_an_error(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ultar.ReadError, match=r"no \*\.tar"):
        _paths.expand("empty")


def test_a_slip_of_the_key_does_not_fill_the_memory(folder: Path) -> None:
    with pytest.raises(ValueError, match="more than 1,000,000 names"):
        _paths.expand("s-{0..99999999999}.tar")
    with pytest.raises(TypeError, match="path must be str"):
        _paths.expand([b"s-08.tar"])  # type: ignore[list-item]
