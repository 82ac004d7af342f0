"""`ultar-dataloader bench`: how fast shards can be read, and what bounds it."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
from dataclasses import dataclass
from typing import Any

from .. import _index, _paths, _store_index
from .._errors import ReadError
from .._loader import ACCESS_CHOICES, IO_CHOICES, DataLoader
from .._progress import bytes_text, count_text, steps
from .._stores import Options, Stores, is_url
from . import storage
from .bench_plan import Plan, plan_of
from .bench_rounds import STEPS, Bench, Measure
from .bench_verdict import Circumstances, Verdict, verdict
from .run import DryLoader, parse_config
from .text import table, warning

DESCRIPTION = """\
Measure how fast rows come: from bare reads of the same bytes, which is the limit, from the
engine, and in Python; then say what bounds them and what to change. Without --script: every
row of the shards, in the order of the tars."""

EVERY_ROW = """\
local loader = require("ultar.loader")
local utix = require("ultar.utix")

return {
  init_ctx = function(_, _, config)
    return config.shards
  end,

  row_generator = function(shards)
    for _, path in ipairs(shards) do
      local tar = loader:open_file(path)
      for row in utix.open(path .. ".utix"):iter() do
        loader:add_row(tar, row)
        loader:finish_row()
      end
      loader:close_file(tar)
    end
  end,
}
"""

CACHED_SHARE = 0.5
"""Of the data in the page cache, from which reading is rather a copy."""
MEMORY_SHARE = 0.25
"""Of the machine's memory that may be read without --cold: more would not stay cached."""
BYTES_MAX = 8 * 1024**3


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("bench", help="measure what bounds the reading of shards", description=DESCRIPTION)
    parser.add_argument(
        "paths", nargs="*", metavar="SHARD", help="a tar, a folder of them, a glob, or shard-{000..127}.tar"
    )
    parser.add_argument(
        "--script", metavar="SCRIPT.lua", help="measure its rows; SHARDs, if any, are its config.shards"
    )
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for the init_ctx of --script, as in `run`; may be repeated",
    )
    parser.add_argument("--index", action="store_true", help="build the indexes that are missing or out of date first")
    parser.add_argument("--seconds", type=_seconds, default=10.0, metavar="N", help="time to measure (default: 10)")
    parser.add_argument("--cold", action="store_true", help="have the shards dropped from the page cache each time")
    parser.add_argument("--io", choices=IO_CHOICES, default="auto", help="how to read (default: auto)")
    parser.add_argument("--access", choices=ACCESS_CHOICES, default="auto", help="how bytes reach rows (default: auto)")
    parser.add_argument("--json", action="store_true", help="print all figures as one JSON object")
    storage.add_to(parser)
    parser.set_defaults(verb=run)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0, got {text}")
    return seconds


@dataclass(frozen=True, slots=True)
class _Report:
    """All that there is to say."""

    plan: Plan
    around: Circumstances
    cached_share: float | None
    found: dict[str, Measure]
    said: Verdict


def run(arguments: argparse.Namespace) -> int:
    given = storage.options(arguments)
    stores = Stores(Options.parse(given))
    script, config = _script_of(arguments, stores)
    options: dict[str, Any] = {"io": arguments.io, "access": arguments.access, "storage_options": given}
    dry = _loader(DryLoader, script, config, options)
    loader = _loader(DataLoader, script, config, options)
    report = _measure(loader, dry, arguments, stores)
    print(json.dumps(_as_json(report, arguments)) if arguments.json else "\n".join(_as_text(report, arguments)))
    return 0


