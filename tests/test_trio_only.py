"""ASGI servers that run on asyncio are refused in a sentence; what is on trio is served."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.trio_only import NEEDED, TrioOnly
from tests.gateways import BIN, clean_environment, free_ports

SETTINGS = {"HOST": "127.0.0.1", "WEBSOCKET_PORT": "same", "WORKER_PORT": "off"}


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=folder,
        env=clean_environment(**SETTINGS),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.live
@pytest.mark.parametrize("options", [[], ["-k", "asyncio"], ["-k", "asyncio", "--workers", "0"]], ids=" ".join)
def test_hypercorn_without_trio_ends_with_the_sentence(tmp_path: Path, options: list[str]) -> None:
    bind = ["--bind", f"127.0.0.1:{free_ports(1)[0]}"]
    ended = run(tmp_path, str(BIN / "hypercorn"), *options, "service.asgi:app", *bind)
    assert (ended.stdout, ended.stderr) == ("", f"portico: {NEEDED}\n")
    # With workers of its own, Hypercorn's master ends with 0 whatever they ended with.
    assert ended.returncode == (2 if "--workers" in options else 0)


@pytest.mark.live
def test_a_server_that_imports_the_app_in_its_loop_ends_with_the_sentence(tmp_path: Path) -> None:
    # As uvicorn does.
    program = "import asyncio\nasync def main():\n    import service.asgi\nasyncio.run(main())"
    ended = run(tmp_path, sys.executable, "-c", program)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"portico: {NEEDED}\n")


SERVER = """
import asyncio, json
from quart import Quart  # a program may have other apps of that kind
from service.asgi import app

said = []

async def main():
    async def send(message):
        said.append({key: value.decode() if isinstance(value, bytes) else value for key, value in message.items()
                     if key != "headers"})
    async def start():
        return {"type": "lifespan.startup"}
    async def ask():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def connect():
        return {"type": "websocket.connect"}
    http = {"type": "http", "method": "GET", "path": "/livez", "raw_path": b"/livez", "headers": [],
            "query_string": b"", "http_version": "1.1", "scheme": "http"}
    await app({"type": "lifespan", "asgi": {}, "state": {}}, start, send)
    await app(http, ask, send)
    await app({**http, "type": "websocket", "scheme": "ws", "subprotocols": []}, connect, send)

asyncio.run(main())
print(json.dumps(said))
"""


@pytest.mark.live
def test_a_server_that_imported_the_app_before_is_told_at_start_and_at_every_request(tmp_path: Path) -> None:
    ended = run(tmp_path, sys.executable, "-c", SERVER)
    assert ended.stderr == ""
    start, head, body, close = json.loads(ended.stdout)
    assert start == {"type": "lifespan.startup.failed", "message": NEEDED}
    assert head == {"type": "http.response.start", "status": 503}
    assert json.loads(body["body"]) == {"error": {"code": "unavailable", "message": NEEDED}}
    assert close["type"] == "websocket.close"


async def test_on_trio_everything_goes_on_to_the_app() -> None:
    seen: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    async def nothing(*_: Any) -> Any:
        raise AssertionError("it is the app that receives and sends")

    for kind in ("lifespan", "http", "websocket"):
        await TrioOnly(inner)({"type": kind}, nothing, nothing)
    assert seen == [({"type": kind}, nothing, nothing) for kind in ("lifespan", "http", "websocket")]
