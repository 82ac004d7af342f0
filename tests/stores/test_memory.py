"""What needs no server: stores in memory and on a small web server, options, indexes."""

import builtins
import errno
import gc
import os
import time
import weakref
from datetime import UTC, datetime

import obstore
import pytest

import ultar_dataloader as ultar
from ultar_dataloader import DataLoader, Dataset, ReadError, TarFormatError, memory_store
from ultar_dataloader._stores import Stores, Version

from .conftest import rows, tar_bytes
from .web import Web


@pytest.fixture
def memory(request):
    """A store in memory, of the test's own."""
    return memory_store(request.node.name), f"memory://{request.node.name}"


def test_an_index_is_put_beside_its_object_once(memory, expect):
    store, url = memory
    for number in range(3):
        obstore.put(store, f"d/x-{number}.tar", tar_bytes(rows(10 * number, 10)))
    summary = ultar.index(f"{url}/d")
    assert (summary.shards, summary.skipped, summary.samples) == (3, 0, 30)
    assert obstore.head(store, "d/x-1.tar.utix")["size"] > 0
    assert ultar.index(f"{url}/d/x-{{0..2}}.tar").skipped == 3
    assert ultar.check(f"{url}/d").shards == 3
    time.sleep(0.01)
    obstore.put(store, "d/x-1.tar", tar_bytes(rows(100, 10)))
    assert ultar.index(f"{url}/d").skipped == 2
    assert ultar.index(f"{url}/d", metadata_rules=[".json:.a"]).shards == 3
    expect(Dataset(f"{url}/d", "require"), [*range(10), *range(100, 110), *range(20, 30)])


def test_a_dataset_builds_indexes_in_the_cache_and_leaves_the_store_alone(memory, expect, tmp_path):
    store, url = memory
    obstore.put(store, "a.tar", tar_bytes(rows(0, 10)))
    with pytest.raises(ReadError, match="there is no index beside it"):
        Dataset(f"{url}/a.tar", "require")
    expect(Dataset(f"{url}/a.tar", storage_options={"cache": tmp_path / "here"}), range(10))
    assert len(list((tmp_path / "here").glob("*.utix"))) == 1
    assert [meta["path"] for chunk in obstore.list(store) for meta in chunk] == ["a.tar"]
    expect(Dataset(f"{url}/a.tar"), range(10))
    found = list((tmp_path / "cache").rglob("*.utix"))
    expect(Dataset(f"{url}/a.tar", "require"), range(10))
    assert list((tmp_path / "cache").rglob("*.utix")) == found
    obstore.put(store, "a.tar", tar_bytes(rows(5, 7)))
    expect(Dataset(f"{url}/a.tar"), range(5, 12))


def test_an_index_older_than_its_object_is_not_used(memory, expect):
    store, url = memory
    obstore.put(store, "a.tar", tar_bytes(rows(0, 10)))
    ultar.index(f"{url}/a.tar")
    time.sleep(0.01)
    obstore.put(store, "a.tar", tar_bytes(rows(3, 4)))
    expect(Dataset(f"{url}/a.tar"), range(3, 7))
    with pytest.raises(ultar.IndexFormatError, match="differs from the shard"):
        ultar.check(f"{url}/a.tar")


def test_indexing_reads_headers_and_not_payloads(memory):
    store, url = memory
    large = {f"{i:03d}": {".bin": bytes(1 << 20), ".txt": b"%d" % i} for i in range(40)}
    obstore.put(store, "large.tar", tar_bytes(large))
    sizes = []
    whole = obstore.get

    def counted(store, path, *, options):
        sizes.append(options["range"][1] - options["range"][0])
        return whole(store, path, options=options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(obstore, "get", counted)
        assert ultar.index(f"{url}/large.tar").entries == 80
    # The first few decide; then headers only.
    assert sum(sizes) < 12 << 20
    assert len(sizes) < 60


def test_a_shard_that_is_no_tar_is_named_and_others_are_indexed(memory):
    store, url = memory
    obstore.put(store, "good.tar", tar_bytes(rows(0, 3)))
    obstore.put(store, "bad.tar", b"x" * 5000)
    obstore.put(store, "empty.tar", b"")
    summary = ultar.index([f"{url}/good.tar", f"{url}/bad.tar", f"{url}/empty.tar"], on_error="skip")
    assert summary.shards == 1
    assert [type(failure) for _, failure in summary.failures] == [TarFormatError] * 2
    assert all(path in str(failure) for path, failure in summary.failures)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"requests": 0}, ValueError, "must be from 1 to 1024"),
        ({"deadline": "long"}, TypeError, "must be a number"),
        ({"backoff": True}, TypeError, "must be a number"),
        ("s3", TypeError, "storage_options must be a mapping"),
    ],
)
def test_options_are_checked(options, kind, text):
    with pytest.raises(kind, match=text):
        Dataset("memory://any/", storage_options=options)
    with pytest.raises(kind, match=text):
        DataLoader("return { row_generator = function() end }", storage_options=options)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://host/a.tar", "begin with s3://"),
        ("s3:///a.tar", "no bucket or host"),
        ("https://127.0.0.1:1/*.tar", "a web server lists nothing"),
    ],
)
def test_urls_are_checked(url, text):
    with pytest.raises(ValueError, match=text):
        Dataset(url)


