"""Lists of shards as wids has them, and the command that converts side files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import obstore
import pytest
from conftest import write_tar
from hypothesis import given, settings
from hypothesis import strategies as st

import ultar_dataloader as ultar
from ultar_dataloader.cli.main import main
from ultar_dataloader.side_files import wids

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards, of two samples and of one, in `data`."""
    (tmp_path / "data").mkdir()
    write_tar(tmp_path / "data/a.tar", {"0": {".txt": b"a", ".x.y": b"bc"}, "1": {".txt": b""}})
    write_tar(tmp_path / "data/b.tar", {"d/2": {".txt": b"d"}, "README": {"": b"e"}})
    return tmp_path


def listing(*shards: object, **more: object) -> str:
    return json.dumps({"wids_version": 1, "shardlist": shards, **more})


def test_a_list_is_written_as_widsindex_does(folder: Path) -> None:
    path = folder / "lists/all.json"
    path.parent.mkdir()
    summary = wids.write(path, folder / "data", name="all", md5=True)
    sums = [hashlib.md5((folder / f"data/{name}.tar").read_bytes()).hexdigest() for name in "ab"]
    assert json.loads(path.read_text()) == {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": "all",
        "shardlist": [
            {"url": "../data/a.tar", "nsamples": 2, "filesize": 10240, "md5sum": sums[0]},
            {"url": "../data/b.tar", "nsamples": 1, "filesize": 10240, "md5sum": sums[1]},
        ],
    }
    assert (summary.shards, summary.samples, summary.entries) == (2, 3, 4)
    assert summary.warnings == (f"{folder}/data/b.tar: 1 member left out, as wids passes over such names: 'README'",)
    assert wids.read(path) == [
        wids.Shard(f"{folder}/data/a.tar", 2, 10240, sums[0]),
        wids.Shard(f"{folder}/data/b.tar", 1, 10240, sums[1]),
    ]
    assert wids.index(path, md5=True).samples == 3


def test_a_list_is_taken_wherever_shards_are(folder: Path, command: Command) -> None:
    wids.write(folder / "all.json", [folder / "data/b.tar", folder / "data/a.tar"])
    ds = ultar.Dataset(folder / "all.json")
    assert ds.shards == (f"{folder}/data/b.tar", f"{folder}/data/a.tar") and len(ds) == 4
    assert ultar.check([folder / "all.json", folder / "data/a.tar"]).shards == 2
    (folder / "all.json").write_text("{}")
    with pytest.raises(ultar.IndexFormatError, match=r'all\.json: "wids_version": wanted 1, got null'):
        ultar.Dataset(folder / "all.json")
    done = command("index", "all.json", "data/a.tar")
    assert done.returncode == 1 and done.stdout.startswith("0 shards indexed, 1 up to date, 1 failed")


