"""The load test against the real gateway, started as its users start it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loadtest.locust_run import free_port, run

pytestmark = pytest.mark.live

START_SECONDS = 60.0
STEPS = ("discover", "connect", "register", "heartbeat", "push", "delivery")
LIMITS = "".join(f"[steps.{step}]\nmax_failure_ratio = 0\nmax_ms = 60000\n" for step in STEPS) + (
    "[run]\nmin_registered_share = 1\nmax_unexpected_disconnects = 0\nmin_delivered_share = 1\n"
)
LOAD = ("-u", "20", "-r", "20", "-t", "5s", "--heartbeat-interval", "1", "--push-rate", "10", "--broadcast-rate", "1")


@contextlib.contextmanager
def portico(log: Path, *, own_port: bool) -> Iterator[str]:
    """A gateway in development on free loopback ports, until the block is left; its base URL.

    Raises:
        RuntimeError: it did not start, or did not end when asked to; with what it logged.
    """
    # A port that was free a moment ago may be taken now, so one failed start proves nothing.
    for attempt in range(3):
        port = free_port()
        settings = {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "WEBSOCKET_PORT": str(free_port()) if own_port else "same",
            "WORKER_PORT": str(free_port()),
            "ENVIRONMENT": "development",
        }
        # Whatever the developer has set for a gateway of their own must not reach this one.
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PORTICO_", "REDIS_", "WEBSOCKET_", "OPEN_API_"))
            and name not in ("API_TYPE", "SERVICE_ROLE", "DYNO", "DEBUG")
        }
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "serve"],
                # Away from the project, in case it has a .env file.
                cwd=log.parent,
                env={**clean, **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if not _ready(process, port):
                if attempt < 2:
                    continue
                raise RuntimeError(f"the gateway did not start:\n{log.read_text()}")
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(30)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"the gateway did not end:\n{log.read_text()}") from None
            if code:
                raise RuntimeError(f"the gateway ended with {code}:\n{log.read_text()}")
            return
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ready(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return True
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("own_port", [False, True], ids=["integrated", "adjacent"])
def test_the_gateway_passes(tmp_path: Path, own_port: bool) -> None:
    limits = tmp_path / "t.toml"
    limits.write_text(LIMITS, encoding="utf-8")
    log = tmp_path / "gateway.log"
    with portico(log, own_port=own_port) as url:
        ended = run("--host", url, "--thresholds", str(limits), *LOAD)
    assert (ended.code, ended.failed()) == (0, set()), ended.stdout + ended.stderr + log.read_text()
    assert len(ended.rows) == 2 * len(STEPS) + 3


@pytest.mark.parametrize("own_port", [False, True], ids=["integrated", "adjacent"])
def test_a_threshold_that_no_gateway_meets_ends_with_3(tmp_path: Path, own_port: bool) -> None:
    limits = tmp_path / "t.toml"
    limits.write_text("[steps.register]\nmax_ms = 0.0001\n[run]\nmin_registered_share = 1\n", encoding="utf-8")
    with portico(tmp_path / "gateway.log", own_port=own_port) as url:
        ended = run("--host", url, "--thresholds", str(limits), *LOAD)
    assert (ended.code, ended.failed()) == (3, {"register max_ms"}), ended.stdout + ended.stderr
