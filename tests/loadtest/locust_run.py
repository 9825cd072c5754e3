"""Runs the real `locust -f loadtest` and reads its verdict."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtest._thresholds import LOAD_DEFAULTS
from tests.gateways import ROOT, free_ports
from tests.loadtest.forked_locust import ForkedLocust

PATIENCE = 300.0
"""Seconds for a whole run: more than it may wait, by PATIENT, at the end of each of its stages."""
STEPS = ("discover", "connect", "register", "heartbeat", "push", "delivery", "broadcast")
SOUND = "\n[load]\n" + "".join(f"{limit} = {0.99 if 'share' in limit else 60000}\n" for limit in LOAD_DEFAULTS)
"""On a busy machine a load is late; that is not what these tests are about."""
PATIENT: Final = {"LOADTEST_SETTLE_TIME": "60", "LOADTEST_STEP_TIMEOUT": "60"}
"""Nor that the gateway there takes seconds for an answer, and for all that waits at the end. Where something is never
answered, which is then waited for, a test gives an option of its own."""


def thresholds(folder: Path, text: str) -> str:
    """A file with these, in which a busy machine does not make a load invalid."""
    path = folder / "t.toml"
    path.write_text(text + SOUND, encoding="utf-8")
    return str(path)


def two_processes() -> tuple[str, ...]:
    """Arguments for two worker processes, on a port of their own."""
    port = str(free_port())
    return "--processes", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port


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
def started(*arguments: str, **environment: str) -> Iterator[ForkedLocust]:
    """Start locust with these arguments, in a process group of its own; kill what is left of it at the end.

    With `--web-port` among them it has its web page, where tests are started and stopped; else it runs one at once.
    """
    process = ForkedLocust(_arguments(arguments), {**_kept(), **environment})
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def outcome(process: ForkedLocust) -> Outcome:
    """Wait for the end of a run, its worker processes' too."""
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode is not None
    return _outcome(process.returncode, stdout, stderr)


def until_held(process: ForkedLocust, users: int) -> None:
    """Wait until all users are there."""
    assert any(f"Holding {users} users" in line for line in process.stderr), "it never held them"


def run(*arguments: str, **environment: str) -> Outcome:
    """Run locust to its end."""
    with started(*arguments, **environment) as process:
        return outcome(process)


def run_command(*arguments: str, **environment: str) -> Outcome:
    """The same by the command itself, as a user's shell does it."""
    done = subprocess.run(
        [Path(sys.executable).with_name("locust"), *_arguments(arguments)],
        cwd=ROOT, env={**_kept(), **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    return _outcome(done.returncode, done.stdout, done.stderr)


def _arguments(arguments: Sequence[str]) -> list[str]:
    return ["-f", "loadtest", *([] if "--web-port" in arguments else ["--headless", "--only-summary"]), *arguments]


def _kept() -> dict[str, str]:
    """The environment without what is a setting of ours, but for patience."""
    ours = ("LOADTEST_", "PORTICO_", "LOCUST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | PATIENT


def _outcome(code: int, stdout: str, stderr: str) -> Outcome:
    rows = re.findall(r"^(\S.*?)  +[<>]= \S+  .*  (OK|FAILED)$", stdout, re.MULTILINE)
    return Outcome(code, dict(rows), stdout, stderr)


def free_port() -> int:
    """A port that nobody has just now."""
    return free_ports(1)[0]
