"""The facade: arguments, epochs, statistics, pickling. Rows and reading are tested elsewhere."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import ultar_dataloader as ultar
from ultar_dataloader import _errors, _native

Make = Callable[..., Path]
NOTHING = "return { init_ctx = function() return {} end, row_generator = function() end }"
COUNTING = """
local loader = require("ultar.loader")
return {
  init_ctx = function(rank, world_size, config) return config end,
  row_generator = function(config)
    for i = 1, config.count do
      loader:add_entry_bytes("i", tostring(i))
      loader:finish_row()
    end
  end,
}
"""


def numbers(loader: ultar.DataLoader) -> list[int]:
    return [int(row["i"]) for row in loader]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"rank": 1}, ValueError, "rank must be from 0 to 0, got 1"),
        ({"rank": -1, "world_size": 2}, ValueError, "rank must be from 0 to 1, got -1"),
        ({"rank": 0.0}, TypeError, "rank must be an int, got float: 0.0"),
        ({"world_size": 0}, ValueError, "world_size must be from 1 to"),
        ({"world_size": "2"}, TypeError, "world_size must be an int, got str: '2'"),
        ({"prefetch_rows": 0}, ValueError, "prefetch_rows must be from 1 to"),
        ({"prefetch_bytes": 2**64}, ValueError, "prefetch_bytes must be from 1 to"),
        ({"io": "mmap"}, ValueError, "io must be one of 'auto', 'uring', 'threads', got 'mmap'"),
        ({"on_error": None}, ValueError, "on_error must be one of 'raise', 'skip', got None"),
        ({"config": [1]}, TypeError, "config must be a mapping or None, got list"),
        ({"name": b"x"}, TypeError, "name must be a str or None, got bytes"),
    ],
)
def test_arguments_are_checked(options: dict[str, object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        ultar.DataLoader(NOTHING, **options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_a_path_in_place_of_a_script_is_noticed() -> None:
    with pytest.raises(TypeError, match="from_file"):
        ultar.DataLoader(Path("train.lua"))  # type: ignore[arg-type]
    with pytest.raises(ultar.ScriptError) as caught:
        ultar.DataLoader("train.lua")
    assert "from_file('train.lua')" in caught.value.__notes__[0]


def test_threads_have_no_memory_of_the_extension() -> None:
    """The C library takes it when a thread first needs it, and ends the process where it cannot."""
    elf = Path(_native.__file__).read_bytes()
    begin, size, count = struct.unpack_from("<Q14xHH", elf, 32)  # Program headers: e_phoff, e_phentsize, e_phnum.
    headers = [struct.unpack_from("<II32xQ", elf, begin + i * size) for i in range(count)]
    assert sum(bytes_of for kind, _, bytes_of in headers if kind == 7) < 256  # PT_TLS, p_memsz.


def test_bytes_are_copied_by_the_c_library() -> None:
    """Zig's own functions take their places where any of its runtime is linked, and are slower."""
    elf = Path(_native.__file__).read_bytes()
    for name in (b"memcpy", b"memset", b"memmove"):
        assert b"\0" + name + b"\0" in elf, "it is not among the symbols that are looked up"


def test_each_iter_is_a_fresh_epoch() -> None:
    loader = ultar.DataLoader(COUNTING, {"count": 5})
    assert numbers(loader) == numbers(loader) == [1, 2, 3, 4, 5]
    first, second = iter(loader), iter(loader)
    assert [int(next(rows)["i"]) for rows in (first, second, first)] == [1, 1, 2]
    assert next(iter(loader))["i"] == b"1"


def test_an_epoch_that_is_over_stays_over() -> None:
    rows = iter(ultar.DataLoader(COUNTING, {"count": 1}))
    assert len(list(rows)) == 1
    assert list(rows) == []


def test_config_is_what_it_was() -> None:
    config: dict[str, object] = {"count": 2, "nested": {"list": [1]}}
    loader = ultar.DataLoader(COUNTING, config)
    config["count"] = 9
    assert numbers(loader) == numbers(loader) == [1, 2]


def test_stats_are_those_of_the_latest_epoch() -> None:
    loader = ultar.DataLoader(COUNTING, {"count": 3})
    assert loader.stats()["rows"] == 0
    rows = iter(loader)
    next(rows)
    assert loader.stats()["rows"] == 1
    list(rows)
    assert loader.stats()["rows"] == 3
    del rows
    assert loader.stats()["rows"] == 3
    assert loader.stats()["backend"] in ("uring", "threads")
    assert next(iter(loader))["i"] == b"1"
    assert loader.stats()["rows"] == 1


def test_an_epoch_can_be_closed() -> None:
    loader = ultar.DataLoader(COUNTING, {"count": 10**12})
    rows = iter(loader)
    next(rows)
    rows.close()
    rows.close()
    with pytest.raises(ultar.UltarError, match="closed"):
        next(rows)
    assert loader.stats()["rows"] == 1
    assert loader.stats() == loader.stats()


def test_an_iterator_that_is_lost_ends_its_thread() -> None:
    loader = ultar.DataLoader(COUNTING, {"count": 10**12})
    before = set(os.listdir("/proc/self/task"))
    rows = iter(loader)
    next(rows)
    new = set(os.listdir("/proc/self/task")) - before
    assert new
    del rows
    gc.collect()
    assert not new & set(os.listdir("/proc/self/task"))


def test_threads_that_share_a_loader_have_an_epoch_each() -> None:
    loader = ultar.DataLoader(COUNTING, {"count": 200})
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(numbers(loader))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [list(range(1, 201))] * 4


def test_threads_that_share_an_iterator_share_its_rows() -> None:
    rows = iter(ultar.DataLoader(COUNTING, {"count": 5000}))
    results: list[int] = []

    def take() -> None:
        results.extend(int(row["i"]) for row in rows)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(1, 5001))


def test_pickling_keeps_the_arguments(tmp_path: Path) -> None:
    (tmp_path / "helper.lua").write_text("return { count = 4 }")
    script = tmp_path / "script.lua"
    script.write_text(COUNTING.replace("config.count", 'require("helper").count + config.count'))
    loader = ultar.DataLoader.from_file(script, {"count": 1}, 1, 3, prefetch_rows=7, io="threads")

    copy = pickle.loads(pickle.dumps(loader))

    assert numbers(copy) == [1, 2, 3, 4, 5]
    assert repr(copy) == repr(loader)
    assert "rank=1, world_size=3, prefetch_rows=7, io='threads'" in repr(copy)
    assert str(script) in repr(copy)


def test_prints_show_with_debug_only(caplog: pytest.LogCaptureFixture) -> None:
    source = 'return { init_ctx = function() print("hello", 1) end, row_generator = function() end }'
    with caplog.at_level(logging.DEBUG, "ultar_dataloader.script"):
        ultar.DataLoader(source)
        ultar.DataLoader(source, debug=True)
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.INFO, "hello\t1"),
        (logging.WARNING, "hello\t1"),
    ]


@pytest.mark.parametrize("kind", range(9))
def test_errors_of_the_engine_can_be_pickled(kind: int) -> None:
    error = _errors.from_native(kind, "shard.tar: wanted 5 bytes at 7", 5, "shard.tar", 7, 5)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error) == "shard.tar: wanted 5 bytes at 7"
    assert vars(copy) == vars(error)
    if isinstance(error, ultar.ReadError | ultar.WriteError):
        assert isinstance(copy, OSError)
        assert (error.errno, error.filename, error.offset, error.length) == (5, "shard.tar", 7, 5)
        assert (copy.errno, copy.filename) == (5, "shard.tar")
