"""`ultar-dataloader init-lsp` and `types-path`: scripts with completion and types in an editor."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

SETTINGS = ".luarc.json"

DESCRIPTION = """\
Write a .luarc.json, so that editors with the Lua language server know the modules that
scripts require. A file that is there already is left as it is."""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("init-lsp", help="set up editors for scripts", description=DESCRIPTION)
    parser.add_argument("--dir", default=".", metavar="DIR", help="the folder of the scripts (default: this one)")
    parser.set_defaults(verb=init)
    parser = verbs.add_parser(
        "types-path",
        help="print where the annotated Lua modules are",
        description="Print the folder for the setting workspace.library of the Lua language server.",
    )
    parser.set_defaults(verb=show)


def types_path() -> Path:
    """The folder that has `ultar/loader.lua`: in the package, or in the source tree it runs from."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "lua", package.parents[1] / "lua"):
        if (folder / "ultar" / "loader.lua").is_file():
            return folder
    raise FileNotFoundError(f"{package / 'lua'}: the Lua modules are missing from this installation")


def show(_: argparse.Namespace) -> int:
    print(types_path())
    return 0


def init(arguments: argparse.Namespace) -> int:
    settings = {
        "$schema": "https://raw.githubusercontent.com/LuaLS/vscode-lua/master/setting/schema.json",
        "runtime.version": "LuaJIT",
        "workspace.library": [str(types_path())],
        "workspace.checkThirdParty": False,
        # Scripts of the first generation have these.
        "diagnostics.globals": ["g_loader", "g_config", "msgpack_unpacker", "scan_dir"],
    }
    path = os.path.join(arguments.dir, SETTINGS)
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(settings, file, indent=2)
            file.write("\n")
    except FileExistsError:
        raise ValueError(f"{path}: exists, and is left as it is; to have a new one, remove it") from None
    print(f"wrote {path}")
    return 0
