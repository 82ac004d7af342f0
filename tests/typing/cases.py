"""What a type checker makes of user code. Checked by mypy in test_stub.py, and never run."""

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

import ultar_dataloader as ultar
from ultar_dataloader.side_files import dali, energon, parquet, wids

loader = ultar.DataLoader("", {"tar": Path("a.tar"), "list": [1, 2.5, None, {"deep": True}]}, 0, 2, io="threads")
assert_type(ultar.DataLoader.from_file(Path("script.lua"), {}, rank=1, world_size=2), ultar.DataLoader)
assert_type(loader.stats(), dict[str, object])
ultar.DataLoader("", io="magic")  # type: ignore[arg-type]

rows = iter(loader)
assert_type(next(rows), ultar.LoadedRow)
assert_type(rows.stats(), dict[str, object])
rows.close()

for row in loader:
    assert_type(row, ultar.LoadedRow)
    assert_type(row[".txt"], bytes)
    assert_type(row[-1], bytes)
    assert_type(row.view(0), memoryview)
    assert_type(row.keys(), tuple[str, ...])
    assert_type(row.values(), tuple[bytes, ...])
    assert_type(row.items(), tuple[tuple[str, bytes], ...])
    assert_type(row.get(".txt"), bytes | None)
    assert_type(row.get(".txt", 0), bytes | int)
    assert_type(row.to_dict(), dict[str, bytes])
    assert_type(row.nbytes, int)
    assert_type(row.sources(), tuple[tuple[str, int, int], ...])
    a_mapping: Mapping[str, bytes] = row

summary = ultar.index(["a.tar", Path("b.tar")], metadata_rules=[".json:.label", (".json", [".width"])])
assert_type(summary, ultar.IndexSummary)
assert_type(ultar.check("shard-{000..127}.tar", on_error="skip").failures, tuple[tuple[str, Exception], ...])
ultar.index("a.tar", progress=lambda now: print(now.path, now.bytes_done))
ultar.index("a.tar", format="xml")  # type: ignore[arg-type]


def failures(error: ultar.ReadError, config: dict[str, Any]) -> tuple[int | None, int | None]:
    assert_type(error.offset, int | None)
    if isinstance(error, ultar.UltarError) and isinstance(error, OSError):
        return error.offset, error.length
    return None, None


shuffled = ultar.order(10, 1, epoch=2, window=None)
assert_type(shuffled, ultar.Order)
assert_type(shuffled[0], int)
assert_type(shuffled[::2], array[int])
assert_type(shuffled.index(3), int)
assert_type(list(shuffled), list[int])
ultar.order(10, 1, 2, 3)  # type: ignore[call-arg]

assert_type(dali.write("a.tar", folder=Path("idx")), ultar.IndexSummary)
assert_type(dali.read("a.idx")[0][0].name, str | None)
assert_type(energon.read("a.tar.idx"), array[int])
assert_type(parquet.index(["a.tar"], columns=["width"], missing="null"), ultar.IndexSummary)
parquet.index("a.tar", missing="skip")  # type: ignore[arg-type]
assert_type(wids.read("shards.json"), list[wids.Shard])
assert_type(wids.index("shards.json", md5=True).samples, int)
