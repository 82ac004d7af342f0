"""`ultar-dataloader convert`: the side files of other loaders, written and read."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from . import index, storage

if TYPE_CHECKING:
    from .._index import IndexSummary

FORMATS = ("dali", "wids", "energon", "parquet")
DESCRIPTION = """\
Write the side files that other loaders want (--to), or read those that are there into indexes (--from).
dali: shard.idx. energon: shard.tar.idx. parquet: shard.parquet, with metadata. wids: a JSON that lists shards.
Where an index is up to date, and where a side file does not say all that is in one, they are compared. The
exit status is 0 only if all shards were converted, and nothing differs."""

OPTIONS = {
    "output": ("-o", {"to wids"}),
    "name": ("--name", {"to wids"}),
    "md5": ("--md5", {"to wids", "from wids"}),
    "dir": ("--dir", {f"{way} {name}" for way in ("to", "from") for name in ("dali", "energon", "parquet")}),
    "column": ("--column", {"to parquet", "from parquet"}),
    "key": ("--key", {"from parquet"}),
    "missing": ("--missing", {"from parquet"}),
    "force": ("--force", {f"from {name}" for name in FORMATS}),
    "storage_option": ("--storage-option", {"to wids", "from wids"}),
}
"""What each option is for; it is refused elsewhere."""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("convert", help="write or read the side files of other loaders", description=DESCRIPTION)
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--to", choices=FORMATS, help="write side files of this kind")
    way.add_argument("--from", choices=FORMATS, dest="source", help="read side files of this kind")
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a shard, a folder of them, a glob, shard-{000..127}.tar, or a list of wids; with --from wids, that list",
    )
    parser.add_argument("-o", "--output", metavar="JSON", help="where the list of wids goes")
    parser.add_argument("--dir", metavar="FOLDER", help="where the side files are (default: beside the shards)")
    parser.add_argument("--force", action="store_true", help="make indexes that are up to date, too")
    parser.add_argument("--name", help="of the data set, in the list of wids")
    parser.add_argument("--md5", action="store_true", help="with wids: read whole shards, for their checksums")
    parser.add_argument("--key", metavar="COLUMN", help="of the parquet, with the stems (default: key)")
    parser.add_argument("--column", action="append", metavar="NAME", help="of metadata (default: all); may be repeated")
    parser.add_argument(
        "--missing", choices=("error", "null"), help="what of samples without a row in the parquet (default: error)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="shards at once (default: 8)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    storage.add_to(parser)
    parser.set_defaults(verb=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    way = f"to {arguments.to}" if arguments.to else f"from {arguments.source}"
    for name, (flag, ways) in OPTIONS.items():
        if getattr(arguments, name) and way not in ways:
            arguments.parser.error(f"{flag} has no meaning with --{way}")
    if way == "to wids" and not arguments.output:
        arguments.parser.error("--to wids wants -o JSON")
    if way == "from wids" and len(arguments.paths) > 1:
        arguments.parser.error("--from wids wants one PATH, that of the list")
    return index.report(_convert(way, arguments), "converted", as_json=arguments.json)


def _convert(way: str, arguments: argparse.Namespace) -> IndexSummary:
    from ..side_files import dali, energon, parquet, wids

    paths = arguments.paths
    how: dict[str, Any] = {"jobs": arguments.jobs, "on_error": "skip", "progress": True}
    listed: dict[str, Any] = {"md5": arguments.md5, "storage_options": storage.options(arguments)}
    beside: dict[str, Any] = {"folder": arguments.dir}
    made: dict[str, Any] = {"force": arguments.force}
    match way:
        case "to dali":
            return dali.write(paths, **beside, **how)
        case "from dali":
            return dali.index(paths, **beside, **made, **how)
        case "to energon":
            return energon.write(paths, **beside, **how)
        case "from energon":
            return energon.index(paths, **beside, **made, **how)
        case "to wids":
            return wids.write(arguments.output, paths, name=arguments.name, **listed, **how)
        case "from wids":
            return wids.index(paths[0], **listed, **made, **how)
        case "to parquet":
            return parquet.write(paths, columns=arguments.column, **beside, **how)
    rows: dict[str, Any] = {"key": arguments.key or "key", "missing": arguments.missing or "error"}
    return parquet.index(paths, columns=arguments.column, **rows, **beside, **made, **how)
