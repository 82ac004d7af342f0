"""TFRecord files: those of the `tfrecord` package are read, and it reads ours."""

from __future__ import annotations

import os
import random
import struct
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tfrecord as peer
from tfrecord.tools.tfrecord2idx import create_index

import ultar_dataloader as ultar
from ultar_dataloader import _records, tfrecord

EXAMPLES = [
    {"image": (os.urandom(size), "byte"), "label": (size - 5, "int"), "box": ([0.5, -1.5, size], "float")}
    for size in (0, 7, 1000, 200_000)
]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """As the other package writes it."""
    path = tmp_path / "a.tfrecord"
    writer = peer.TFRecordWriter(str(path))
    for example in EXAMPLES:
        writer.write(example)
    writer.close()
    return path


def test_their_files_are_shards(shard: Path, script: str, config_of: Callable[[Path], dict[str, object]]) -> None:
    numbered = shard.with_name("b.tfrecord-00000-of-00001")
    numbered.write_bytes(shard.read_bytes())
    assert ultar.index(shard.parent, verify=True).samples == 8
    rows = list(ultar.Dataset(shard.parent))
    assert len(rows) == 8
    for row, example in zip(rows[4:], EXAMPLES, strict=True):
        features = tfrecord.parse_example(row["bin"])
        assert features["image"] == [example["image"][0]]
        assert features["label"] == array("q", [example["label"][0]])
        assert features["box"] == array("f", example["box"][0])
        assert tfrecord.parse_example(row.view("bin"))["image"] == [example["image"][0]]
    loaded = ultar.DataLoader(script, config_of(shard))  # type: ignore[arg-type]
    assert [row[".bin"] for row in loaded] == [row["bin"] for row in rows[4:]]


def test_they_read_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    records = [
        {
            "s": "text",
            "b": b"\xff",
            "many": [b"a", b"", b"c"],
            "i": [-1, 2**63 - 1, -(2**63), 300],
            "f": 0.5,
            "none": [],
        },
        {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "g": np.float64(1.25), "t": True, "h": array("f", [1, 2])},
    ]
    tfrecord.write(path, map(tfrecord.make_example, records))
    raw = [bytes(view) for view in peer.reader.tfrecord_iterator(str(path))]
    assert [row["bin"] for row in ultar.Dataset(path)] == raw
    examples = []
    for message in raw:
        example = peer.example_pb2.Example()
        example.ParseFromString(message)
        examples.append(example.features.feature)
    one, two = examples
    assert list(one["many"].bytes_list.value) == [b"a", b"", b"c"] and list(one["s"].bytes_list.value) == [b"text"]
    assert list(one["i"].int64_list.value) == records[0]["i"] and not one["none"].WhichOneof("kind")
    assert list(two["a"].int64_list.value) == [0, 1, 2, 3, 4, 5] and list(two["g"].float_list.value) == [1.25]
    assert list(two["t"].int64_list.value) == [1] and list(two["h"].float_list.value) == [1, 2]
    assert tfrecord.parse_example(raw[0])["i"] == array("q", records[0]["i"])
    assert tfrecord.parse_example(raw[0])["none"] == []


def test_sequences(tmp_path: Path) -> None:
    message = peer.TFRecordWriter.serialize_tf_sequence_example(
        {"length": (3, "int")}, {"tokens": ([[1, 2], [3]], "int"), "words": ([[b"a"], [b"b"]], "byte")}
    )
    context, lists = tfrecord.parse_sequence_example(message)
    assert context == {"length": array("q", [3])}
    assert lists == {"tokens": [array("q", [1, 2]), array("q", [3])], "words": [[b"a"], [b"b"]]}
    assert np.asarray(context["length"]).dtype == np.int64


def test_numbers_that_are_not_packed() -> None:
    """As writers of protobuf 2 may have them."""
    floats = b"".join(b"\x0d" + struct.pack("<f", value) for value in (0.5, 2))
    ints = b"\x08\x05\x08\xac\x02"
    entries = b"".join(
        b"\x0a"
        + bytes([len(name) + len(feature) + 6])  # The entry, then name, then feature.
        + b"\x0a"
        + bytes([len(name)])
        + name
        + b"\x12"
        + bytes([len(feature) + 2])
        + tag
        + bytes([len(feature)])
        + feature
        for name, tag, feature in ((b"f", b"\x12", floats), (b"i", b"\x1a", ints))
    )
    features = tfrecord.parse_example(b"\x0a" + bytes([len(entries)]) + entries + b"\x10\x01")
    assert features == {"f": array("f", [0.5, 2]), "i": array("q", [5, 300])}


def test_malformed_messages_are_refused() -> None:
    whole = tfrecord.make_example({"a": [b"x" * 20, b"y"], "b": [1, -1], "c": [0.5]})
    rng = random.Random(7)
    refused = 0
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.choice((rng.randrange(256), 0xFF, 0x80))
        try:
            assert isinstance(tfrecord.parse_example(bytes(damaged[: rng.randint(1, len(damaged))])), dict)
        except ultar.ShardFormatError as error:
            refused += "at byte" in str(error) and error.offset is not None
    assert refused > 1000


