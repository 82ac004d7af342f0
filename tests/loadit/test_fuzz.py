"""Caches whose files say something else: each item is that item, or there is an error of ours that names the file."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ultar_dataloader as ultar
from ultar_dataloader import CacheError, LoadIt

COUNT = 30
ITEMS = [{"i": i, "text": "x" * (37 * i % 600)} for i in range(COUNT)]
INFO = {"a": [1]}
FILES = ("metadata.json", "layout", *(f"shards/000000000010.tar{end}" for end in ("", ".utix", ".places")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compressed, since only then each byte of a payload is checked."""
    root = tmp_path_factory.mktemp("fuzz") / "whole"
    with LoadIt(root, ITEMS, 10, compression="zlib", info=INFO) as loader:
        loader.wait_until_all_cached()
    return root


Failure = CacheError | ultar.ReadError | ultar.WriteError


def use(loader: LoadIt) -> Iterator[tuple[object, object]]:
    """What is got, and what was wanted."""
    draw = random.Random(5)
    for i in draw.sample(range(COUNT), COUNT):
        yield loader[i], ITEMS[i]
    yield loader.info(), INFO
    yield len(loader), COUNT
    yield list(loader), ITEMS


def try_it(root: Path, create_it: Any, limit: int | None) -> Failure | None:
    """The failure, if there is one."""
    failure: Failure | None = None
    try:
        with LoadIt(root, create_it, memory_limit=limit, preload_fn=None) as loader:
            for got, wanted in use(loader):
                # What a user wrote into the metadata is not checked.
                assert got == wanted or wanted == INFO
    except (CacheError, ultar.ReadError, ultar.WriteError) as error:
        failure = error
    except IndexError as error:
        # A layout that ends earlier looks like any other.
        failure = CacheError(f"{root}/layout: {error}")
    assert failure is None or str(root) in str(failure)
    return failure


def flipped(data: bytes, draw: random.Random) -> bytes:
    some = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        some[draw.randrange(len(some))] ^= 1 << draw.randrange(8)
    return bytes(some)


def other_bytes(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + draw.randbytes(draw.choice((1, 8, 40))) + data[at + draw.choice((0, 1, 8)) :]


CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flipped": flipped,
    "cut": lambda data, draw: data[: draw.randrange(len(data))],
    "longer": lambda data, draw: data + draw.randbytes(draw.choice((1, 8, 512, 1024))),
    "other bytes": other_bytes,
    "digits": lambda data, draw: data.replace(b"0", draw.choice((b"9", b"", b"00000000000000000000", b"-1", b" "))),
    "swapped lines": lambda data, draw: b"\n".join(draw.sample(data.split(b"\n"), data.count(b"\n") + 1)),
}


@pytest.mark.parametrize("limit", [None, 10**9])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", FILES)
def test_changed_bytes(whole: Path, tmp_path: Path, name: str, change: str, limit: int | None) -> None:
    data = (whole / name).read_bytes()
    for seed in range(6):
        root = Path(shutil.copytree(whole, tmp_path / str(seed)))
        (root / name).write_bytes(CHANGES[change](data, random.Random(f"{name} {change} {seed}")))
        try_it(root, None, limit)
        failure = try_it(root, ITEMS, limit)
        if name.startswith("shards"):
            assert failure is None


OTHERS: list[Any] = [None, True, 0, -1, 1.5, 10**30, "", "x", "64", [], [1], {}, {"a": 1}]


@pytest.mark.parametrize("key", ["format", "version", "compression", "max_shard_length"])
def test_other_values_in_the_metadata(whole: Path, tmp_path: Path, key: str) -> None:
    text = json.loads((whole / "metadata.json").read_text())
    root = Path(shutil.copytree(whole, tmp_path / "cache"))
    texts: list[Any] = [{**text, key: other} for other in OTHERS]
    texts.append({one: value for one, value in text.items() if one != key})
    for changed in texts:
        (root / "metadata.json").write_text(json.dumps(changed))
        for create_it in (None, ITEMS):
            failure = try_it(root, create_it, None)
            if key == "compression" and changed.get(key, "") is None:
                assert failure is None
                continue
            # No shard of the layout is that long.
            name = "layout" if key == "max_shard_length" and changed.get(key) == 10**30 else "metadata.json"
            assert isinstance(failure, CacheError) and failure.filename == str(root / name)


@pytest.mark.parametrize("text", ["", "null", "[]", "3", '"x"', "{", "[" * 100_000, "\0", "\ud800", "1" * 10_000])
def test_metadata_of_another_form(whole: Path, tmp_path: Path, text: str) -> None:
    root = Path(shutil.copytree(whole, tmp_path / "cache"))
    (root / "metadata.json").write_bytes(text.encode(errors="surrogatepass"))
    for create_it in (None, ITEMS):
        with pytest.raises(CacheError, match=r"metadata\.json: ") as caught:
            LoadIt(root, create_it)
        assert caught.value.filename == str(root / "metadata.json")


@pytest.mark.parametrize(
    "line", ["9" * 25, "9" * 5000, "21\n29\n31", "31", "30\n30", "30\n29", "1e3", "²²", "\0", "0x20", "20.0"]
)
def test_a_layout_of_another_form(whole: Path, tmp_path: Path, line: str) -> None:
    root = Path(shutil.copytree(whole, tmp_path / "cache"))
    (root / "layout").write_text(f"10\n20\n{line}\nend\n")
    for create_it in (None, ITEMS):
        with pytest.raises(CacheError, match=rf"{root}/layout: line \d (must be a number above|is not the last one)"):
            LoadIt(root, create_it)


@pytest.mark.parametrize("name", [*FILES, "lock", "shards"])
@pytest.mark.parametrize("kind", ["a folder", "a file"])
def test_a_folder_for_a_file(whole: Path, tmp_path: Path, name: str, kind: str) -> None:
    root = Path(shutil.copytree(whole, tmp_path / "cache"))
    if (root / name).is_dir():
        shutil.rmtree(root / name)
    else:
        (root / name).unlink()
    if kind == "a file":
        (root / name).write_bytes(b"")
    else:
        (root / name).mkdir()
    for limit in (None, 10**9):
        for create_it in (None, ITEMS):
            try_it(root, create_it, limit)
