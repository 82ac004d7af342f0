"""Shards and storage that are not as the index says: each is a ReadError that names file, offset and cause."""

import errno
import os
import resource
from pathlib import Path

import pytest
from support import EVERY_ROW, expect_quiet_success, generator, load, run_python

from ultar_dataloader import ReadError, UltarError


def samples(count: int, size: int = 3000) -> dict[str, dict[str, bytes]]:
    return {f"s{i:03}": {".bin": bytes([i % 251]) * size} for i in range(count)}


def test_a_shard_shorter_than_its_index(make_shard, io):
    shard = make_shard(samples(50))
    cut = 20 * 3584 + 512 + 1000  # Within the payload of row 20: header, 3000 bytes, padding.
    os.truncate(shard, cut)

    rows = iter(load(EVERY_ROW, io, tar=str(shard)))
    before = [next(rows)[".bin"] for _ in range(20)]
    with pytest.raises(ReadError) as failure:
        next(rows)

    assert before == [bytes([i]) * 3000 for i in range(20)]
    assert failure.value.filename == str(shard)
    assert failure.value.offset == 20 * 3584 + 512
    assert failure.value.length == 3000
    assert "wanted 3000 bytes at offset 72192, got 1000 (end of file" in str(failure.value)
    with pytest.raises(ReadError, match="wanted 3000"):
        next(rows)


def test_rows_that_cannot_be_read_can_be_left_out_when_asked_for(make_shard, io, caplog):
    from ultar_dataloader import DataLoader

    shard = make_shard(samples(50))
    os.truncate(shard, 30 * 3584)
    loader = DataLoader(EVERY_ROW, {"tar": str(shard)}, io=io, on_error="skip")

    assert len(list(loader)) == 30

    assert loader.stats()["rows_skipped"] == 20
    warnings = [record for record in caplog.records if record.name == "ultar_dataloader"]
    assert len(warnings) == 20
    assert "end of file" in warnings[0].getMessage()


def test_a_missing_shard(tmp_path, io):
    path = tmp_path / "missing.tar"
    with pytest.raises(ReadError, match="missing.tar.*No such file") as failure:
        list(load(generator("loader:open_file(config.tar)"), io, tar=str(path)))
    assert failure.value.errno == errno.ENOENT
    assert failure.value.filename == str(path)
    assert "stack traceback" in str(failure.value)


def test_a_directory_for_a_shard(tmp_path, io):
    with pytest.raises(ReadError, match="[Dd]irectory") as failure:
        list(load(generator("loader:open_file(config.tar)"), io, tar=str(tmp_path)))
    assert failure.value.errno == errno.EISDIR


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_shard(make_shard, io):
    shard = make_shard(samples(1))
    shard.chmod(0)
    with pytest.raises(ReadError, match="Permission denied") as failure:
        list(load(EVERY_ROW, io, tar=str(shard)))
    assert failure.value.errno == errno.EACCES


def test_an_unreadable_shard_as_another_user(make_shard, tmp_path):
    """As the test above, for test runs by root: the reading process gives root up."""
    if os.geteuid() != 0:
        return  # The test above did it.
    shard = make_shard(samples(1))
    shard.chmod(0)
    for folder in (shard.parent, *shard.parent.parents):
        if folder.is_relative_to(tmp_path.parent.parent):
            folder.chmod(0o755)
    out = expect_quiet_success(
        run_python(
            """
            import os
            from support import EVERY_ROW, load
            from ultar_dataloader import ReadError
            loader = load(EVERY_ROW, tar=config["tar"])
            os.setuid(65534)
            try:
                list(loader)
            except ReadError as err:
                print(err.errno, err.filename == config["tar"])
            """,
            config={"tar": str(shard)},
        )
    )
    assert out == f"{errno.EACCES} True\n"


def test_a_fifo_for_a_shard_does_not_hang(tmp_path, io):
    os.mkfifo(tmp_path / "fifo.tar")
    with pytest.raises(ReadError, match="fifo.tar"):
        list(load(generator("loader:open_file(config.tar)"), io, tar=str(tmp_path / "fifo.tar")))


