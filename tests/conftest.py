"""What tests share: shards made here, both ways of reading, a script, and a run of the command."""

from __future__ import annotations

import io as bytesio
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

import ultar_dataloader as ultar

# As in the documentation: every entry of every sample, by offset and size.
EVERY_ROW = """\
local loader = require("ultar.loader")
local utix = require("ultar.utix")
return {
  init_ctx = function(rank, world_size, config)
    return { tar = config.tar_path, idx = config.idx_path }
  end,
  row_generator = function(ctx)
    local tar = loader:open_file(ctx.tar)
    for row in utix.open(ctx.idx):iter() do
      for i = 1, #row.keys do
        loader:add_entry(tar, row.keys[i], row.offset + row.offsets[i], row.sizes[i])
      end
      loader:finish_row()
    end
    loader:close_file(tar)
  end,
}
"""

# What access="auto" stands for in this run: `make test` runs some tests once for each.
if access := os.environ.get("ULTAR_TEST_ACCESS"):
    for reads in (ultar.DataLoader, ultar.Dataset):
        assert reads.__init__.__kwdefaults__["access"] == "auto"
        reads.__init__.__kwdefaults__["access"] = access

Samples = Mapping[str, Mapping[str, bytes]]


def write_tar(path: Path, samples: Samples) -> Path:
    """A tar with the member `stem + key` for each payload."""
    with tarfile.open(path, "w") as tar:
        for stem, members in samples.items():
            for key, payload in members.items():
                member = tarfile.TarInfo(stem + key)
                member.size = len(payload)
                tar.addfile(member, bytesio.BytesIO(payload))
    return path


@pytest.fixture
def make_shard(tmp_path: Path) -> Callable[..., Path]:
    """Writes a shard from `{stem: {key: payload}}`, and indexes it."""

    def make(samples: Samples, name: str = "shard-000000.tar", index: bool = True) -> Path:
        path = write_tar(tmp_path / name, samples)
        if index:
            ultar.index(path)
        return path

    return make


@pytest.fixture
def script() -> str:
    """The script that emits every row of `config.tar_path`, as `config.idx_path` has them."""
    return EVERY_ROW


@pytest.fixture
def config_of() -> Callable[[Path], dict[str, object]]:
    """The config with which `script` reads a shard."""
    return lambda shard: {"tar_path": shard, "idx_path": f"{shard}.utix"}


@cache
def why_not(io: str) -> str:
    """Why this machine cannot read in that way; empty when it can."""
    probe = "return { init_ctx = function() return {} end, row_generator = function() end }"
    try:
        list(ultar.DataLoader(probe, io=io))  # type: ignore[arg-type]
    except ultar.UltarError as error:
        return str(error)
    return ""


@pytest.fixture(params=["uring", "threads"])
def io(request: pytest.FixtureRequest) -> str:
    """Both ways of reading."""
    if reason := why_not(request.param):
        pytest.skip(f"io={request.param!r} is not to be had here: {reason}")
    return str(request.param)


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m ultar_dataloader ARGUMENTS` in the folder of the test."""

    def run(*arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ultar_dataloader", *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> ultar.Dataset:
    """Fifty rows in two shards: the number is `.cls`, in `.json`, and each of the up to four bytes of `.bin`."""
    folder = tmp_path_factory.mktemp("numbered")
    for shard in range(2):
        rows = range(shard * 25, shard * 25 + 25)
        write_tar(
            folder / f"{shard}.tar",
            {f"{i:03}": {".cls": b"%d" % i, ".json": b'{"i": %d}' % i, ".bin": bytes([i]) * (i % 5)} for i in rows},
        )
    return ultar.Dataset(folder)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ultar.Dataset:
    """Sixty numbered rows in three shards, which no test changes."""
    from streams import make_dataset

    return make_dataset(tmp_path_factory.mktemp("numbered"))
