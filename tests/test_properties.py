"""For any samples: what is loaded is what `tarfile` and `webdataset` read, whoever shares the rows."""

from __future__ import annotations

import itertools
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import webdataset
from conftest import EVERY_ROW, Samples, write_tar
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from webdataset.tariterators import group_by_keys, tar_file_expander

import ultar_dataloader as ultar


class Run(bytes):
    """One byte many times, which hypothesis can show."""

    def __repr__(self) -> str:
        return f"bytes([{self[0]}]) * {len(self)}" if self else "b''"


# Names as people and tools make them: folders, dots in the key, no key, capitals, other scripts.
STEMS = st.from_regex(r"(d\.1/|sub/|\./)?[a-zA-Z0-9_é日]{1,12}", fullmatch=True)
KEYS = st.one_of(
    st.sampled_from([".jpg", ".json", ".cls", ".seg.png", ".JPG", ".txt", ".0.npy", ""]),
    st.from_regex(r"(\.[a-z0-9ü語Ä]{1,4}){1,3}", fullmatch=True),
)
PAYLOADS = st.one_of(st.binary(max_size=40), st.integers(0, 200_000).map(lambda n: Run(bytes([n % 251]) * n)))
SAMPLES = st.dictionaries(STEMS, st.dictionaries(KEYS, PAYLOADS, min_size=1, max_size=4), min_size=1, max_size=25)
SHARDS = st.lists(SAMPLES, min_size=1, max_size=4)
# How much is read ahead changes how rows are grouped and merged, and must change nothing else.
BUDGETS = st.fixed_dictionaries({"prefetch_rows": st.integers(1, 50), "prefetch_bytes": st.integers(1, 1 << 20)})
SLOWLY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SPLIT = """
local loader, utix, shard = require("ultar.loader"), require("ultar.utix"), require("ultar.shard")
return { init_ctx = function(_, _, config) return config end, row_generator = function(config)
  local rank, world_size = loader.rank, loader.world_size
  local function emit(tar, row)
    loader:add_entry_bytes("stem", row.str_idx)
    loader:add_row(tar, row)
    loader:finish_row()
  end
  if config.how == "by_shard" then
    for _, path in ipairs(shard.by_shard(config.tars, rank, world_size)) do
      local tar = loader:open_file(path)
      for row in utix.open(path .. ".utix"):iter() do emit(tar, row) end
      loader:close_file(tar)
    end
    return
  end
  -- The shards as one list of rows.
  local rows, tars = {}, {}
  for _, path in ipairs(config.tars) do
    local tar = loader:open_file(path)
    for row in utix.open(path .. ".utix"):iter() do rows[#rows + 1], tars[#tars + 1] = row, tar end
  end
  if config.how == "strided" then
    for i in shard.strided(#rows, rank, world_size) do emit(tars[i], rows[i]) end
  else
    local first, last = shard.contiguous(#rows, rank, world_size)
    for i = first, last do emit(tars[i], rows[i]) end
  end
end }
"""


