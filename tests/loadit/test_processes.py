"""Several processes on one cache: a limit that holds, processes that are killed, forks, and pickled loaders."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ultar_dataloader import CacheError, LoadIt

from .support import COUNT, ITEMS, PER_SHARD, Made, shards_of, size_of, wait_for

WORKER = """
import random, sys, time
from ultar_dataloader import LoadIt

root, seed, limit, count, per_shard, accesses = sys.argv[1], *map(int, sys.argv[2:])

def item(i):
    return (i, b"%06d" % i * 50)

loader = LoadIt(lambda: map(item, range(count)), root, per_shard, max_cache_size=2, memory_limit=limit)
draw = random.Random(seed)
for _ in range(accesses):
    i = draw.randrange(count)
    for k in (i, min(i + 1, count - 1)):
        assert loader[k] == item(k), (k, loader[k])
assert len(loader) == count
print("right")
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_four_processes_and_room_for_ten_shards(tmp_path: Path) -> None:
    count, per_shard, shards = 2000, 20, 10
    with LoadIt(lambda: ((i, b"%06d" % i * 50) for i in range(100)), tmp_path / "one", per_shard) as loader:
        loader.wait_until_all_cached()
    shard_bytes = size_of(tmp_path / "one") // 5
    # A record of an index is set aside with some bytes more than it has in the end.
    limit = shards * shard_bytes + 40 * per_shard
    root = tmp_path / "cache"
    LoadIt(list, root, per_shard).close()
    most, looks = 0, 0
    workers = [start(WORKER, root, seed, limit, count, per_shard, 60) for seed in range(4)]
    try:
        while any(worker.poll() is None for worker in workers):
            most = max(most, size_of(root))
            looks += 1
            time.sleep(0.0005)
        for worker in workers:
            assert worker.communicate(timeout=60) == ("right\n", "")
    finally:
        for worker in workers:
            worker.kill()
    assert looks > 100 and limit // 2 < most <= limit + shard_bytes
    assert size_of(root) <= limit and len(shards_of(root)) == shards


def test_what_one_process_makes_the_others_wait_for(tmp_path: Path) -> None:
    code = """
import sys, time
from ultar_dataloader import LoadIt

def make():
    for i in range(60):
        with open(sys.argv[2], "a") as file:
            file.write(f"{i}\\n")
        time.sleep(0.002)
        yield i

assert list(LoadIt(make, sys.argv[1], 20, preload_fn=None)) == list(range(60))
"""
    workers = [start(code, tmp_path / "cache", tmp_path / f"made-{i}") for i in range(3)]
    for worker in workers:
        assert worker.communicate(timeout=60) == ("", "") and worker.returncode == 0
    assert shards_of(tmp_path / "cache") == [0, 20, 40]


def test_killed_in_the_middle_of_writing(tmp_path: Path) -> None:
    code = """
import sys
from ultar_dataloader import LoadIt

for _ in LoadIt(lambda: (bytes([i]) * 1_000_000 for i in range(200)), sys.argv[1], 20): pass
"""
    root = tmp_path / "cache"
    for killed in range(3):
        worker = start(code, root)
        # It is killed while it writes a shard that nobody has written yet.
        wait_for(lambda: any(".tmp" in path.name for path in root.glob("shards/*")), 30)
        worker.send_signal(signal.SIGKILL)
        worker.communicate(timeout=30)
        for path in root.glob("shards/*.tar.utix"):
            assert path.with_suffix("").exists(), killed
    with LoadIt(lambda: (bytes([i]) * 1_000_000 for i in range(200)), root, 20) as loader:
        for i, item in enumerate(loader):
            assert item == bytes([i]) * 1_000_000
        assert i == 199
    wait_for(lambda: len(shards_of(root)) == 10)
    assert not [path.name for path in root.glob("shards/*") if ".tmp" in path.name]
    assert len(LoadIt(root)) == 200


def test_killed_while_others_wait(tmp_path: Path) -> None:
    code = """
import sys, time
from ultar_dataloader import LoadIt

def make():
    for i in range(5):
        yield i
    print("in the middle", flush=True)
    time.sleep(1000)

LoadIt(make, sys.argv[1], 20)[19]
"""
    worker = start(code, tmp_path)
    assert worker.stdout is not None and worker.stdout.readline() == "in the middle\n"
    loader = LoadIt(lambda: range(60), tmp_path, 20)
    seen: list[int] = []
    waiting = threading.Thread(target=lambda: seen.append(loader[7]))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive() and not seen
    worker.kill()
    waiting.join(10)
    worker.communicate()
    assert seen == [7] and list(loader) == list(range(60))


def test_who_cannot_make_a_shard_keeps_nobody_from_it(full: Path) -> None:
    (full / "shards/000000000050.tar.utix").unlink()
    alone = LoadIt(full)
    opened = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(CacheError, match="item 53 is not in the cache"):
            alone[53]
    assert len(os.listdir("/proc/self/fd")) == opened
    code = """
import sys
from ultar_dataloader import LoadIt
print(len(LoadIt(lambda: (bytes(i) for i in range(200)), sys.argv[1])[53]))
"""
    assert start(code, full).communicate(timeout=30) == ("53\n", "")
    assert alone[53] == bytes(53)


