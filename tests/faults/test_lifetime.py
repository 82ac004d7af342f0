"""Rows, views, iterators and processes that outlive or outnumber what they came from."""

import gc
import os
import threading
import time

import pytest
from support import EVERY_ROW, expect_quiet_success, generator, load, run_python

from ultar_dataloader import DataLoader

ENDLESS = generator("""
local h = loader:open_file(config.tar)
for i = 0, 1e9 do
  loader:add_entry(h, ".x", i % 1000, 4000)
  loader:finish_row()
end
""")


@pytest.fixture
def shard(make_shard):
    return make_shard({f"s{i:04}": {".bin": bytes([i % 256]) * 500, ".id": b"%d" % i} for i in range(2500)})


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def thread_count() -> int:
    return len(os.listdir("/proc/self/task"))


def descriptor_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_2000_rows_held_at_once(shard, io):
    rows = list(load(EVERY_ROW, io, tar=str(shard)))[:2000]
    for i, row in enumerate(rows):
        assert row[".id"] == b"%d" % i
        assert row[".bin"] == bytes([i % 256]) * 500


def test_a_view_outlives_row_iterator_and_loader(shard, io):
    loader = load(EVERY_ROW, io, tar=str(shard))
    rows = iter(loader)
    views = [next(rows).view(".bin") for _ in range(50)]
    del rows, loader
    gc.collect()
    churn = [list(load(EVERY_ROW, io, tar=str(shard))) for _ in range(3)]
    assert [bytes(view) for view in views] == [bytes([i]) * 500 for i in range(50)]
    assert len(churn) == 3


def test_200_iterators_dropped_midway_leave_nothing(shard, io):
    loader = load(ENDLESS, io, tar=str(shard))

    def drop(count: int) -> None:
        for i in range(count):
            rows = iter(loader)
            for _ in range(i % 7):
                next(rows)
            del rows

    drop(20)  # Whatever is allocated once.
    gc.collect()
    threads, descriptors, resident = thread_count(), descriptor_count(), resident_bytes()
    drop(200)
    gc.collect()
    assert thread_count() == threads
    assert descriptor_count() == descriptors
    assert resident_bytes() - resident < 32 * 1024 * 1024


def test_epochs_do_not_grow(shard, io):
    loader = load(EVERY_ROW, io, tar=str(shard))
    for _ in range(5):
        assert sum(1 for _ in loader) == 2500
    gc.collect()
    resident = resident_bytes()
    for _ in range(50):
        assert sum(1 for _ in loader) == 2500
    gc.collect()
    assert resident_bytes() - resident < 16 * 1024 * 1024


def test_files_that_the_script_never_closed(shard, io):
    before = descriptor_count()
    script = generator("""
    for i = 1, 100 do
      loader:add_entry(loader:open_file(config.tar), ".x", i, 10)
      loader:finish_row()
    end
    """)
    rows = iter(load(script, io, tar=str(shard)))
    assert len(list(rows)) == 100
    del rows
    gc.collect()
    assert descriptor_count() == before


