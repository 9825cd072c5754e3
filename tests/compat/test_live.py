"""The suite against the real gateway, as its two ways of being started serve it, in both one-process modes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from compat.report import PROTOCOL
from compat.scenarios import ALL

pytestmark = pytest.mark.live

BIN = Path(sys.executable).parent
UP_LIMIT = 60.0  # seconds for the gateway to say that it is ready, however busy the machine is
DOWN_LIMIT = 20.0  # seconds from SIGTERM to its end
STARTS = 3  # the port that was free a moment ago may be taken: then another is tried


@dataclass(frozen=True)
class Live:
    """A gateway that runs: its base URL, its workers' port, and a folder for what a test writes."""

    base_url: str
    worker_url: str
    folder: Path


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def may_bind(host: str, port: int) -> bool:
    try:
        with socket.socket() as probe:
            # As servers do: connections of an earlier one that are still in TIME_WAIT are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError:
        return False
    return True


def environment(**settings: object) -> dict[str, str]:
    """This process's environment without anything that the gateway or a client program takes as a setting."""
    ours = ("PORTICO_", "REDIS_", "WEBSOCKET_", "OPEN_API_", "SERVICE_", "API_", "COVERAGE_")
    named = {"PORT", "HOST", "WORKER_PORT", "DEBUG", "DYNO", "ENVIRONMENT"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in named and not name.startswith(ours) and not name.lower().endswith("_proxy")
    }
    return {**kept, **{name: str(value) for name, value in settings.items()}}


def command(server: str, host: str, port: int) -> list[str]:
    if server == "portico serve":
        return [str(BIN / "portico"), "serve"]
    return [str(BIN / "hypercorn"), "-k", "trio", "service.asgi:app", "--bind", f"{host}:{port}"]


async def ready(base_url: str, process: trio.Process) -> bool:
    """Whether it came up; False where it ended instead."""
    async with httpx.AsyncClient(base_url=base_url, timeout=2) as http:
        with trio.fail_after(UP_LIMIT):
            while process.poll() is None:
                try:
                    if (await http.get("/readyz")).status_code == 200:
                        return True
                except httpx.HTTPError:
                    pass
                await trio.sleep(0.1)
    return False


@asynccontextmanager
async def deployed(
    server: str,
    mode: str,
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Live]:
    """A gateway in a process of its own while the block runs; its log is added to whatever goes wrong."""
    log = folder / "gateway.log"
    for start in range(1, STARTS + 1):
        http_port = port or free_port(host)
        worker_port = free_port(host)
        env = environment(
            HOST=host,
            PORT=http_port,
            WEBSOCKET_PORT="same" if mode == "integrated" else free_port(host),
            WORKER_PORT=worker_port,
            **{"ENVIRONMENT": "development", **(settings or {})},
        )
        base_url = f"http://{host}" if http_port == 80 else f"http://{host}:{http_port}"
        with log.open("wb") as out:
            process = await trio.lowlevel.open_process(
                command(server, host, http_port),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=env,
            )
        try:
            if not await ready(base_url, process):
                assert start < STARTS, f"{server} doesn't start"
                continue
            yield Live(base_url, f"ws://{host}:{worker_port}", folder)
            process.send_signal(signal.SIGTERM)
            with trio.fail_after(DOWN_LIMIT):
                assert await process.wait() == 0
            return
        except BaseException as error:
            error.add_note(f"--- the gateway's log ---\n{log.read_text(errors='replace')[-20000:]}")
            raise
        finally:
            if process.poll() is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()


async def compat(live: Live, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run the suite as somebody starts it; gives exit code, results and what it printed."""
    found = live.folder / "results.json"
    done = await trio.run_process(
        [sys.executable, "-m", "compat", "--base-url", live.base_url, "--json", str(found), *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment(),
    )
    printed = done.stdout.decode() + done.stderr.decode()
    assert done.returncode in (0, 1), printed
    return done.returncode, json.loads(found.read_text())["results"], printed


def rows(results: Sequence[dict[str, Any]], outcome: str) -> set[tuple[str, str]]:
    return {(row["scenario"], row["client"]) for row in results if row["outcome"] == outcome}


CLIENTS = ("js", "asyncio", "trio")
EVERY_ROW = {(row.name, client) for row in ALL for client in (CLIENTS if row.by_client else (PROTOCOL,))}
ON_PORT_80 = ("address-base-url", "address-base-url-info")


@pytest.mark.parametrize("mode", ["integrated", "adjacent"])
@pytest.mark.parametrize("server", ["portico serve", "hypercorn -k trio"])
async def test_every_client_program_is_served(server: str, mode: str, tmp_path: Path) -> None:
    async with deployed(server, mode, tmp_path) as live:
        code, results, printed = await compat(live)
    not_valid = {(name, client) for name in ON_PORT_80 for client in CLIENTS}
    assert rows(results, "failed") == set(), printed
    assert rows(results, "skipped") == not_valid, printed
    assert rows(results, "passed") == EVERY_ROW - not_valid, printed
    assert code == 0


@pytest.mark.parametrize("mode", ["integrated", "adjacent"])
@pytest.mark.parametrize("server", ["portico serve", "hypercorn -k trio"])
async def test_the_address_from_a_base_url_without_a_port(server: str, mode: str, tmp_path: Path) -> None:
    host = "127.0.0.80"
    if not may_bind(host, 80):
        pytest.skip("port 80 of a loopback address can't be bound by this user")
    async with deployed(server, mode, tmp_path, host=host, port=80) as live:
        code, results, printed = await compat(live, "--only", ",".join(ON_PORT_80))
    assert rows(results, "passed") == {(name, client) for name in ON_PORT_80 for client in CLIENTS}, printed
    assert code == 0


@pytest.mark.parametrize("server", ["portico serve", "hypercorn -k trio"])
async def test_workers_of_the_older_kinds_on_their_own_port(server: str, tmp_path: Path) -> None:
    async with deployed(server, "adjacent", tmp_path) as live:
        names = {"worker-handshake", "worker-silent"}
        _, results, printed = await compat(live, "--worker-url", live.worker_url, "--only", ",".join(names))
    assert rows(results, "passed") == {(name, PROTOCOL) for name in names}, printed


@pytest.mark.parametrize("server", ["portico serve", "hypercorn -k trio"])
async def test_a_production_deployment_with_its_keys(server: str, tmp_path: Path) -> None:
    settings = {
        "ENVIRONMENT": "production",
        "WEBSOCKET_HANDSHAKE_KEY": "handshake-key-of-the-tests",
        "PORTICO_API_KEYS": "api-key-of-the-tests",
    }
    names = {row.name for row in ALL if not row.by_client}
    async with deployed(server, "adjacent", tmp_path, settings=settings) as live:
        given = ["--api-key", "api-key-of-the-tests", "--handshake-key", "handshake-key-of-the-tests"]
        code, results, printed = await compat(live, *given, "--client", "js", "--only", ",".join({*names, "register"}))
        refused = await compat(live, "--no-api", "--handshake-key", "another", "--only", "worker-handshake")
    assert rows(results, "passed") == {*((name, PROTOCOL) for name in names), ("register", "js")}, printed
    assert code == 0
    assert rows(refused[1], "failed") == {("worker-handshake", PROTOCOL)}, refused[2]
