"""Writes the data sets: tars with our indexes, and the same rows in the peers' own formats.

What is there already, with the same parameters, is left as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

import ultar_dataloader as ultar

from . import peers
from .data import KINDS, Data, stem
from .lines import LINES

DEFAULT = Path("build/bench")


def data_sets(folder: Path, scale: float, names: Iterable[str] = KINDS) -> dict[str, Data]:
    return {name: Data(name, folder.resolve() / f"{name}-{scale:g}", scale) for name in names}


def make(data: Data, wanted: Iterable[peers.Contestant] = ()) -> dict[str, str]:
    """Make what is missing. Returns why formats of peers could not be made."""
    if not _is_there(data.folder, data.manifest):
        print(f"writing {data.folder.name}: {data.rows} {KINDS[data.name].title}", file=sys.stderr)
        shutil.rmtree(data.folder, ignore_errors=True)
        data.folder.mkdir(parents=True)
        payload_bytes = sum(_write_shard(data, shard, path) for shard, path in enumerate(data.tars))
        ultar.index(data.tars)
        _finish(data.folder, data.manifest, payload_bytes=payload_bytes)
    failures = {}
    for peer, contestant in {one.peer: one for one in wanted if one.prepare}.items():
        if reason := _make_format(data, peer, contestant):
            failures[peer] = reason
    return failures


def _make_format(data: Data, peer: str, contestant: peers.Contestant) -> str:
    folder = data.of_peer(peer)
    if _is_there(folder, data.manifest):
        return ""
    if reason := contestant.why_missing():
        return reason
    print(f"writing {data.folder.name} for {peer}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        assert contestant.prepare is not None
        contestant.prepare(data, folder)
    except Exception as error:  # Whatever it is, it is that peer's, and goes into the table.
        shutil.rmtree(folder, ignore_errors=True)
        return f"{type(error).__name__}: {error}"
    _finish(folder, data.manifest)
    return ""


def _is_there(folder: Path, manifest: dict[str, object]) -> bool:
    try:
        found = json.loads((folder / "manifest.json").read_text())
    except FileNotFoundError:
        return False
    return all(found.get(key) == value for key, value in manifest.items())


def _finish(folder: Path, manifest: dict[str, object], **more: object) -> None:
    # Last, so that what was interrupted is made anew. Synced, as dirty pages cannot be dropped.
    (folder / "manifest.json").write_text(json.dumps({**manifest, **more}))
    os.sync()


def _write_shard(data: Data, shard: int, path: Path) -> int:
    """Write a tar, and return how many bytes of payload it has.

    Headers are made from one template, as `tarfile` takes longer for a header than a whole row should.
    """
    template = bytearray(tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT))
    template[148:156] = b" " * 8
    keys = [f".{key}" for key in data.keys]
    first = shard * data.rows_per_shard
    payload_bytes = 0
    with path.open("wb", buffering=1 << 20) as file:
        for number, row in enumerate(data.shard_rows(shard), first):
            name = stem(number)
            for key, payload in zip(keys, row, strict=True):
                file.write(_header(template, (name + key).encode(), len(payload)))
                file.write(payload)
                file.write(bytes(-len(payload) % 512))
                payload_bytes += len(payload)
        file.write(bytes(-file.tell() % tarfile.RECORDSIZE or tarfile.RECORDSIZE))
    return payload_bytes


def _header(template: bytearray, name: bytes, size: int) -> bytes:
    header = template.copy()
    header[: len(name)] = name
    header[124:136] = b"%011o\0" % size
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="folder to write to (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="times as many rows (default: 1, about 3.5 GB)")
    arguments = parser.parse_args()
    for data in data_sets(arguments.data, arguments.scale).values():
        letters = {line.letter for line in LINES if line.trial.data == data.name}
        readers = [one for one in peers.load() if letters & set(one.lines)]
        for peer, reason in make(data, readers).items():
            print(f"not made for {peer}: {reason}")


if __name__ == "__main__":
    main()