def test_where_urls_lead(tmp_path: Path) -> None:
    def paths(text: str) -> list[str]:
        (tmp_path / "x.json").write_text(text)
        return [shard.path for shard in wids.read(tmp_path / "x.json")]

    def one(url: str, **more: object) -> list[str]:
        return paths(listing({"url": url, "nsamples": 1}, **more))

    assert one("a.tar") == [f"{tmp_path}/a.tar"] and one("../d/./a.tar") == [f"{tmp_path.parent}/d/a.tar"]
    assert one("/data/a.tar") == one("file:/data/a.tar") == one("file:///data/a.tar") == ["/data/a.tar"]
    assert one("s3://b/a.tar") == one("a.tar", base="s3://b") == one("../a.tar", base="s3://b/c/") == ["s3://b/a.tar"]
    assert one("a.tar", base="sub") == one("a.tar", base="sub/") == [f"{tmp_path}/sub/a.tar"]
    inner = {"shardlist": [{"url": "b.tar", "nsamples": 2}]}
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/y.json").write_text(json.dumps({"wids_version": 1, **inner}))
    parts = [inner, {**inner, "base": "/data"}, {"source_url": "sub/y.json"}]
    assert one("a.tar", datasets=parts) == [
        f"{tmp_path}/a.tar",
        f"{tmp_path}/b.tar",
        "/data/b.tar",
        f"{tmp_path}/sub/b.tar",
    ]
    (tmp_path / "sub/y.json").write_text(json.dumps({**inner, "datasets": parts}))
    with pytest.raises(ultar.IndexFormatError, match=r"sub/y\.json: .*x\.json refers to it, and it refers further"):
        one("a.tar", datasets=parts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ('{"wids_version": 1, "shardlist": [', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "wanted an object with a shardlist, got a list"),
        ('{"wids_version": 2, "shardlist": []}', '"wids_version": wanted 1, got 2'),
        ('{"wids_version": true, "shardlist": []}', '"wids_version": wanted 1, got true'),
        ('{"wids_version": 1}', "lists no shard"),
        (listing(), "lists no shard"),
        (listing(1), r"shardlist\[0\]: wanted an object, got a number"),
        ('{"wids_version": 1, "shardlist": "a.tar"}', "shardlist: wanted a list, got a string"),
        (listing({"nsamples": 1}), r"shardlist\[0\]\.url: wanted a string, got null"),
        (listing({"url": "a\0.tar", "nsamples": 1}), r"shardlist\[0\]\.url: wanted a string"),
        (listing({"url": "\ud800.tar", "nsamples": 1}), r'url: wanted a string, got "\\ud800.tar"'),
        (listing({"url": "a.tar"}), r"shardlist\[0\]\.nsamples: wanted a whole number, got null"),
        (listing({"url": "a.tar", "nsamples": "1"}), 'nsamples: wanted a whole number, got "1"'),
        (listing({"url": "a.tar", "nsamples": -1}), "nsamples: wanted a whole number, got -1"),
        (listing({"url": "a.tar", "nsamples": 2**64}), "nsamples: wanted a whole number"),
        (listing({"url": "a.tar", "nsamples": 1, "filesize": 1.5}), "filesize: wanted a whole number, got 1.5"),
        (listing({"url": "a.tar", "nsamples": 1, "md5sum": "xyz"}), "md5sum: wanted 32 hexadecimal digits, got 'xyz'"),
        (listing({"url": "pipe:cat a.tar", "nsamples": 1}), "'pipe:cat a.tar' is no path and no URL"),
        (listing({"url": "ftp://h/a.tar", "nsamples": 1}), "ftp://h/a.tar: URLs of shards begin with s3://"),
        (listing({"url": "a.tar", "nsamples": 1}, base=3), "base: wanted a string, got 3"),
        (listing({"url": "a.tar", "nsamples": 1}, datasets={}), "datasets: wanted a list, got an object"),
        (listing(datasets=[{"x": 1}]), r"datasets\[0\]\.shardlist: wanted a list, got nothing"),
        (listing(datasets=[{"source_url": 1}]), r"datasets\[0\]\.source_url: wanted a string, got 1"),
    ],
)
def test_what_is_wrong_with_a_list(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ultar.IndexFormatError, match=message) as caught:
        wids.read(tmp_path / "x.json")
    assert caught.value.filename == str(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"nsamples": 3}, "nsamples: wanted 2, got 3"),
        ({"filesize": 1}, "filesize: wanted 10240, got 1"),
        ({"md5sum": "0" * 32}, "md5sum: wanted [0-9a-f]{32}, got 0{32}"),
    ],
)
def test_a_list_and_shards_that_differ(folder: Path, change: dict[str, object], text: str) -> None:
    path = folder / "x.json"
    path.write_text(listing({"url": "data/a.tar", "nsamples": 2, **change}, {"url": "data/b.tar", "nsamples": 1}))
    with pytest.raises(ultar.IndexFormatError, match=rf"x\.json: does not describe .*data/a\.tar: {text}"):
        wids.index(path, md5=True)
    summary = wids.index(path, md5=True, on_error="skip")
    assert summary.shards == 1 and [name for name, _ in summary.failures] == [f"{folder}/data/a.tar"]


def test_what_no_list_can_hold(folder: Path) -> None:
    path = folder / "x.json"
    for name in ("a?b.tar", "a#b.tar", "a;b.tar"):
        (folder / name).write_bytes((folder / "data/a.tar").read_bytes())
        with pytest.raises(ultar.WriteError, match="is no URL, which wids would take it for"):
            wids.write(path, folder / name)
        assert not path.exists()
    (folder / "s3:a.tar").write_bytes((folder / "data/a.tar").read_bytes())
    wids.write(path, folder / "s3:a.tar")
    assert json.loads(path.read_text())["shardlist"][0]["url"] == "./s3:a.tar"
    assert len(ultar.Dataset(path)) == 2
    long = write_tar(folder / "long.tar", {"x" * 101: {".txt": b""}})
    assert "wids reads 100 bytes of a name" in wids.write(path, long).warnings[0]
    path.write_text(listing({"url": "data", "nsamples": 1}))
    with pytest.raises(ultar.IndexFormatError, match="lists what is no shard"):
        wids.index(path)
    path.write_text(listing({"url": "none.tar", "nsamples": 1}))
    with pytest.raises(ultar.ReadError, match=r"none\.tar"):
        wids.index(path)


