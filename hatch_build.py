"""Builds the extension while a wheel is made, and puts it into the wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

EXTENSION = "_native.abi3.so"

NO_LUAJIT = """\
ultar-dataloader needs LuaJIT 2.1 to build, and pkg-config to find it. Install them:
  Debian, Ubuntu   apt install pkg-config libluajit-5.1-dev
  Fedora           dnf install pkgconf-pkg-config luajit-devel
  macOS            brew install pkg-config luajit
  conda, pixi      conda install -c conda-forge pkg-config luajit
(`pkg-config --modversion luajit` must answer; it said: {answer})"""


class ExtensionBuild(BuildHookInterface[Any]):
    """Runs `zig build native`, with the Zig that is a build requirement."""

    _prefix: str | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        self._need_luajit()
        self._prefix = tempfile.mkdtemp(prefix="ultar-build-")
        built = self._build(Path(self._prefix))
        if version == "editable":
            # There the package is the source tree itself.
            shutil.copy2(built, Path(self.root, "python", "ultar_dataloader", EXTENSION))
        else:
            build_data["force_include"][str(built)] = f"ultar_dataloader/{EXTENSION}"
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._prefix is not None:
            shutil.rmtree(self._prefix, ignore_errors=True)

    def _need_luajit(self) -> None:
        try:
            asked = subprocess.run(
                ["pkg-config", "--modversion", "luajit"], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            self.app.abort(NO_LUAJIT.format(answer="pkg-config: not found"))
            return
        if asked.returncode != 0:
            self.app.abort(NO_LUAJIT.format(answer=asked.stderr.strip().splitlines()[0] if asked.stderr else "nothing"))

    def _build(self, prefix: Path) -> Path:
        command = [sys.executable, "-m", "ziglang", "build", "native", "-Doptimize=ReleaseSafe"]
        # For any processor of the kind: the wheel may run elsewhere than it is built.
        command += ["-Dcpu=baseline", "--prefix", str(prefix)]
        status = subprocess.run(command, cwd=self.root, check=False).returncode
        if status != 0:
            self.app.abort(f"building the extension failed: `zig build native` ended with {status}; see above")
        return prefix / "python" / EXTENSION
