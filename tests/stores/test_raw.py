"""RAW in a bucket: a folder whose files are objects, and scripts that list folders."""

import errno
import random
from pathlib import Path

import obstore
import pytest

import ultar_dataloader as ultar
from ultar_dataloader import DataLoader, Dataset, IndexFormatError, ReadError, ScriptError, raw

RECIPE = Path(ultar.__file__).parent / "lua/recipes/raw.lua"


@pytest.fixture
def photos(bucket):
    """A hundred rows of two objects, some in folders below, and what is none of them."""
    for i in range(100):
        folder = f"photos/{i % 3}/" if i % 3 else "photos/"
        bucket.put(f"{folder}{i:03}.txt", b"text %d" % i)
        bucket.put(f"{folder}{i:03}.bin", bytes([i]) * i)
    bucket.put("photos/.hidden", b"no")
    bucket.put("photosandmore/x.txt", b"no")
    return f"{bucket.url}/photos"


def check(rows, stems):
    for row, stem in zip(rows, stems, strict=True):
        number = int(stem.rpartition("/")[2])
        assert row["txt"] == b"text %d" % number and row["bin"] == bytes([number]) * number


def test_a_row_of_each_stem(photos, bucket, proxy):
    counts = raw.index(photos, storage_options=bucket.options)
    assert (counts["samples"], counts["entries"], counts["warnings"]) == (100, 200, [])
    assert "photos.utix" in bucket.listed()
    ds = Dataset(photos, storage_options={**bucket.options, "endpoint": proxy.endpoint})
    assert ds.shards == (photos + "/",) and len(ds) == 100
    stems = [ds.record(i).stem for i in range(100)]
    assert stems == sorted(stems)
    before = len(proxy.seen)
    check(ds, stems)
    # One request an object: what the index says of it is not asked for again.
    assert len(proxy.seen) - before == 199
    chosen = random.Random(1).sample(range(100), 20)
    check(ds.read(chosen), [stems[i] for i in chosen])
    check([ds[-1]], stems[-1:])
    assert ds[0].sources()[0][0].startswith(photos + "/")
    batches = list(ds.shuffle(seed=1).batch(30, collate=lambda rows: [row["txt"] for row in rows]))
    assert sorted(text for batch in batches for text in batch) == sorted(b"text %d" % i for i in range(100))
    with pytest.raises(ReadError, match="rows of a folder cannot be read into declared arrays"):
        list(ds.batch(2, collate={".txt": ("u1", (None,))}))


def test_a_row_of_each_file(photos, bucket):
    assert raw.index(photos, "file", storage_options=bucket.options)["samples"] == 200
    ds = Dataset(photos + "/", storage_options=bucket.options)
    assert len(ds) == 200 and all(len(row) == 1 for row in ds)
    bucket.put("photos/100.txt", b"text 100")
    with pytest.raises(IndexFormatError, match="differs from the folder"):
        ultar.check(photos, storage_options=bucket.options)
    assert ultar.index(photos, storage_options=bucket.options).samples == 201
    assert ultar.check(photos, storage_options=bucket.options).entries == 201
    assert len(Dataset(photos, "rebuild", storage_options=bucket.options)) == 201


def test_an_object_that_is_another_one_now(photos, bucket):
    raw.index(photos, storage_options=bucket.options)
    bucket.put("photos/000.txt", b"longer than before")
    obstore.delete(bucket.store, "photos/003.txt")
    ds = Dataset(photos, storage_options=bucket.options)
    stems = [ds.record(i).stem for i in range(100)]
    with pytest.raises(ReadError, match=r"photos/000.txt: .*the object has 18 bytes now, and had 6") as failure:
        ds[stems.index("000")]
    assert failure.value.errno == errno.ESTALE
    with pytest.raises(ReadError, match=r"photos/003.txt: .*no such object"):
        ds[stems.index("003")]
    found = list(Dataset(photos, storage_options=bucket.options, on_error="skip"))
    assert len(found) == 98


def test_what_cannot_be_indexed(bucket, monkeypatch):
    with pytest.raises(ultar.ShardFormatError, match="nothing to index"):
        raw.index(f"{bucket.url}/nothing", storage_options=bucket.options)
    with pytest.raises(ReadError, match="a web server lists nothing"):
        raw.index("https://127.0.0.1:1/photos")


def test_an_index_that_the_store_refuses_stays_in_the_cache(photos, bucket, proxy):
    options = {**bucket.options, "endpoint": proxy.endpoint}
    proxy.plan = lambda request: "403" if request.method == "PUT" else None
    (warning,) = raw.index(photos, storage_options=options)["warnings"]
    assert "the index stays in" in warning
    assert len(list(Dataset(photos, storage_options=options))) == 100


def test_the_script_of_the_recipe(photos, bucket):
    raw.index(photos, storage_options=bucket.options)
    found = []
    for rank in range(2):
        loader = DataLoader.from_file(RECIPE, {"folder": photos}, rank, 2, storage_options=bucket.options)
        found += [row["txt"] for row in loader]
    assert sorted(found) == sorted(b"text %d" % i for i in range(100))


LISTING = """
local loader = require("ultar.loader")
local scandir = require("ultar.scandir")
return {
  init_ctx = function(_, _, config) return config end,
  row_generator = function(config)
    for path in scandir.open(config.folder):iter() do
      loader:add_entry_bytes("path", path)
      if path:sub(-4) == ".txt" then
        local file = loader:open_file(path, config.size)
        loader:add_entry(file, "start", 0, 4)
        loader:close_file(file)
      end
      loader:finish_row()
    end
  end,
}
"""


def test_scripts_list_folders(photos, bucket, proxy):
    options = {**bucket.options, "endpoint": proxy.endpoint}
    for folder in (photos, photos + "/"):
        before = len(proxy.seen)
        rows = list(DataLoader(LISTING, {"folder": folder}, storage_options=options))
        paths = [row["path"].decode() for row in rows]
        here = [i for i in range(100) if i % 3 == 0]
        names = [f"{i:03}{key}" for i in here for key in (".bin", ".txt")]
        assert paths == sorted(f"{photos}/{name}" for name in [".hidden", "1", "2", *names])
        assert {row["start"] for row in rows if len(row) == 2} == {b"text"}
        # The list, and the ranges: sizes are known by then.
        assert len(proxy.seen) - before == 1 + len(here)
    with pytest.raises(ReadError, match=r"script.lua:7: cannot list .*/nothing: no object is in a folder") as failure:
        list(DataLoader(LISTING, {"folder": f"{bucket.url}/nothing"}, storage_options=options))
    assert failure.value.errno == errno.ENOENT
    with pytest.raises(ReadError, match="a web server lists nothing"):
        list(DataLoader(LISTING, {"folder": "https://127.0.0.1:1/x"}))
    with pytest.raises(ScriptError, match=r"open_file.*size must be a whole number"):
        list(DataLoader(LISTING, {"folder": photos, "size": -1}, storage_options=options))
