"""The load test against the real gateway, started as its users start it."""

from pathlib import Path

import pytest

from tests.gateways import MODES, gateway
from tests.loadtest.locust_run import run

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
