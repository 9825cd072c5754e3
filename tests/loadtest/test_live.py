"""The load test against the real gateway, started as its users start it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from loadtest._result import read
from tests.gateways import MODES, Running, gateway
from tests.loadtest.forked_locust import ForkedLocust
from tests.loadtest.locust_run import (
    SOUND,
    STEPS,
    free_port,
    outcome,
    run,
    started,
    thresholds,
    two_processes,
    until_held,
)

pytestmark = pytest.mark.live

LIMITS = "".join(f"[steps.{step}]\nmax_failure_ratio = 0\nmax_ms = 60000\n" for step in STEPS) + (
    "[run]\nmin_registered_share = 1\nmax_unexpected_disconnects = 0\nmin_delivered_share = 1\n"
)
LOAD = ("-u", "20", "-r", "20", "-t", "5s", "--heartbeat-interval", "1", "--push-rate", "10", "--broadcast-rate", "1")


Shared = Callable[[str], Running]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """A gateway in each mode, started when it is first asked for, to which nobody is connected."""
    with ExitStack() as stack:
        started: dict[str, Running] = {}

        def one(mode: str) -> Running:
            if mode not in started:
                started[mode] = stack.enter_context(gateway(tmp_path_factory.mktemp("gateway"), mode=mode))
            status = f"{started[mode].base_url}/api/c-client/status"
            until(lambda: httpx.get(status, trust_env=False).json()["total"] == 0)
            return started[mode]

        yield one


@pytest.mark.parametrize("mode", MODES)
def test_the_gateway_passes(shared: Shared, tmp_path: Path, mode: str) -> None:
    ended = run("--host", shared(mode).base_url, "--thresholds", thresholds(tmp_path, LIMITS), *LOAD)
    assert (ended.code, ended.failed()) == (0, set()), ended.stdout + ended.stderr
    assert len(ended.rows) == 2 * len(STEPS) + 5


@pytest.mark.parametrize("mode", MODES)
def test_a_threshold_that_no_gateway_meets_ends_with_3(shared: Shared, tmp_path: Path, mode: str) -> None:
    limits = thresholds(tmp_path, "[steps.register]\nmax_ms = 0.0001\n[run]\nmin_registered_share = 1\n")
    endless = (*LOAD[:4], *LOAD[6:])
    with started("--host", shared(mode).base_url, "--thresholds", limits, *endless) as process:
        until_held(process, 20)
        process.send_signal(signal.SIGINT)
        ended = outcome(process)
    assert (ended.code, ended.failed()) == (3, {"register max_ms"}), ended.stdout + ended.stderr


def until(happened: Callable[[], bool]) -> None:
    """Wait for what another process does; there is no event for that."""
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("processes", [0, 2])
def test_a_second_test_on_the_web_page_is_delivered_too(shared: Shared, tmp_path: Path, processes: int) -> None:
    page = free_port()
    options = ["--web-host", "127.0.0.1", "--web-port", str(page), "--thresholds", thresholds(tmp_path, LIMITS)]
    options += ["--push-rate", "20", "--broadcast-rate", "4", "--heartbeat-interval", "1"]
    options += two_processes() if processes else ()
    running = shared("adjacent")
    with started(*options) as locust, httpx.Client(trust_env=False) as client:

        def stats() -> Any:
            return client.get(f"http://127.0.0.1:{page}/stats/requests").json()

        def ready() -> bool:
            try:
                return len(stats().get("workers", [])) == processes
            except httpx.TransportError:
                return False

        def under_way() -> bool:
            seen = stats()  # it may be some seconds old, and of the test before
            counts = {row["name"]: row["num_requests"] for row in seen["stats"]}
            enough = (
                counts.get("delivery", 0) > 30 and counts.get("broadcast", 0) > 15 and counts.get("heartbeat", 0) > 4
            )
            return bool(seen["state"] == "running") and enough

        until(ready)
        for _ in range(2):
            start = {"user_count": "4", "spawn_rate": "4", "host": running.base_url}
            assert client.post(f"http://127.0.0.1:{page}/swarm", data=start).json()["success"]
            until(under_way)
            # The verdict on the test before would be read as this one's, and lie over its table.
            assert client.get(f"http://127.0.0.1:{page}/loadtest/verdict").json()["html"] == ""
            assert "PASSED" not in client.get(f"http://127.0.0.1:{page}/stats/report").text
            assert client.post(f"http://127.0.0.1:{page}/stop").json()["success"]
            until(lambda: stats()["state"] == "stopped")
            verdict = client.get(f"http://127.0.0.1:{page}/loadtest/verdict").json()
            assert verdict["verdict"] == "met"
            assert "PASSED: all" in verdict["html"]
            assert "PASSED: all" in client.get(f"http://127.0.0.1:{page}/stats/report").text
        wrong = {"user_count": "4", "spawn_rate": "4", "host": "http://127.0.0.1:1"}
        refused = client.post(f"http://127.0.0.1:{page}/swarm", data=wrong).json()
        assert not refused["success"]
        assert refused["message"].startswith("Nobody is at http://127.0.0.1:1 (no answer: Connection refused)")
        locust.send_signal(signal.SIGINT)
        ended = outcome(locust)
    assert (ended.code, ended.failed()) == (0, set()), ended.stdout + ended.stderr


def frozen(pid: int, seconds: float) -> float:
    """Stop a process for a while, as an overloaded or paused machine does; for how long it was, if not longer."""
    start = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)
    return time.monotonic() - start


FREEZE = (
    "-u",
    "20",
    "-r",
    "20",
    "-t",
    "8s",
    "--heartbeat-interval",
    "0.5",
    "--push-rate",
    "10",
    "--broadcast-rate",
    "2",
)


def test_a_frozen_gateway_shows_seconds_and_is_to_blame(tmp_path: Path) -> None:
    result = tmp_path / "r.json"
    steps = ("heartbeat", "push", "delivery", "broadcast")
    limits = thresholds(tmp_path, "".join(f"[steps.{step}]\np99_ms = 1000\n" for step in steps))
    arguments = ("--thresholds", limits, "--result", str(result), *FREEZE)
    with gateway(tmp_path) as running, started("--host", running.base_url, *arguments) as locust:
        held(locust)
        with httpx.Client(trust_env=False) as client:
            # And the observer's three.
            until(lambda: client.get(f"{running.base_url}/api/c-client/status").json()["registered"] == 23)
        # The observer's heartbeats begin within a second: not in the middle of what follows.
        time.sleep(1.0)
        stood_still = frozen(running.process.pid, 3.0)
        ended = outcome(locust)
    assert (ended.code, ended.failed()) == (3, {f"{step} p99_ms" for step in steps}), ended.stdout + ended.stderr
    found = read(result)
    for step in steps:
        assert (found.run.steps[step].p99_ms or 0) > 2000
        # Half of all was before and after, or else in its last moments.
        assert (found.run.steps[step].p50_ms or 0) < (stood_still - 1) * 1000
    assert found.run.observer is not None
    assert (found.run.observer["heartbeat"].max_ms or 0) > 2000


def test_a_frozen_load_is_invalid_and_no_fault_of_the_gateways(tmp_path: Path) -> None:
    limits = tmp_path / "t.toml"
    limits.write_text((LIMITS + SOUND).replace("max_stall_ms = 60000", "max_stall_ms = 2500"), encoding="utf-8")
    arguments = ("--thresholds", str(limits), *FREEZE)
    with gateway(tmp_path) as running, started("--host", running.base_url, *arguments) as locust:
        held(locust)
        frozen(locust.pid, 4.0)
        ended = outcome(locust)
    assert ended.code == 4, ended.stdout + ended.stderr
    assert "INVALID: the load was the bottleneck" in ended.stdout
    assert "- a load process did nothing for " in ended.stdout


def held(locust: ForkedLocust) -> None:
    """Wait until all users are there."""
    for line in locust.stderr:
        if "Holding 20 users" in line:
            return
    raise AssertionError("it never held them")


def test_a_staircase_ends_where_the_gateway_does_and_says_so(tmp_path: Path) -> None:
    result, junit, page = (tmp_path / name for name in ("r.json", "r.xml", "r.html"))
    limits = thresholds(
        tmp_path, "[steps.heartbeat]\nmax_ms = 60000\n[run]\nmin_registered_share = 1\n[server]\nmax_memory_mb = 5000\n"
    )
    stairs = ("--shape", "staircase", "--stairs", "2,5,40,50", "--hold", "2", "-r", "50", "--step-timeout", "1")
    files = ("--result", str(result), "--junit", str(junit), "--html", str(page))
    with gateway(tmp_path, settings={"PORTICO_MAX_CONNECTIONS": 20}) as running:
        ended = run(
            *("--host", running.base_url, "--thresholds", limits, "--heartbeat-interval", "0.5"), *stairs, *files
        )
    assert ended.code == 3, ended.stdout + ended.stderr
    assert "Held: 5 users; at 40 it broke: min_registered_share" in ended.stdout
    found = read(result)
    assert (found.format, found.verdict, found.exit_code, found.shape) == ("portico-load/1", "not met", 3, "staircase")
    assert found.held is not None
    assert (found.held.users, found.held.broke_at, found.held.broke) == (5, 40, ["min_registered_share"])
    held = [stage for stage in found.stages if stage.kind == "hold"]
    assert [(stage.name, stage.users, stage.verdict) for stage in held] == [
        ("hold 2", 2, "met"),
        ("hold 5", 5, "met"),
        ("hold 40", 40, "not met"),
    ]
    assert all(stage.ended_at - stage.started_at >= 2 for stage in held)
    assert held[1].connections.peak == 5
    assert held[1].steps["heartbeat"].count > 5
    assert held[1].server is not None
    assert held[1].server.memory_max > 1_000_000
    assert {moment.stage for moment in found.timeline} >= {"hold 2", "hold 5"}
    assert found.gateway.websocket_url == running.websocket_url
    assert found.options["stairs"] == "2,5,40,50"
    suites = ElementTree.parse(junit).getroot()
    assert [(suite.get("name"), suite.get("failures")) for suite in suites] == [
        ("hold 2", "0"),
        ("hold 5", "0"),
        ("hold 40", "1"),
        ("run", "1"),
    ]
    assert "Load test: not met" in page.read_text(encoding="utf-8")


def test_all_kinds_of_users_are_served_and_what_they_missed_comes(shared: Shared, tmp_path: Path) -> None:
    result = tmp_path / "r.json"
    steps = (*STEPS, "resume", "batch", "durable", "partial", "request")
    limits = thresholds(
        tmp_path,
        "".join(f"[steps.{step}]\nmax_failure_ratio = 0\n" for step in steps)
        + "[run]\nmin_delivered_share = 1\nmax_doubled = 0\nmax_reordered = 0\nmax_unexpected_disconnects = 0\n",
    )
    mix = ("--mix", "client=3,listener=3,churner=4", "--fixed", "worker=2,requester=2,slow=1")
    rates = (
        "--durable-rate",
        "20",
        "--batch-rate",
        "2",
        "--batch-size",
        "5",
        "--request-rate",
        "5",
        "--stream-parts",
        "2",
    )
    churn = ("--churn-seconds", "1", "--away-seconds", "0.3", "--service-time", "0.02", "--settle-time", "20")
    ended = run(
        *("--host", shared("adjacent").base_url, "--thresholds", limits, "--result", str(result), "--no-observer"),
        *("-u", "20", "-r", "100", "-t", "7s", "--heartbeat-interval", "1", "--broadcast-rate", "2"),
        *(*mix, *rates, *churn),
    )
    assert (ended.code, ended.failed()) == (0, set()), ended.stdout + ended.stderr
    found = read(result).run
    assert found.deliveries["durable"].delivered > 50
    assert found.steps["resume"].count > 5
    assert found.steps["request"].count > 20
