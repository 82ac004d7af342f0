"""`ultar-dataloader index`: build or check the indexes of shards."""

from __future__ import annotations

import argparse
import json

from .. import _index
from .._progress import bytes_text, count_text
from . import storage
from .text import error, warning

DESCRIPTION = """\
Build the index of each shard, beside it: shard.tar.utix for shard.tar. Indexes that are up
to date are skipped. The exit status is 0 only if every shard was indexed whole."""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("index", help="build or check the indexes of shards", description=DESCRIPTION)
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a shard, a folder of them, a glob, shard-{000..127}.tar, or a URL"
    )
    parser.add_argument("--force", action="store_true", help="build indexes that are up to date, too")
    parser.add_argument("--check", action="store_true", help="compare the indexes with the shards, and change nothing")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--jobs", type=int, metavar="N", help="shards at once (default: 8)")
    parser.add_argument(
        "--fmt", choices=("msgpack", "jsonl"), default="msgpack", help="of the index (default: msgpack)"
    )
    parser.add_argument("--verify", action="store_true", help="read payloads that have checksums, and compare")
    parser.add_argument(
        "--meta-rule",
        action="append",
        default=[],
        metavar="KEY:QUERY;QUERY",
        help="pick values out of a JSON member into the index, such as '.json:.label;.size[0]'; may be repeated",
    )
    storage.add_to(parser)
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.check:
        summary = _index.check(
            arguments.paths,
            jobs=arguments.jobs,
            metadata_rules=arguments.meta_rule,
            verify=arguments.verify,
            on_error="skip",
            progress=True,
            storage_options=storage.options(arguments),
        )
    else:
        summary = _index.index(
            arguments.paths,
            force=arguments.force,
            jobs=arguments.jobs,
            format=arguments.fmt,
            metadata_rules=arguments.meta_rule,
            verify=arguments.verify,
            on_error="skip",
            progress=True,
            storage_options=storage.options(arguments),
        )
    return report(summary, "checked" if arguments.check else "indexed", as_json=arguments.json)


def report(summary: _index.IndexSummary, done: str, *, as_json: bool) -> int:
    """Print a summary, with what went wrong, and give the exit status."""
    for text in summary.warnings:
        warning(text)
    for _, failure in summary.failures:
        error(failure)
    print(json.dumps(_as_json(summary)) if as_json else _as_text(summary, done))
    return 1 if summary.failures else 0


def _as_json(summary: _index.IndexSummary) -> dict[str, object]:
    return {
        "shards": summary.shards,
        "skipped": summary.skipped,
        "samples": summary.samples,
        "entries": summary.entries,
        "bytes": summary.bytes,
        "seconds": round(summary.seconds, 6),
        "warnings": list(summary.warnings),
        "failures": [{"path": path, "error": str(failure)} for path, failure in summary.failures],
    }


def _as_text(summary: _index.IndexSummary, done: str) -> str:
    parts = [f"{count_text(summary.shards, 'shard')} {done}"]
    if summary.skipped:
        parts.append(f"{summary.skipped:,} up to date")
    if summary.failures:
        parts.append(f"{len(summary.failures):,} failed")
    counts = f"{count_text(summary.samples, 'sample')}, {count_text(summary.entries, 'entry')}"
    return f"{', '.join(parts)}: {counts}, {bytes_text(summary.bytes)} in {summary.seconds:.2f} s"
