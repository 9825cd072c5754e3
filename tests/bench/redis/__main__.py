"""`make bench-redis`: what a deployment with Redis costs, in ratios within one run and work per second of CPU.

Exit code 0 when everything was measured, whatever came out; 1 when something could not be; 2 for wrong arguments.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import environment
from tests.bench.environment import Unavailable
from tests.bench.report import Summary
from tests.bench.work import Failed

from . import report
from .report import ROWS, Raw
from .work import FULL, MEASURES, QUICK, Cores, Size


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.redis", description="Deployments with a Redis.")
    parser.add_argument("--rows", default="", help="some of: " + ",".join(MEASURES))
    parser.add_argument("--rounds", type=int, default=None, help="how often each is run (3; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="everything tiny: shows that it runs, not how fast")
    parser.add_argument("--json", type=Path, default=None, help="where the figures go (build/bench-redis.json)")
    arguments = parser.parse_args(given)
    for name in filter(None, arguments.rows.split(",")):
        if name not in MEASURES:
            parser.error(f"there is no {name!r}; known are {', '.join(MEASURES)}")
    return arguments


def _cores() -> Cores:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("bench-redis: there is one core only, so all that runs disturbs the rest", file=sys.stderr)
        return None, None
    return cores[0], cores[1]


class Bench:
    """The runs of one bench, and what came of them, by row and case."""

    def __init__(self, names: list[str], size: Size) -> None:
        self._names = names
        self._size = size
        self._rows = [row for row in ROWS if row.name in names or (row.name == "account" and "resume" in names)]
        self.raw: dict[str, dict[str, list[Raw]]] = {row.name: {case: [] for case in row.cases} for row in self._rows}
        self._faults: dict[str, list[str]] = {row.name: [] for row in self._rows}

    def round(self, folder: Path, cores: Cores) -> None:
        """Every row once."""
        for name in self._names:
            place = folder / name
            place.mkdir(parents=True)
            try:
                found = MEASURES[name](place, self._size, cores)
            except (Failed, AssertionError, OSError, RuntimeError, subprocess.TimeoutExpired) as problem:
                self._faults[name].append(str(problem).splitlines()[0])
                print(f"{name}: {problem}", file=sys.stderr, flush=True)
                continue
            for case, raw in found.items():
                self.raw[name][case].append(raw)
                if name == "resume":
                    self.raw["account"][case].append(raw)
            for row in self._rows:
                for case in filter(found.__contains__, row.cases if row.name == name else ()):
                    said = f"{row.figure(found[case]):,.2f} {row.unit} ({row.remark(found[case])})"
                    print(f"{name:9} {row.cases[case]:52} {said}", file=sys.stderr, flush=True)

    def table(self) -> dict[str, dict[str, Summary]]:
        """What came of it."""
        return {
            row.name: {
                case: report.summary(row, runs, self._faults[row.name]) for case, runs in self.raw[row.name].items()
            }
            for row in self._rows
        }


def main(given: list[str] | None = None) -> int:
    """Run the bench; print the tables, write the figures."""
    arguments = _arguments(given)
    names = [name for name in arguments.rows.split(",") if name] or list(MEASURES)
    size = QUICK if arguments.quick else FULL
    try:
        environment.install()
    except Unavailable as problem:
        print(f"bench-redis: {problem}; without the load generator nothing can be measured", file=sys.stderr)
        return 1
    # Its servers are sessions of their own: an end that runs no `finally` would leave one behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    bench = Bench(names, size)
    cores = _cores()
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as folder:
        for number in range(rounds):
            bench.round(Path(folder) / str(number), cores)
    table = bench.table()
    print(report.as_markdown(table))
    target: Path = arguments.json or environment.ROOT / "build" / "bench-redis.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    data = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "rounds": rounds, "size": vars(size)}
    target.write_text(json.dumps({**data, **report.as_data(table, bench.raw)}, indent=1) + "\n")
    print(f"\nThe figures are in {target}.")
    wanted = (each for row, cases in table.items() for case, each in cases.items() if size.has(row, case))
    return 0 if all(each.figures for each in wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
