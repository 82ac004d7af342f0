"""The benchmarks run, at a tiny scale: ours and the limits read the same bytes."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("bench")
    command = [
        sys.executable,
        "-m",
        "benchmarks.run",
        "--scale",
        "0.002",
        "--repeat",
        "1",
        "--lines",
        "A,B,D,E,F,I,J,L,N,O,P,Q,R,T,V,W,Y",
    ]
    command += [
        "--peers",
        "ultar,limits,tfrecord,zero_copy,npz",
        "--data",
        str(folder),
        "--json",
        str(folder / "result.json"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "### A:" in result.stdout and "| ultar |" in result.stdout
    return json.loads((folder / "result.json").read_text())


def test_everyone_reads_rows(report: dict) -> None:
    for line in report["lines"]:
        for row in line["contestants"]:
            assert not row["failure"], (line["title"], row["name"])
            assert row["value"] is not None and row["runs"][0]["rows"] > 0


def test_everyone_reads_the_same_bytes(report: dict) -> None:
    compared = 0
    for line in report["lines"]:
        for key in ("checksums", "verified"):
            seen = {json.dumps(row[key]) for row in line["contestants"] if row[key]}
            assert len(seen) <= 1, line["title"]
            compared += len(seen)
    assert compared >= 16


def test_what_is_measured_and_wanted_is_said(report: dict) -> None:
    by_letter = {line["line"]: line for line in report["lines"]}
    met = {goal["wanted"].split("× ")[1].split(":")[0]: goal["met"] for goal in by_letter["A"]["goals"]}
    assert set(met) == {"itar", "limit"}
    assert met["itar"] is None, "itar did not run"
    assert met["limit"] in (True, False)
    assert by_letter["A"]["resident_before"]["lowest"] == 1
    # Whether it is 0 is the file system's affair: a tmpfs drops nothing.
    assert 0 <= by_letter["F"]["resident_before"]["highest"] <= 1
    assert report["machine"]["cores"] >= 1
    assert [goal["met"] for goal in by_letter["L"]["goals"][2:]], "judged beside ours in order"
    for letter in "LNOPQRTVWY":
        assert "ultar" in [row["name"] for row in by_letter[letter]["contestants"]]


def test_the_dependency_group_is_what_the_peers_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import peers

    needed = {name for peer in peers.load() if not peer.on_request for name in peer.pip}
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["bench"]
    assert set(group) == needed
