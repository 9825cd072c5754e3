"""A gateway that is told to stop says goodbye to everybody who listens, and is gone in time."""

import json
import os
import signal
import socket
import time
import urllib.error
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from service.drain import LAST_CALL
from tests.gateways import SERVERS, Running, gateway
from tests.transports.raw import TEXT, close_frame, frame, upgrade

from .crowd import BusyClient, Client, Crowd, LateClient, register
from .scene import address_of, eventually, fetch, serving_pid, sized

pytestmark = pytest.mark.live

CLIENTS: Final = sized(300, 5000)
BUSY: Final = 10
DEAF: Final = 10
WINDOW: Final = float(sized(1, 20))
LENIENCE: Final = 10.0
"""Seconds beyond the window: one is allowed, and this machine may be busy."""


def master(running: Running) -> None:
    os.kill(running.process.pid, signal.SIGTERM)


def interrupt(running: Running) -> None:
    os.kill(running.process.pid, signal.SIGINT)


def worker(running: Running) -> None:
    os.kill(serving_pid(running), signal.SIGTERM)


def group(running: Running) -> None:
    os.killpg(running.process.pid, signal.SIGTERM)


def interrupt_group(running: Running) -> None:
    os.killpg(running.process.pid, signal.SIGINT)


STOPS: Final = [
    pytest.param("portico serve", master, id="serve: SIGTERM"),
    pytest.param("portico serve", interrupt, id="serve: SIGINT"),
    pytest.param("hypercorn", master, id="hypercorn: SIGTERM to the master"),
    pytest.param("hypercorn", worker, id="hypercorn: SIGTERM to the worker"),
    pytest.param("hypercorn", group, id="hypercorn: SIGTERM to the group"),
    pytest.param("hypercorn", interrupt_group, id="hypercorn: SIGINT to the group"),
]


def everybody(crowd: Crowd, running: Running) -> tuple[list[Client], list[Client]]:
    """Who is there: those that read, of every kind and on every port, and those that don't."""
    ports = [address_of(running.base_url), address_of(running.websocket_url)]
    readers = [crowd.join(Client(crowd, register(f"c{n}")), address=ports[n % 2]) for n in range(CLIENTS)]
    readers += [
        crowd.join(BusyClient(crowd, register(f"busy{n}"), {"type": "heartbeat"}), address=ports[n % 2])
        for n in range(BUSY)
    ]
    readers += [crowd.join(Client(crowd, path="/worker")) for _ in range(3)]
    readers += [crowd.join(LateClient(crowd, register(f"late{n}"))) for n in range(20)]
    crowd.until(lambda: all(client.registered for client in readers), 60, "everybody registered")
    silent = [crowd.join(Client(crowd, path=path)) for path in ("/requester", "/ws/ann", "/ws") * 3]
    deaf = [
        crowd.join(Client(crowd, register(f"deaf{n}")), address=ports[n % 2], receive_buffer=4096) for n in range(DEAF)
    ]
    crowd.until(lambda: all(client.let_in for client in (*silent, *deaf)), 60, "the others let in")
    for client in deaf:
        client.read(False)
    return readers + silent, deaf


@pytest.mark.parametrize(("server", "stop"), STOPS)
def test_everybody_who_reads_is_told(tmp_path: Path, server: str, stop: Callable[[Running], None]) -> None:
    settings = {"PORTICO_DRAIN_SECONDS": WINDOW}
    with (
        gateway(tmp_path, server=server, settings=settings, exit_code=None) as running,
        Crowd(address_of(running.base_url)) as crowd,
    ):
        readers, _ = everybody(crowd, running)
        stop(running)
        start = time.monotonic()
        crowd.until(lambda: all(client.ended for client in readers), WINDOW + 30, "everybody gone")
        if stop is worker and server == "hypercorn":
            # Hypercorn's master puts another worker in its place.
            eventually(lambda: running.said().count("started") == 2, 30, "a new worker")
            master(running)
            start = time.monotonic()
        crowd.until(lambda: running.process.poll() is not None, 30, "the gateway gone")
        took = time.monotonic() - start
        told = (1012, f"retry_within_ms={round(WINDOW * 1000)}")
        others = [client for client in readers if (client.code, client.reason) != told]
        assert [(client.path, client.first, client.texts, client.code) for client in others] == []
        assert running.process.returncode == 0, running.said()
        assert running.said().count("stopped") == running.said().count("started")
        assert "Traceback" not in running.said()
        assert took < WINDOW + 1 + LENIENCE


@pytest.mark.parametrize("server", SERVERS)
def test_requests_under_way_finish_and_probes_are_answered(tmp_path: Path, server: str) -> None:
    window = 6.0  # in its first part, requests are taken for longer than a machine stands still
    settings = {"PORTICO_DRAIN_SECONDS": window}
    with (
        gateway(tmp_path, server=server, settings=settings, exit_code=None) as running,
        Crowd(address_of(running.base_url)) as crowd,
    ):
        worker = crowd.join(Keeper(crowd, path="/worker"))
        asks, late = (crowd.join(Keeper(crowd, path="/requester")) for _ in range(2))
        crowd.until(lambda: worker.registered and asks.let_in and late.let_in, 30, "everybody in")
        worker.say({"type": "connect", "data": {"role": "worker", "commands": ["work"]}})
        crowd.until(lambda: worker.texts == 2, 30, "the worker greeted")
        asks.say({"request_id": "q1", "command": "work"})
        crowd.until(lambda: worker.texts == 3, 30, "the worker asked")
        with ThreadPoolExecutor() as threads:
            by_http = threads.submit(fetch, running, "/api/requests", {"command": "work"})
            crowd.until(lambda: worker.texts == 4, 30, "the worker asked again")
            master(running)
            crowd.until(lambda: worker.texts == 5, 30, "the notice")
            with pytest.raises(urllib.error.HTTPError) as unready:
                fetch(running, "/readyz")
            with unready.value:
                assert unready.value.code == 503
            late.say({"request_id": "q2", "command": "work"})
            crowd.until(lambda: late.ended or worker.texts == 6, 30, "the worker asked once more, if that came in time")
            for request in worker.kept:
                if request["type"] == "request":
                    worker.say(
                        {"type": "response", "data": {"request_id": request["msg_id"], "success": True, "result": 7}}
                    )
            crowd.until(lambda: all(client.ended for client in (worker, asks, late)), 30, "everybody gone")
            assert by_http.result(30)["data"] == 7
        assert [answer["data"] for answer in asks.kept] == [7]
        assert [answer["data"] for answer in late.kept] in ([7], [])
        assert {client.code for client in (worker, asks, late)} == {1012}
        crowd.until(lambda: running.process.poll() is not None, 30, "the gateway gone")
        assert running.process.returncode == 0
        assert "stopped" in running.said()


@pytest.mark.parametrize("server", SERVERS)
def test_who_is_slow_to_say_goodbye_sees_no_reset(tmp_path: Path, server: str) -> None:
    # It has a second. Where the machine stood still it was slower than that, and shows nothing.
    while not said_goodbye_slowly(tmp_path, server):
        (tmp_path / "gateway.log").unlink()


def said_goodbye_slowly(tmp_path: Path, server: str) -> bool:
    """Whether somebody went on talking for a while after the Close, and not for too long, and saw no reset."""
    with (
        gateway(tmp_path, server=server, settings={"PORTICO_DRAIN_SECONDS": 0}, exit_code=None) as running,
        socket.create_connection(address_of(running.base_url)) as slow,
    ):
        slow.settimeout(30)
        slow.sendall(upgrade("/requester"))
        while b"\r\n\r\n" not in slow.recv(4096, socket.MSG_PEEK):
            pass
        slow.recv(4096)
        sent = time.monotonic()
        master(running)
        assert slow.recv(4096)[2:4] == (1012).to_bytes(2, "big")
        try:
            for _ in range(12):
                slow.sendall(frame(TEXT, b"still talking"))
                time.sleep(0.05)  # being slow is what is tested
            slow.sendall(close_frame(1012))
            assert slow.recv(4096) == b""
        except OSError:
            assert time.monotonic() - sent > LAST_CALL
            return False
        assert running.process.wait(30) == 0
    return True


class Keeper(Client):
    """Keeps what it is told."""

    __slots__ = ("kept",)

    def __init__(self, crowd: Crowd, path: str) -> None:
        super().__init__(crowd, path=path)
        self.kept: list[dict[str, Any]] = []

    def on_text(self, payload: bytes) -> None:
        """Keep it."""
        super().on_text(payload)
        self.kept.append(json.loads(payload))
