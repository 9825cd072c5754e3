"""The load test against the real gateway, started as its users start it."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateways import MODES, gateway
from tests.loadtest.locust_run import free_port, outcome, run, started

pytestmark = pytest.mark.live

STEPS = ("discover", "connect", "register", "heartbeat", "push", "delivery")
LIMITS = "".join(f"[steps.{step}]\nmax_failure_ratio = 0\nmax_ms = 60000\n" for step in STEPS) + (
    "[run]\nmin_registered_share = 1\nmax_unexpected_disconnects = 0\nmin_delivered_share = 1\n"
)
LOAD = ("-u", "20", "-r", "20", "-t", "5s", "--heartbeat-interval", "1", "--push-rate", "10", "--broadcast-rate", "1")


@pytest.mark.parametrize("mode", MODES)
def test_the_gateway_passes(tmp_path: Path, mode: str) -> None:
    limits = tmp_path / "t.toml"
    limits.write_text(LIMITS, encoding="utf-8")
    with gateway(tmp_path, mode=mode) as running:
        ended = run("--host", running.base_url, "--thresholds", str(limits), *LOAD)
    assert (ended.code, ended.failed()) == (0, set()), ended.stdout + ended.stderr
    assert len(ended.rows) == 2 * len(STEPS) + 3


@pytest.mark.parametrize("mode", MODES)
def test_a_threshold_that_no_gateway_meets_ends_with_3(tmp_path: Path, mode: str) -> None:
    limits = tmp_path / "t.toml"
    limits.write_text("[steps.register]\nmax_ms = 0.0001\n[run]\nmin_registered_share = 1\n", encoding="utf-8")
    with gateway(tmp_path, mode=mode) as running:
        ended = run("--host", running.base_url, "--thresholds", str(limits), *LOAD)
    assert (ended.code, ended.failed()) == (3, {"register max_ms"}), ended.stdout + ended.stderr


def until(happened: Callable[[], bool]) -> None:
    """Wait for what another process does; there is no event for that."""
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=len)
def test_a_second_test_on_the_web_page_is_delivered_too(tmp_path: Path, processes: tuple[str, ...]) -> None:
    limits = tmp_path / "t.toml"
    limits.write_text(LIMITS, encoding="utf-8")
    page, master = free_port(), str(free_port())
    options = ["--web-host", "127.0.0.1", "--web-port", str(page), "--thresholds", str(limits), "--push-rate", "20"]
    options += ["--heartbeat-interval", "1"]
    if processes:
        options += [
            *processes,
            "--master-bind-host",
            "127.0.0.1",
            "--master-bind-port",
            master,
            "--master-port",
            master,
        ]
    with gateway(tmp_path) as running, started(*options) as locust, httpx.Client(trust_env=False) as client:

        def stats() -> Any:
            return client.get(f"http://127.0.0.1:{page}/stats/requests").json()

        def ready() -> bool:
            try:
                return len(stats().get("workers", [])) == (2 if processes else 0)
            except httpx.TransportError:
                return False

        def under_way() -> bool:
            seen = stats()  # it may be some seconds old, and of the test before
            counts = {row["name"]: row["num_requests"] for row in seen["stats"]}
            return (
                bool(seen["state"] == "running") and counts.get("delivery", 0) > 20 and counts.get("heartbeat", 0) > 0
            )

        until(ready)
        for _ in range(2):
            start = {"user_count": "4", "spawn_rate": "4", "host": running.base_url}
            assert client.post(f"http://127.0.0.1:{page}/swarm", data=start).json()["success"]
            until(under_way)
            assert client.post(f"http://127.0.0.1:{page}/stop").json()["success"]
            until(lambda: stats()["state"] == "stopped")
        locust.send_signal(signal.SIGINT)
        ended = outcome(locust)
    assert (ended.code, ended.failed()) == (0, set()), ended.stdout + ended.stderr
