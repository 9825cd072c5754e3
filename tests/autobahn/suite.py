"""One run of the fuzzing client against the echo behind each transport, and what it found.

`wstest` ends with 0 even if nobody answers, so what counts is its report: every case must be in it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .echo_server import TRANSPORTS
from .environment import ROOT

FINE: Final = frozenset({"OK", "NON-STRICT", "INFORMATIONAL"})
COMPRESSION: Final = ("12.*", "13.*")
"""The cases of permessage-deflate."""
CASES: Final = 517
CASES_WITHOUT_COMPRESSION: Final = 301


@dataclass(frozen=True)
class Verdict:
    """What one transport did: how many cases, how many of each behaviour, and each that is not fine."""

    transport: str
    cases: int
    behaviours: Counter[str]
    closings: Counter[str]
    faults: tuple[str, ...]

    def __str__(self) -> str:
        found = ", ".join(f"{count} {name}" for name, count in sorted(self.behaviours.items()))
        closed = ", ".join(f"{count} {name}" for name, count in sorted(self.closings.items()))
        return f"{self.transport:<7} {self.cases} cases: {found}; closing: {closed}"


@contextmanager
def echo_ports(compression: bool) -> Iterator[dict[str, int]]:
    """The echo server while the block runs: its port for each transport."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.autobahn.echo_server", *(["--compression"] if compression else [])],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        with process.stdout:
            yield json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def run(
    wstest: Path, folder: Path, cases: Sequence[str], *, exclude: Sequence[str] = (), compression: bool = False
) -> list[Verdict]:
    """Run `cases` (patterns such as `2.*`) against every transport; the report is in `folder`, emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with echo_ports(compression) as ports:
        specification = {
            "outdir": str(folder / "report"),
            "servers": [{"agent": name, "url": f"ws://127.0.0.1:{ports[name]}"} for name in TRANSPORTS],
            "cases": list(cases),
            "exclude-cases": list(exclude),
            "exclude-agent-cases": {},
        }
        path = folder / "specification.json"
        path.write_text(json.dumps(specification))
        # PYTHONPATH leads to the packages of another Python. What it compiles it keeps: it was installed uncompiled.
        unwanted = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
        environment = {name: value for name, value in os.environ.items() if name not in unwanted}
        with (folder / "wstest.log").open("w") as log:
            subprocess.run(
                [str(wstest), "-m", "fuzzingclient", "-s", str(path)],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
            )
    index = folder / "report" / "index.json"
    report = json.loads(index.read_text()) if index.exists() else {}
    return [_verdict(name, report.get(name, {})) for name in TRANSPORTS]


def _verdict(transport: str, results: dict[str, dict[str, str]]) -> Verdict:
    faults = [
        f"{transport} {case}: {result['behavior']}, closing {result['behaviorClose']}"
        for case, result in results.items()
        if result["behavior"] not in FINE or result["behaviorClose"] not in FINE
    ]
    return Verdict(
        transport,
        len(results),
        Counter(result["behavior"] for result in results.values()),
        Counter(result["behaviorClose"] for result in results.values()),
        tuple(sorted(faults)),
    )
