"""`make bench`: Portico and its peers side by side, server on one core and load on the other, in turns.

Exit code 0 when it ran, whatever came out; 1 when Portico itself could not be measured; 2 for wrong arguments.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from . import environment, report
from .environment import Unavailable
from .servers import SERVERS, Server, Up, running
from .work import FULL, QUICK, ROWS, Failed, Row, Size


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Portico and its peers side by side.")
    parser.add_argument("--rows", default="", help="some of: " + ",".join(row.name for row in ROWS))
    parser.add_argument("--servers", default="", help="some of: " + ",".join(server.name for server in SERVERS))
    parser.add_argument("--rounds", type=int, default=None, help="how often each is run (5; quick: 1)")
    parser.add_argument("--seconds", type=float, default=None, help="how long each run is measured (4)")
    parser.add_argument("--quick", action="store_true", help="everything tiny: shows that it runs, not how fast")
    parser.add_argument("--json", type=Path, default=None, help="where the figures go (build/bench.json)")
    return parser.parse_args(given)


def _chosen(names: str, known: list[str]) -> list[str]:
    wanted = [name for name in names.split(",") if name] or known
    for name in wanted:
        if name not in known:
            raise SystemExit(f"bench: there is no {name!r}; known are {', '.join(known)}")
    return wanted


def _cores() -> tuple[int | None, int | None]:
    """One for the server, one for the load."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("bench: there is one core only, so server and load disturb one another", file=sys.stderr)
        return None, None
    return cores[0], cores[1]


class Bench:
    """The runs of one bench and what came of them. Each has a new server, but in a quick one, where what a start costs
    is most of it: there a server does all of its rows."""

    def __init__(self, rows: list[Row], servers: list[Server], size: Size, folder: Path, *, quick: bool) -> None:
        self._quick = quick
        self._kept: dict[str, Up] = {}
        self._stack = ExitStack()
        self.rows = rows
        self.servers = servers
        self.size = size
        self.folder = folder
        self.cores = _cores()
        self.raw: dict[str, dict[str, list[dict[str, Any]]]] = {
            row.name: {server.name: [] for server in servers if row.name in server.rows} for row in rows
        }
        self.faults: dict[str, dict[str, list[str]]] = {
            row: {server: [] for server in servers} for row, servers in self.raw.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End the servers that are left."""
        self._stack.close()

    @contextmanager
    def _up(self, row: Row, server: Server) -> Iterator[Up]:
        if self._quick and not row.alone:
            if server.name not in self._kept:
                up = self._stack.enter_context(running(server, self.cores[0], self.folder))
                self._kept[server.name] = up
            yield self._kept[server.name]
        else:
            with running(server, self.cores[0], self.folder) as up:
                yield up

    def round(self, number: int) -> None:
        """Every row on every server once. The order of the servers turns, so that none always comes first."""
        for row in self.rows:
            if number >= row.most_rounds:
                continue
            servers = [server for server in self.servers if row.name in server.rows]
            turn = number % len(servers)
            for server in servers[turn:] + servers[:turn]:
                self._run(row, server)

    def _run(self, row: Row, server: Server) -> None:
        try:
            with self._up(row, server) as up:
                raw = row.measure(up, self.size, self.cores[1])
        except (Unavailable, Failed) as problem:
            self.faults[row.name][server.name].append(str(problem))
            said = str(problem)
        else:
            self.raw[row.name][server.name].append(raw)
            said = " ".join((f"{report.figure(row.name, raw):,.2f} {row.unit}", *report.doubts(raw)))
        print(f"{row.name:13} {server.label:42} {said}", file=sys.stderr, flush=True)

    def table(self) -> dict[str, dict[str, report.Summary]]:
        """What came of it."""
        return {
            row: {name: report.summary(row, runs, self.faults[row][name]) for name, runs in servers.items()}
            for row, servers in self.raw.items()
        }


def main(given: list[str] | None = None) -> int:
    """Run the bench; print the table, write the figures."""
    arguments = _arguments(given)
    rows = _chosen(arguments.rows, [row.name for row in ROWS])
    servers = _chosen(arguments.servers, [server.name for server in SERVERS])
    size = QUICK if arguments.quick else FULL
    if arguments.seconds is not None:
        size = Size(**{**vars(size), "seconds": arguments.seconds})
    try:
        environment.install()
    except Unavailable as problem:
        print(f"bench: {problem}; without the load generator nothing can be measured", file=sys.stderr)
        return 1
    # Its servers are sessions of their own: an end that runs no `finally` would leave one behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    with (
        tempfile.TemporaryDirectory(prefix="portico-bench-") as folder,
        Bench(
            [row for row in ROWS if row.name in rows],
            [server for server in SERVERS if server.name in servers],
            size,
            Path(folder),
            quick=arguments.quick,
        ) as bench,
    ):
        for number in range(rounds):
            bench.round(number)
    table = bench.table()
    print(
        report.as_markdown(
            table,
            {row.name: row.title for row in ROWS},
            {row.name: row.unit for row in ROWS},
            {server.name: server.label for server in SERVERS},
        )
    )
    target: Path = arguments.json or environment.ROOT / "build" / "bench.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    data = {"at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "rounds": rounds, "size": vars(size)}
    target.write_text(json.dumps({**data, **report.as_data(table, bench.raw)}, indent=1) + "\n")
    print(f"\nThe figures are in {target}.")
    ours = [each for servers in table.values() for name, each in servers.items() if name == "portico"]
    return 0 if all(each.figures for each in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