def test_an_option_that_no_store_knows_is_named():
    with pytest.raises(ValueError, match=r"s3://bucket.*shoe_size"):
        Dataset("s3://bucket/a.tar", storage_options={"shoe_size": 44})


def test_without_obstore_the_error_names_the_extra(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name.partition(".")[0] == "obstore":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"ultar-dataloader\[stores\]"):
        Dataset("s3://bucket/a.tar")
    script = """
    local loader = require("ultar.loader")
    return { row_generator = function() loader:open_file("s3://bucket/a.tar") end }
    """
    with pytest.raises(ReadError, match=r"ultar-dataloader\[stores\]"):
        list(DataLoader(script))


def test_versions_are_told_apart_as_far_as_stores_say_them():
    def version(e_tag, second=0.0, size=5):
        modified = datetime.fromtimestamp(1e9 + second, UTC)
        return Version.of({"size": size, "e_tag": e_tag, "last_modified": modified})

    assert version("0x8D").differs(version('"0x8D"', 3)) is None  # As Azure lists it, and answers.
    assert "ETag" in version('"a"').differs(version('"b"'))
    assert version(None, 0.4).differs(version('"a"', 0.0)) is None
    assert "changed" in version(None).differs(version(None, 1))
    assert "size" in version('"a"').differs(version('"a"', size=6))
    assert version('W/"a"').e_tag == 'W/"a"'


class Kept(bytearray):
    """Bytes of which one can tell whether they are there."""


def test_an_answer_is_the_memory_of_its_rows_for_as_long_as_one_is_there(memory, expect, monkeypatch):
    store, url = memory
    obstore.put(store, "a.tar", tar_bytes(rows(0, 40, 50_000)))
    ds = Dataset(f"{url}/a.tar")
    answers = []
    whole = Stores.read

    def read(*arguments):
        data = Kept(whole(*arguments))
        answers.append(weakref.ref(data))
        return data

    monkeypatch.setattr(Stores, "read", read)
    found = list(ds)
    expect(found, range(40), 50_000)
    # Those of some bytes were copied.
    assert any(answer() is not None for answer in answers)
    view = found[39].view(".bin")
    del found
    assert bytes(view) == bytes([39]) * 50_039
    until = time.monotonic() + 10
    # Threads that answered may not have got to where they let go.
    while len(left := [answer() for answer in answers if answer() is not None]) > 1 and time.monotonic() < until:
        del left
        time.sleep(0.01)
    assert len(left) == 1
    with pytest.raises(BufferError):
        left[0].append(0)
    del view
    left[0].append(0)
    for _ in range(3):
        epoch = iter(ds)
        next(epoch)
        del epoch
    del left
    gc.collect()
    ds[0]
    until = time.monotonic() + 10
    while any(answer() is not None for answer in answers):
        ds[0]  # What came late goes with the next row.
        assert time.monotonic() < until


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_shards_on_a_web_server(tmp_path, expect, knows_ranges):
    folder = tmp_path / "www"
    folder.mkdir()
    for number in range(2):
        (folder / f"x y-{number}.tar").write_bytes(tar_bytes(rows(10 * number, 10)))
    web = Web(folder, knows_ranges=knows_ranges)
    pattern = f"{web.url}/x%20y-{{0..1}}.tar"
    try:
        if not knows_ranges:
            with pytest.raises(ReadError, match="sends whole objects and no ranges") as failure:
                Dataset(pattern, storage_options={"deadline": 5})
            assert failure.value.errno == errno.EINVAL
            return
        expect(Dataset(pattern), range(20))
        summary = ultar.index(pattern)
        assert summary.shards == 0 and summary.skipped == 2
        (folder / "x y-1.tar").write_bytes(tar_bytes(rows(30, 10)))
        os.utime(folder / "x y-1.tar", (1, 1))
        summary = ultar.index(pattern)
        assert summary.shards == 1 and "the index stays in" in summary.warnings[0]
        with pytest.raises(ReadError, match="no such object"):
            Dataset(f"{web.url}/none.tar")
    finally:
        web.stop()


def test_the_command_takes_urls(command, tmp_path):
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "a.tar").write_bytes(tar_bytes(rows(0, 3)))
    web = Web(folder)
    try:
        done = command("index", f"{web.url}/a.tar", "--storage-option", "deadline=5")
        assert done.returncode == 0, done.stderr
        assert "1 shard indexed: 3 samples" in done.stdout and "the index stays in" in done.stderr
        done = command("inspect", f"{web.url}/a.tar")
        assert done.returncode == 0, done.stderr
        assert "3 samples" in done.stdout
    finally:
        web.stop()
