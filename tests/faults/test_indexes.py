"""Indexes that are damaged, absurd or missing: an IndexFormatError that names the file and the place."""

import errno
import json
import struct

import msgpack
import pytest
from support import generator, load

from ultar_dataloader import IndexFormatError, ReadError

GOOD = {"iidx": 0, "offset": 512, "str_idx": "a", "keys": [".x"], "offsets": [0], "sizes": [3]}
ONLY_OPEN = generator('for row in require("ultar.utix").open(config.index):iter() do end')
EMIT = generator("""
local h = loader:open_file(config.data)
for row in require("ultar.utix").open(config.index):iter() do
  loader:add_row(h, row)
  loader:finish_row()
end
""")


def record(**changes: object) -> bytes:
    return msgpack.packb({**GOOD, **changes})


def without(field: str) -> bytes:
    return msgpack.packb({key: value for key, value in GOOD.items() if key != field})


BAD = {
    "empty": b"",
    "cut in its last record": record() + record()[:-4],
    "cut after a field name": record() + record()[:7],
    "random bytes": bytes(range(7, 256, 3)) * 50,
    "zeros": bytes(4096),
    "text": b"this is not an index\n" * 10,
    "a tar": b"a.txt".ljust(100, b"\0") + b"0000644\0" * 3 + bytes(400),
    "an array for a map": msgpack.packb([1, 2, 3]),
    "a string of 2^32": b"\x86\xa4iidx\x00\xa6offset\x00\xa7str_idx\xdb\xff\xff\xff\xff" + b"x" * 100,
    "an array of 2^32": b"\x86\xa4iidx\x00\xa6offset\x00\xa7str_idx\xa1a\xa4keys\xdd\xff\xff\xff\xff" + b"\xa1x" * 100,
    "a map of 2^32": b"\xdf\xff\xff\xff\xff" + b"\xa1x\x00" * 100,
    "nesting 200000 deep": b"\x87\xa5other" + b"\x91" * 200_000 + b"\x00" + record()[1:],
    "nesting 200000 deep in metadata": b"\x87" + record()[1:] + b"\xa8metadata\x81\xa1q" + b"\x91" * 200_000 + b"\x00",
    "a negative offset": record(offset=-5),
    "a negative size": record(sizes=[-1]),
    "a negative member offset": record(offsets=[-512]),
    "a fractional size": record(sizes=[1.5]),
    "a size beyond everything": record(offset=2**63, sizes=[2**64 - 1]),
    "a string for a number": record(offset="512"),
    "a number for a stem": record(str_idx=5),
    "a number for a key": record(keys=[5]),
    "nil sizes": record(sizes=None),
    "more keys than sizes": record(keys=[".x", ".y"]),
    "more sizes than keys": record(sizes=[1, 2]),
    "metadata that is no map": record(metadata=[1]),
    **{f"no {field}": without(field) for field in ("offset", "str_idx", "keys", "offsets", "sizes")},
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_index_is_named(tmp_path, name):
    index = tmp_path / "shard.tar.utix"
    index.write_bytes(BAD[name])
    with pytest.raises(IndexFormatError, match="shard.tar.utix") as failure:
        list(load(ONLY_OPEN, index=str(index)))
    assert isinstance(failure.value, ValueError)
    assert any(char.isdigit() or "empty" in str(failure.value) for char in str(failure.value))


def test_rows_before_a_cut_record_are_not_an_epoch(tmp_path):
    """An index is checked as a whole: a cut one gives no row, rather than some and no error."""
    index = tmp_path / "shard.tar.utix"
    index.write_bytes(record() * 100 + record()[:-1])
    with pytest.raises(IndexFormatError, match="cut|end"):
        next(iter(load(ONLY_OPEN, index=str(index))))


def test_a_missing_index(tmp_path):
    with pytest.raises(ReadError, match="No such file") as failure:
        list(load(ONLY_OPEN, index=str(tmp_path / "no.utix")))
    assert failure.value.errno == errno.ENOENT
    assert failure.value.filename == str(tmp_path / "no.utix")


def test_a_directory_for_an_index(tmp_path):
    with pytest.raises(ReadError) as failure:
        list(load(ONLY_OPEN, index=str(tmp_path)))
    assert failure.value.errno == errno.EISDIR


def test_numbers_of_2_to_the_62_are_legal_and_beyond_the_file(tmp_path, io):
    index = tmp_path / "shard.tar.utix"
    index.write_bytes(record(offset=2**62))
    data = tmp_path / "data"
    data.write_bytes(b"x" * 1000)
    with pytest.raises(ReadError, match="end of file") as failure:
        list(load(EMIT, io, index=str(index), data=str(data)))
    assert failure.value.offset == 2**62
    with pytest.raises(Exception, match="2\\^53"):
        list(load(generator('print(require("ultar.utix").open(config.index)[1].offset)'), index=str(index)))


def test_jsonl_under_the_same_name_is_read(tmp_path, io):
    index = tmp_path / "shard.tar.utix"
    lines = [{**GOOD, "iidx": i, "offset": 3 * i, "str_idx": f"sä{i}"} for i in range(5)]
    index.write_text("".join(json.dumps(line, ensure_ascii=i % 2 == 0) + "\n" for i, line in enumerate(lines)))
    data = tmp_path / "data"
    data.write_bytes(b"aaabbbcccdddeee")
    rows = list(load(EMIT, io, index=str(index), data=str(data)))
    assert [row[".x"] for row in rows] == [b"aaa", b"bbb", b"ccc", b"ddd", b"eee"]


def test_any_width_order_and_unknown_fields(tmp_path, io):
    index = tmp_path / "shard.tar.utix"
    wide = (
        b"\xde\x00\x08"
        + b"\xa5sizes\xdd\x00\x00\x00\x01\xcf" + struct.pack(">Q", 3)
        + b"\xa7unknown\x93\x01\xc0\x81\xa1k\xcb" + struct.pack(">d", 1.5)
        + b"\xd9\x04keys\xdc\x00\x01\xda\x00\x02.x"
        + b"\xa7str_idx\xdb\x00\x00\x00\x01a"
        + b"\xa4iidx\xd3" + struct.pack(">q", 0)
        + b"\xa7offsets\x91\xd0\x00"
        + b"\xa6offset\xce" + struct.pack(">I", 4)
        + b"\xa8metadata\x81\xa6.width\xcd\x02\x00"
    )  # fmt: skip
    index.write_bytes(wide)
    data = tmp_path / "data"
    data.write_bytes(b"0123456789")
    (row,) = load(EMIT, io, index=str(index), data=str(data))
    assert row.to_dict() == {".x": b"456"}
    script = generator("""
    local row = require("ultar.utix").open(config.index)[1]
    loader:add_entry_bytes("m", tostring(row.metadata[".width"] + 1))
    loader:finish_row()
    """)
    (row,) = load(script, index=str(index))
    assert row["m"] == b"513"
