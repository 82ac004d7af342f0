"""What the fault tests share: scripts, and a run in a process of its own."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

from ultar_dataloader import DataLoader

EVERY_ROW = """
local loader = require("ultar.loader")
local utix = require("ultar.utix")
return {
  init_ctx = function(rank, world_size, config) return config end,
  row_generator = function(config)
    local tar = loader:open_file(config.tar)
    for row in utix.open(config.tar .. ".utix"):iter() do
      loader:add_row(tar, row)
      loader:finish_row()
    end
    loader:close_file(tar)
  end,
}
"""


def generator(body: str) -> str:
    """A script whose row_generator is `body`, with `loader` and `config` at hand."""
    return (
        'local loader = require("ultar.loader")\n'
        "return { init_ctx = function(_, _, config) return config end, row_generator = function(config)\n"
        + textwrap.dedent(body)
        + "\nend }\n"
    )


def load(script: str, io: str = "auto", **config: object) -> DataLoader:
    """A loader over `script`."""
    return DataLoader(script, config, io=io)


def run_python(
    code: str, timeout: float = 60, config: Mapping[str, object] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter, with this package and this folder."""
    preamble = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); config = {dict(config or {})!r}\n"
    # What Python 3.12 and later say of each fork with threads, which is what some tests are about.
    preamble += "import warnings; warnings.filterwarnings('ignore', '.*multi-threaded.*fork', DeprecationWarning)\n"
    if access := os.environ.get("ULTAR_TEST_ACCESS"):  # As in conftest.py.
        preamble += (
            f"import ultar_dataloader; ultar_dataloader.DataLoader.__init__.__kwdefaults__['access'] = {access!r}\n"
        )
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", preamble + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def expect_quiet_success(done: subprocess.CompletedProcess[str]) -> str:
    """The process ended well and had nothing to complain about."""
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout
