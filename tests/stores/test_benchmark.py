"""The benchmark of stores, on few rows and the server of the tests: all read the same."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from zlib import crc32

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("picks", [None, [7, 0, 3, 3]])
def test_clients_read_the_same_payloads(server, tmp_path, monkeypatch, picks):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import generate, peers
    from benchmarks.data import Data
    from benchmarks.peers import stores

    monkeypatch.setattr(stores, "serve", lambda _: SimpleNamespace(options=server.options, stop=lambda: None))
    data = Data("store", tmp_path / "store", 0.005)
    known = [one for one in peers.load() if "S" in one.lines]
    assert [one.name.partition(":")[0] for one in known] == ["ultar", "obstore", "s3fs", "s3torchconnector"]
    here = [one for one in known if not one.why_missing()]
    assert {"ultar", "obstore: get_ranges in 16 threads"} <= {one.name for one in here}
    assert generate.make(data, here) == {}
    sums = {}
    for one in here:
        rows = one.run(peers.Job(data, time.monotonic, views=True, picks=picks))
        sums[one.name] = sorted(crc32(payload) for (payload,) in rows)
    assert all(len(found) == len(picks or range(data.rows)) for found in sums.values())
    assert len({tuple(found) for found in sums.values()}) == 1
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
