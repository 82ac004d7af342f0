"""`access=`: the same rows, whether bytes are copied, mapped or read past the page cache."""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ultar_dataloader as ultar

ACCESSES = ["read", "mmap", "direct"]

RANGES = """
local loader = require("ultar.loader")
return {
  init_ctx = function(_, _, config) return config end,
  row_generator = function(config)
    local file = loader:open_file(config.path)
    for i = 1, #config.offsets do
      loader:add_entry(file, "bytes", config.offsets[i], config.sizes[i])
      loader:add_entry_bytes("number", tostring(i))
      loader:finish_row()
    end
  end,
}
"""


@pytest.fixture(params=ACCESSES)
def access(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_any_range_of_any_file(tmp_path: Path, io: str, access: str) -> None:
    """Aligned or not, to the last byte of a file whose end is not, and none at all."""
    choose = random.Random(5)
    content = choose.randbytes(1_234_567)
    path = tmp_path / "data"
    path.write_bytes(content)
    ranges = [(0, len(content)), (len(content) - 1, 1), (len(content), 0), (0, 0), (4096, 4096), (511, 2)]
    ranges += [(offset, choose.randrange(40_000)) for offset in (choose.randrange(1_190_000) for _ in range(500))]
    config = {"path": path, "offsets": [offset for offset, _ in ranges], "sizes": [size for _, size in ranges]}
    loader = ultar.DataLoader(RANGES, config, io=io, access=access, prefetch_bytes=300_000)  # type: ignore[arg-type]
    rows = list(loader)
    assert [row["bytes"] for row in rows] == [content[offset : offset + size] for offset, size in ranges]
    assert [row.view("bytes") for row in rows] == [content[offset : offset + size] for offset, size in ranges]
    assert [row["number"] for row in rows] == [b"%d" % (i + 1) for i in range(len(ranges))]


def test_a_file_that_grows_is_read_beyond_its_old_end(tmp_path: Path, io: str, access: str) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"a" * 5000)
    script = """
    local loader = require("ultar.loader")
    return { init_ctx = function(_, _, config) return config end, row_generator = function(config)
      local file = loader:open_file(config.path)
      loader:add_entry(file, "old", 10, 100) loader:finish_row()
      local more = io.open(config.path, "a") more:write(("b"):rep(5000)) more:close()
      loader:add_entry(file, "both", 4990, 20) loader:add_entry(file, "new", 9000, 1000) loader:finish_row()
    end }
    """
    rows = list(ultar.DataLoader(script, {"path": path}, io=io, access=access))  # type: ignore[arg-type]
    assert [row.to_dict() for row in rows] == [
        {"old": b"a" * 100},
        {"both": b"a" * 10 + b"b" * 10, "new": b"b" * 1000},
    ]


def test_a_file_that_is_shorter_than_was_thought(tmp_path: Path, io: str, access: str) -> None:
    """Also where the end lies in the middle of a page, behind which a mapping has zeros."""
    path = tmp_path / "data"
    path.write_bytes(b"a" * 50_000)
    script = """
    local loader = require("ultar.loader")
    return { init_ctx = function(_, _, config) return config end, row_generator = function(config)
      local file = loader:open_file(config.path)
      loader:add_entry(file, "first", 0, 6000) loader:finish_row()
      os.execute("truncate -s 6000 '" .. config.path .. "'")
      loader:add_entry(file, "second", 5000, 1500) loader:finish_row()
    end }
    """
    rows = iter(ultar.DataLoader(script, {"path": path}, io=io, access=access))  # type: ignore[arg-type]
    assert next(rows)["first"] == b"a" * 6000
    with pytest.raises(ultar.ReadError, match=r"wanted 1500 bytes at offset 5000, got 1000 \(end of file at 6000\)"):
        next(rows)


def test_one_that_refuses_is_read_plainly_with_a_warning(io: str, caplog: pytest.LogCaptureFixture) -> None:
    config = {"path": "/proc/version", "offsets": [0, 0], "sizes": [5, 5]}
    loader = ultar.DataLoader(RANGES, config, io=io, access="direct")  # type: ignore[arg-type]
    assert [row["bytes"] for row in loader] == [b"Linux"] * 2
    [warning] = [record for record in caplog.records if record.name == "ultar_dataloader"]
    assert warning.levelno == logging.WARNING
    assert warning.getMessage().startswith('/proc/version: access="direct" is not possible (')


@pytest.mark.parametrize("threads", [1, 2, 3, 64])
def test_threads_change_no_byte_and_no_order(tmp_path: Path, io: str, threads: int) -> None:
    content = random.Random(6).randbytes(3_000_000)
    path = tmp_path / "data"
    path.write_bytes(content)
    offsets = [random.Random(7).randrange(2_600_000) for _ in range(200)]
    config = {"path": path, "offsets": offsets, "sizes": [300_000 + i for i in range(200)]}
    loader = ultar.DataLoader(RANGES, config, io=io, threads=threads)  # type: ignore[arg-type]
    assert f"threads={threads}" in repr(pickle.loads(pickle.dumps(loader)))
    for i, row in enumerate(loader):
        assert row["bytes"] == content[offsets[i] : offsets[i] + 300_000 + i]
        assert row["number"] == b"%d" % (i + 1)


