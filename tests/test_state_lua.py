"""States of `DataLoader`: exactly behind the rows that were delivered, or refused with a reason."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from conftest import EVERY_ROW, why_not, write_tar
from hypothesis import given, settings
from hypothesis import strategies as st

import ultar_dataloader as ultar
from ultar_dataloader import DataLoader

ROWS = 90
BAD = 40
"""The row from which on the shard of `cut` is missing."""

SHUFFLED = """\
local loader, utix, shuffle = require("ultar.loader"), require("ultar.utix"), require("ultar.shuffle")
return {
  init_ctx = function(rank, world_size, config)
    print("init")
    return { config = config, rank = rank, world_size = world_size }
  end,
  row_generator = function(ctx)
    local index = utix.open(ctx.config.tar .. ".utix")
    local order = shuffle.permutation(#index, ctx.config.seed)
    for i = 1 + ctx.rank, #index, ctx.world_size do
      local tar = loader:open_file(ctx.config.tar)
      print("row " .. i)
      loader:add_entry_bytes("place", tostring(i))
      loader:add_row(tar, index[order[i]])
      loader:finish_row()
      loader:close_file(tar)
    end
  end,
}
"""


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples = {f"s{i:03}": {".id": b"%d" % i, ".bin": bytes([i]) * (i * 777 % 9000)} for i in range(ROWS)}
    path = write_tar(tmp_path_factory.mktemp("state") / "a.tar", samples)
    ultar.index(path)
    return path


@pytest.fixture
def cut(shard: Path, tmp_path: Path) -> Path:
    """The shard, without the payloads from some row on."""
    path = Path(shutil.copy(shard, tmp_path / "cut.tar"))
    shutil.copy(f"{shard}.utix", f"{path}.utix")
    record = ultar.Dataset(path).record(BAD)
    with open(path, "r+b") as file:
        file.truncate(record.offsets[0])
    return path


def loader_of(shard: Path, **options: Any) -> DataLoader:
    return DataLoader(SHUFFLED, {"tar": shard, "seed": 7}, **options)


def plain_of(shard: Path, **options: Any) -> DataLoader:
    return DataLoader(EVERY_ROW, {"tar_path": shard, "idx_path": f"{shard}.utix"}, **options)


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(state))  # type: ignore[no-any-return]


def contents(rows: Any) -> list[dict[str, bytes]]:
    return [row.to_dict() for row in rows]


reading = st.fixed_dictionaries(
    {
        "io": st.sampled_from([io for io in ("uring", "threads") if not why_not(io)]),
        "access": st.sampled_from(["read", "mmap", "direct"]),
        "prefetch_rows": st.sampled_from([1, 2, 7, 4096]),
        "prefetch_bytes": st.sampled_from([1, 20_000, 1 << 26]),
    }
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.integers(0, ROWS), min_size=1, max_size=4), data=st.data())
def test_what_follows_is_what_would_have_followed(shard: Path, steps: list[int], data: st.DataObject) -> None:
    expected = contents(loader_of(shard))
    found: list[dict[str, bytes]] = []
    state = None
    for count in [*steps, ROWS]:
        loader = loader_of(shard, **data.draw(reading))
        if state is not None:
            loader.load_state_dict(state)
            assert loader.state_dict() == state
        rows = iter(loader)
        found += contents(islice(rows, count))
        state = through_json(rows.state_dict())
        if state["position"] == 0 and found:
            break  # The end was reached.
        assert state["position"] == len(found)
        assert loader.state_dict() == state
        del rows
        assert loader.state_dict() == state, "also when the iterator is gone"
    assert found == expected


@pytest.mark.parametrize("k", [0, 1, 5, 63, ROWS - 1, ROWS])
def test_rows_ahead_do_not_count(shard: Path, io: str, k: int) -> None:
    rows = iter(loader_of(shard, io=io))
    seen = contents(next(rows) for _ in range(k))
    state = through_json(rows.state_dict())
    assert state["position"] == k
    rest = contents(rows)
    again = loader_of(shard, io=io, prefetch_rows=3)
    again.load_state_dict(state)
    assert contents(again) == rest
    assert contents(again) == seen + rest, "a state holds for one iteration"


def test_after_the_end_an_epoch_begins(shard: Path) -> None:
    loader = loader_of(shard)
    fresh = loader.state_dict()
    rows = iter(loader)
    assert len(list(rows)) == ROWS
    assert rows.state_dict() == loader.state_dict() == fresh
    again = loader_of(shard)
    again.load_state_dict(fresh)
    assert len(list(again)) == ROWS


def test_an_iterator_loads_a_state(shard: Path, io: str) -> None:
    loader = loader_of(shard, io=io)
    expected = contents(loader)
    rows = iter(loader)
    for _ in range(30):
        next(rows)
    state = rows.state_dict()
    assert contents(rows) == expected[30:]
    for _ in range(3):
        rows.load_state_dict(state)
        assert rows.state_dict() == state
        assert contents([next(rows)]) == expected[30:31]
    assert loader.state_dict()["position"] == 31
    rows.close()
    assert rows.state_dict()["position"] == 31
    with pytest.raises(ultar.UltarError, match="closed"):
        rows.load_state_dict(state)


def test_an_iterator_is_what_it_was_when_a_state_is_refused(shard: Path) -> None:
    rows = iter(loader_of(shard))
    expected = contents(rows)
    rows.load_state_dict({**rows.state_dict(), "position": 10})
    next(rows)
    with pytest.raises(ValueError, match="rank was 3"):
        rows.load_state_dict({**rows.state_dict(), "rank": 3})
    assert contents(rows) == expected[11:]


def test_prints_come_once(shard: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ultar_dataloader.script")
    loader = loader_of(shard)
    rows = iter(loader)
    for _ in range(20):
        next(rows)
    state = rows.state_dict()
    del rows
    loader.load_state_dict(state)
    assert len(list(loader)) == ROWS - 20
    said = [message for message in caplog.messages if message.startswith("row ")]
    assert said == [f"row {i + 1}" for i in range(ROWS)]
    assert caplog.messages.count("init") == 2, "once for each iterator"


def test_rows_that_are_left_out_count(cut: Path, io: str) -> None:
    loader = loader_of(cut, io=io, on_error="skip", access="read")
    whole = contents(loader)
    assert 0 < len(whole) < ROWS
    rows = iter(loader)
    for k in range(len(whole)):
        again = loader_of(cut, io=io, on_error="skip", access="read")
        again.load_state_dict(rows.state_dict())
        assert contents(again) == whole[k:]
        row = next(rows)
        assert rows.state_dict()["position"] == int(row["place"])


def test_a_row_that_failed_is_tried_again(cut: Path, shard: Path) -> None:
    loader = plain_of(cut, access="read")
    rows = iter(loader)
    with pytest.raises(ultar.ReadError):
        list(rows)
    state = rows.state_dict()
    assert state["position"] == BAD
    cut.write_bytes(shard.read_bytes())
    rows.load_state_dict(state)
    assert [int(row["id"]) for row in rows] == list(range(BAD, ROWS))


def test_skipped_rows_are_not_read(shard: Path) -> None:
    loader = plain_of(shard, access="read")
    whole = sum(1 for _ in loader)
    read_by_all = loader.stats()["read_bytes"]
    loader.load_state_dict({**loader.state_dict(), "position": whole - 1})
    assert [int(row["id"]) for row in loader] == [whole - 1]
    assert loader.stats()["reads"] == 1
    assert loader.stats()["read_bytes"] < read_by_all / 10  # type: ignore[operator]


def test_fewer_rows_than_the_position(shard: Path) -> None:
    loader = loader_of(shard)
    loader.load_state_dict({**loader.state_dict(), "position": ROWS})
    assert list(loader) == [], "all of them, and that was the epoch"
    loader.load_state_dict({**loader.state_dict(), "position": ROWS + 1})
    rows = iter(loader)
    for _ in range(2):
        with pytest.raises(ultar.UltarError, match=f"behind {ROWS + 1} rows, but now the script made only {ROWS}"):
            next(rows)
    assert rows.state_dict()["position"] == ROWS + 1


def test_an_error_of_the_script_before_the_position() -> None:
    script = 'return { row_generator = function() require("ultar.loader"):finish_row() error("what went wrong") end }'
    loader = DataLoader(script)
    loader.load_state_dict({**loader.state_dict(), "position": 1})
    with pytest.raises(ultar.ScriptError, match="what went wrong"):
        list(loader)


def test_entries_without_a_row_are_an_error_among_skipped_rows_too() -> None:
    script = (
        'local l = require("ultar.loader") return { row_generator = function() l:finish_row() '
        'l:add_entry_bytes("a", "") end }'
    )
    loader = DataLoader(script)
    loader.load_state_dict({**loader.state_dict(), "position": 5})
    with pytest.raises(ultar.ScriptError, match="1 entries that no finish_row"):
        list(loader)


CONFIG = {"tar": "/x", "list": [1, 2.5, None, True, {"b": b"\xff", "a": "\udcff"}], 3: "three"}
QUIET = "return { row_generator = function() end }"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: DataLoader(QUIET + " ", CONFIG), "the text of the script is another one"),
        (lambda: DataLoader(QUIET, {**CONFIG, "tar": "/y"}), r"config\['tar'\] is another one"),
        (lambda: DataLoader(QUIET, {**CONFIG, "list": [1]}), r"config\['list'\] is another one"),
        (lambda: DataLoader(QUIET, {**CONFIG, "new": 1}), "config has 'new', and had not"),
        (lambda: DataLoader(QUIET, {"tar": "/x", 3: "three"}), "config had 'list', and has not"),
        (lambda: DataLoader(QUIET, CONFIG, 1, 2), "rank was 0, now 1; world_size was 1, now 2"),
    ],
)
def test_another_origin_is_refused_with_what_changed(other: Callable[[], DataLoader], message: str) -> None:
    state = through_json(DataLoader(QUIET, CONFIG).state_dict())
    with pytest.raises(ValueError, match=message):
        other().load_state_dict(state)


@pytest.mark.parametrize(
    "same",
    [
        lambda: DataLoader(QUIET.encode(), CONFIG, name="other.lua", prefetch_rows=1, threads=2, io="threads"),
        lambda: DataLoader(QUIET, {**dict(reversed(CONFIG.items())), "tar": Path("/x")}, debug=True),
        lambda: pickle.loads(pickle.dumps(DataLoader(QUIET, CONFIG))),
    ],
)
def test_the_same_origin_is_known_again(same: Callable[[], DataLoader]) -> None:
    state = through_json(DataLoader(QUIET, CONFIG).state_dict())
    same().load_state_dict(state)
    assert same().state_dict() == state


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"version": 2}, ValueError, "version 2, known is 1"),
        ({"more": 1}, ValueError, "it has more"),
        ({"position": -1}, ValueError, "from 0 to"),
        ({"position": 2**63}, ValueError, "from 0 to"),
        ({"position": True}, ValueError, "from 0 to"),
        ({"position": "3"}, TypeError, "must be an int, got '3'"),
        ({"config": 3}, TypeError, "must be a mapping"),
    ],
)
def test_what_is_no_state(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    loader = DataLoader(QUIET)
    with pytest.raises(kind, match=message):
        loader.load_state_dict({**loader.state_dict(), **change})
    with pytest.raises(ValueError, match="it lacks position"):
        loader.load_state_dict({key: value for key, value in loader.state_dict().items() if key != "position"})
    with pytest.raises(TypeError, match="must be a mapping, not list"):
        loader.load_state_dict([])  # type: ignore[arg-type]


def test_a_pickled_loader_keeps_a_loaded_state(shard: Path) -> None:
    loader = plain_of(shard)
    loader.load_state_dict({**loader.state_dict(), "position": 80})
    assert [int(row["id"]) for row in pickle.loads(pickle.dumps(loader))] == list(range(80, ROWS))


def test_threads_that_share_an_iterator_have_one_state(shard: Path, io: str) -> None:
    rows = iter(plain_of(shard, io=io))
    seen: list[int] = []

    def consume() -> None:
        seen.extend(int(row["id"]) for row in islice(rows, 15))

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert rows.state_dict()["position"] == len(seen) == 4 * 15


def test_rows_of_a_dataset_have_no_state_of_this_kind(shard: Path) -> None:
    rows: Any = iter(ultar.Dataset(shard))
    for act in (rows.state_dict, lambda: rows.load_state_dict({})):
        with pytest.raises(ultar.UltarError, match="a stream"):
            act()
