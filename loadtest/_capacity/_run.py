"""One mode's staircase: locust as a program of its own against a deployment that is up, and what it found.

Knows locust's command line and the result file; judges nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from loadtest import _result
from portico.version import VERSION

from ._modes import BIN, Mode, Up

LOADTEST: Final = Path(__file__).parent.parent
_BEAT_SECONDS: Final = 5.0
_MOST_LINES: Final = 3
_STAIR: Final = re.compile(r"\bhold \d+: .*")


@dataclass(frozen=True)
class Climb:
    """What is climbed, and how. `processes`: of the load; `options`: more of locust's options, as they are."""

    stairs: tuple[int, ...]
    hold: float
    rate: float
    processes: int
    thresholds: str | None = None
    keep_climbing: bool = False
    options: tuple[str, ...] = ()

    @property
    def longest_seconds(self) -> float:
        """The time that it takes where nothing is slow."""
        return self.stairs[-1] / self.rate + len(self.stairs) * (self.hold + 8) + 15


class Failed(Exception):
    """A run found nothing; the text is a sentence that says why."""


def climb(up: Up, climb: Climb, cores: Sequence[int], folder: Path, say: Callable[[str], None]) -> _result.Result:
    """Climb once; `say` is told now and then how it goes. Raises Failed. An interrupt ends locust, and goes on."""
    file = _file(up.mode, folder)
    file.unlink(missing_ok=True)
    log = folder / f"{up.mode.name}.load.log"
    command = [
        str(BIN / "locust"), "-f", str(LOADTEST), "--headless", "--host", up.base_url, "--only-summary",
        "--shape", "staircase", "--stairs", ",".join(map(str, climb.stairs)), "-r", f"{climb.rate:g}",
        "--hold", f"{climb.hold:g}", "--metrics-url", ",".join(up.metrics_urls), "--result", str(file),
        *(["--thresholds", climb.thresholds] if climb.thresholds else []),
        *(["--keep-climbing"] if climb.keep_climbing else []),
        *(["--processes", str(climb.processes)] if climb.processes > 1 else []),
        *climb.options,
    ]  # fmt: skip
    pin = ["taskset", "-c", ",".join(map(str, cores))] if cores and shutil.which("taskset") else []
    environment = {**os.environ, "LOADTEST_API_KEY": up.api_key, "PYTHONUNBUFFERED": "1"}
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*pin, *command], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    seen = 0
    try:
        while process.poll() is None:
            try:
                process.wait(_BEAT_SECONDS)
            except subprocess.TimeoutExpired:
                seen = _tell(log, seen, say)
            if time.monotonic() - started > 4 * climb.longest_seconds + 120:
                raise Failed(f"the load did not end within {4 * climb.longest_seconds + 120:.0f} s; see {log}")
    finally:
        _end(process)
    _tell(log, seen, say)
    try:
        found = _result.read(file)
    except FileNotFoundError:
        raise Failed(_last_words(log, process.returncode)) from None
    except (OSError, msgspec.DecodeError) as error:
        raise Failed(f"the load wrote no result that can be read: {error}") from error
    # In production a gateway doesn't say it to strangers; this one was started from here.
    found.gateway.version = found.gateway.version or VERSION
    return found


def so_far(mode: Mode, folder: Path) -> _result.Result | None:
    """What an interrupted climb wrote before it ended; None where that is nothing."""
    try:
        return _result.read(_file(mode, folder))
    except (OSError, msgspec.DecodeError):
        return None


def _file(mode: Mode, folder: Path) -> Path:
    return folder / f"{mode.name}.load.json"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have it write what it has, if it still runs."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _tell(log: Path, seen: int, say: Callable[[str], None]) -> int:
    """Pass on what locust says of its stairs."""
    lines = log.read_text(errors="replace").splitlines()
    # It says each twice: to its log when it is over, and on its standard output, all of them at the end.
    told = _stairs(lines[:seen])
    for line in [line for line in _stairs(lines[seen:]) if line not in told][-_MOST_LINES:]:
        say(line[:160])
    return len(lines)


def _stairs(lines: list[str]) -> dict[str, None]:
    return dict.fromkeys(found[0] for line in lines if (found := _STAIR.search(line)))


def _last_words(log: Path, code: int | None) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"the load ended with exit code {code}: {lines[-1][:300] if lines else 'it says nothing'}"


def cores() -> tuple[list[int], list[int]]:
    """Which cores the gateway has, and which the load; nothing for either where there is one core only.

    Of four or more the load has a quarter, of two or three one: what is measured is the gateway, and on cores of its
    own the load takes nothing from it.
    """
    if sys.platform != "linux":
        return [], []
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        return [], []
    load = max(1, len(available) // 4)
    return available[load:], available[:load]
