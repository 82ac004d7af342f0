"""Side files of DALI and Energon: the bytes that their own programs write, and what is wrong with others."""

from __future__ import annotations

import io
import os
import random
import struct
import tarfile
import tempfile
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ultar_dataloader as ultar
from ultar_dataloader.side_files import _names, dali, energon

LONG = "x" * 120
NAMES = ["d/", "d/a.jpg", "d/a.seg.png", "b.JPG", "b.txt", ".hidden", "b.cls", "README", "c.jpg", "last/"]
# What `wds2idx` of DALI 2.4.0 writes of NAMES, less `README 7168 18 README`, a sample that it has of its own.
GOLDEN_IDX = """\
v1.2 3
jpg 1024 21 d/a.jpg seg.png 2048 33 d/a.seg.png
JPG 3072 15 b.JPG txt 4096 15 b.txt cls 6144 15 b.cls
jpg 8192 15 c.jpg
"""
# And what `energon prepare` of Energon 7.4.1 does.
GOLDEN_TAR_IDX = struct.pack("=4Q", 512, 2560, 7680, 9216)


def make(path: Path, names: list[str], format: int = tarfile.PAX_FORMAT) -> Path:
    """A tar with a member of each name; those that end in a slash are folders."""
    with tarfile.open(path, "w", format=format) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            payload = b"" if name.endswith("/") else name.encode() * 3
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    return path


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return make(tmp_path / "train.tar", NAMES)


def plain(path: Path) -> Path:
    """A shard of which all count all members."""
    return make(path, ["a.jpg", "a.txt", f"{LONG}.jpg", "b.jpg", "é.jpg", "z.jpg", "z.txt"])


@pytest.mark.parametrize(
    ("name", "of_dali", "of_wids", "of_webdataset"),
    [
        ("a.jpg", ("a", "jpg"), ("a", "jpg"), ("a", "jpg")),
        ("A.b.JPG", ("A", "b.JPG"), ("A", "b.JPG"), ("A", "b.JPG")),
        ("./a.jpg", ("./a", "jpg"), ("./a", "jpg"), ("./a", "jpg")),
        ("x/d.1/a.jpg", ("x/d.1/a", "jpg"), ("x/d.1/a", "jpg"), ("x/d.1/a", "jpg")),
        ("a..jpg", ("a", ".jpg"), ("a", ".jpg"), ("a", ".jpg")),
        ("a.", ("a", ""), ("a", ""), ("a", "")),
        ("a", None, None, None),
        ("d/a", None, None, None),
        ("dir.v1/README", None, ("dir", "v1/README"), None),
        (".hidden", None, ("", "hidden"), None),
        ("d/.h.jpg", None, ("d/", "h.jpg"), ("d/", "h.jpg")),
        ("d.1/.hidden", None, ("d.1/", "hidden"), None),
        ("__meta__", None, None, None),
        ("__meta__/x.json", ("__meta__/x", "json"), ("__meta__/x", "json"), None),
        ("d/__m__/x.json", ("d/__m__/x", "json"), ("d/__m__/x", "json"), ("d/__m__/x", "json")),
        ("__key__.json", ("__key__", "json"), ("__key__", "json"), ("__key__", "json")),
        ("/abs/a.tar.gz", ("/abs/a", "tar.gz"), ("/abs/a", "tar.gz"), ("/abs/a", "tar.gz")),
    ],
)
def test_names_are_split_as_each_loader_does(
    name: str, of_dali: object, of_wids: object, of_webdataset: object
) -> None:
    assert (_names.dali(name), _names.wids(name), _names.webdataset(name)) == (of_dali, of_wids, of_webdataset)


def test_dali_is_written_as_wds2idx_does(shard: Path, tmp_path: Path) -> None:
    summary = dali.write(shard)
    assert (tmp_path / "train.idx").read_text() == GOLDEN_IDX
    assert (summary.shards, summary.samples, summary.entries) == (1, 3, 6)
    assert summary.warnings == (f"{shard}: 2 members left out, as DALI passes over such names: '.hidden' …",)
    (tmp_path / "other").mkdir()
    dali.write(shard, folder=tmp_path / "other")
    assert (tmp_path / "other/train.idx").read_text() == GOLDEN_IDX
    assert dali.read(tmp_path / "train.idx")[0][1] == dali.Component("seg.png", 2048, 33, "d/a.seg.png")


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_an_index_made_of_an_idx_is_the_indexers(tmp_path: Path, format: int) -> None:
    names = ["a.jpg", "a.txt", f"{LONG}.jpg", "sub/", "b.jpg", "é.jpg", "end/"]
    tar = make(tmp_path / "a.b.tar", names, format)
    utix = Path(f"{tar}.utix")
    dali.write(tar)
    scanned = utix.read_bytes()
    utix.unlink()
    assert dali.index(tar).samples == 4
    assert utix.read_bytes() == scanned
    assert dali.index(tar).samples == 4  # Now it compares.
    utix.write_bytes(b"")
    dali.index(tar, force=True)
    assert utix.read_bytes() == scanned and ultar.check(tar).samples == 4


