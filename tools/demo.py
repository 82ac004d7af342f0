"""Shows that it works: packs real files into shards, indexes, streams and checks every byte.

Without arguments the files are the source of Python's standard library. With `--data` they
are shards of yours, which are indexed where they lie, streamed whole, and checked in part.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import sys
import sysconfig
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ultar_dataloader as ultar
from ultar_dataloader import _native
from ultar_dataloader._paths import expand
from ultar_dataloader._progress import bytes_text, count_text
from ultar_dataloader.cli.text import preview

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).with_suffix(".lua")
SHARDS = 8
RANKS = 2
SHOWN = 3
# Of shards that are not ours: how much of them is compared.
CHECKED_SHARDS = 8
CHECKED_SAMPLES = 200

Members = dict[str, bytes]


class DemoError(Exception):
    """The demo found something wrong."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a shard, a folder or a pattern: show it with these instead")
    parser.add_argument("--files", type=int, help="pack at most this many files")
    arguments = parser.parse_args()
    print(f"ultar-dataloader {ultar.__version__}\n")
    try:
        if arguments.data is None:
            with_library(arguments.files)
        else:
            with_shards(arguments.data)
    except BrokenPipeError:
        # Such as `make demo | head`. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (DemoError, ultar.UltarError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def with_library(limit: int | None) -> None:
    """Pack, index and stream the standard library, and compare every byte with its files."""
    folder = ROOT / "build" / "demo"
    begin = time.monotonic()
    library = Path(sysconfig.get_path("stdlib"))
    shards, packed = pack(library, folder, limit)
    step("Pack", f"{count_text(len(packed), 'file')} of {library} into {count_text(len(shards), 'shard')}", begin)

    index([str(shard) for shard in shards])
    stats = stream([str(shard) for shard in shards])
    if stats.rows != len(packed):
        raise DemoError(f"the ranks had {stats.rows} rows together, wanted {len(packed)}")

    begin = time.monotonic()
    checked = 0
    for row in rows_of_all_ranks([str(shard) for shard in shards]):
        stem = row["stem"].decode()
        file, facts = packed.pop(stem)
        wanted = {"stem": stem.encode(), ".py": file.read_bytes(), ".json": facts}
        same(stem, row, wanted)
        checked += row.nbytes - len(stem.encode())
    if packed:
        raise DemoError(f"{len(packed)} samples never came, the first is {next(iter(packed))}")
    step("Check", f"every byte against the files: {bytes_text(checked)}, all equal", begin)
    show([str(shard) for shard in shards])


