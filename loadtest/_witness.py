"""The load test's side of the observer: starts its process, and enters what it says into the ledger.

Knows processes and gevent; never what is observed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import gevent
import msgspec
from gevent import subprocess

from loadtest._ledger import Ledger
from loadtest._observations import Observation, Task


class Witness:
    """One per test; `close` ends its process."""

    def __init__(self, host: str, options: Namespace, ledger: Ledger, stage_of: Callable[[float], int]) -> None:
        self._ledger = ledger
        self._stage_of = stage_of
        folder = str(Path(__file__).parent.parent)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest._observer"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C is for the test, which ends it.
            start_new_session=True,
        )
        metrics: list[str] | None = None
        if options.metrics_url is not None:
            metrics = [] if options.metrics_url == "none" else options.metrics_url.split(",")
        task = Task(host, options.api_key, options.token, metrics, options.step_timeout)
        self._process.stdin.write(msgspec.json.encode(task) + b"\n")
        self._process.stdin.flush()
        self._greenlet = gevent.spawn(self._listen)

    def close(self) -> None:
        """End it; what it said until now is in the ledger."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._greenlet.join(1)
        self._greenlet.kill()

    def _listen(self) -> None:
        while line := self._process.stdout.readline():
            seen = msgspec.json.decode(line, type=Observation)
            self._ledger.add_observed(self._stage_of(seen.at), seen.steps)
            for url, sample in seen.samples:
                self._ledger.server.add(url, seen.at, sample)
            self._ledger.about = seen.about or self._ledger.about
