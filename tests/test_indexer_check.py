"""`indexer --check`: an index that is not its shard's, or is damaged in any way, is named with the place."""

import os
from pathlib import Path
from typing import Any

import msgpack
import pytest
from test_indexer_binary import index_of, make_tar, run, samples


def test_check_finds_the_first_difference(tmp_path: Path) -> None:
    shard = make_tar(tmp_path / "a.tar", samples(5))
    rule = ["--meta-rule", ".json:.label"]
    assert run(shard, "--check").returncode == 1
    for form in ["msgpack", "jsonl"]:
        assert run(shard, "--fmt", form, *rule).returncode == 0
        done = run(shard, "--check", *rule)
        assert done.returncode == 0 and done.stdout.startswith("checked 1 of 1 shards: 5 samples")
    assert run(shard, *rule).returncode == 0
    records = index_of(shard)
    changes: list[tuple[str, Any, str]] = [
        ("offset", 1, "record 3: offset: wanted"),
        ("str_idx", "x", "record 3: str_idx: wanted 's00003', got 'x'"),
        ("keys", [".jpg", ".x"], "record 3: keys: wanted '.json', got '.x'"),
        ("sizes", [0, 0], "record 3: sizes: wanted 1003, got 0"),
        ("iidx", 7, "record 3: iidx: wanted 3, got 7"),
        ("metadata", {".label": 4}, "record 3: metadata '.label': wanted 3, got 4"),
    ]
    for field, value, words in changes:
        changed = [{**record, field: value} if i == 3 else record for i, record in enumerate(records)]
        Path(f"{shard}.utix").write_bytes(b"".join(map(msgpack.packb, changed)))
        done = run(shard, "--check", *rule)
        assert done.returncode == 1 and words in done.stderr
    for kept, words in [
        (records[:4], "ends after 4 records"),
        ([*records, records[0]], "has 5 samples, and the index 6"),
    ]:
        Path(f"{shard}.utix").write_bytes(b"".join(map(msgpack.packb, kept)))
        done = run(shard, "--check")
        assert done.returncode == 1 and words in done.stderr


def damage_record(**changes: Any) -> bytes:
    """A record with some fields changed, or left out where the value is `...`."""
    record = {"iidx": 0, "offset": 512, "str_idx": "a", "keys": [".x"], "offsets": [0], "sizes": [1], **changes}
    return msgpack.packb({k: v for k, v in record.items() if v is not ...})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the index is empty"),
        (damage_record()[:-1], "record 0 at offset 0: cut short"),
        (damage_record() + damage_record()[:-1], "record 1 at offset"),
        (b"\xc1" * 4096, "record 0"),
        (b"\x81\xdb\xff\xff\xff\xff", "cut short"),
        (b"\xdf\xff\xff\xff\xff" + bytes(1000), "cut short"),
        (b"\x81\xa4keys\xdd\xff\xff\xff\xff", "cut short in keys"),
        (b"\x81\xa1x" + b"\x91" * 200_000, "nests deeper"),
        (damage_record(metadata=msgpack.ExtType(1, b"")), "metadata: wanted a map, got an extension type"),
        (damage_record(offset=-1), "offset: wanted an unsigned integer, got a negative integer"),
        (damage_record(offset=2**64 - 1), "ends beyond 2^64"),
        (damage_record(sizes=[2**62] * 2), "must be as many"),
        (damage_record(iidx=1.0), "iidx: wanted an unsigned integer, got a float"),
        (damage_record(keys=...), "field keys is missing"),
        (damage_record(keys=[1]), "keys: wanted an array of strings"),
        (b'{"iidx": 0', "malformed JSON"),
    ],
    ids=range(16),
)
def test_bad_indexes_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    shard = make_tar(tmp_path / "a.tar", {"a.x": b"1"})
    Path(f"{shard}.utix").write_bytes(content)
    done = run(shard, "--check")
    assert done.returncode == 1
    assert f"indexer: {shard}.utix: " in done.stderr and words in done.stderr


def test_random_bytes_are_no_index(tmp_path: Path) -> None:
    shard = make_tar(tmp_path / "a.tar", {"a.x": b"1"})
    for _ in range(20):
        Path(f"{shard}.utix").write_bytes(os.urandom(4096))
        done = run(shard, "--check")
        assert done.returncode == 1 and f"{shard}.utix: " in done.stderr