def test_what_dali_passes_over_is_in_no_index_made_of_an_idx(shard: Path) -> None:
    shard.with_suffix(".idx").write_text(GOLDEN_IDX)
    dali.index(shard)
    assert [row.keys() for row in ultar.Dataset(shard, "require")] == [
        (".jpg", ".seg.png"),
        (".JPG", ".txt", ".cls"),
        (".jpg",),
    ]


def test_what_wds2idx_makes_of_a_readme(shard: Path) -> None:
    side = shard.with_suffix(".idx")
    side.write_text(GOLDEN_IDX.replace("v1.2 3", "v1.2 4").replace("jpg 8192", "README 7168 18 README\njpg 8192"))
    dali.index(shard)
    assert ultar.Dataset(shard, "require").record(2).keys == ("",)
    ultar.index(shard, force=True)
    assert dali.index(shard).samples == 4


def test_an_idx_of_version_1_1_is_compared(tmp_path: Path) -> None:
    tar = make(tmp_path / "a.tar", ["a.jpg", "a.txt", "b.jpg"])
    (tmp_path / "a.idx").write_text("v1.1 2\njpg 512 15 txt 1536 15\njpg 2560 15\n")
    assert dali.index(tar).samples == 2
    assert ultar.Dataset(tar, "require").record(0).stem == "a"
    (tmp_path / "a.idx").write_text("v1.1 2\njpg 512 15 txt 1536 14\njpg 2560 15\n")
    text = (
        r"a\.idx: line 2: does not describe .*a\.tar: sample 0, 'a': wanted 'txt' of 15 bytes at 1536, got .* 14 bytes"
    )
    with pytest.raises(ultar.IndexFormatError, match=text):
        dali.index(tar)


def test_the_wrong_offset_that_wds2idx_has_for_long_names(tmp_path: Path) -> None:
    """In GNU's format, where the name is a member of its own before the other."""
    tar = make(tmp_path / "a.tar", ["a.jpg", f"{LONG}.jpg", "z.jpg"], tarfile.GNU_FORMAT)
    side = tmp_path / "a.idx"
    dali.write(tar)
    Path(f"{tar}.utix").unlink()
    assert f"jpg 2560 372 {LONG}" in side.read_text()
    side.write_text(side.read_text().replace("2560", "1536"))
    with pytest.raises(ultar.IndexFormatError, match=r"at offset 1024: no member of the tar has its payload at 1536"):
        dali.index(tar)
    assert not Path(f"{tar}.utix").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", r"line 1: wanted 'v1.2 COUNT' or 'v1.1 COUNT', got b''"),
        ("v1.3 1\njpg 512 1 a.jpg\n", "line 1: wanted 'v1.2 COUNT'"),
        ("v1.2 x\njpg 512 1 a.jpg\n", "line 1: wanted 'v1.2 COUNT'"),
        ("v1.2 0\n", "line 1: wanted a line for each of 0 samples, got 0 lines"),
        ("v1.2 2\njpg 512 1 a.jpg\n", "line 1: wanted a line for each of 2 samples, got 1 lines"),
        ("v1.2 1\njpg 512 1\n", "line 2: wanted EXT OFFSET SIZE NAME for each member, got 3 words"),
        ("v1.2 1\n\n", "line 2: wanted EXT OFFSET SIZE NAME for each member, got 0 words"),
        ("v1.2 1\njpg x 1 a.jpg\n", "line 2: wanted EXT OFFSET SIZE NAME, got b'jpg x 1 a.jpg'"),
        ("v1.2 1\njpg -512 1 a.jpg\n", "line 2: wanted EXT OFFSET"),
        ("v1.2 1\njpg 512 9" + "9" * 30 + " a.jpg\n", "line 2: wanted EXT OFFSET"),
        ("v1.2 1\njpg 513 1 a.jpg\n", "line 2: wanted an offset that is a multiple of 512, got 513"),
        ("v1.2 1\npng 512 1 a.jpg\n", r"line 2: wanted the extension of 'a\.jpg', got 'png'"),
        ("v1.2 1\njpg 512 99999 a.jpg\n", r"line 2: 'a\.jpg' ends at 100511, and .*a\.tar at 10240"),
        ("v1.2 1\njpg 51200 0 a.jpg\n", r"line 2: 'a\.jpg' ends at 51200"),
        ("v1.2 1\njpg 0 15 a.jpg\n", "at offset 0: no member of the tar has its payload at 0"),
        ("v1.2 1\njpg 512 15 x.jpg\n", r"at offset 0: wanted member 'a\.jpg' of 15 bytes, got 'x\.jpg' of 15"),
        ("v1.2 1\njpg 512 14 a.jpg\n", r"at offset 0: wanted member 'a\.jpg' of 15 bytes, got 'a\.jpg' of 14"),
        ("v1.2 1\njpg 512 15 a.jpg\n", r"member 'b\.jpg', at 1024 in the tar, is missing"),
        ("v1.2 1\njpg 1536 15 b.jpg\n", r"member 'a\.jpg', at 0 in the tar, is missing"),
        ("v1.2 2\njpg 1536 15 b.jpg\njpg 512 15 a.jpg\n", r"is missing|no member"),
        ("v1.2 1\njpg 512 15 a.jpg jpg 1536 15 b.jpg\n", "line 2: wanted members with one stem, got 'a' and 'b'"),
    ],
)
def test_what_is_wrong_with_an_idx(tmp_path: Path, content: str, text: str) -> None:
    tar = make(tmp_path / "a.tar", ["a.jpg", "b.jpg"])
    side = tmp_path / "a.idx"
    side.write_text(content)
    with pytest.raises(ultar.IndexFormatError, match=text) as caught:
        dali.index(tar)
    assert caught.value.filename == str(side) and not Path(f"{tar}.utix").exists()