def test_shards_in_stores(folder: Path) -> None:
    store = ultar.memory_store("wids")
    options = {"cache": folder / "cache"}
    obstore.put(store, "d/a.tar", (folder / "data/a.tar").read_bytes())
    wids.write(folder / "x.json", "memory://wids/d/a.tar", storage_options=options)
    assert wids.read(folder / "x.json") == [wids.Shard("memory://wids/d/a.tar", 2, 10240, None)]
    obstore.put(store, "d/x.json", listing({"url": "a.tar", "nsamples": 2}).encode())
    assert wids.index("memory://wids/d/x.json", storage_options=options).samples == 2
    assert len(ultar.Dataset("memory://wids/d/x.json", storage_options=options)) == 2
    with pytest.raises(ValueError, match="checksums are made of local shards only"):
        wids.write(folder / "x.json", "memory://wids/d/a.tar", md5=True, storage_options=options)
    with pytest.raises(ultar.ReadError, match=r"memory://wids/none\.json"):
        wids.read("memory://wids/none.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("a.tar"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["shardlist", "datasets", "url", "nsamples", "filesize", "md5sum", "base", "source_url"]),
            inner,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(top=st.dictionaries(st.sampled_from(["shardlist", "datasets", "base"]), JSON), whole=st.booleans())
def test_any_json_is_a_list_or_an_error(top: dict[str, object], whole: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.json")
        text = json.dumps({"wids_version": 1, **top})
        path.write_text(text if whole else text[: len(text) // 2])
        with suppress(ultar.IndexFormatError, ultar.ReadError):
            assert all(shard.path and shard.samples >= 0 for shard in wids.read(path))


def test_the_command_converts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def convert(line: str) -> tuple[int, str, str]:
        status = main(["convert", *line.split()])
        return status, *capsys.readouterr()

    monkeypatch.chdir(folder)
    status, out, err = convert("--to wids data -o x.json --md5 --name n --jobs 1")
    assert status == 0 and out.startswith("2 shards converted: 3 samples, 4 entries, 4 B in ")
    assert err == "warning: data/b.tar: 1 member left out, as wids passes over such names: 'README'\n"
    assert convert("--from wids x.json --md5")[0] == 0
    assert convert("--to energon x.json")[0] == 0
    assert convert("--from energon data --force")[0] == 0
    (folder / "idx").mkdir()
    assert convert("--to dali data --dir idx")[0] == 0
    assert sorted(path.name for path in (folder / "idx").iterdir()) == ["a.idx", "b.idx"]
    (folder / "idx/b.idx").write_text("v1.2 1\n")
    status, out, err = convert("--from dali data --dir idx --json")
    found = json.loads(out)
    assert status == 1 and (found["shards"], found["samples"]) == (1, 2)
    text = "idx/b.idx: line 1: wanted a line for each of 1 samples, got 0 lines"
    assert found["failures"] == [{"path": "data/b.tar", "error": text}] and err == f"error: {text}\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("x", "one of the arguments --to --from is required"),
        ("--to dali --from dali x", "not allowed with"),
        ("--to mds x", "invalid choice"),
        ("--to wids x", "--to wids wants -o JSON"),
        ("--from wids x y", "--from wids wants one PATH"),
        ("--to dali x -o x", "-o has no meaning with --to dali"),
        ("--to parquet x --key x", "--key has no meaning with --to parquet"),
        ("--from dali x --column x", "--column has no meaning with --from dali"),
        ("--to wids x --dir x -o x", "--dir has no meaning with --to wids"),
    ],
)
def test_the_command_refuses(capsys: pytest.CaptureFixture[str], arguments: str, text: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["convert", *arguments.split()])
    assert caught.value.code == 2 and text in capsys.readouterr().err