def test_a_number_of_threads_that_cannot_be(script: str) -> None:
    for threads in (0, -1, 65):
        with pytest.raises(ValueError, match=f"threads must be from 1 to 64, got {threads}"):
            ultar.DataLoader(script, threads=threads)
    with pytest.raises(TypeError, match="threads must be an int, got str"):
        ultar.DataLoader(script, threads="2")  # type: ignore[arg-type]


def test_a_loader_tells_and_keeps_its_access(script: str) -> None:
    loader = ultar.DataLoader("return { row_generator = function() end }", access="mmap")
    assert "access='mmap'" in repr(loader)
    assert "access='mmap'" in repr(pickle.loads(pickle.dumps(loader)))
    with pytest.raises(ValueError, match="access must be one of 'auto', 'read', 'mmap', 'direct', got 'fast'"):
        ultar.DataLoader(script, access="fast")  # type: ignore[arg-type]


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def three_rows(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs code that has `rows`, an iterator over three rows of 100 kB of a mapped file at `path`."""
    path = tmp_path / "data"
    path.write_bytes(b"x" * 300_000)
    sizes = {"offsets": [0, 100_000, 200_000], "sizes": [100_000] * 3}

    def start(code: str, on_error: str = "raise") -> subprocess.CompletedProcess[str]:
        return run(
            f"""
            import os, sys
            import ultar_dataloader as ultar
            path = sys.argv[1]
            config = {{"path": path, **{sizes}}}
            # One row at a time, so that the file changes between them.
            loader = ultar.DataLoader({RANGES!r}, config, access="mmap", prefetch_rows=1, on_error={on_error!r})
            rows = iter(loader)
            """
            + textwrap.indent(textwrap.dedent(code), " " * 12),
            path,
        )

    return start


def test_a_mapped_file_that_becomes_shorter_kills_nobody(
    three_rows: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = three_rows(
        """
        row = next(rows)
        kept = row["bytes"]
        view = row.view("bytes")
        os.truncate(path, 50_000)
        print(bytes(view[:49_152]) == kept[:49_152], set(bytes(view[53_248:])))
        for use in (lambda: row["bytes"], row.values, row.items, row.to_dict, lambda: row.get("bytes"), rows.__next__):
            try:
                use()
            except ultar.ReadError as error:
                print(error.filename == path, error.offset, "became shorter" in str(error))
        try:
            next(rows)
        except ultar.ReadError as error:
            print("again:", "became shorter" in str(error))
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "True {0}\n" + "True 53248 True\n" * 6 + "again: True\n"


def test_with_skip_the_loss_is_a_warning(three_rows: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = three_rows(
        """
        row = next(rows)
        os.truncate(path, 4096)
        row.view("bytes")[50_000]
        print(len(list(rows)), loader.stats()["rows_skipped"])
        """,
        on_error="skip",
    )
    assert (done.returncode, done.stdout) == (0, "0 2\n"), done.stderr
    assert "became shorter" in done.stderr
    assert "wanted 100000 bytes at offset 200000, got 0" in done.stderr


def test_a_fault_of_somebody_else_is_none_of_ours(three_rows: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """It ends the process, as it would without us, and faulthandler says where."""
    done = three_rows(
        """
        import mmap
        print(len(list(rows)), flush=True)
        other = path + ".other"
        with open(other, "wb+") as file:
            file.truncate(10_000)
            theirs = mmap.mmap(file.fileno(), 0)
            file.truncate(0)
        theirs[5000]
        """
    )
    assert done.returncode == -signal.SIGBUS
    assert done.stdout == "3\n"
    assert "Fatal Python error: Bus error" in done.stderr


def test_what_a_loader_maps_is_unmapped_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "mapped-data"
    path.write_bytes(b"x" * 100_000)
    config = {"path": path, "offsets": [0], "sizes": [100_000]}

    def is_mapped() -> bool:
        return os.fspath(path) in Path("/proc/self/maps").read_text()

    rows = iter(ultar.DataLoader(RANGES, config, access="mmap"))
    row = next(rows)
    assert list(rows) == []
    del rows
    view = row.view("bytes")
    del row
    assert is_mapped()
    assert view[99_999] == ord("x")
    del view
    assert not is_mapped()


def test_a_write_through_a_mapped_view_reaches_neither_the_file_nor_a_signal(make_shard: Callable[..., Path]) -> None:
    """As PyTorch allows it, which has no tensors that cannot be written to."""
    shard = make_shard({"a": {".bin": b"x" * 9000}})
    before = shard.read_bytes()
    row = ultar.Dataset(shard, access="mmap")[0]
    view = np.frombuffer(row.view(".bin"), "u1")
    ctypes.memset(view.ctypes.data, ord("y"), 5000)
    assert row[".bin"] == b"y" * 5000 + b"x" * 4000
    assert shard.read_bytes() == before
