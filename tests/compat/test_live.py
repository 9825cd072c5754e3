"""The suite against the real gateway, as its two ways of being started serve it, in both one-process modes.

Each way and each mode meets two client programs; where both come together otherwise, all that are here play every
scenario. `make compat` has every program play everything everywhere.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from compat.clients import BARE, KINDS
from compat.deployment import Target
from compat.runner import Plan, applies
from compat.script import read
from tests.gateways import MODES, SERVERS, Running, clean_environment, gateway, may_listen_on_port_80, own_address

pytestmark = pytest.mark.live


def compat(live: Running, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run the suite as somebody starts it; gives exit code, results and what it printed."""
    found = live.log.parent / "results.json"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "compat",
            "--base-url",
            live.base_url,
            "--json",
            str(found),
            "--timeout",
            "40",
            *arguments,
        ],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=clean_environment(),
        timeout=600,
    )
    printed = done.stdout.decode() + done.stderr.decode()
    assert done.returncode in (0, 1), printed
    return done.returncode, json.loads(found.read_text())["results"], printed


def rows(results: Sequence[dict[str, Any]], outcome: str) -> set[tuple[str, str]]:
    return {(row["scenario"], row["client"]) for row in results if row["outcome"] == outcome}


ALL = read()
QUIET = tuple(row.name for row in ALL if row.name != "drain")
ON_PORT_80 = ("address-base-url", "address-base-url-info")
OF_PRODUCTION = {row.name for row in ALL if "production" in row.needs}
EVERYWHERE = tuple(kind for kind in KINDS if kind not in ("ws", "reconnecting-websocket", "chromium"))
"""Those that need nothing that `make setup` doesn't install; `make compat` has all."""


ELSEWHERE = {
    "auth-required",
    "tokens",
    "token",
    "round-robin",
    "random",
    "weighted-random",
    "no-queue",
    "short-history",
}
NOT_BY_DEFAULT = {row.name for row in ALL if row.needs & ELSEWHERE}
"""What is skipped where tokens are off, and the strategy and the queue are as they are by default."""


def programs(server: str, mode: str) -> tuple[str, ...]:
    """The client programs that play against this deployment."""
    everybody = (server, mode) in zip(SERVERS, MODES, strict=True)
    return EVERYWHERE if everybody else (BARE, "node")


def cells(names: Iterable[str], kinds: Sequence[str]) -> set[tuple[str, str]]:
    """The cells of the table that these fill."""
    plan = Plan(Target("http://127.0.0.1:1"), ALL, kinds)
    return {(row.name, kind) for row in ALL for kind in kinds if row.name in names and applies(row, KINDS[kind], plan)}


def given(kinds: Sequence[str]) -> list[str]:
    return [word for kind in kinds for word in ("--client", kind)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("server", SERVERS)
def test_every_client_program_is_served(server: str, mode: str, tmp_path: Path) -> None:
    kinds = programs(server, mode)
    with gateway(tmp_path, server=server, mode=mode) as live:
        code, results, printed = compat(live, "--mode", mode, "--invasive", "--skip", "drain", *given(kinds))
    skipped = cells({*ON_PORT_80, *OF_PRODUCTION, *NOT_BY_DEFAULT}, kinds)
    assert rows(results, "failed") == set(), printed
    assert rows(results, "skipped") == skipped, printed
    assert rows(results, "passed") == cells(QUIET, kinds) - skipped | {("mode", BARE)}, printed
    assert code == 0


@pytest.mark.parametrize("server", SERVERS)
def test_a_drain_ends_every_connection_as_it_should(server: str, tmp_path: Path) -> None:
    with gateway(tmp_path, server=server) as live:
        code, results, printed = compat(live, "--only", "drain", "--invasive", "--client", BARE)
    assert (code, rows(results, "passed")) == (0, {("drain", BARE)}), printed


@pytest.mark.skipif(not may_listen_on_port_80(), reason="only root may listen on port 80")
@pytest.mark.parametrize("mode", MODES)
def test_the_address_from_a_base_url_without_a_port(mode: str, tmp_path: Path) -> None:
    kinds = (BARE, "node", "websockets")
    with gateway(tmp_path, mode=mode, host=own_address(), port=80) as live:
        code, results, printed = compat(live, "--only", ",".join(ON_PORT_80), *given(kinds))
    assert rows(results, "passed") == cells(ON_PORT_80, kinds), printed
    assert code == 0


@pytest.mark.parametrize("server", SERVERS)
def test_workers_of_the_older_kinds_on_their_own_port(server: str, tmp_path: Path) -> None:
    names = ("worker-handshake", "worker-silent")
    with gateway(tmp_path, server=server) as live:
        arguments = ("--worker-url", live.worker_url, "--only", ",".join(names), "--invasive", "--client", BARE)
        _, results, printed = compat(live, *arguments)
    assert rows(results, "passed") == {(name, BARE) for name in names}, printed


def test_a_production_deployment_with_its_keys(tmp_path: Path) -> None:
    settings = {
        "ENVIRONMENT": "production",
        "WEBSOCKET_HANDSHAKE_KEY": "handshake-key-of-the-tests",
        "PORTICO_API_KEYS": "api-key-of-the-tests",
        "PORTICO_OPEN_REQUESTERS": "true",
        "PORTICO_OPEN_USERS": "true",
    }
    with gateway(tmp_path, settings=settings) as live:
        keys = ["--api-key", "api-key-of-the-tests", "--handshake-key", "handshake-key-of-the-tests"]
        code, results, printed = compat(live, *keys, "--client", BARE, "--invasive", "--skip", "drain")
        refused = compat(
            live, "--no-api", "--handshake-key", "another", "--only", "worker-handshake", "--invasive", "--client", BARE
        )
    of_development = {row.name for row in ALL if "development" in row.needs}
    skipped = cells({*ON_PORT_80, *of_development, *NOT_BY_DEFAULT}, (BARE,))
    assert rows(results, "failed") == set(), printed
    assert rows(results, "skipped") == skipped, printed
    assert rows(results, "passed") == cells(QUIET, (BARE,)) - skipped, printed
    assert code == 0
    assert rows(refused[1], "failed") == {("worker-handshake", BARE)}, refused[2]


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({"PORTICO_LB_STRATEGY": "round_robin", "PORTICO_QUEUE_LIMIT": 0}, ("--strategy", "round_robin", "--no-queue")),
        ({"PORTICO_LB_STRATEGY": "random", "PORTICO_HISTORY_LENGTH": 5}, ("--strategy", "random", "--short-history")),
        ({"PORTICO_LB_STRATEGY": "weighted_random"}, ("--strategy", "weighted_random")),
    ],
)
def test_what_is_about_other_settings(settings: dict[str, object], arguments: tuple[str, ...], tmp_path: Path) -> None:
    needs = {word.removeprefix("--").replace("_", "-") for word in arguments}
    names = {row.name for row in ALL if row.needs & needs}
    with gateway(tmp_path, settings=settings) as live:
        code, results, printed = compat(live, *arguments, "--client", BARE, "--only", ",".join(names))
    assert names
    assert (code, rows(results, "passed")) == (0, {(name, BARE) for name in names}), printed
