"""The suite against the real gateway, as its two ways of being started serve it, in both one-process modes.

Each way and each mode meets every client program once; where both come together otherwise, one program plays every
scenario. `COMPAT=full` in the environment (`make compat`) has every program play everything everywhere.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from compat.report import PROTOCOL
from compat.scenarios import ALL
from tests.gateways import MODES, SERVERS, Running, clean_environment, gateway, may_listen_on_port_80, own_address

pytestmark = pytest.mark.live


def compat(live: Running, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run the suite as somebody starts it; gives exit code, results and what it printed."""
    found = live.log.parent / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "compat", "--base-url", live.base_url, "--json", str(found), *arguments],
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


CLIENTS = ("js", "asyncio", "trio")
EVERY_ROW = {(row.name, client) for row in ALL for client in (CLIENTS if row.by_client else (PROTOCOL,))}
ON_PORT_80 = ("address-base-url", "address-base-url-info")


def programs(server: str, mode: str) -> tuple[str, ...]:
    """The client programs that play against this deployment."""
    everybody = os.environ.get("COMPAT") == "full" or (server, mode) in zip(SERVERS, MODES, strict=True)
    return CLIENTS if everybody else CLIENTS[:1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("server", SERVERS)
def test_every_client_program_is_served(server: str, mode: str, tmp_path: Path) -> None:
    clients = programs(server, mode)
    with gateway(tmp_path, server=server, mode=mode) as live:
        code, results, printed = compat(live, *(word for client in clients for word in ("--client", client)))
    every_row = {(name, client) for name, client in EVERY_ROW if client in (PROTOCOL, *clients)}
    not_valid = {(name, client) for name in ON_PORT_80 for client in clients}
    assert rows(results, "failed") == set(), printed
    assert rows(results, "skipped") == not_valid, printed
    assert rows(results, "passed") == every_row - not_valid, printed
    assert code == 0


@pytest.mark.skipif(not may_listen_on_port_80(), reason="only root may listen on port 80")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("server", SERVERS)
def test_the_address_from_a_base_url_without_a_port(server: str, mode: str, tmp_path: Path) -> None:
    with gateway(tmp_path, server=server, mode=mode, host=own_address(), port=80) as live:
        code, results, printed = compat(live, "--only", ",".join(ON_PORT_80))
    assert rows(results, "passed") == {(name, client) for name in ON_PORT_80 for client in CLIENTS}, printed
    assert code == 0


@pytest.mark.parametrize("server", SERVERS)
def test_workers_of_the_older_kinds_on_their_own_port(server: str, tmp_path: Path) -> None:
    with gateway(tmp_path, server=server) as live:
        names = {"worker-handshake", "worker-silent"}
        _, results, printed = compat(live, "--worker-url", live.worker_url, "--only", ",".join(names))
    assert rows(results, "passed") == {(name, PROTOCOL) for name in names}, printed


@pytest.mark.parametrize("server", SERVERS)
def test_a_production_deployment_with_its_keys(server: str, tmp_path: Path) -> None:
    settings = {
        "ENVIRONMENT": "production",
        "WEBSOCKET_HANDSHAKE_KEY": "handshake-key-of-the-tests",
        "PORTICO_API_KEYS": "api-key-of-the-tests",
        "PORTICO_OPEN_REQUESTERS": "true",
        "PORTICO_OPEN_USERS": "true",
    }
    names = {row.name for row in ALL if not row.by_client}
    with gateway(tmp_path, server=server, settings=settings) as live:
        given = ["--api-key", "api-key-of-the-tests", "--handshake-key", "handshake-key-of-the-tests"]
        code, results, printed = compat(live, *given, "--client", "js", "--only", ",".join({*names, "register"}))
        refused = compat(live, "--no-api", "--handshake-key", "another", "--only", "worker-handshake")
    assert rows(results, "passed") == {*((name, PROTOCOL) for name in names), ("register", "js")}, printed
    assert code == 0
    assert rows(refused[1], "failed") == {("worker-handshake", PROTOCOL)}, refused[2]