def test_ctrl_c_ends_the_waiting(tmp_path: Path) -> None:
    code = """
import sys, time
from ultar_dataloader import LoadIt

def make():
    yield 0
    print("in the middle", flush=True)
    time.sleep(1000)

try:
    LoadIt(make, sys.argv[1])[1]
except KeyboardInterrupt:
    print("interrupted")
"""
    worker = start(code, tmp_path)
    assert worker.stdout is not None and worker.stdout.readline() == "in the middle\n"
    worker.send_signal(signal.SIGINT)
    # That the iterator still sleeps keeps nobody.
    assert worker.communicate(timeout=10) == ("interrupted\n", "") and worker.returncode == 0


def in_child(loader: LoadIt, result: multiprocessing.connection.Connection) -> None:
    result.send([loader[i] == ITEMS[i] for i in (3, 50, 120, -1)] + [len(loader) == COUNT])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_loader_goes_to_other_processes(tmp_path: Path, method: str) -> None:
    loader = LoadIt(Made(), tmp_path, PER_SHARD)
    # With threads that are at work.
    assert loader[55] == ITEMS[55]
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=in_child, args=(loader, theirs))
    child.start()
    assert ours.poll(30) and ours.recv() == [True] * 5
    child.join(30)
    assert child.exitcode == 0
    assert list(loader) == ITEMS


def test_a_lock_is_not_kept_by_a_child(tmp_path: Path) -> None:
    """It is the kernel's, and goes with the last process that has it open."""
    code = """
import os, sys, time
from ultar_dataloader import LoadIt

def make():
    yield 0
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    print(child, flush=True)
    time.sleep(30)

LoadIt(make, sys.argv[1], 20)[1]
"""
    worker = start(code, tmp_path)
    assert worker.stdout is not None
    child = int(worker.stdout.readline())
    try:
        worker.kill()
        assert LoadIt(lambda: range(60), tmp_path, 20)[30] == 30
    finally:
        os.kill(child, signal.SIGKILL)
        worker.communicate()


def test_a_loader_is_pickled_as_its_arguments(tmp_path: Path) -> None:
    loader = LoadIt(Made(), tmp_path, PER_SHARD, 5, 2, info="first")
    loader.set_info("second")
    assert loader[20] == ITEMS[20]
    again = pickle.loads(pickle.dumps(loader))
    assert again[20] == ITEMS[20] and again.max_workers == 2 and list(again) == ITEMS
    assert loader.info() == again.info() == "second"


def test_what_was_made_is_there_after_the_end(tmp_path: Path) -> None:
    code = """
import sys
from ultar_dataloader import LoadIt

for _ in LoadIt(lambda: (bytes([i]) * 1_000_000 for i in range(30)), sys.argv[1], 20, memory_limit=10**8): pass
LoadIt(lambda: range(30), sys.argv[1] + "-2", 10, preload_fn=None)[9]
"""
    for _ in range(2):
        assert start(code, tmp_path / "cache").communicate(timeout=30) == ("", "")
        assert shards_of(tmp_path / "cache") == [0, 20] and shards_of(tmp_path / "cache-2") == [0]


def test_open_files_are_bounded_for_all_loaders_together(tmp_path: Path) -> None:
    code = """
import os, random, resource, sys, threading
from ultar_dataloader import LoadIt

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))

def target(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return ""  # Closed meanwhile.

def opened():
    return sum(target(one).endswith(".tar") for one in os.listdir("/proc/self/fd"))

root = sys.argv[1]
with LoadIt(lambda: ([i] for i in range(60)), root, 1) as loader:
    loader.wait_until_all_cached()
assert opened() == 0
loaders = [LoadIt(root, max_cache_size=size, preload_fn=None) for size in (128, 128, 128, 0, 1)]
wrong = []

def read(seed):
    draw = random.Random(seed)
    for _ in range(2000):
        i = draw.randrange(60)
        if draw.choice(loaders)[i] != [i]:
            wrong.append(i)
    wrong.extend([] if opened() <= 32 + 8 else [opened()])

threads = [threading.Thread(target=read, args=[seed]) for seed in range(4)]
for one in threads: one.start()
for one in threads: one.join()
assert not wrong, wrong
assert 16 <= opened() <= 32, opened()
assert [loader[7] for loader in loaders] == [[7]] * 5
for loader in loaders[1:]:
    loader.close()
loader = None
loaders.clear()
assert opened() == 0, opened()
"""
    assert start(code, tmp_path).communicate(timeout=60) == ("", "")


def test_a_folder_that_can_only_be_read(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    with LoadIt(Made(), root, PER_SHARD) as loader:
        loader.wait_until_all_cached()
    (root / "lock").unlink()
    try:
        for path in (root, root / "shards"):
            path.chmod(0o555)
        code = """
import os, sys
from ultar_dataloader import LoadIt
if os.getuid() == 0:
    os.setuid(65534)
print(len([item for item in LoadIt(sys.argv[1])]))
made = LoadIt(lambda: 1 / 0, sys.argv[1])
print(len(made[-1]), made.all_cached_to_disk())
"""
        with contextlib.ExitStack() as stack:
            for parent in tmp_path.parents:
                if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 0o001:
                    stack.callback(parent.chmod, parent.stat().st_mode & 0o7777)
                    parent.chmod(parent.stat().st_mode & 0o7777 | 0o011)
            mode = tmp_path.stat().st_mode & 0o7777
            tmp_path.chmod(mode | 0o011)
            out, err = start(code, root).communicate(timeout=30)
        assert (out, err) == (f"{COUNT}\n1000 True\n", "")
    finally:
        for path in (root, root / "shards"):
            path.chmod(0o755)
