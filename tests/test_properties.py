"""For any samples: what is loaded is what `tarfile` and `webdataset` read, whoever shares the rows."""

from __future__ import annotations

import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import msgpack
import pytest
import webdataset
from conftest import EVERY_ROW, Samples, write_tar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_expander

import ultar_dataloader as ultar

# Names as people and tools make them: folders, dots in the key, capitals, other scripts.
STEMS = st.from_regex(r"(d\.1/|sub/|\./)?[a-zA-Z0-9_é]{1,12}", fullmatch=True)
KEYS = st.sampled_from([".jpg", ".json", ".cls", ".seg.png", ".JPG", ".txt", ".ü", ".0.npy"])
PAYLOADS = st.one_of(st.binary(max_size=40), st.integers(0, 200_000).map(lambda n: bytes([n % 251]) * n))
SAMPLES = st.dictionaries(STEMS, st.dictionaries(KEYS, PAYLOADS, min_size=1, max_size=4), min_size=1, max_size=25)
SLOWLY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SPLIT = """
local loader, utix, shard = require("ultar.loader"), require("ultar.utix"), require("ultar.shard")
local function emit(tar, row)
  loader:add_entry_bytes("stem", row.str_idx)
  loader:finish_row()
end
return { init_ctx = function(_, _, config) return config end, row_generator = function(config)
  local rank, world_size = loader.rank, loader.world_size
  if config.how == "by_shard" then
    for _, path in ipairs(shard.by_shard(config.tars, rank, world_size)) do
      for row in utix.open(path .. ".utix"):iter() do emit(nil, row) end
    end
    return
  end
  local index = utix.open(config.tars[1] .. ".utix")
  if config.how == "strided" then
    for i in shard.strided(#index, rank, world_size) do emit(nil, index[i]) end
  else
    local first, last = shard.contiguous(#index, rank, world_size)
    for i = first, last do emit(nil, index[i]) end
  end
end }
"""


@SLOWLY
@given(
    samples=SAMPLES, rows=st.integers(1, 50), size=st.integers(1, 1 << 20), form=st.sampled_from(["msgpack", "jsonl"])
)
def test_rows_are_what_tarfile_reads(io: str, samples: Samples, rows: int, size: int, form: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shard = write_tar(Path(folder, "s.tar"), samples)
        with tarfile.open(shard, "r") as tar:
            members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
        ultar.index(shard, format=form)
        loader = ultar.DataLoader(
            EVERY_ROW,
            {"tar_path": shard, "idx_path": f"{shard}.utix"},
            io=io,  # type: ignore[arg-type]
            prefetch_rows=rows,
            prefetch_bytes=size,
        )
        loaded = [row.to_dict() for row in loader]
        if form == "msgpack":
            unpacker = msgpack.Unpacker()
            unpacker.feed(Path(f"{shard}.utix").read_bytes())
            stems = [record["str_idx"] for record in unpacker]
        else:
            stems = [ultar._native.Index(f"{shard}.utix")[i]["str_idx"] for i in range(len(loaded))]
        assert loaded == list(samples.values())
        flat = [(stem + key, payload) for stem, row in zip(stems, loaded, strict=True) for key, payload in row.items()]
        assert flat == members


@SLOWLY
@given(samples=SAMPLES)
def test_rows_are_what_webdataset_writes_and_reads(samples: Samples) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder, "s.tar")
        with webdataset.TarWriter(str(shard), encoder=False) as writer:
            for stem, row in samples.items():
                writer.write({"__key__": stem, **{key[1:]: payload for key, payload in row.items()}})
        # Their reader folds the case of keys, and refuses what then is there twice.
        theirs = []
        if not any(len({key.lower() for key in row}) < len(row) for row in samples.values()):
            with shard.open("rb") as stream:
                theirs = [
                    {f".{key}": payload for key, payload in sample.items() if not key.startswith("__")}
                    for sample in group_by_keys(tar_file_expander([{"url": "s.tar", "stream": stream}]))
                ]
        ultar.index(shard)
        ours = [row.to_dict() for row in ultar.DataLoader(EVERY_ROW, {"tar_path": shard, "idx_path": f"{shard}.utix"})]
        assert ours == list(samples.values())
        if theirs:
            assert [{key.lower(): payload for key, payload in row.items()} for row in ours] == theirs


@SLOWLY
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    world_size=st.integers(1, 5),
    how=st.sampled_from(["by_shard", "strided", "contiguous"]),
)
def test_ranks_share_all_rows_and_none_twice(counts: list[int], world_size: int, how: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tars, stems = [], []
        for number, count in enumerate(counts):
            names = [f"{number}-{i}" for i in range(count)]
            tars.append(write_tar(Path(folder, f"{number}.tar"), {name: {".x": b""} for name in names}))
            stems += names if how == "by_shard" or number == 0 else []
        ultar.index(folder)
        shares = [
            [row["stem"].decode() for row in ultar.DataLoader(SPLIT, {"tars": tars, "how": how}, rank, world_size)]
            for rank in range(world_size)
        ]
        assert Counter(stem for share in shares for stem in share) == Counter(stems)
        if how != "by_shard":
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


@SLOWLY
@given(n=st.integers(0, 2000), seed=st.integers(0, 2**53), epoch=st.integers(0, 2**53))
def test_a_shuffle_is_a_permutation(n: int, seed: int, epoch: int) -> None:
    script = """
    local loader, shuffle = require("ultar.loader"), require("ultar.shuffle")
    return { init_ctx = function(_, _, config) return config end, row_generator = function(config)
      for i in shuffle.permutation(config.n, config.seed, config.epoch):iter() do
        loader:add_entry_bytes("i", tostring(i))
        loader:finish_row()
      end
    end }
    """
    config = {"n": n, "seed": seed, "epoch": epoch}
    order = [int(row["i"]) for row in ultar.DataLoader(script, config)]
    assert sorted(order) == list(range(1, n + 1))
    assert order == [int(row["i"]) for row in ultar.DataLoader(script, config)]
    if n > 50:
        assert order != [int(row["i"]) for row in ultar.DataLoader(script, {**config, "epoch": (epoch + 1) % 2**53})]


def test_the_strategies_make_what_they_should() -> None:
    """Else the tests above could pass on nothing."""
    assert pytest.importorskip("hypothesis").find(SAMPLES, lambda samples: any("/" in stem for stem in samples))
