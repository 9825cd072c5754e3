"""Whatever one connection sends, it ends that connection at most: never another, never the gateway."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from service.observe import EVENTS
from tests.gateways import SERVERS, Running, gateway

from .crowd import Attacker, Client, Crowd
from .mutants import VECTOR_BYTES, mutant
from .scene import address_of, eventually, fetch, metric, serving_pid, sized

pytestmark = pytest.mark.live

BYSTANDERS: Final = sized(100, 1000)
MUTANTS: Final = sized(2000, 20_000)
AT_ONCE: Final = 30
EARLIER: Final = b"GET /livez HTTP/1.1\r\nHost: gw\r\n\r\n"


@pytest.fixture(params=SERVERS)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    with gateway(tmp_path, server=request.param, settings={"PORTICO_DRAIN_SECONDS": 0.3}) as running:
        yield running


def attack(crowd: Crowd, running: Running, attacks: list[list[bytes]]) -> None:
    """Send each to each of the gateway's ports in turn, some at a time, until all have been sent."""
    ports = [address_of(url) for url in (running.base_url, running.websocket_url, running.worker_url)]
    waiting = deque(enumerate(attacks))
    under_way: set[Attacker] = set()

    def all_sent() -> bool:
        under_way.difference_update([attacker for attacker in under_way if attacker.ended])
        while waiting and len(under_way) < AT_ONCE:
            number, pieces = waiting.popleft()
            attacker = Attacker(crowd, pieces, 0.03 + number % 5 / 50, reset=number % 3 == 0)
            under_way.add(crowd.join(attacker, address=ports[number % len(ports)]))
        return not under_way

    crowd.until(all_sent, 60 + len(attacks) / 10, "all attacks made")


def untouched(crowd: Crowd, running: Running, bystanders: list[Client], pid: int) -> None:
    """Nobody was lost, and each gets what is sent to all; the process is the one that it was."""
    assert [client.code for client in bystanders if client.code] == []
    before = [client.hits for client in bystanders]
    fetch(running, "/api/notifications", {"target": {"all": True}, "type": "still_there", "data": {}})
    crowd.until_all(bystanders, before, "the push at every bystander")
    assert serving_pid(running) == pid
    said = running.said()
    assert said.count("started") == 1
    assert "Traceback" not in said
    assert metric(running, "internal_errors_total") == 0


def test_every_vector_on_every_port(running: Running) -> None:
    pid = serving_pid(running)
    with Crowd(address_of(running.base_url), mark=b"still_there") as crowd:
        bystanders = crowd.c_clients(BYSTANDERS)
        # Behind an earlier request the upgrade is served by way of ASGI.
        vectors = [[start + vector] for vector in VECTOR_BYTES for start in (b"", EARLIER)]
        attack(crowd, running, [vector for vector in vectors for _ in range(3)])
        untouched(crowd, running, bystanders, pid)


def test_mutants(running: Running) -> None:
    pid = serving_pid(running)
    with Crowd(address_of(running.base_url), mark=b"still_there") as crowd:
        bystanders = crowd.c_clients(BYSTANDERS)
        attack(crowd, running, [mutant(number) for number in range(MUTANTS)])
        untouched(crowd, running, bystanders, pid)
        assert metric(running, "protocol_errors_total") > 0
        # A line is written by a thread, after it was counted.
        told = EVENTS["contained_error"]
        eventually(
            lambda: metric(running, "contained_errors_total") == running.said().count(told), 10, "each has a line"
        )


def test_a_mutant_is_the_same_every_time() -> None:
    assert [mutant(number) for number in range(100)] == [mutant(number) for number in range(100)]
    assert len({b"".join(mutant(number)) for number in range(1000)}) > 900
