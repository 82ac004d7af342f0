"""From runs to figures: medians, ratios, goals and tables."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

from .lines import Goal, Line

if TYPE_CHECKING:
    from .run import Entrant

COLD_MAX = 0.02
"""What the page cache may hold of a file that we call cold."""
OURS = "ultar"
"""Whose figure is compared with the others'."""


def result(line: Line, entrants: list[Entrant], resident: list[float], others: float) -> dict[str, Any]:
    """All about a line, as it goes into the JSON."""
    rows = [_row(line, entrant) for entrant in entrants]
    _compare_checksums(rows)
    figures = {row["name"]: row["value"] for row in rows if row["value"] is not None and not row["failure"]}
    ours = figures.get(OURS)
    for row in rows:
        row["ratio"] = ours / row["value"] if ours and row["value"] and not row["failure"] else None
    return {
        "line": line.letter,
        "title": line.title,
        "unit": line.unit,
        "less_is_better": line.less_is_better,
        "cold": line.trial.cold,
        "resident_before": {"lowest": min(resident), "highest": max(resident)} if resident else None,
        "cpu_of_others": others,
        "contestants": rows,
        "goals": [_goal(line, goal, figures, name) for goal in line.goals for name in _judged(line, figures)],
    }


def _row(line: Line, entrant: Entrant) -> dict[str, Any]:
    values = [run[line.metric] for run in entrant.runs if line.metric in run]
    return {
        "name": entrant.contestant.name,
        "value": median(values) if values else None,
        "lowest": min(values, default=None),
        "highest": max(values, default=None),
        "rows": next((run["rows"] for run in entrant.runs if "rows" in run), None),
        "checksums": sorted({run["checksum"] for run in entrant.runs if "checksum" in run}),
        "verified": entrant.verified,
        "failure": entrant.failure or ("" if values else "no figure"),
        "runs": entrant.runs,
    }


def _compare_checksums(rows: list[dict[str, Any]]) -> None:
    """Who does not have the bytes that most have is out."""
    for key in ("checksums", "verified"):
        seen = Counter(str(row[key]) for row in rows if row[key])
        usual = seen.most_common(1)[0][0] if seen else ""
        for row in rows:
            if row[key] and str(row[key]) != usual and not row["failure"]:
                row["failure"] = "other bytes than the others have"


def _judged(line: Line, figures: dict[str, float]) -> list[str]:
    """Ours as it comes, and the variant of ours that is best on the line."""
    variants = [name for name in figures if name.startswith(OURS)]
    best = (min if line.less_is_better else max)(variants, key=lambda name: figures[name], default=OURS)
    return [OURS] if best == OURS else [OURS, best]


def _goal(line: Line, goal: Goal, figures: dict[str, float], name: str) -> dict[str, Any]:
    ours = figures.get(name)
    better = min if line.less_is_better else max
    rivals = {rival: value for rival, value in figures.items() if rival.startswith(goal.of)} if goal.of else {}
    rival = better(rivals, key=lambda rival: rivals[rival]) if rivals else ""
    reached = None
    if ours is not None and (rivals or not goal.of):
        reached = ours / rivals[rival] if rivals else ours
    sign = "at most" if line.less_is_better else "at least"
    measure = f"{_times(goal.factor)} {rival or goal.of}" if goal.of else f"{figure(goal.factor)} {line.unit}"
    met = None
    if reached is not None:
        met = reached <= goal.factor if line.less_is_better else reached >= goal.factor
    wanted = f"{sign} {measure}"
    return {"wanted": wanted, "by": name, "reached": reached, "met": met, "relative": bool(goal.of)}


def heading(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory']}; Linux {facts['kernel']}; "
        f"Python {facts['python']}; load {facts['load']:.1f} before the first run\n{versions}"
    )


def table(result: dict[str, Any]) -> str:
    """Markdown: best first, those without a figure last."""
    best = 1 if result["less_is_better"] else -1
    rows = sorted(result["contestants"], key=lambda row: (bool(row["failure"]), best * (row["value"] or 0)))
    lines = [f"### {result['line']}: {result['title']}", ""]
    lines += [f"| contestant | {result['unit']} | lowest to highest | ours is |", "|---|---:|---:|---:|"]
    for row in rows:
        if row["failure"]:
            lines.append(f"| {row['name']} | – | {_short(row['failure'])} | |")
        else:
            spread = f"{figure(row['lowest'])} to {figure(row['highest'])}"
            ratio = _times(row["ratio"]) if row["ratio"] else ""
            lines.append(f"| {row['name']} | {figure(row['value'])} | {spread} | {ratio} |")
    lines += [""]
    for goal in result["goals"]:
        reached = "no figure" if goal["reached"] is None else (_times if goal["relative"] else figure)(goal["reached"])
        verdict = {True: "met", False: "missed", None: "open"}[goal["met"]]
        lines.append(f"- goal: {goal['wanted']}; {goal['by']} reached: {reached}: **{verdict}**")
    if result["resident_before"]:
        held = result["resident_before"]
        not_cold = result["cold"] and held["highest"] > COLD_MAX
        warning = " — **not cold**: figures mean nothing" if not_cold else ""
        lines.append(
            f"- in the page cache before runs: {held['lowest']:.1%} to {held['highest']:.1%} of the files{warning}"
        )
    lines.append(f"- other processes took {result['cpu_of_others']:.0%} of the CPU time meanwhile")
    return "\n".join(lines) + "\n"


def _times(value: float) -> str:
    return f"{value:.2f}×"


def figure(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _short(text: str) -> str:
    return (text if len(text) <= 100 else text[:99] + "…").replace("|", "/")