def with_shards(data: str) -> None:
    """Index and stream shards of the user's, and compare the beginnings of some with `tarfile`."""
    shards = list(dict.fromkeys(expand(data)))
    index(shards)
    stats = stream(shards)
    samples = sum(len(_native.Index(f"{shard}.utix")) for shard in shards)
    if stats.rows != samples:
        raise DemoError(f"the ranks had {stats.rows} rows together, and the indexes have {samples} samples")

    begin = time.monotonic()
    checked = 0
    for shard in shards[:: -(-len(shards) // CHECKED_SHARDS)]:
        # Numbered: a stem may come back in another place of the shard.
        wanted = samples_of(shard, CHECKED_SAMPLES)
        rows = rows_of_all_ranks([shard], world_size=1, limit=CHECKED_SAMPLES)
        for stem, members in wanted:
            row = next(rows, None)
            if row is None:
                raise DemoError(f"{shard}: the rows ended before the sample {stem}")
            if row.items() != (("stem", stem.encode()), *members):
                raise DemoError(f"{shard}: the row {row!r} is not what tarfile reads as {stem}")
            checked += 1
    step("Check", f"{count_text(checked, 'sample')} against what Python's tarfile reads: all equal", begin)
    show(shards)


def step(name: str, text: str, begin: float) -> None:
    print(f"{name:<7} {text}  ({time.monotonic() - begin:.2f} s)", flush=True)


def library_files(library: Path) -> Iterator[tuple[str, Path]]:
    """Stems with files, of all modules with their tests; not what was installed later."""
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        # A name with a further dot would have another stem.
        if "site-packages" not in name.parts and "dist-packages" not in name.parts and path.name.count(".") == 1:
            yield name.with_suffix("").as_posix(), path


def pack(library: Path, folder: Path, limit: int | None) -> tuple[list[Path], dict[str, tuple[Path, bytes]]]:
    """Shards with a `.py` and a `.json` of facts for each file; what is packed, by stem."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    packed: dict[str, tuple[Path, bytes]] = {}
    shards = [folder / f"python-{number:06d}.tar" for number in range(SHARDS)]
    tars = [tarfile.open(shard, "w") for shard in shards]  # noqa: SIM115
    for stem, path in library_files(library):
        if limit is not None and len(packed) == limit:
            break
        try:
            source = path.read_bytes()
        except OSError:
            continue
        facts = json.dumps(facts_of(source)).encode()
        tar = tars[len(packed) % SHARDS]
        for key, payload in ((".py", source), (".json", facts)):
            member = tarfile.TarInfo(stem + key)
            member.size = len(payload)
            tar.addfile(member, io.BytesIO(payload))
        packed[stem] = path, facts
    for tar in tars:
        tar.close()
    if not packed:
        raise DemoError(f"{library}: no Python files to pack")
    return shards, packed


def facts_of(source: bytes) -> dict[str, int]:
    return {
        "bytes": len(source),
        "lines": source.count(b"\n"),
        "functions": len(re.findall(rb"^\s*(?:async )?def \w", source, re.M)),
        "classes": len(re.findall(rb"^\s*class \w", source, re.M)),
    }


def index(shards: list[str]) -> None:
    begin = time.monotonic()
    summary = ultar.index(shards, progress=True)
    counts = f": {count_text(summary.samples, 'sample')}, {count_text(summary.entries, 'entry')}"
    up_to_date = f", {summary.skipped:,} were up to date" if summary.skipped else ""
    step("Index", count_text(summary.shards, "shard") + (counts if summary.shards else "") + up_to_date, begin)
    for warning in summary.warnings:
        print(f"  warning: {warning}")


@dataclass
class Streamed:
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0


def stream(shards: list[str]) -> Streamed:
    """Read everything, one rank after the other, and say how fast it went."""
    total = Streamed()
    begin = time.monotonic()
    lines = []
    for rank in range(RANKS):
        loader = ultar.DataLoader.from_file(SCRIPT, {"shards": shards}, rank, RANKS)
        started = time.monotonic()
        rows = size = 0
        for row in loader:
            rows += 1
            size += row.nbytes
        seconds = time.monotonic() - started
        lines.append(f"  rank {rank}: {rows:>10,} rows  {bytes_text(size):>10}  {rates(rows, size, seconds)}")
        total = Streamed(total.rows + rows, total.bytes + size, total.seconds + seconds)
    backend = loader.stats()["backend"]
    step("Stream", f"as {RANKS} ranks, by {backend}: {count_text(total.rows, 'row')}, {bytes_text(total.bytes)}", begin)
    print("\n".join(lines))
    return total


def rates(rows: int, size: int, seconds: float) -> str:
    seconds = max(seconds, 1e-9)
    return f"{bytes_text(size / seconds):>10}/s  {rows / seconds:>10,.0f} rows/s"


def rows_of_all_ranks(shards: list[str], world_size: int = RANKS, **config: object) -> Iterator[ultar.LoadedRow]:
    for rank in range(world_size):
        yield from ultar.DataLoader.from_file(SCRIPT, {"shards": shards, **config}, rank, world_size)


def same(stem: str, row: ultar.LoadedRow, wanted: Members) -> None:
    if row.to_dict() != wanted:
        bad = [key for key in wanted if row.get(key) != wanted[key]]
        raise DemoError(f"{stem}: {', '.join(bad) or row!r} is not what was packed")


def samples_of(shard: str, count: int) -> list[tuple[str, list[tuple[str, bytes]]]]:
    """The first samples of a shard, read and split in Python, independently of the engine."""
    samples: list[tuple[str, list[tuple[str, bytes]]]] = []
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            if not member.isreg():
                continue
            folder, slash, name = member.name.rpartition("/")
            base, dot, rest = name.partition(".")
            stem = folder + slash + base
            if not samples or samples[-1][0] != stem:
                if len(samples) == count:
                    break
                samples.append((stem, []))
            payload = tar.extractfile(member)
            samples[-1][1].append((dot + rest, payload.read() if payload else b""))
    return samples


def show(shards: list[str]) -> None:
    """A few rows, from somewhere in the middle."""
    rows = list(rows_of_all_ranks(shards[len(shards) // 2 :][:1], world_size=1, limit=40))
    print("\nSome rows, as Python has them:")
    for row in rows[:: max(len(rows) // SHOWN, 1)][:SHOWN]:
        print(f"  {row!r}")
        for place, key in enumerate(row.keys()):
            print(f"    row[{key!r}]  {preview(row.view(place), 'text')}")


if __name__ == "__main__":
    sys.exit(main())