def test_one_iterator_shared_by_4_threads(shard, io):
    rows = iter(load(EVERY_ROW, io, tar=str(shard)))
    seen: list[list[int]] = [[], [], [], []]

    def consume(mine: list[int]) -> None:
        for row in rows:
            assert row[".bin"] == bytes([int(row[".id"]) % 256]) * 500
            mine.append(int(row[".id"]))

    threads = [threading.Thread(target=consume, args=(mine,)) for mine in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert sorted(i for mine in seen for i in mine) == list(range(2500))
    for mine in seen:
        assert mine == sorted(mine)


def test_8_loaders_in_8_threads(shard, io):
    counts = [0] * 8

    def consume(place: int) -> None:
        for i, row in enumerate(load(EVERY_ROW, io, tar=str(shard))):
            assert row[".id"] == b"%d" % i
            counts[place] += 1

    threads = [threading.Thread(target=consume, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert counts == [2500] * 8


def test_two_iterators_are_independent(shard, io):
    loader = load(EVERY_ROW, io, tar=str(shard))
    a, b = iter(loader), iter(loader)
    first = [next(a)[".id"] for _ in range(100)]
    assert [next(b)[".id"] for _ in range(50)] == first[:50]
    del a
    assert next(b)[".id"] == b"50"


@pytest.mark.parametrize("io", ["uring", "threads"])
def test_fork_with_a_live_iterator(shard, io):
    out = expect_quiet_success(
        run_python(
            """
            import os, sys
            from support import EVERY_ROW, load
            from ultar_dataloader import UltarError
            loader = load(EVERY_ROW, config["io"], tar=config["tar"])
            rows = iter(loader)
            held = next(rows)
            pid = os.fork()
            if pid == 0:
                try:
                    next(rows)
                except UltarError as err:
                    assert "process" in str(err), err
                    # What was read lives on, and a new epoch works.
                    assert held[".id"] == b"0"
                    assert sum(1 for _ in loader) == 2500
                    del rows
                    print("child")
                sys.stdout.flush()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            assert sum(1 for _ in rows) == 2499
            print("parent")
            """,
            config={"tar": str(shard), "io": io},
        )
    )
    assert out == "child\nparent\n"


@pytest.mark.parametrize("io", ["uring", "threads"])
def test_fork_before_anything_was_read(shard, io):
    """What multiprocessing does: the loader is made in the parent, iterated in the children."""
    out = expect_quiet_success(
        run_python(
            """
            import multiprocessing
            from support import EVERY_ROW, load
            loader = load(EVERY_ROW, config["io"], tar=config["tar"])
            def count(_):
                return sum(1 for _ in loader)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                print(pool.map(count, range(4)))
            print(sum(1 for _ in loader))
            """,
            config={"tar": str(shard), "io": io},
        )
    )
    assert out == "[2500, 2500, 2500, 2500]\n2500\n"


def test_a_loader_can_be_pickled(shard):
    out = expect_quiet_success(
        run_python(
            """
            import pickle
            from support import EVERY_ROW, load
            loader = pickle.loads(pickle.dumps(load(EVERY_ROW, tar=config["tar"])))
            print(sum(1 for _ in loader))
            """,
            config={"tar": str(shard)},
        )
    )
    assert out == "2500\n"


@pytest.mark.parametrize("io", ["uring", "threads"])
@pytest.mark.parametrize("script", ["ENDLESS", "generator('while true do end')"])
@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "import os; os._exit(0)"])
def test_interpreter_exit_with_a_live_iterator(shard, io, script, ending):
    start = time.monotonic()
    expect_quiet_success(
        run_python(
            f"""
            from support import generator, load
            from test_lifetime import ENDLESS
            rows = iter(load({script}, config["io"], tar=config["tar"]))
            kept = next(rows) if {script == "ENDLESS"} else None
            {ending}
            """,
            config={"tar": str(shard), "io": io},
        )
    )
    assert time.monotonic() - start < 20


def test_a_closed_iterator_says_so(shard):
    from ultar_dataloader import UltarError

    rows = iter(load(EVERY_ROW, tar=str(shard)))
    row = next(rows)
    rows.close()
    rows.close()
    with pytest.raises(UltarError, match="closed"):
        next(rows)
    assert row[".id"] == b"0"


def test_closing_while_another_thread_waits(io):
    from ultar_dataloader import UltarError

    rows = iter(load(generator("while true do coroutine.yield() end"), io))
    answers: list[object] = []

    def consume() -> None:
        try:
            next(rows)
        except UltarError as err:
            answers.append(str(err))

    thread = threading.Thread(target=consume)
    thread.start()
    time.sleep(0.2)
    rows.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(answers) == 1


def test_an_idle_loader_uses_no_cpu(shard, io):
    rows = iter(load(ENDLESS, io, tar=str(shard)))
    next(rows)
    time.sleep(0.3)
    before = time.process_time()
    time.sleep(1)
    assert time.process_time() - before < 0.02


def test_a_row_larger_than_the_budget_passes_alone(tmp_path, io):
    data = tmp_path / "data"
    data.write_bytes(bytes(range(256)) * 65536)
    script = generator("""
    local h = loader:open_file(config.data)
    for i = 1, 20 do
      loader:add_entry(h, ".big", i, 10000000)
      loader:finish_row()
      loader:add_entry(h, ".small", i, 10)
      loader:finish_row()
    end
    """)
    loader = DataLoader(script, {"data": str(data)}, io=io, prefetch_bytes=100_000, prefetch_rows=3)
    content = data.read_bytes()
    rows = list(loader)
    assert len(rows) == 40
    for i in range(1, 21):
        assert rows[2 * i - 2][".big"] == content[i : i + 10_000_000]
        assert rows[2 * i - 1][".small"] == content[i : i + 10]


@pytest.mark.parametrize("prefetch_rows", [1, 2, 3, 100])
def test_the_script_runs_ahead_by_no_more_than_the_budget(tmp_path, io, prefetch_rows):
    out = tmp_path / "progress"
    script = generator("""
    local out = io.open(config.out, "w")
    for i = 1, 10000 do
      loader:add_entry_bytes("i", tostring(i))
      loader:finish_row()
      out:write("x") out:flush()
    end
    """)
    rows = iter(DataLoader(script, {"out": str(out)}, io=io, prefetch_rows=prefetch_rows))
    for i in range(300):
        next(rows)
        if i % 100 == 50:
            time.sleep(0.1)
            finished = out.stat().st_size
            # The rows taken, the budget, and the group being built (a quarter of it).
            assert finished <= i + 1 + prefetch_rows + max(1, prefetch_rows // 4)


OPENS_EACH_ROW = generator("""
for i = 1, 2500 do
  local h = loader:open_file(config.tar)
  loader:add_entry(h, ".x", i, 100)
  loader:finish_row()
  loader:close_file(h)
end
""")


@pytest.mark.parametrize("rows", ["loader", "dataset", "mapped"])
def test_forks_while_rows_come_and_go(shard, rows):
    """Threads give memory back all the time; a fork in the middle of it must not lock the child."""
    out = expect_quiet_success(
        run_python(
            """
            import os, signal, threading
            from support import EVERY_ROW, load
            from ultar_dataloader import DataLoader, Dataset
            tar = config["tar"]
            if config["rows"] == "loader":
                loader = load(EVERY_ROW, tar=tar)
            elif config["rows"] == "dataset":
                loader = Dataset(tar, prefetch_bytes=200_000)
            else:
                loader = DataLoader(config["script"], {"tar": tar}, access="mmap", prefetch_rows=64)
            is_over = threading.Event()
            def churn():
                while not is_over.is_set():
                    for row in loader:
                        if is_over.is_set():
                            break
            threads = [threading.Thread(target=churn, daemon=True) for _ in range(3)]
            for thread in threads:
                thread.start()
            children = []
            for round in range(40):
                rows = iter(loader)
                held = [next(rows) for _ in range(50)]
                pid = os.fork()
                if pid == 0:
                    signal.alarm(20)
                    assert held[7].nbytes > 0 and len(held[7].to_dict()) > 0
                    del rows, held
                    os._exit(0)
                children.append(pid)
                if len(children) == 5:
                    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 5
                    children.clear()
            is_over.set()
            for thread in threads:
                thread.join()
            print("done")
            """,
            config={"tar": str(shard), "rows": rows, "script": OPENS_EACH_ROW},
        )
    )
    assert out == "done\n"