def members_of(shard: Path) -> list[tuple[str, int, bytes]]:
    """Name, offset and payload of each member, as the standard library has them."""
    with tarfile.open(shard, "r") as tar:
        return [(m.name, m.offset_data, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]


def records_of(index: Path, form: str) -> list[dict[str, object]]:
    if form == "jsonl":
        return [json.loads(line) for line in index.read_text("utf-8").splitlines()]
    unpacker = msgpack.Unpacker()
    unpacker.feed(index.read_bytes())
    return list(unpacker)


def loader_of(shard: Path, **options: object) -> ultar.DataLoader:
    return ultar.DataLoader(EVERY_ROW, {"tar_path": shard, "idx_path": f"{shard}.utix"}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["msgpack", "jsonl"])
@SLOWLY
@given(samples=SAMPLES)
def test_records_are_the_members_of_the_tar(form: str, samples: Samples) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shard = write_tar(Path(folder, "s.tar"), samples)
        ultar.index(shard, format=form)  # type: ignore[arg-type]
        records = records_of(Path(f"{shard}.utix"), form)
        indexed = [
            (record["str_idx"] + key, record["offset"] + offset, size)  # type: ignore[operator]
            for record in records
            for key, offset, size in zip(record["keys"], record["offsets"], record["sizes"], strict=True)  # type: ignore[call-overload]
        ]
        assert indexed == [(name, offset, len(payload)) for name, offset, payload in members_of(shard)]
        assert [record["iidx"] for record in records] == list(range(len(samples)))
        assert [record["str_idx"] for record in records] == list(samples)


@SLOWLY
@given(samples=SAMPLES, budgets=BUDGETS, form=st.sampled_from(["msgpack", "jsonl"]))
def test_rows_are_what_tarfile_reads(io: str, samples: Samples, budgets: dict[str, int], form: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shard = write_tar(Path(folder, "s.tar"), samples)
        ultar.index(shard, format=form)  # type: ignore[arg-type]
        loaded = [list(row.to_dict().items()) for row in loader_of(shard, io=io, **budgets)]
        assert [dict(row) for row in loaded] == list(samples.values())
        flat = [(stem + key, payload) for stem, row in zip(samples, loaded, strict=True) for key, payload in row]
        assert flat == [(name, payload) for name, _, payload in members_of(shard)]


def as_webdataset(samples: Samples) -> Iterator[dict[str, bytes]]:
    """Their reader drops names without a dot, and folds the case of keys."""
    for row in samples.values():
        kept = {key[1:].lower(): payload for key, payload in row.items() if key}
        if kept:
            yield kept


@SLOWLY
@given(samples=SAMPLES, budgets=BUDGETS)
def test_rows_are_what_webdataset_reads(io: str, samples: Samples, budgets: dict[str, int]) -> None:
    # What then is there twice it refuses.
    assume(not any(len({key.lower() for key in row}) < len(row) for row in samples.values()))
    with tempfile.TemporaryDirectory() as folder:
        shard = write_tar(Path(folder, "s.tar"), samples)
        with shard.open("rb") as stream:
            theirs = [
                {key: payload for key, payload in sample.items() if not key.startswith("__")}
                for sample in group_by_keys(tar_file_expander([{"url": "s.tar", "stream": stream}]))
            ]
        ultar.index(shard)
        ours = {str(i): row.to_dict() for i, row in enumerate(loader_of(shard, io=io, **budgets))}
        assert list(as_webdataset(ours)) == theirs == list(as_webdataset(samples))


@SLOWLY
@given(samples=SAMPLES, budgets=BUDGETS)
def test_rows_are_what_webdataset_writes(io: str, samples: Samples, budgets: dict[str, int]) -> None:
    named = {stem: {key: row[key] for key in row if key} for stem, row in samples.items()}
    named = {stem: row for stem, row in named.items() if row}
    assume(named)
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder, "s.tar")
        with webdataset.TarWriter(str(shard), encoder=False) as writer:
            for stem, row in named.items():
                writer.write({"__key__": stem, **{key[1:]: payload for key, payload in row.items()}})
        ultar.index(shard)
        assert [row.to_dict() for row in loader_of(shard, io=io, **budgets)] == list(named.values())


@pytest.mark.parametrize("how", ["by_shard", "strided", "contiguous"])
@SLOWLY
@given(shards=SHARDS, world_size=st.integers(1, 5), budgets=BUDGETS)
def test_ranks_share_all_rows_and_none_twice(
    io: str, how: str, shards: list[Samples], world_size: int, budgets: dict[str, int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tars = [write_tar(Path(folder, f"{i}.tar"), samples) for i, samples in enumerate(shards)]
        ultar.index(folder)
        config = {"tars": tars, "how": how}
        shares = [
            [
                (row["stem"].decode(), {key: row[key] for key in row if key != "stem"})
                for row in ultar.DataLoader(SPLIT, config, rank, world_size, io=io, **budgets)  # type: ignore[arg-type]
            ]
            for rank in range(world_size)
        ]
    whole = [[(stem, dict(row)) for stem, row in samples.items()] for samples in shards]
    rows = list(itertools.chain(*whole))
    if how == "by_shard":
        assert shares == [list(itertools.chain(*whole[rank::world_size])) for rank in range(world_size)]
    elif how == "strided":
        assert shares == [rows[rank::world_size] for rank in range(world_size)]
    else:
        assert list(itertools.chain(*shares)) == rows
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert sum(map(len, shares)) == len(rows)


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
    seen: set[str] = set()

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(samples=SAMPLES)
    def collect(samples: Samples) -> None:
        for stem, row in samples.items():
            seen.update({"folder"} if "/" in stem else set())
            seen.update({"no key"} if "" in row and len(row) > 1 else set())
            seen.update({"dots"} if any(key.count(".") > 1 for key in row) else set())
            seen.update({"unicode"} if any(not key.isascii() for key in row) else set())
            seen.update({"large"} if any(len(payload) > 100_000 for payload in row.values()) else set())
            seen.update({"empty"} if b"" in row.values() else set())

    collect()
    assert seen == {"folder", "no key", "dots", "unicode", "large", "empty"}
