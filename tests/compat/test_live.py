"""The suite against the real gateway, as its two ways of being started serve it, in both one-process modes.

Each way and each mode meets two client programs; where both come together otherwise, all that are here play every
scenario. `make compat` has every program play everything everywhere. A gateway is started once, and everything that it
can be asked is asked of it: at a base URL without a port or with one, with workers on a port of their own or not, and
the drain as the last of all.
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
from tests.gateways import MODES, SERVERS, clean_environment, gateway, may_listen_on_port_80, own_address
from tests.test_docs_nginx import NGINX, OPENSSL

from .deployments import IDLE, OFTEN, Live, behind_nginx, one

pytestmark = pytest.mark.live


def compat(live: Live, folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run the suite as somebody starts it; gives exit code, results and what it printed."""
    found = folder / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "compat", "--base-url", live[0], "--json", str(found), "--timeout", "40", *live[1],
         *arguments],
        capture_output=True, check=False, stdin=subprocess.DEVNULL, env=clean_environment(), timeout=600,
    )  # fmt: skip
    printed = done.stdout.decode() + done.stderr.decode()
    assert done.returncode in (0, 1), printed
    return done.returncode, json.loads(found.read_text())["results"], printed


def rows(results: Sequence[dict[str, Any]], outcome: str) -> set[tuple[str, str]]:
    """The cells of the table with that outcome."""
    return {(row["scenario"], row["client"]) for row in results if row["outcome"] == outcome}


ALL = read()
EVERYWHERE = ("bare", "node", "websockets", "websockets-sync", "websocket-client", "trio-websocket", "aiohttp", "curl")
"""Those that need nothing that `make setup` doesn't install; `make compat` has all."""
ELSEWHERE = {
    "auth-required", "tokens", "token", "round-robin", "random", "weighted-random", "no-queue", "short-history",
    "history-lost", "idle",
}  # fmt: skip
"""What is skipped where tokens are off, and nobody says anything of the strategy, the queue and so on."""


def needing(*needs: str) -> set[str]:
    """The scenarios that need one of these."""
    return {row.name for row in ALL if row.needs & set(needs)}


def cells(names: Iterable[str], kinds: Sequence[str]) -> set[tuple[str, str]]:
    """The cells of the table that these fill."""
    plan = Plan(Target("http://127.0.0.1:1"), ALL, kinds)
    return {(row.name, kind) for row in ALL for kind in kinds if row.name in names and applies(row, KINDS[kind], plan)}


def given(kinds: Sequence[str]) -> list[str]:
    """The options for these client programs."""
    return [word for kind in kinds for word in ("--client", kind)]


def check(live: Live, folder: Path, kinds: Sequence[str], elsewhere: set[str], *arguments: str) -> None:
    """Everything passes but what is skipped, as it is about what isn't here."""
    code, results, printed = compat(live, folder, "--invasive", *given(kinds), *arguments)
    skipped = cells(elsewhere, kinds)
    assert rows(results, "failed") == set(), printed
    assert rows(results, "skipped") == skipped, printed
    mode = {("mode", BARE)} if "--mode" in live[1] else set()
    assert rows(results, "passed") == cells({row.name for row in ALL}, kinds) - skipped | mode, printed
    assert code == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("server", SERVERS)
def test_every_client_program_is_served(server: str, mode: str, tmp_path: Path) -> None:
    kinds = EVERYWHERE if (server, mode) in zip(SERVERS, MODES, strict=True) else (BARE, "node")
    # Only root may listen there.
    plain = server == SERVERS[0] and may_listen_on_port_80()
    host, port = (own_address(), 80) if plain else ("127.0.0.1", None)
    elsewhere = needing("production", *ELSEWHERE, *(() if plain else ("plain",)))
    with gateway(tmp_path, server=server, mode=mode, host=host, port=port) as live:
        workers = ("--worker-url", live.worker_url) if mode == "adjacent" else ()
        check((live.base_url, ("--mode", mode, *workers)), tmp_path, kinds, elsewhere)


@pytest.mark.skipif(NGINX is None or OPENSSL is None, reason="nginx or openssl is not installed")
def test_a_production_deployment_behind_nginx_with_tls_and_short_timeouts(tmp_path: Path) -> None:
    elsewhere = needing("plain", "http", "development", *(ELSEWHERE - {"idle"}))
    no_addresses = {"address-host-port", "address-host-port-info"}
    with behind_nginx(tmp_path) as live:
        wrong = ("--no-api", "--handshake-key", "another", "--only", "worker-handshake")
        _, results, printed = compat(live, tmp_path, "--invasive", "--client", BARE, *wrong)
        assert rows(results, "failed") == {("worker-handshake", BARE)}, printed
        check(live, tmp_path, (BARE,), elsewhere | no_addresses)


def test_what_is_about_other_settings(tmp_path: Path) -> None:
    settings = {"PORTICO_LB_STRATEGY": "random", "PORTICO_HISTORY_LENGTH": 5, **OFTEN}
    arguments = ("--strategy", "random", "--short-history", "--idle-timeout", str(IDLE))
    names = needing("random", "short-history", "idle")
    with one(tmp_path, *arguments, settings=settings) as live:
        code, results, printed = compat(live, tmp_path, *given((BARE, "node")), "--only", ",".join(names))
    assert len(names) > 2
    assert rows(results, "passed") == cells(names, (BARE, "node")) | {("mode", BARE)}, printed
    assert code == 0
