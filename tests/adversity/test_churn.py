"""Connections that come and go in every rude way leave nothing behind: no task, no descriptor, no memory."""

import json
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.gateways import SERVERS, Running, gateway
from tests.transports.raw import CONT, PING, TEXT, close_frame, frame, upgrade

from .crowd import Attacker, Client, Crowd, Socket, register
from .mutants import mutant
from .scene import address_of, descriptors, eventually, fetch, memory, metric, serving_pid, sized

pytestmark = pytest.mark.live

CONNECTIONS: Final = sized(2000, 20_000)
FRAMES: Final = sized(0, 1_000_000)
WARM_UP: Final = sized(600, 28_000)
"""Enough at full size for every table that has a bound to be as full as it gets: after that memory stays as it is."""
AT_ONCE: Final = 60


def rude(crowd: Crowd, number: int) -> Socket:
    """A connection of one of many bad manners."""
    chance = Random(number)
    head = upgrade(chance.choice(("/", "/ws/ann", "/requester", "/worker")))
    beat = frame(TEXT, b'{"type": "heartbeat"}')
    said = frame(TEXT, register(f"r{number}").encode())
    pieces: list[list[bytes]] = [
        [b""],
        [head[: chance.randrange(len(head))]],
        [head],
        [upgrade(), said + beat[:7]],
        [upgrade() + said + beat * 50],
        [upgrade(), said + close_frame(1000)],
        [upgrade(), said, close_frame(1000) + close_frame(4000) + beat],
        [upgrade(), said + frame(TEXT, b"half", fin=False) + frame(PING) + frame(CONT, b"", fin=False)],
        [upgrade(), frame(TEXT, b"\xff\xfe")],
        [upgrade(), said + frame(TEXT, b"x", announce=2**40)],
        [head + frame(TEXT, b'{"command": "work", "request_id": "r"}') * 3],
        [b"GET /readyz HTTP/1.1\r\nHost: gw\r\n\r\n" * 3],
        [b"POST /api/notifications HTTP/1.1\r\nHost: gw\r\nContent-Length: 500\r\n\r\n{"],
        mutant(number),
    ]
    how = pieces[number % len(pieces)]
    return Attacker(crowd, how, chance.choice((0.0, 0.01, 0.05)), reset=chance.random() < 0.5)


def come_and_go(crowd: Crowd, running: Running, numbers: range) -> None:
    """So many of them, some at a time, on every port."""
    ports = [address_of(url) for url in (running.base_url, running.websocket_url, running.worker_url)]
    waiting = iter(numbers)
    there: set[Socket] = set()

    def all_gone() -> bool:
        there.difference_update([member for member in there if member.ended])
        while len(there) < AT_ONCE and (number := next(waiting, None)) is not None:
            there.add(crowd.join(rude(crowd, number), address=ports[number % 3]))
        return not there

    crowd.until(all_gone, 60 + len(numbers) / 10, "all of them gone")
    crowd.until(lambda: fetch(running, "/api/c-client/status")["total"] == 1, 20, "the gateway to know it")


def tasks(crowd: Crowd, asker: "Asker") -> int:
    """How many tasks the gateway has."""
    asker.answer = 0
    asker.say({"type": "request", "data": {"action": "tasks", "params": {}}})
    crowd.until(lambda: asker.answer > 0, 20, "the number of tasks")
    return asker.answer


class Asker(Client):
    """Keeps the last result that it was given."""

    __slots__ = ("answer",)

    def on_text(self, payload: bytes) -> None:
        """Keep the result."""
        super().on_text(payload)
        result = json.loads(payload)["data"].get("result")
        if result is not None:
            self.answer = int(result)


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_is_left_behind(tmp_path: Path, server: str) -> None:
    settings = {"PORTICO_DRAIN_SECONDS": 0.2, "PORTICO_EXTENSIONS": "tests.adversity.insight"}
    with (
        gateway(tmp_path, server=server, settings=settings, forked=False) as running,
        Crowd(address_of(running.base_url)) as crowd,
    ):
        pid = serving_pid(running)
        asker = crowd.join(Asker(crowd, '{"type": "connect", "data": {}}'))
        crowd.until(lambda: asker.registered, 30, "the one that asks in")
        come_and_go(crowd, running, range(WARM_UP))
        crowd.pump(0.5)
        before = (tasks(crowd, asker), descriptors(pid), memory(pid))
        come_and_go(crowd, running, range(WARM_UP, WARM_UP + CONNECTIONS))
        sent = 0
        while sent < FRAMES:
            asker.send(frame(TEXT, b'{"type": "heartbeat"}') * 5000)
            sent += 5000
            crowd.until(lambda n=sent: asker.texts >= n, 60, "the heartbeats answered")  # type: ignore[misc]  # a default

        def back() -> bool:
            # Idle connections of Hypercorn's end after some seconds.
            crowd.pump(0.2)
            return tasks(crowd, asker) <= before[0] and descriptors(pid) <= before[1]

        eventually(
            back, 20, f"tasks and descriptors back at {before[:2]}, not {(tasks(crowd, asker), descriptors(pid))}"
        )
        assert memory(pid) - before[2] < 4 * 1024 * 1024
        assert metric(running, "internal_errors_total") == 0
        assert "Traceback" not in running.said()
