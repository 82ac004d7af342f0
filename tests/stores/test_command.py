"""The command on shards in a bucket."""

import json

import pytest

from .conftest import rows, tar_bytes

SCRIPT = """
local loader = require("ultar.loader")
local scandir = require("ultar.scandir")
local utix = require("ultar.utix")
return {
  init_ctx = function(_, _, config) return config end,
  row_generator = function(config)
    for path in scandir.open(config.folder):iter() do
      if path:sub(-4) == ".tar" then
        local tar = loader:open_file(path)
        for row in utix.open(path .. ".utix"):iter() do
          loader:add_row(tar, row)
          loader:finish_row()
        end
      end
    end
  end,
}
"""


@pytest.fixture
def options(bucket):
    return [part for name, value in bucket.options.items() for part in ("--storage-option", f"{name}={value}")]


def test_every_verb_takes_urls(bucket, options, command, tmp_path):
    for number in range(2):
        bucket.put(f"d/x-{number}.tar", tar_bytes(rows(100 * number, 100)))
    folder = f"{bucket.url}/d"
    done = command("bench", folder, "--seconds", "0.3", *options)
    assert done.returncode == 1
    assert f"{folder}/x-0.tar: there is no {folder}/x-0.tar.utix, and 1 more is missing" in done.stderr

    done = command("bench", folder, "--index", "--seconds", "0.6", "--json", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["files"], found["rows"], found["cached"]) == (2, 200, None)
    assert all(found["measures"][name]["rows_per_s"] > 0 for name in ("storage", "engine", "views", "bytes"))
    assert found["verdict"]

    for how in ("--force", "--check"):
        done = command("index", f"{folder}/*.tar", how, *options)
        assert done.returncode == 0, done.stderr
    done = command("inspect", f"{folder}/x-1.tar", "--json", *options)
    assert json.loads(done.stdout)["samples"] == 100
    script = tmp_path / "script.lua"
    script.write_text(SCRIPT)
    for how in ([], ["--dry"]):
        done = command("run", str(script), "-c", f"folder={folder}", "--show", "json", *how, *options)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(lines) == 200, done.stderr
        assert lines[0]["entries"][0]["key"] == ".txt"
