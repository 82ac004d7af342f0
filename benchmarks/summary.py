"""Several runs as one table: `python -m benchmarks.summary run1.json run2.json run3.json`.

Each figure is the median of the runs' medians; ratios are taken within a run first, as machines drift.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from .report import OURS, figure

LIMIT = "limit"


def main(paths: list[str]) -> None:
    runs = [{key_of(line): line for line in json.loads(Path(path).read_text())["lines"]} for path in paths]
    print("| line | ours as it comes | ours at best | best peer | best limit | goal | reached, in each run |")
    print("|---|---:|---:|---:|---:|---|---|")
    for key in runs[0]:
        lines = [run[key] for run in runs if key in run]
        print(f"| {' | '.join(cells(lines))} |")


def key_of(line: dict[str, Any]) -> tuple[str, str]:
    return line["line"], line["title"]


def cells(lines: list[dict[str, Any]]) -> list[str]:
    first = lines[0]
    names = [row["name"] for row in first["contestants"]]
    ours = [name for name in names if name.startswith(OURS)]
    limits = [name for name in names if name.startswith(LIMIT)]
    peers = [name for name in names if name not in ours and name not in limits]
    return [
        f"{first['line']}: {first['title']} ({first['unit']})",
        show(lines, [OURS], with_name=False),
        show(lines, ours),
        show(lines, peers),
        show(lines, limits),
        "<br>".join(dict.fromkeys(goal["wanted"] for goal in first["goals"])),
        "<br>".join(reached(lines)),
    ]


def show(lines: list[dict[str, Any]], names: list[str], with_name: bool = True) -> str:
    """The best of some contestants, by its median over the runs."""
    values = {name: value for name in names if (value := over_runs(lines, name)) is not None}
    if not values:
        return "–"
    best = (min if lines[0]["less_is_better"] else max)(values, key=lambda name: values[name])
    return f"{figure(values[best])}{f' {best}' if with_name else ''}"


def over_runs(lines: list[dict[str, Any]], name: str) -> float | None:
    rows = [row for line in lines for row in line["contestants"] if row["name"] == name]
    values = [row["value"] for row in rows if row["value"] is not None and not row["failure"]]
    return median(values) if values else None


def reached(lines: list[dict[str, Any]]) -> list[str]:
    """For each goal and who of ours was judged by it: what each run said."""
    by_goal: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        for goal in line["goals"]:
            by_goal.setdefault((goal["wanted"], goal["by"]), []).append(goal)
    texts = []
    for (_, name), goals in by_goal.items():
        values = [goal["reached"] for goal in goals if goal["reached"] is not None]
        if values:
            met = sum(bool(goal["met"]) for goal in goals)
            shown = ", ".join(figure(value) for value in values)
            texts.append(f"{name}: {shown} (met {met} of {len(goals)})")
    return texts


if __name__ == "__main__":
    main(sys.argv[1:])