def test_an_idx_and_an_index_that_differ(shard: Path) -> None:
    ultar.index(shard)
    for content, text in (
        (
            GOLDEN_IDX.replace("b.txt", "y.txt"),
            r"sample 1, 'b': wanted 'txt' .* \('b\.txt'\), got 'txt' .* \('y\.txt'\)",
        ),
        (GOLDEN_IDX.replace(" txt 4096 15 b.txt", ""), r"sample 1, 'b': wanted 'txt' .*, got 'cls'"),
        (GOLDEN_IDX.replace(" cls 6144 15 b.cls", ""), r"sample 1, 'b': wanted 'JPG' .* 'cls' .*, got 'JPG' "),
        (GOLDEN_IDX[:-18].replace("v1.2 3", "v1.2 2"), r"train\.idx: wanted 3 samples, which .*train\.tar has, got 2"),
    ):
        shard.with_suffix(".idx").write_text(content)
        with pytest.raises(ultar.IndexFormatError, match=text):
            dali.index(shard)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a b.jpg", r"'a b\.jpg' has white space"), ("a.", r"'a\.' has an empty extension"), ("a\n.x", "white space")],
)
def test_names_that_no_idx_can_hold(tmp_path: Path, name: str, text: str) -> None:
    tar = make(tmp_path / "a.tar", ["0.jpg", name])
    with pytest.raises(ultar.WriteError, match=text) as caught:
        dali.write(tar)
    assert caught.value.errno is None and sorted(os.listdir(tmp_path)) == ["a.tar", "a.tar.utix"]


def test_shards_that_cannot_have_side_files_of_these_kinds(tmp_path: Path) -> None:
    first, second = make(tmp_path / "x.0.tar", ["a.jpg"]), make(tmp_path / "x.1.tar", ["a.jpg"])
    with pytest.raises(ValueError, match=r"x\.0\.tar and .*x\.1\.tar have the same side file, .*x\.idx"):
        dali.write([first, second])
    assert energon.write(path for path in (first, second)).shards == 2
    (tmp_path / "x.rox").write_bytes(b"")
    for write, reader in ((dali.write, "DALI"), (energon.write, "Energon")):
        with pytest.raises(ValueError, match=rf"x\.rox: {reader} reads tars only, and this is a Roxxel shard"):
            write(tmp_path / "x.rox")
        with pytest.raises(ValueError, match="local shards only"):
            write("https://127.0.0.1:9/a.tar")
        with pytest.raises(ultar.WriteError, match=f"{reader} sees no sample in .* such as 'README'"):
            write(make(tmp_path / "readme.tar", ["README"]))
    with pytest.raises(ultar.ReadError, match=r"a\.idx: cannot read: No such file"):
        dali.index(make(tmp_path / "a.tar", ["a.jpg"]))