@pytest.mark.parametrize(
    ("features", "kind", "text"),
    [
        ({"a": None}, TypeError, "feature 'a': wanted bytes, str, int, float or several of one, got NoneType"),
        ({"a": [1, "x"]}, TypeError, "got int and str"),
        ({"a": {1: 2}}, TypeError, "got dict"),
        ({"a": [2**63]}, ValueError, "needs more than 64 bits"),
    ],
)
def test_what_no_example_can_hold(features: dict[str, object], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        tfrecord.make_example(features)


def test_checksums_of_payloads_are_compared_when_asked(shard: Path, command: Callable[..., object]) -> None:
    content = bytearray(shard.read_bytes())
    content[-100_000] ^= 1
    shard.write_bytes(content)
    assert ultar.index(shard).samples == 4
    assert ultar.check(shard).samples == 4
    for verify in (ultar.check, lambda path, verify: ultar.index(path, verify=verify, force=True)):
        with pytest.raises(
            ultar.ShardFormatError, match=r"at offset \d+: the payload of record 3 is damaged"
        ) as caught:
            verify(shard, verify=True)
        assert caught.value.filename == str(shard)
    done = command("index", "--check", "--verify", shard)
    assert done.returncode == 1 and "record 3 is damaged" in done.stderr  # type: ignore[attr-defined]


def test_what_is_wrong_with_a_file(shard: Path) -> None:
    whole = shard.read_bytes()
    for content, text in (
        (whole[:-1], "cut short in record 3"),
        (whole + b"123", "cut short in the header of record 4"),
        (whole[:8] + b"\0" + whole[9:], "not a TFRecord file: the length of record 0 and its checksum do not match"),
        (b"", "no record"),
        (b"\x1f\x8b\x08" + bytes(100), "compressed with gzip"),
    ):
        shard.write_bytes(content)
        with pytest.raises(ultar.ShardFormatError, match=text):
            ultar.index(shard)


def test_side_files(shard: Path) -> None:
    theirs = shard.with_name("theirs.idx")
    create_index(str(shard), str(theirs))
    tfrecord.write_idx(shard)
    ours = Path(f"{shard}.idx")
    assert ours.read_bytes() == theirs.read_bytes()
    assert tfrecord.read_idx(theirs)[1][0] == tfrecord.read_idx(theirs)[0][1]

    utix = Path(f"{shard}.utix")
    scanned = utix.read_bytes()
    utix.unlink()
    tfrecord.index_from_idx(shard, theirs)
    assert utix.read_bytes() == scanned  # So packed alike, too.

    lines = theirs.read_text().splitlines()
    for changed, text in (
        (lines[:-1], r"line 3: the records end at \d+, and"),
        ([], "line 0: the records end at 0"),
        ([lines[0], *lines[2:]], r"line 2: wanted a record at \d+, got"),
        ([lines[0], "1 x"], "line 2: wanted an offset and a size, got b'1 x'"),
        (["0 9" + "9" * 30], "line 1: wanted an offset and a size"),
    ):
        theirs.write_text("\n".join(changed))
        with pytest.raises(ultar.IndexFormatError, match=rf"theirs\.idx: {text}") as caught:
            tfrecord.index_from_idx(shard, theirs)
        assert caught.value.filename == str(theirs)
    assert utix.read_bytes() == scanned
    theirs.unlink()
    with pytest.raises(ultar.ReadError, match="No such file"):
        tfrecord.index_from_idx(shard, theirs)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        tfrecord.write(tmp_path / "a.tfrecord", [b"x", "text"])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


def test_records_of_every_size_are_packed_as_the_indexer_does(tmp_path: Path) -> None:
    """What Python finds is written in the same form, whatever widths numbers and names have."""
    records = [
        ("s" * length, [_records.Member(f".{'k' * length}{i}", 10**i, 2 ** (4 * i)) for i in range(count)])
        for length, count in ((1, 1), (31, 15), (32, 16), (300, 16), (70_000, 2))
    ]
    shard = tmp_path / "x"
    indexes = []
    for form in ("msgpack", "jsonl"):
        _records.write(str(shard), iter(records), form)
        index = ultar._native.Index(f"{shard}.utix")
        indexes.append([index[i] for i in range(len(index))])
    assert indexes[0] == indexes[1]
    for number, (record, (stem, members)) in enumerate(zip(indexes[0], records, strict=True)):
        assert (record["iidx"], record["str_idx"], record["offset"]) == (number, stem, 1)
        assert record["keys"] == [member.key for member in members]
        assert record["offsets"] == [member.offset - 1 for member in members]
        assert record["sizes"] == [member.size for member in members]
