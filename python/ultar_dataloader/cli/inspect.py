"""`ultar-dataloader inspect`: what an index says about its shard."""

from __future__ import annotations

import argparse
import json
import os
from array import array
from dataclasses import dataclass, field
from statistics import median_low

from .. import _native, _paths, _store_index
from .._index import index_path
from .._progress import bytes_text, count_text
from .._stores import Options, Stores, is_url
from . import storage
from .text import table

BAR_CHARS = 40
STEMS_SHOWN = 5


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("inspect", help="show what is in an index", description="Show what an index says.")
    parser.add_argument("path", metavar="SHARD|INDEX", help="a shard that has its index beside it, or an index")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    storage.add_to(parser)
    parser.set_defaults(verb=run)


@dataclass(slots=True)
class _Found:
    """What the records come to."""

    path: str
    samples: int = 0
    sizes: dict[str, array[int]] = field(default_factory=dict)
    samples_with: dict[str, int] = field(default_factory=dict)
    stems: list[str] = field(default_factory=list)
    metadata: dict[str, list[int]] = field(default_factory=dict)
    """By query: how many values, and how many of them null."""


def run(arguments: argparse.Namespace) -> int:
    found = _read(_find_index(arguments))
    print(json.dumps(_as_json(found), ensure_ascii=False) if arguments.json else "\n".join(_as_text(found)))
    return 0


def _find_index(arguments: argparse.Namespace) -> str:
    path: str = arguments.path
    if is_url(path):
        return _store_index.any_index(Stores(Options.parse(storage.options(arguments))), path)
    if os.path.isfile(index_path(path)):
        return index_path(path)
    if _paths.container_of(path) and os.path.isfile(path):
        raise ValueError(f"{path}: there is no {index_path(path)}; make it with: ultar-dataloader index {path}")
    return path


def _read(path: str) -> _Found:
    found = _Found(path)
    index = _native.Index(path)
    for i in range(len(index)):
        record = index[i]
        found.samples += 1
        if len(found.stems) < STEMS_SHOWN:
            found.stems.append(record["str_idx"])
        for key, size in zip(record["keys"], record["sizes"], strict=True):
            found.sizes.setdefault(key, array("Q")).append(size)
        for key in set(record["keys"]):
            found.samples_with[key] = found.samples_with.get(key, 0) + 1
        for query, value in record.get("metadata", {}).items():
            counts = found.metadata.setdefault(query, [0, 0])
            counts[0] += 1
            counts[1] += value is None
    return found


def _buckets(found: _Found) -> list[tuple[int, int, int]]:
    """Sizes by powers of 4: (from, to but not with, how many), without empty ends."""
    counts: dict[int, int] = {}
    for sizes in found.sizes.values():
        for size in sizes:
            step = (size.bit_length() + 1) // 2
            counts[step] = counts.get(step, 0) + 1
    if not counts:
        return []
    steps = range(min(counts), max(counts) + 1)
    return [(_bucket_from(step), _bucket_from(step + 1), counts.get(step, 0)) for step in steps]


def _bucket_from(step: int) -> int:
    return 0 if step == 0 else 4 ** (step - 1)


def _as_json(found: _Found) -> dict[str, object]:
    return {
        "index": found.path,
        "index_bytes": os.path.getsize(found.path),
        "samples": found.samples,
        "entries": sum(map(len, found.sizes.values())),
        "bytes": sum(map(sum, found.sizes.values())),
        "keys": {
            key: {
                "count": len(sizes),
                "samples": found.samples_with[key],
                "bytes": sum(sizes),
                "min": min(sizes),
                "median": median_low(sizes),
                "max": max(sizes),
            }
            for key, sizes in found.sizes.items()
        },
        "sizes": [{"from": low, "below": high, "count": count} for low, high, count in _buckets(found)],
        "first_stems": found.stems,
        "metadata": {query: {"values": values, "null": null} for query, (values, null) in found.metadata.items()},
    }


def _as_text(found: _Found) -> list[str]:
    entries = sum(map(len, found.sizes.values()))
    payload = bytes_text(sum(map(sum, found.sizes.values())))
    lines = [
        found.path,
        f"{count_text(found.samples, 'sample')}, {count_text(entries, 'entry')}, {payload} of payload; "
        f"the index has {bytes_text(os.path.getsize(found.path))}",
    ]
    if found.sizes:
        rows: list[tuple[str, ...]] = [("key", "count", "samples", "bytes", "min", "median", "max")]
        for key, sizes in sorted(found.sizes.items()):
            numbers = map(bytes_text, (sum(sizes), min(sizes), median_low(sizes), max(sizes)))
            rows.append((key or '""', f"{len(sizes):,}", f"{found.samples_with[key]:,}", *numbers))
        lines += ["", *table(rows)]
    buckets = _buckets(found)
    if buckets:
        most = max(count for _, _, count in buckets)
        labels = [(bytes_text(low), f"{count:,}") for low, _, count in buckets]
        lines += ["", "sizes, from"]
        for line, (_, _, count) in zip(table(labels, left=0), buckets, strict=True):
            bar = "█" * max(round(BAR_CHARS * count / most), 1 if count else 0)
            lines.append(f"  {line}  {bar}".rstrip())
    if found.stems:
        more = ", …" if found.samples > len(found.stems) else ""
        lines += ["", f"stems: {', '.join(found.stems)}{more}"]
    for query, (values, null) in found.metadata.items():
        lines.append(f"metadata: {query} in {count_text(values, 'sample')}, null in {null:,}")
    return lines