def _measure(loader: DataLoader, dry: DataLoader, arguments: argparse.Namespace, stores: Stores) -> _Report:
    seconds: float = arguments.seconds
    memory = int(MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with steps("measuring", 2 + STEPS) as show:
        show("what would be read")
        plan = plan_of(dry, min(BYTES_MAX, memory), seconds / 4, stores)
        bench = Bench(plan, loader, dry, arguments.cold)
        show("warming up")
        bench.warm_up(seconds / 2)
        if arguments.cold:
            plan.drop()
        share = plan.cached_share()
        found = bench.run(seconds, show)
    cached = not (arguments.cold or plan.has_urls) if share is None else share >= CACHED_SHARE
    if arguments.cold and plan.has_urls:
        warning("--cold is for files: nothing is known of what a store caches")
    elif arguments.cold and share is None:
        warning("this file system does not say what it caches: these may not be the figures of cold storage")
    elif arguments.cold and cached:
        warning(f"the page cache keeps {share:.0%} of the shards: these are not the figures of cold storage")
    around = Circumstances(
        rows=plan.rows,
        payload_bytes=plan.payload_bytes(plan.rows),
        cached=cached,
        access=arguments.access,
        io=str(loader.stats()["backend"]),
        remote=plan.has_urls,
        every_row=arguments.script is None,
    )
    return _Report(plan, around, share, found, verdict(found, around))


def _script_of(arguments: argparse.Namespace, stores: Stores) -> tuple[str | None, dict[str, object]]:
    """The path of the script, None for our own, and its config."""
    if arguments.script is None:
        if not arguments.paths:
            raise ValueError("name the shards to read, or a script with --script")
        if arguments.config:
            raise ValueError("-c is the config of a script: name it with --script")
    config = parse_config(arguments.config)
    shards = _paths.expand(arguments.paths, stores)
    if arguments.index:
        _index.index(shards, progress=True, storage_options=storage.options(arguments))
    _need_indexes(shards, arguments.paths, stores)
    if shards:
        config.setdefault("shards", shards)
    return arguments.script, config


def _has_index(path: str, stores: Stores) -> bool:
    if not is_url(path):
        return os.path.isfile(_index.index_path(path))
    try:
        _store_index.fetch(stores, path, any_age=True)
    except ReadError as failure:
        if failure.errno != errno.ENOENT:
            raise
        return False
    return True


def _need_indexes(shards: list[str], named: list[str], stores: Stores) -> None:
    missing = [path for path in shards if not _has_index(path, stores)]
    if not missing:
        return
    more, them = "", "it"
    if len(missing) > 1:
        more = f", and {len(missing) - 1:,} more {'is' if len(missing) == 2 else 'are'} missing"
        them = "them"
    command = shlex.join(["ultar-dataloader", "index", *named])
    raise ValueError(
        f"{missing[0]}: there is no {_index.index_path(missing[0])}{more}; make {them} with: {command} (or add --index)"
    )


def _loader(
    kind: type[DataLoader], script: str | None, config: dict[str, object], options: dict[str, Any]
) -> DataLoader:
    if script is None:
        return kind(EVERY_ROW, config, name="every_row.lua", **options)
    return kind.from_file(script, config, **options)


def _as_json(report: _Report, arguments: argparse.Namespace) -> dict[str, object]:
    limit = report.found["storage"].rows_per_s
    measures = {}
    for name, measure in report.found.items():
        total = measure.total
        measures[name] = {
            "rows_per_s": measure.rows_per_s,
            "rows_per_s_by_round": measure.rates,
            "bytes_per_s": None if name == "script" else measure.bytes_per_s,
            "cpu_s_per_1000_rows": measure.cpu_s_per_1000_rows,
            "of_storage": measure.rows_per_s / max(limit, 1e-9),
            "rows": total.rows,
            "seconds": total.seconds,
            **({"read_bytes_per_s": measure.read_bytes_per_s} if name == "storage" else total.waits),
        }
    return {
        "files": len(report.plan.files),
        "rows": report.around.rows,
        "bytes": report.around.payload_bytes,
        "whole": report.plan.is_whole,
        "cold": arguments.cold,
        "cached": report.cached_share,
        "io": report.around.io,
        "access": report.around.access,
        "measures": measures,
        "bound_by": report.said.bound_by,
        "verdict": report.said.text,
    }


def _as_text(report: _Report, arguments: argparse.Namespace) -> list[str]:
    around, limit = report.around, report.found["storage"].rows_per_s
    first = "" if report.plan.is_whole else "the first "
    data = f"{first}{count_text(around.rows, 'row')}, {bytes_text(around.payload_bytes)}"
    how = [f"io={around.io}", f"access={around.access}"]
    if report.cached_share is not None:
        dropped = " after dropping it" if arguments.cold else ""
        how.append(f"{report.cached_share:.0%} in the page cache{dropped}")
    rows: list[tuple[str, ...]] = [("", "rows/s", "MB/s", "CPU s per 1000 rows", "of the limit")]
    for name, measure in report.found.items():
        speed = "" if name == "script" else f"{measure.bytes_per_s / 1e6:,.1f}"
        cpu = f"{measure.cpu_s_per_1000_rows:.5f}"
        share = f"{measure.rows_per_s / max(limit, 1e-9):.2f}"
        rows.append((measure.title, f"{measure.rows_per_s:,.0f}", speed, cpu, share))
    files = count_text(len(report.plan.files), "file")
    return [f"{data} from {files}; {', '.join(how)}", "", *table(rows), "", report.said.text]
