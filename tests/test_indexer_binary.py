"""The `indexer` program: what it writes, what it says, and what it leaves behind when something is wrong."""

import errno
import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tarfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import msgpack
import pytest

BINARY = Path(os.environ.get("ULTAR_INDEXER") or Path(__file__).parents[1] / "zig-out" / "bin" / "indexer")
FIELDS = ["iidx", "offset", "str_idx", "keys", "offsets", "sizes"]


def run(*args: str | os.PathLike[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the binary with these arguments; it must not take long."""
    assert BINARY.exists(), f"{BINARY} is not built: run `zig build`"
    return subprocess.run(
        [BINARY, *args], capture_output=True, text=True, errors="surrogateescape", timeout=120, **options
    )


def index_of(shard: Path) -> list[dict[str, Any]]:
    """The records of a shard's msgpack index."""
    with open(f"{shard}.utix", "rb") as file:
        return list(msgpack.Unpacker(file, unicode_errors="surrogateescape", strict_map_key=True))


def make_tar(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    """A tar with these members, by Python's tarfile."""
    with tarfile.open(path, "w", **options) as tar:
        for name, payload in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, BytesIO(payload))
    return path


def samples(count: int, size: int = 1000) -> dict[str, bytes]:
    """Members of a typical small shard."""
    made: dict[str, bytes] = {}
    for i in range(count):
        made[f"s{i:05}.jpg"] = bytes([i % 256]) * (size + i)
        made[f"s{i:05}.json"] = json.dumps({"label": i, "size": [i, 2.5], "name": "é"}).encode()
    return made


def leftovers(folder: Path) -> list[str]:
    """Everything in the folder that is neither a shard nor an index of one."""
    return sorted(p.name for p in folder.iterdir() if p.suffix not in (".tar", ".utix"))


def test_ranges_are_the_payloads(tmp_path: Path) -> None:
    members = samples(20)
    shard = make_tar(tmp_path / "a.tar", members)
    done = run(shard)
    assert done.returncode == 0, done.stderr
    payload_bytes = sum(map(len, members.values()))
    assert done.stdout == f"indexed 1 of 1 shards: 20 samples, 40 entries, {payload_bytes} bytes of payload\n"
    assert done.stderr == ""
    content = shard.read_bytes()
    records = index_of(shard)
    assert [list(record) for record in records] == [FIELDS] * 20
    assert [record["iidx"] for record in records] == list(range(20))
    for record in records:
        for key, offset, size in zip(record["keys"], record["offsets"], record["sizes"], strict=True):
            start = record["offset"] + offset
            assert content[start : start + size] == members[record["str_idx"] + key]
    assert leftovers(tmp_path) == []


def test_bytes_are_those_of_pythons_msgpack(tmp_path: Path) -> None:
    shard = make_tar(tmp_path / "a.tar", samples(300, size=70_000))
    assert run(shard, "--meta-rule", ".json:.").returncode == 0
    packed = b"".join(msgpack.packb(record) for record in index_of(shard))
    assert packed == Path(f"{shard}.utix").read_bytes()


def test_jsonl_says_the_same(tmp_path: Path) -> None:
    shard = make_tar(tmp_path / "a.tar", samples(20))
    rule = ["--meta-rule", ".json:.label;.size[1];.absent"]
    assert run(shard, *rule).returncode == 0
    packed = index_of(shard)
    assert run("--fmt", "jsonl", "-f", shard, *rule).returncode == 0
    lines = Path(f"{shard}.utix").read_text().splitlines()
    assert [json.loads(line) for line in lines] == packed
    assert packed[3]["metadata"] == {".label": 3, ".size[1]": 2.5, ".absent": None}


def test_metadata_keeps_types(tmp_path: Path) -> None:
    value = {
        "i": 1,
        "u": 2**64 - 1,
        "n": -(2**63),
        "f": 1.0,
        "big": 2**70,
        "l": [True, None],
        "s": "é\n\u0000",
        "d": {},
    }
    text = json.dumps(value)
    shard = make_tar(tmp_path / "a.tar", {"a.json": text.encode(), "b.txt": b"no json", "c.json": b'{"i": 5, "i": 6}'})
    assert run(shard, "--meta-rule", "json:.;.i;.s").returncode == 0
    first, second, third = (record["metadata"] for record in index_of(shard))
    assert first == {".": {**value, "big": float(2**70)}, ".i": 1, ".s": "é\n\u0000"}
    assert isinstance(first["."]["f"], float) and isinstance(first["."]["i"], int)
    assert second == {".": None, ".i": None, ".s": None}
    assert third[".i"] == 6
    assert run(shard, "--fmt=jsonl", "--meta-rule=json:.;.i;.s").returncode == 0
    assert json.loads(Path(f"{shard}.utix").read_text().splitlines()[0])["metadata"] == first


@pytest.mark.parametrize("form", ["msgpack", "jsonl"])
def test_metadata_as_deep_as_it_may_be(tmp_path: Path, form: str) -> None:
    for depth, status in [(63, 0), (64, 1)]:
        shard = make_tar(tmp_path / "a.tar", {"a.json": b"[" * depth + b"]" * depth})
        assert run(shard, "--fmt", form, "--meta-rule", ".json:.").returncode == status
    make_tar(shard, {"a.json": b"[" * 63 + b"]" * 63})
    assert run(shard, "--check", "--meta-rule", ".json:.").returncode == 0


@pytest.mark.parametrize("payload", [b"", b"{", b'{"a":1}x', b"NaN", b"\x00", b"[" * 100_000], ids=repr)
def test_malformed_metadata_is_named(tmp_path: Path, payload: bytes) -> None:
    shard = make_tar(tmp_path / "a.tar", {"a.jpg": b"1", "a.json": payload})
    done = run(shard, "--meta-rule", ".json:.a")
    assert done.returncode == 1
    assert "member 'a.json' is malformed JSON" in done.stderr and "at offset 1536" in done.stderr
    assert not Path(f"{shard}.utix").exists()


@pytest.mark.parametrize("rule", ["json", ".json:", ".json:a", ".json:.a;", ".json:.a[", ".json:.a;.a"])
def test_wrong_rules(tmp_path: Path, rule: str) -> None:
    shard = make_tar(tmp_path / "a.tar", samples(1))
    done = run(shard, "--meta-rule", rule)
    assert done.returncode != 0 and done.stderr.startswith("indexer: ")
    assert not Path(f"{shard}.utix").exists()


def test_a_repeated_key_is_kept_and_reported(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ["a.x", "a.y", "a.x", "b.x", "a.x"]:
            tar.addfile(tarfile.TarInfo(name))
    done = run(tmp_path / "a.tar")
    assert done.returncode == 0
    assert "sample 'a' has the key '.x' twice" in done.stderr
    records = index_of(tmp_path / "a.tar")
    assert [(r["str_idx"], r["keys"]) for r in records] == [("a", [".x", ".y", ".x"]), ("b", [".x"]), ("a", [".x"])]


def test_a_bad_shard_does_not_stop_the_others(tmp_path: Path) -> None:
    shards = [make_tar(tmp_path / f"{i}.tar", samples(5)) for i in range(6)]
    damaged = bytearray(shards[3].read_bytes())
    damaged[1536 + 148] ^= 1
    shards[3].write_bytes(damaged)
    old = b"an index from before"
    Path(f"{shards[3]}.utix").write_bytes(old)
    done = run(*shards)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(shards[3]) in done.stderr and "offset 1536" not in done.stdout
    assert done.stdout.startswith("indexed 5 of 6 shards: 25 samples")
    assert all(len(index_of(shard)) == 5 for i, shard in enumerate(shards) if i != 3)
    assert Path(f"{shards[3]}.utix").read_bytes() == old
    assert leftovers(tmp_path) == []


def test_names_of_one_shard_index_it_once(tmp_path: Path) -> None:
    shard = make_tar(tmp_path / "a.tar", samples(3))
    (tmp_path / "link").symlink_to(tmp_path)
    done = run("a.tar", "./a.tar", shard, "-f", tmp_path / "link" / "a.tar", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("indexed 1 of 1 shards: 3 samples")
    (tmp_path / "other.tar").symlink_to(shard)
    assert run(shard, tmp_path / "other.tar").returncode == 0
    assert index_of(tmp_path / "other.tar") == index_of(shard)


def make_socket(path: Path) -> None:
    """A socket is no file that can be read."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "No such file or directory"),
        (Path.mkdir, "Is a directory"),
        (os.mkfifo, "not a regular file, but a pipe"),
        (make_socket, "o"),
        (Path.touch, "the file is empty"),
        (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(600)), "compressed with gzip; decompress"),
        (lambda path: path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(6)), "compressed with zstd"),
        (lambda path: path.write_bytes(b"\xfd7zXZ\x00" + bytes(600)), "compressed with xz"),
        (lambda path: path.write_bytes(b"BZh9" + bytes(600)), "compressed with bzip2"),
        (lambda path: path.write_bytes(b"\x04\x22\x4d\x18" + bytes(600)), "compressed with lz4"),
        (lambda path: path.write_bytes(bytes(10240)), "holds no regular file"),
        (lambda path: path.write_bytes(b"x" * 10240), "not a tar"),
        (lambda path: path.write_bytes(b"x" * 100), "cut short in a header"),
    ],
)
def test_what_is_no_shard(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    make(tmp_path / "bad.tar")
    done = run(tmp_path / "bad.tar")
    assert done.returncode == 1
    assert done.stderr.startswith(f"indexer: {tmp_path / 'bad.tar'}: ") and words in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) in ([], ["bad.tar"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_shard_that_may_not_be_read(tmp_path: Path) -> None:
    shard = make_tar(tmp_path / "a.tar", samples(1))
    shard.chmod(0)
    assert os.strerror(errno.EACCES) in run(shard).stderr


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    whole = make_tar(tmp_path / "a.tar", samples(2, size=600), format=tarfile.USTAR_FORMAT).read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        infos = tar.getmembers()
    ends = {info.offset_data + (info.size + 511) // 512 * 512 for info in infos}
    last = max(ends)
    shard = tmp_path / "cut.tar"
    for size in [*range(1, last, 173), *(end + d for end in ends for d in (-1, 0, 1)), last + 512, last + 700]:
        shard.write_bytes(whole[:size])
        done = run(shard)
        if size in ends or size >= last:  # On the border of a member a tar may end.
            assert done.returncode == 0, done.stderr
            assert sum(len(r["keys"]) for r in index_of(shard)) == sum(info.offset < size for info in infos)
        else:
            assert done.returncode == 1 and "cut short" in done.stderr and "at offset" in done.stderr
            assert not Path(f"{shard}.utix").exists()
        Path(f"{shard}.utix").unlink(missing_ok=True)
    assert leftovers(tmp_path) == []


def test_concatenated_tars_are_refused(tmp_path: Path) -> None:
    one = make_tar(tmp_path / "a.tar", samples(2)).read_bytes()
    (tmp_path / "b.tar").write_bytes(one * 2)
    done = run(tmp_path / "b.tar")
    assert done.returncode == 1 and f"at offset {len(one)}: another tar begins" in done.stderr


def test_sparse_members_are_refused_by_name(tmp_path: Path) -> None:
    with open(tmp_path / "holes.bin", "wb") as file:
        file.truncate(1 << 20)
        file.write(b"x")
    for flavour in ["gnu", "pax"]:
        command = ["tar", "--sparse", f"--format={flavour}", "-cf", "a.tar", "holes.bin"]
        subprocess.run(command, cwd=tmp_path, check=True)
        done = run(tmp_path / "a.tar")
        assert done.returncode == 1 and "member 'holes.bin' is sparse" in done.stderr


def limit_files() -> None:
    """A full disk, as far as a test without privileges goes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


@pytest.mark.parametrize("count", [200, 6000], ids=["small", "large"])
def test_a_full_disk(tmp_path: Path, count: int) -> None:
    shard = make_tar(tmp_path / "a.tar", samples(count, size=1))
    Path(f"{shard}.utix").write_bytes(b"old")
    done = run(shard, preexec_fn=limit_files)
    assert done.returncode == 1
    assert f"{shard}.utix: cannot write the index: {os.strerror(errno.EFBIG)}" in done.stderr
    assert Path(f"{shard}.utix").read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_an_index_that_cannot_be_put_in_place(tmp_path: Path) -> None:
    shard = make_tar(tmp_path / "a.tar", samples(1))
    Path(f"{shard}.utix").mkdir()
    done = run(shard)
    assert done.returncode == 1 and os.strerror(errno.EISDIR) in done.stderr
    assert leftovers(tmp_path) == []


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    shard = make_tar(tmp_path / "a.tar", samples(1))
    assert run(shard, umask=0o027).returncode == 0
    assert Path(f"{shard}.utix").stat().st_mode & 0o777 == 0o640


def test_names_as_long_as_names_can_be(tmp_path: Path) -> None:
    shard = make_tar(tmp_path / ("n" * 246 + ".tar"), samples(1))
    assert run(shard).returncode == 0
    too_long = make_tar(tmp_path / ("n" * 251 + ".tar"), samples(1))
    done = run(too_long)
    assert done.returncode == 1 and os.strerror(errno.ENAMETOOLONG) in done.stderr
    assert leftovers(tmp_path) == []


def test_payloads_are_not_read(tmp_path: Path) -> None:
    """Three members of 3 GiB, in a file that takes no room: reading them takes seconds."""
    shard = tmp_path / "huge.tar"
    with open(shard, "wb") as file:
        for i in range(3):
            info = tarfile.TarInfo(f"{i}.bin")
            info.size = 3 << 30
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            file.seek(info.size, os.SEEK_CUR)
        file.write(bytes(1024))
    start = time.monotonic()
    assert run(shard).returncode == 0
    assert time.monotonic() - start < 1
    assert [record["offset"] for record in index_of(shard)] == [512 + i * ((3 << 30) + 512) for i in range(3)]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a.x").tobuf()
    shard = tmp_path / "slow.tar"
    shard.write_bytes(header * 600_000)
    process = subprocess.Popen([BINARY, shard], stderr=subprocess.PIPE, text=True)
    while not leftovers(tmp_path) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert leftovers(tmp_path) == []
    if process.returncode != 0:  # It may have been faster.
        assert process.returncode == 128 + signal.SIGINT and "stopped" in stderr
        assert not Path(f"{shard}.utix").exists()


def test_the_command_line(tmp_path: Path) -> None:
    assert run("--help").stdout.startswith("usage: indexer")
    assert run("--version").stdout.startswith("indexer ")
    for args in [[], ["--what"], ["--fmt", "xml", "a"], ["-f"]]:
        done = run(*args)
        assert done.returncode == 2 and done.stderr.startswith("indexer: ")
    with open("/dev/full", "w") as full:
        assert subprocess.run([BINARY, "--help"], stdout=full, stderr=subprocess.DEVNULL).returncode == 1
    shard = make_tar(tmp_path / "-f.tar", samples(1))
    assert run("--", shard.name, cwd=tmp_path).returncode == 0


def test_many_shards_and_few_threads(tmp_path: Path) -> None:
    first = make_tar(tmp_path / "0.tar", samples(3))
    shards = [first, *(shutil.copy(first, tmp_path / f"{i}.tar") for i in range(1, 100))]
    done = run(*shards)
    assert done.returncode == 0 and done.stdout.startswith("indexed 100 of 100 shards: 300 samples")


def test_offsets_are_of_64_bits(tmp_path: Path) -> None:
    """A member behind the first 9 GiB, with its size in base-256."""
    shard = tmp_path / "big.tar"
    info = tarfile.TarInfo("a.bin")
    info.size = 9 << 30
    header = info.tobuf(tarfile.GNU_FORMAT)
    assert header[124:136] == b"\x80" + struct.pack(">11s", info.size.to_bytes(11, "big"))
    with open(shard, "wb") as file:
        file.write(header)
        file.seek(info.size, os.SEEK_CUR)
        file.write(tarfile.TarInfo("a.txt").tobuf() + bytes(1024))
    assert run(shard).returncode == 0
    [record] = index_of(shard)
    assert record["offsets"] == [0, (9 << 30) + 512] and record["sizes"] == [9 << 30, 0]
