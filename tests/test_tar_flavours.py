"""Tars by every writer at hand: the byte ranges of Python's tarfile, the stems and keys of the naming rule."""

import os
import random
import shutil
import string
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from test_indexer_binary import index_of, run

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
BSDTAR = shutil.which("bsdtar")

Member = tuple[str, str, int, int]
"""Stem, key, offset of the payload, size."""


def split(name: str) -> tuple[str, str]:
    """The naming rule, said once more."""
    folder, slash, base = name.rpartition("/")
    stem, dot, rest = base.partition(".")
    return folder + slash + stem, dot + rest


def by_tarfile(shard: Path) -> list[Member]:
    """The regular files of a tar, as Python sees them."""
    with tarfile.open(shard) as tar:
        return [(*split(info.name), info.offset_data, info.size) for info in tar if info.isreg()]


def by_indexer(shard: Path) -> list[Member]:
    """The members of the index, after a look at its records."""
    done = run(shard)
    assert done.returncode == 0, done.stderr
    found: list[Member] = []
    stem_before = None
    for i, record in enumerate(index_of(shard)):
        assert record["iidx"] == i
        assert record["offsets"][0] == 0 and record["str_idx"] != stem_before
        stem_before = record["str_idx"]
        for key, offset, size in zip(record["keys"], record["offsets"], record["sizes"], strict=True):
            found.append((stem_before, key, record["offset"] + offset, size))
    return found


def check(shard: Path) -> list[Member]:
    """Both must agree."""
    found = by_indexer(shard)
    assert found == by_tarfile(shard)
    return found