def test_energon_is_written_as_by_itself(shard: Path, tmp_path: Path) -> None:
    summary = energon.write(shard)
    side = tmp_path / "train.tar.idx"
    assert side.read_bytes() == GOLDEN_TAR_IDX and summary.samples == 3
    assert energon.read(side) == array("Q", [512, 2560, 7680, 9216])
    assert energon.index(shard).samples == 3


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_headers_are_where_tarfile_finds_them(tmp_path: Path, format: int) -> None:
    long = f"{'y' * 90}/{'x' * 90}"
    names = ["e/", "a.jpg", "a.txt", "e/f/", f"{long}.jpg", f"{long}.txt", "m/", "b.jpg", "c.jpg", "m/", "n/"]
    tar = make(tmp_path / "a.tar", names, format)
    energon.write(tar)
    with tarfile.open(tar) as theirs:
        wanted = [m.offset for m in theirs if m.name.endswith(".jpg")] + [theirs.offset]
    assert list(energon.read(f"{tar}.idx")) == wanted
    content = tar.read_bytes()[: wanted[-1]]  # Without an end marker.
    tar.write_bytes(content)
    energon.write(tar)
    assert list(energon.read(f"{tar}.idx")) == wanted


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([512, 2560, 7680], r"the end: wanted offset|wanted 3 samples, got 2"),
        ([512, 2560, 7680, 9216, 9728], "wanted 3 samples, got 4"),
        ([0, 2560, 7680, 9216], r"does not describe .*train\.tar: sample 0, 'd/a': wanted offset 512, got 0"),
        ([512, 2560, 7680, 9728], "the end: wanted offset 9216, got 9728"),
        ([512, 2560, 2560, 9216], "number 2: wanted a multiple of 512 above 2560, got 2560"),
        ([512, 2561, 7680, 9216], "number 1: wanted a multiple of 512 above 512, got 2561"),
        ([512], "wanted two or more numbers of 8 bytes, got 8 bytes"),
        ([512, 2560, 2**64 - 512], "sample 2, 'c': wanted offset 7680, got 18446744073709551104"),
    ],
)
def test_what_is_wrong_with_a_tar_idx(shard: Path, numbers: list[int], text: str) -> None:
    side = Path(f"{shard}.idx")
    side.write_bytes(struct.pack(f"={len(numbers)}Q", *numbers))
    with pytest.raises(ultar.IndexFormatError, match=text) as caught:
        energon.index(shard)
    assert caught.value.filename == str(side)
    side.write_bytes(GOLDEN_TAR_IDX[:-3])
    with pytest.raises(ultar.IndexFormatError, match="got 29 bytes"):
        energon.read(side)


def test_an_index_that_is_not_the_shards(shard: Path) -> None:
    """As `index="require"` and a copied file may have it."""
    other = make(shard.with_name("other.tar"), ["a.jpg", "z/", "b.jpg"])
    ultar.index(other)
    shard.write_bytes(make(shard, ["a.jpg"]).read_bytes())
    os.replace(f"{other}.utix", f"{shard}.utix")
    os.utime(f"{shard}.utix")
    with pytest.raises(
        ultar.IndexFormatError, match=r"train\.tar\.utix: does not describe .*train\.tar: at offset"
    ) as caught:
        energon.write(shard)
    assert caught.value.offset == 1024 and caught.value.filename == f"{shard}.utix"


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_damaged_side_files_are_errors_or_whole(seed: int, count: int) -> None:
    """Whatever the bytes: an error of ours, or an index whose ranges lie in the shard."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        tar = plain(Path(folder, "a.tar"))
        dali.write(tar)
        energon.write(tar)
        for side, index in ((Path(folder, "a.idx"), dali.index), (Path(folder, "a.tar.idx"), energon.index)):
            content = bytearray(side.read_bytes())
            for _ in range(count):
                content[rng.randrange(len(content))] = rng.choice((rng.randrange(256), *b" \n0159v.\0\xff"))
            side.write_bytes(content[: rng.choice((rng.randint(0, len(content)), len(content)))])
            run: Callable[..., object] = index
            with suppress(ultar.IndexFormatError):
                run(tar, force=True)
            size = tar.stat().st_size
            ds = ultar.Dataset(tar)
            for record in map(ds.record, range(len(ds))):
                assert all(o + n <= size for o, n in zip(record.offsets, record.sizes, strict=True))
