"""`ultar-dataloader run`: run a script, and show its rows."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from .._errors import UltarError
from .._loader import ACCESS_CHOICES, IO_CHOICES, PREFETCH_ROWS, DataLoader
from .._native import LoadedRow
from .._progress import bytes_text, count_text
from . import storage
from .text import error, json_value, preview, table

DESCRIPTION = """\
Run a script and print its rows, with what it prints itself. With --dry nothing is read: rows
are shown as the places in files that they would come from."""

WATCH_SECONDS = 0.2
"""Between two looks at the script's file."""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("run", help="run a script and show its rows", description=DESCRIPTION)
    parser.add_argument("script", metavar="SCRIPT.lua")
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="for init_ctx; VALUE is JSON where it parses as such, else a string; may be repeated",
    )
    parser.add_argument("--rank", type=int, default=0, metavar="N")
    parser.add_argument("--world-size", type=int, default=1, metavar="N")
    parser.add_argument("--limit", type=_count, metavar="N", help="stop after N rows")
    parser.add_argument(
        "--show",
        choices=("text", "json", "hex"),
        default="text",
        help="payloads as text, as hexadecimal, or each row as one line of JSON (default: text)",
    )
    parser.add_argument("--dry", action="store_true", help="read nothing, show what would be read")
    parser.add_argument("--watch", action="store_true", help="run again whenever the script is saved, until Ctrl-C")
    parser.add_argument("--io", choices=IO_CHOICES, default="auto", help="how to read (default: auto)")
    parser.add_argument("--access", choices=ACCESS_CHOICES, default="auto", help="how bytes reach rows (default: auto)")
    storage.add_to(parser)
    parser.set_defaults(verb=run)


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {count}")
    return count


def run(arguments: argparse.Namespace) -> int:
    config = parse_config(arguments.config)
    _show_prints(sys.stderr if arguments.show == "json" else sys.stdout)
    if not arguments.watch:
        _run_once(arguments, config, lambda: False)
        return 0
    while True:
        seen = _stamp(arguments.script)

        def is_saved(seen: object = seen) -> bool:
            return _stamp(arguments.script) != seen

        print(f"-- {time.strftime('%H:%M:%S')} {arguments.script}", flush=True)
        try:
            _run_once(arguments, config, is_saved)
        except (UltarError, OSError, ValueError, TypeError) as failure:
            if isinstance(failure, BrokenPipeError):
                raise
            error(failure)
        sys.stdout.flush()
        while not is_saved():
            time.sleep(WATCH_SECONDS)


def parse_config(pairs: list[str]) -> dict[str, object]:
    """`KEY=VALUE`, each, as a config for `init_ctx`."""
    config: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ValueError(f"-c wants KEY=VALUE, got {pair!r}")
        try:
            config[key] = json.loads(text)
        except ValueError:
            config[key] = text
    return config


def _stamp(path: str) -> object:
    try:
        stat = os.stat(path)
    except OSError:
        return None  # Between an editor's delete and rename.
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


class _PrintHandler(logging.Handler):
    """What a script prints, and the engine's warnings, as lines among the rows."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        mark = "warning:" if record.name == "ultar_dataloader" else "print |"
        for line in record.getMessage().split("\n"):
            # At once: it is what tells where a script hangs.
            print(mark, line, file=self._stream, flush=True)


def _show_prints(stream: TextIO) -> None:
    logger = logging.getLogger("ultar_dataloader")
    logger.handlers = [_PrintHandler(stream)]
    logger.propagate = False
    logger.setLevel(logging.INFO)


class DryLoader(DataLoader):
    """Its rows have sources, and no bytes: nothing is read."""

    _dry = True


def _run_once(arguments: argparse.Namespace, config: dict[str, object], is_saved: Callable[[], bool]) -> None:
    kind = DryLoader if arguments.dry else DataLoader
    loader = kind.from_file(
        arguments.script,
        config,
        arguments.rank,
        arguments.world_size,
        io=arguments.io,
        access=arguments.access,
        storage_options=storage.options(arguments),
        # No further than what is shown: a script that is looked at may be slow.
        prefetch_rows=PREFETCH_ROWS if arguments.limit is None else min(max(arguments.limit, 1), PREFETCH_ROWS),
    )
    begin = time.monotonic()
    rows, entries, size = 0, 0, 0
    for number, row in enumerate(_limited(iter(loader), arguments.limit, is_saved)):
        rows, entries = rows + 1, entries + len(row)
        size += sum(length for _, _, length in row.sources()) if arguments.dry else row.nbytes
        _show_row(number, row, arguments.show, dry=arguments.dry)
    sys.stdout.flush()
    would = " to read" if arguments.dry else ""
    seconds = time.monotonic() - begin
    print(
        f"{count_text(rows, 'row')}, {count_text(entries, 'entry')}, {bytes_text(size)}{would} in {seconds:.2f} s",
        file=sys.stderr,
    )


def _limited(rows: Iterator[LoadedRow], limit: int | None, is_saved: Callable[[], bool]) -> Iterator[LoadedRow]:
    looked = time.monotonic()
    count = 0
    while limit is None or count < limit:
        row = next(rows, None)
        if row is None:
            return
        yield row
        count += 1
        if time.monotonic() - looked > WATCH_SECONDS:
            looked = time.monotonic()
            if is_saved():
                return


def _show_row(number: int, row: LoadedRow, form: str, *, dry: bool) -> None:
    if form == "json":
        print(json.dumps({"row": number, "entries": _json_entries(row, dry=dry)}, ensure_ascii=False))
        return
    lines = []
    for place, (key, (path, offset, size)) in enumerate(zip(row.keys(), row.sources(), strict=True)):
        source = f"{path} at {offset}" if path else "made by the script"
        lines.append((key, f"{size:,}", source if dry else preview(row.view(place), form)))
    print(f"row {number}")
    for line, (_, _, shown) in zip(table([line[:2] for line in lines]) if lines else [], lines, strict=True):
        print(f"  {line}  {shown}")


def _json_entries(row: LoadedRow, *, dry: bool) -> list[dict[str, object]]:
    entries = []
    for place, (key, (path, offset, size)) in enumerate(zip(row.keys(), row.sources(), strict=True)):
        entry: dict[str, object] = {"key": key, "size": size}
        if dry:
            entry |= {"path": path, "offset": offset}
        else:
            entry["value"] = json_value(row.view(place))
        entries.append(entry)
    return entries
