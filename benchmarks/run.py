"""Runs the comparison, prints a table for each line and writes JSON. `python -m benchmarks.run --help`.

Each repetition is a fresh process; the order of contestants turns around between repetitions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import cache, generate, machine, peers, report
from .data import Data
from .lines import LINES, Line, Trial

TIMEOUT_S = 30
SLOW_S = 4
"""Who takes longer is far behind, and is run once."""


@dataclass
class Entrant:
    """A contestant in one trial: what it was given, and what came of it."""

    contestant: peers.Contestant
    letter: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    verified: int | None = None
    """The checksum over all bytes."""
    failure: str = ""


class Runner:
    def __init__(self, data_sets: dict[str, Data], scale: float, repeat: int) -> None:
        self.data_sets = data_sets
        self.scale = scale
        self.repeat = repeat
        self.resident: dict[Trial, list[float]] = {}
        self.others: dict[Trial, float] = {}
        self.verified: set[tuple[object, ...]] = set()

    def run(self, trial: Trial, entrants: list[Entrant]) -> None:
        data = self.data_sets[trial.data]
        self._prepare(data, entrants)
        for entrant in entrants:
            # Once in each way of reading: the same code reads cold files.
            way = (entrant.contestant, trial.data, trial.views, trial.picks > 0, trial.shuffled)
            if trial.has_rows and way not in self.verified:
                self.verified.add(way)
                entrant.verified = self._once(trial, entrant, "--verify").get("checksum")
        others = machine.Others()
        for turn in range(self.repeat):
            for entrant in entrants[:: -1 if turn % 2 else 1]:
                if not entrant.failure and not any(run["seconds"] > SLOW_S for run in entrant.runs):
                    self._set_cache(trial, data, entrant)
                    entrant.runs.append(self._once(trial, entrant))
        self.others[trial] = others.share()

    def _prepare(self, data: Data, entrants: list[Entrant]) -> None:
        failures = generate.make(data, [entrant.contestant for entrant in entrants])
        for entrant in entrants:
            entrant.failure = entrant.contestant.why_missing() or failures.get(entrant.contestant.peer, "")

    def _set_cache(self, trial: Trial, data: Data, entrant: Entrant) -> None:
        """Each contestant finds its own files wholly in the page cache, or not at all."""
        own = data.of_peer(entrant.contestant.peer)
        files = [path for path in data.files() if path.is_relative_to(own)]
        if entrant.contestant.tars:
            files += data.tars
        if trial.cold:
            cache.drop(data.files())
        elif cache.resident(files) < 1:
            cache.warm(files)
        self.resident.setdefault(trial, []).append(round(cache.resident(files), 4))

    def _once(self, trial: Trial, entrant: Entrant, *options: str) -> dict[str, Any]:
        if entrant.failure:
            return {}
        data = self.data_sets[trial.data]
        order = {
            "name": entrant.contestant.name,
            "line": entrant.letter,
            "data": trial.data,
            "folder": str(data.folder),
            "scale": self.scale,
            "views": trial.views,
            "batches": trial.task == "batches",
            "picks": data.rows if trial.shuffled else _count(trial.picks, self.scale),
        }
        command = [sys.executable, "-m", f"{__package__}.worker", json.dumps(order), *options]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            entrant.failure = f"took longer than {TIMEOUT_S} s"
            return {}
        if result.returncode:
            entrant.failure = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
            return {}
        return json.loads(result.stdout.strip().splitlines()[-1])


def _count(picks: int, scale: float) -> int:
    return max(1, round(picks * min(1.0, scale))) if picks else 0


def entrants_of(lines: list[Line], contestants: list[peers.Contestant]) -> dict[Trial, list[Entrant]]:
    """Who is run in which trial: whoever takes part in one of its lines, once."""
    trials: dict[Trial, dict[str, Entrant]] = {}
    for line in lines:
        entrants = trials.setdefault(line.trial, {})
        for one in contestants:
            if line.letter in one.lines:
                entrants.setdefault(one.name, Entrant(one, line.letter))
    return {trial: list(entrants.values()) for trial, entrants in trials.items()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", default="", help="letters, as in A,C (default: all)")
    parser.add_argument("--peers", default="", help="files in peers/, as in ultar,limits,itar (default: all)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each contestant, for the median (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="times as many rows (default: 1)")
    parser.add_argument("--data", type=Path, default=generate.DEFAULT, help="folder of the data (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    letters = set(arguments.lines.replace(",", "")) or {line.letter for line in LINES}
    lines = [line for line in LINES if line.letter in letters]
    contestants = peers.load()
    wanted = set(filter(None, arguments.peers.split(","))) or {one.peer for one in contestants}
    if unknown := wanted - {one.peer for one in contestants}:
        raise SystemExit(f"no such peers: {', '.join(sorted(unknown))}")
    trials = entrants_of(lines, [one for one in contestants if one.peer in wanted])
    data_sets = generate.data_sets(arguments.data, arguments.scale)
    runner = Runner(data_sets, arguments.scale, arguments.repeat)

    facts = machine.facts(contestants)
    print(f"{report.heading(facts)}\n", flush=True)
    results = []
    done: set[Trial] = set()
    for line in lines:
        if line.trial not in done:
            done.add(line.trial)
            began_s = time.perf_counter()
            runner.run(line.trial, trials[line.trial])
            print(f"line {line.letter}: {time.perf_counter() - began_s:.0f} s", file=sys.stderr, flush=True)
        entrants = [one for one in trials[line.trial] if line.letter in one.contestant.lines]
        result = report.result(line, entrants, runner.resident.get(line.trial, []), runner.others[line.trial])
        results.append(result)
        print(report.table(result), flush=True)
    if arguments.json:
        settings = {"scale": arguments.scale, "repeat": arguments.repeat}
        text = json.dumps({"machine": facts, "settings": settings, "lines": results}, indent=1)
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