names = st.text(st.sampled_from("ab.é/_ 日\x01"), min_size=1, max_size=12).filter(lambda name: name.strip("/") != "")
long_names = st.builds(
    lambda folders, name: "/".join(folders) + name,
    st.lists(st.text(st.sampled_from("xyz."), min_size=1, max_size=90), min_size=1, max_size=8),
    names,
)
kinds = st.sampled_from(
    [tarfile.REGTYPE] * 6
    + [tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, b"z"]
)
member_lists = st.lists(st.tuples(names | long_names, kinds, st.integers(0, 1300)), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(members=member_lists, flavour=st.sampled_from(sorted(FORMATS)))
def test_whatever_tarfile_writes(members: list[tuple[str, bytes, int]], flavour: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "a.tar"
        with tarfile.open(shard, "w", format=FORMATS[flavour], encoding="utf-8") as tar:
            for name, kind, size in [*members, ("last.txt", tarfile.REGTYPE, 3)]:
                info = tarfile.TarInfo(name)
                # A v7 name with a slash at its end, or where tarfile cuts it, is a directory.
                info.type = tarfile.REGTYPE if kind == tarfile.AREGTYPE and "/" in name else kind
                info.linkname = "t" * (size % 150)
                info.size = size if kind not in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE) else 0
                try:
                    tar.addfile(info, BytesIO(b"x" * size))
                except ValueError:
                    continue  # ustar has no room for some names.
        with tarfile.open(shard) as tar:
            # An unknown kind is a file, by POSIX; so extracts tarfile, too.
            wanted = [
                (*split(info.name), info.offset_data, info.size) for info in tar if info.isreg() or info.type == b"z"
            ]
        assert by_indexer(shard) == wanted


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with all that writers differ in: names, sizes, links, empty files."""
    folder = tmp_path / "tree"
    folder.mkdir()
    rng = random.Random(5)
    for i, name in enumerate(
        ["a.jpg", "a.json", "A.JPG", "d.1/b.seg.png", "d.1/b", ".hidden", "é.txt", "日本/語.txt", "c..x", "sp ace.txt"]
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(rng.randbytes(i * 700))
    for size in (95, 99, 100, 101, 155, 200):
        path = folder / ("p" * (size // 2)) / ("q" * (size - size // 2 - 5) + ".bin")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"long")
    (folder / "link.txt").symlink_to("a.jpg")
    (folder / "longlink.txt").symlink_to("t" * 150)
    os.link(folder / "a.json", folder / "hard.json")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("flavour", ["v7", "oldgnu", "gnu", "ustar", "pax", "posix"])
@pytest.mark.parametrize("start", ["./", "all"])
def test_gnu_tar(tree: Path, tmp_path: Path, flavour: str, start: str) -> None:
    names = ["."] if start == "./" else sorted(path.name for path in tree.iterdir())
    command = ["tar", f"--format={flavour}", "--sort=name", "-cf", tmp_path / "a.tar", "-C", tree, *names]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 or flavour in ("v7", "ustar"), done.stderr  # Those have no room for long names.
    found = check(tmp_path / "a.tar")
    assert len(found) >= 11
    assert ("./a" if start == "./" else "a", ".jpg") in [member[:2] for member in found]


@pytest.mark.skipif(BSDTAR is None, reason="there is no bsdtar")
@pytest.mark.parametrize("flavour", ["ustar", "gnutar", "pax", "v7"])
def test_bsdtar(tree: Path, tmp_path: Path, flavour: str) -> None:
    assert BSDTAR is not None
    command = [BSDTAR, f"--format={flavour}", "-cf", tmp_path / "a.tar", "-C", tree, "."]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0 or flavour in ("v7", "ustar"), done.stderr
    assert len(check(tmp_path / "a.tar")) >= 11


@pytest.mark.parametrize(
    "options", [["-b1"], ["-b2048"], ["--label=a label"], ["--pax-option=globexthdr.name=g,comment=c", "--format=pax"]]
)
def test_gnu_tar_options(tree: Path, tmp_path: Path, options: list[str]) -> None:
    shard = tmp_path / "a.tar"
    subprocess.run(["tar", *options, "-cf", shard, "-C", tree, "a.jpg", "a.json", "é.txt"], check=True)
    assert len(check(shard)) == 3


def test_gnu_tar_appends_and_joins(tree: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "1.tar", tmp_path / "2.tar"
    subprocess.run(["tar", "-cf", one, "-C", tree, "a.jpg"], check=True)
    subprocess.run(["tar", "-rf", one, "-C", tree, "a.json"], check=True)
    subprocess.run(["tar", "-cf", two, "-C", tree, "A.JPG"], check=True)
    subprocess.run(["tar", "--concatenate", "-f", one, two], check=True)
    assert [member[:2] for member in check(one)] == [("a", ".jpg"), ("a", ".json"), ("A", ".JPG")]


@pytest.mark.parametrize("flavour", ["gnu", "pax"])
def test_sizes_beyond_8_gib(tmp_path: Path, flavour: str) -> None:
    """GNU tar makes the header for a file of 9 GiB, and we leave a hole where it would put the payload."""
    with open(tmp_path / "big.bin", "wb") as file:
        file.truncate(9 << 30)
    command = ["tar", f"--format={flavour}", "-cf", "-", "big.bin"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        headers = process.stdout.read(1536 if flavour == "pax" else 512)
        process.kill()
    shard = tmp_path / "a.tar"
    with open(shard, "wb") as file:
        file.write(headers)
        file.truncate(len(headers) + (9 << 30))
        file.seek(0, os.SEEK_END)
        file.write(tarfile.TarInfo("big.txt").tobuf() + bytes(1024))
    found = check(shard)
    assert found == [("big", ".bin", len(headers), 9 << 30), ("big", ".txt", len(headers) + (9 << 30) + 512, 0)]


@pytest.mark.parametrize("key", ["plain", "n" * 150, "日本", "dir.1/" + "m" * 120], ids=range(4))
def test_webdataset_writer(tmp_path: Path, key: str) -> None:
    shard = tmp_path / "a.tar"
    with webdataset.TarWriter(str(shard)) as writer:
        for i in range(4):
            writer.write({"__key__": f"{key}{i}", "txt": "text", "JSON": b"{}", "seg.png": b"png" * 400 * i})
    found = check(shard)
    assert [member[:2] for member in found[:3]] == [(f"{key}0", ".JSON"), (f"{key}0", ".seg.png"), (f"{key}0", ".txt")]
    assert len(index_of(shard)) == 4


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    for flavour, form in FORMATS.items():
        shard = tmp_path / f"{flavour}.tar"
        with tarfile.open(shard, "w", format=form, encoding="utf-8", errors="surrogateescape") as tar:
            for name in [b"\xe9\xff.jpg", b"\xe9\xff.txt", b"l" * 97 + b"\xe9.x"]:
                tar.addfile(tarfile.TarInfo(os.fsdecode(name)))
        found = check(shard)
        assert os.fsencode(found[0][0]) == b"\xe9\xff"
        assert run("--fmt=jsonl", shard).returncode == 0
        assert run("--check", shard).returncode == 0


def test_names_of_all_lengths(tmp_path: Path) -> None:
    """Where each format changes from one way of writing names to the next."""
    alphabet = string.ascii_letters
    for flavour, form in FORMATS.items():
        with tarfile.open(tmp_path / f"{flavour}.tar", "w", format=form) as tar:
            for size in [
                *range(90, 110),
                *range(150, 165),
                *range(250, 262),
                510,
                511,
                512,
                513,
                1023,
                1024,
                4096,
                100_000,
            ]:
                base = (alphabet * 2000)[: min(size // 2, 95)]
                name = "d" * (size - len(base) - 1) + "/" + base
                try:
                    tar.addfile(tarfile.TarInfo(name + ".x"))
                except ValueError:
                    assert flavour == "ustar"
        assert len(check(tmp_path / f"{flavour}.tar")) > 20


def test_an_extended_header_has_a_bound(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("n" * (1 << 21)))
    done = run(tmp_path / "a.tar")
    assert done.returncode == 1 and "wanted at most 1048576" in done.stderr


def test_a_local_header_beats_a_global_one(tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    with tarfile.open(shard, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "c", "mtime": "1.5"}) as tar:
        for name in ["a.x", "n" * 200 + ".x", "b.x"]:
            info = tarfile.TarInfo(name)
            info.pax_headers = {"comment": "d", "SCHILY.xattr.user.k": "v\nx=1"}
            info.size = 5
            tar.addfile(info, BytesIO(b"12345"))
    assert len(check(shard)) == 3


def test_damage_at_any_byte_is_never_a_shorter_index(tmp_path: Path) -> None:
    """One byte changed in a header: an error, or as many members as before."""
    shard = tmp_path / "a.tar"
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(5):
            info = tarfile.TarInfo(f"{i}.x")
            info.size = 100
            tar.addfile(info, BytesIO(b"x" * 100))
    whole = shard.read_bytes()
    rng = random.Random(11)
    for _ in range(150):
        at = rng.randrange(5) * 1024 + rng.randrange(512)
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.randrange(8)
        shard.write_bytes(damaged)
        done = run(shard)
        if done.returncode == 0:
            assert sum(len(record["keys"]) for record in index_of(shard)) == 5, f"byte {at}"
        else:
            assert "at offset" in done.stderr
