"""A gateway that stood still (stopped; a laptop that slept) reads what has come meanwhile before it judges anybody."""

import json
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

from websockets.sync.client import ClientConnection, connect

from tests.gateways import gateway

SETTINGS = {
    "PORTICO_REGISTRATION_TIMEOUT": 4,
    "PORTICO_WORKER_TIMEOUT": 4,
    "PORTICO_PING_INTERVAL": 2,
    "PORTICO_PONG_TIMEOUT": 2,
}
STILL = 4.5
"""Seconds: more than each of the times above."""
EACH = 6


def say(connection: ClientConnection, message: object) -> None:
    connection.send(json.dumps(message))


def hear(connection: ClientConnection) -> dict[str, object]:
    heard: dict[str, object] = json.loads(connection.recv(timeout=30))
    return heard


def test_what_came_meanwhile_counts(tmp_path: Path) -> None:
    with gateway(tmp_path, settings=SETTINGS) as running, ExitStack() as stack:

        def come(path: str) -> ClientConnection:
            return stack.enter_context(connect(running.websocket_url + path))

        worker = come("/worker")
        hear(worker)
        listeners, silent, requesters = ([come(path) for _ in range(EACH)] for path in ("/ws/u1", "/ws", "/requester"))
        for requester in requesters:
            say(requester, {"command": "echo"})
        asked = [hear(worker)["msg_id"] for _ in requesters]
        os.kill(running.process.pid, signal.SIGSTOP)
        try:
            for number, one in enumerate(silent):
                say(one, {"type": "c_client_register", "client_id": f"c{number}"})
            for name in asked:
                say(worker, {"type": "response", "data": {"request_id": name, "success": True, "result": 1}})
            time.sleep(STILL)
        finally:
            os.kill(running.process.pid, signal.SIGCONT)
        assert [hear(one)["type"] for one in silent] == ["registration_success"] * EACH
        assert [hear(one)["success"] for one in requesters] == [True] * EACH
        listeners[0].send("here")
        assert [one.recv(timeout=30) for one in listeners] == ["Echo: here"] * EACH
