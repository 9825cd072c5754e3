"""`make soak`: 50,000 registered clients on three gateways, 1 % of them new every second, and none lost.

SOAK_CLIENTS (50000) and SOAK_SECONDS (600) set its size. Each gateway is a process with ports of its own, each
third of the load too, from several loopback addresses: 20,000 descriptors a process are enough for that. Prints
what happened; the exit code is 1 if anybody was lost or missed a push.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.gateways import ROOT, Running, clean_environment, gateway

from .scene import address_of, fetch, memory

GATEWAYS: Final = 3
BROADCAST_EVERY: Final = 30.0


class Load:
    """A herd in a process of its own, and the gateway that it is at."""

    def __init__(self, running: Running, number: int) -> None:
        self.running = running
        host, port = address_of(running.websocket_url)
        ports = f"{port},{address_of(running.base_url)[1]}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.adversity.herd", host, ports, str(number)],
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, command: str) -> None:
        """Give it something to do."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What came of it. RuntimeError if it failed."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load has failed; what it said is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()


@contextmanager
def loads(gateways: list[Running]) -> Iterator[list[Load]]:
    """A load for each gateway."""
    started = [Load(running, number) for number, running in enumerate(gateways)]
    try:
        yield started
    finally:
        for load in started:
            load.close()


@dataclass
class Report:
    """What a soak has seen. `lost`: codes of clients that the gateways lost; `farewells`: of the drain at the end."""

    clients: int = 0
    connect_seconds: float = 0.0
    bytes_per_client: list[int] = field(default_factory=list)
    broadcasts: list[tuple[int, float]] = field(default_factory=list)
    came_and_went: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    known: list[int] = field(default_factory=list)
    farewells: Counter[str] = field(default_factory=Counter)
    growth: list[int] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        slowest = max(seconds for _, seconds in self.broadcasts)
        return [
            f"{self.clients} registered clients on {GATEWAYS} gateways, in {self.connect_seconds:.1f} s.",
            f"Resident memory per client, by gateway: {self.bytes_per_client} bytes; "
            f"growth during the churn: {self.growth} bytes in all.",
            f"{len(self.broadcasts)} broadcasts to all: heard by {[heard for heard, _ in self.broadcasts]}; "
            f"the slowest took {slowest:.1f} s to reach the last of them.",
            f"{self.came_and_went} clients went and as many came; afterwards the gateways knew of {sum(self.known)}.",
            f"Lost by the gateways: {dict(self.lost) or 'none'}.",
            f"Close codes when the gateways were told to stop: {dict(self.farewells)}.",
        ]

    @property
    def passed(self) -> bool:
        """Whether it went as it should."""
        return (
            not self.lost
            and sum(self.known) == self.clients
            and self.broadcasts[0][0] == self.broadcasts[-1][0] == self.clients
            and self.farewells == {"1012": self.clients}
        )


def soak(folder: Path, clients: int, seconds: float) -> Report:
    """So many clients, churning for so many seconds. RuntimeError or AssertionError where something breaks down."""
    report = Report()
    # The window for a crowd of this size, as in production; a thousand clients go in one of a second.
    window = min(20.0, max(1.0, clients / GATEWAYS / 1000))
    settings = {"PORTICO_LOG_LEVEL": "warning", "PORTICO_DRAIN_SECONDS": window}
    with ExitStack() as stack:
        up = ExitStack()
        stack.enter_context(up)
        gateways = []
        for number in range(GATEWAYS):
            (home := folder / f"gateway-{number}").mkdir()
            gateways.append(up.enter_context(gateway(home, settings=settings, forked=False)))
        herds = stack.enter_context(loads(gateways))
        empty = [memory(running.process.pid) for running in gateways]
        shares = [clients // GATEWAYS + (number < clients % GATEWAYS) for number in range(GATEWAYS)]
        start = time.monotonic()
        for herd, share in zip(herds, shares, strict=True):
            herd.tell(f"connect {share}")
        report.clients = sum(herd["connected"] for herd in _answers(herds, report))
        report.connect_seconds = time.monotonic() - start
        full = [memory(running.process.pid) for running in gateways]
        report.bytes_per_client = [
            (after - before) // max(1, share) for before, after, share in zip(empty, full, shares, strict=True)
        ]
        _broadcast(herds, report)
        left = seconds
        while left > 0:
            for herd in herds:
                herd.tell(f"churn {min(left, BROADCAST_EVERY)}")
            report.came_and_went += sum(herd["came_and_went"] for herd in _answers(herds, report))
            left -= BROADCAST_EVERY
            _broadcast(herds, report)
        report.growth = [memory(running.process.pid) - before for running, before in zip(gateways, full, strict=True)]
        report.known = [fetch(running, "/api/c-client/status")["total"] for running in gateways]
        for herd in herds:
            herd.tell("end")
        up.close()
        for herd in herds:
            report.farewells.update(herd.answer()["codes"])
    return report


def _answers(herds: list[Load], report: Report) -> list[dict[str, Any]]:
    answers = [herd.answer() for herd in herds]
    report.lost = sum((Counter(answer.get("lost", {})) for answer in answers), Counter())
    return answers


def _broadcast(herds: list[Load], report: Report) -> None:
    for herd in herds:
        herd.tell("mark")
    _answers(herds, report)
    start = time.monotonic()
    for herd in herds:
        herd.tell("heard")
        fetch(herd.running, "/api/notifications", {"target": {"all": True}, "type": "soak", "data": {}})
    heard = sum(answer["heard"] for answer in _answers(herds, report))
    report.broadcasts.append((heard, time.monotonic() - start))


def main() -> int:
    """Run the soak; returns the exit code."""
    clients = int(os.environ.get("SOAK_CLIENTS", "50000"))
    seconds = float(os.environ.get("SOAK_SECONDS", "600"))
    sys.stdout.write(f"{clients} clients, {seconds:.0f} s …\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        report = soak(Path(folder), clients, seconds)
    sys.stdout.writelines(f"{line}\n" for line in report.lines())
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