def test_an_error_of_the_kernel(io):
    """A process that reads its own memory at address 0 gets a real EIO."""
    body = 'loader:add_entry(loader:open_file("/proc/self/mem"), ".x", 0, 100) loader:finish_row()'
    with pytest.raises(ReadError, match="/proc/self/mem.*offset 0") as failure:
        list(load(generator(body), io))
    assert failure.value.errno == errno.EIO
    assert failure.value.filename == "/proc/self/mem"
    assert failure.value.offset == 0


def test_a_bad_neighbour_takes_no_good_row_along(tmp_path, io):
    """Rows are read together; those before a failing one still come."""
    good = tmp_path / "good"
    good.write_bytes(b"0123456789" * 100)
    body = """
    local good, bad = loader:open_file(config.good), loader:open_file("/proc/self/mem")
    for i = 1, 100 do
      if i == 60 then loader:add_entry(bad, ".x", 0, 10) end
      loader:add_entry(good, ".g", i, 10)
      loader:finish_row()
    end
    """
    rows = iter(load(generator(body), io, good=str(good)))
    for i in range(1, 60):
        assert next(rows)[".g"] == (b"0123456789" * 3)[i % 10 : i % 10 + 10]
    with pytest.raises(ReadError):
        next(rows)


def test_an_entry_of_6_gib_beyond_4_gib(tmp_path, io):
    """A sparse file, so that it costs memory and not disk."""
    path = tmp_path / "huge"
    size = 6 * 1024**3
    with path.open("wb") as file:
        file.truncate(5 * 1024**3 + size)
        file.seek(5 * 1024**3)
        file.write(b"begin")
        file.seek(5 * 1024**3 + size - 3)
        file.write(b"end")
    body = f"""
    local h = loader:open_file(config.path)
    loader:add_entry(h, ".big", {5 * 1024**3}, {size})
    loader:finish_row()
    loader:add_entry(h, ".end", {5 * 1024**3 + size - 3}, 3)
    loader:finish_row()
    """
    rows = iter(load(generator(body), io, path=str(path)))
    row = next(rows)
    with row.view(".big") as view:
        assert len(view) == size == row.nbytes
        assert bytes(view[:5]) == b"begin"
        assert bytes(view[-3:]) == b"end"
    del row
    assert next(rows)[".end"] == b"end"


def test_no_descriptors_left(make_shard):
    """Opening fails with an error that says so, and io="auto" does without io_uring."""
    shard = make_shard(samples(3))
    out = expect_quiet_success(
        run_python(
            """
            import os, resource
            from support import EVERY_ROW, load
            from ultar_dataloader import ReadError
            loader = load(EVERY_ROW, tar=config["tar"])
            used = len(os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, used))
            taken = []
            try:
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                pass
            rows = iter(loader)
            try:
                next(rows)
            except ReadError as err:
                print(err.errno, "Too many open files" in str(err))
            print(loader.stats()["backend"])
            for fd in taken:
                os.close(fd)
            os.close(os.open("/dev/null", os.O_RDONLY))
            """,
            config={"tar": str(shard)},
        )
    )
    assert out == f"{errno.EMFILE} True\nthreads\n"


def test_one_descriptor_is_enough_for_many_shards_in_turn(make_shard, io):
    shards = [make_shard(samples(2)) for _ in range(30)]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    body = """
    local utix = require("ultar.utix")
    for _, path in ipairs(config.tars) do
      local tar = loader:open_file(path)
      for row in utix.open(path .. ".utix"):iter() do
        loader:add_row(tar, row)
        loader:finish_row()
      end
      loader:close_file(tar)
    end
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, limit[1]))
    try:
        assert len(list(load(generator(body), io, tars=[str(s) for s in shards]))) == 60
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_a_write_only_mistake_is_named_too(tmp_path):
    with pytest.raises(UltarError):
        list(load(generator("loader:open_file('')")))
    with pytest.raises(UltarError, match="NUL"):
        list(load(generator("loader:open_file('a\\0b')")))
    with pytest.raises(UltarError, match="path"):
        list(load(generator(f"loader:open_file(('{'x' * 100}'):rep(100))")))
    assert Path(tmp_path).exists()
