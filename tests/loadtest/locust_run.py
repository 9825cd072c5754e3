"""Runs the real `locust -f loadtest` and reads its verdict."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.gateways import free_ports

ROOT = Path(__file__).parents[2]
PATIENCE = 90.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        code: the exit code.
        rows: OK or FAILED, by threshold.
        stdout: all it printed, which ends with the verdict.
        stderr: all it logged.
    """

    code: int
    rows: dict[str, str]
    stdout: str
    stderr: str

    def failed(self) -> set[str]:
        """The thresholds that failed."""
        return {name for name, verdict in self.rows.items() if verdict == "FAILED"}

    def errors(self) -> set[str]:
        """What the error report names."""
        return set(re.findall(r"^\d+ +((?:HTTP|WS) .*?) *$", self.stderr.partition("Error report")[2], re.MULTILINE))


@contextlib.contextmanager
def started(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start locust with these arguments, in a process group of its own; kill what is left of it at the end.

    With `--web-port` among them it has its web page, where tests are started and stopped; else it runs one at once.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("LOADTEST_", "PORTICO_", "LOCUST_"))
    }
    process = subprocess.Popen(
        [
            Path(sys.executable).with_name("locust"),
            "-f",
            "loadtest",
            *([] if "--web-port" in arguments else ["--headless", "--only-summary"]),
            *arguments,
        ],
        cwd=ROOT,
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def outcome(process: subprocess.Popen[str]) -> Outcome:
    """Wait for the end of a run, its worker processes' too."""
    stdout, stderr = process.communicate(timeout=PATIENCE)
    rows = re.findall(r"^(\S.*?)  +[<>]= \S+  .*  (OK|FAILED)$", stdout, re.MULTILINE)
    return Outcome(process.returncode, dict(rows), stdout, stderr)


def run(*arguments: str, **environment: str) -> Outcome:
    """Run locust to its end."""
    with started(*arguments, **environment) as process:
        return outcome(process)


def free_port() -> int:
    """A port that nobody has just now."""
    return free_ports(1)[0]
