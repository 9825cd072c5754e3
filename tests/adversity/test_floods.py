"""Too much, too slow, too big, too many: each is cut at its limit, with the code that says so, and counted."""

import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from service.observe import EVENTS
from tests.gateways import Running, gateway
from tests.transports.contract_compression import OFFER, RSV1, bomb
from tests.transports.raw import BINARY, CONT, TEXT, Address, close_frame, frame, upgrade

from .crowd import Attacker, BusyClient, Client, Crowd, LateClient, register
from .scene import address_of, descriptors, eventually, fetch, memory, metric, serving_pid, sized

pytestmark = pytest.mark.live

MIB: Final = 1024 * 1024
DOORS: Final = {"native": ("native", Client), "front door": ("door", Client), "asgi": ("door", LateClient)}
QUICK: Final = {"PORTICO_DRAIN_SECONDS": 0.2}


def at(running: Running, door: str) -> Address:
    return address_of(running.websocket_url if door == "native" else running.base_url)


@pytest.mark.parametrize("server", ["portico serve", "hypercorn"])
def test_heads_that_come_slowly_or_never(tmp_path: Path, server: str) -> None:
    post = b"POST /api/notifications HTTP/1.1\r\nHost: gw\r\nContent-Le"
    starts = [b"", b"G", b"POST", post, upgrade()[:-2], upgrade()[:30], b"\x16\x03\x01", b"PRI * HT"]
    with (
        gateway(tmp_path, server=server, settings={**QUICK, "PORTICO_HANDSHAKE_TIMEOUT": 0.5}) as running,
        Crowd(address_of(running.base_url)) as crowd,
    ):
        before = descriptors(serving_pid(running))
        ports = [at(running, "native"), at(running, "door")]
        # All by themselves would hang up only after the test's patience is over.
        silent = [crowd.join(Attacker(crowd, [start], 60), address=port) for start in starts for port in ports]
        slow = [
            crowd.join(Attacker(crowd, [bytes([byte]) for byte in head], 60, every=0.1), address=port)
            for head in (upgrade(), post)
            for port in ports
        ]
        crowd.until(lambda: all(attacker.ended for attacker in silent + slow), 15, "all of them cut")
        eventually(lambda: descriptors(serving_pid(running)) <= before, 10, "their descriptors closed")
        client = crowd.join(Client(crowd, register("c0")))

        def is_in() -> bool:
            nonlocal client
            if client.ended:  # we stood still ourselves
                client = crowd.join(Client(crowd, register("c0")))
            return client.registered

        crowd.until(is_in, 30, "who is quick enough is let in")


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("PORTICO_MAX_MESSAGES_PER_SECOND", {"type": "heartbeat"}),
        ("PORTICO_MAX_BYTES_PER_SECOND", {"type": "x" * 2000}),
    ],
    ids=["messages", "bytes"],
)
def test_more_than_the_rate(tmp_path: Path, limit: str, message: object) -> None:
    with (
        gateway(tmp_path, settings={**QUICK, limit: 50 if "MESSAGES" in limit else 20_000}) as running,
        Crowd(address_of(running.base_url)) as crowd,
    ):
        quiet = crowd.c_clients(10)
        busy = [crowd.join(BusyClient(crowd, register("b1"), message), address=at(running, "native"))]
        busy.append(crowd.join(BusyClient(crowd, register("b2"), message)))
        late = crowd.join(LateClient(crowd, register("b3")))
        crowd.until(lambda: late.registered, 30, "the one over ASGI in")
        # At once: while we stood still in between, it would have come no faster than it may.
        late.send(frame(TEXT, json.dumps(message).encode()) * 500)
        crowd.until(lambda: all(client.ended for client in (*busy, late)), 30, "the busy ones gone")
        assert [client.code for client in (*busy, late)] == [4029] * 3
        for _ in range(4):
            for client in quiet:
                client.say({"type": "heartbeat"})
            crowd.pump(0.3)
        assert [client.code for client in quiet if client.code] == []
        eventually(lambda: metric(running, "connections_closed_total", 'code="4029"') == 3, 10, "all three counted")


def endless() -> bytes:
    return frame(TEXT, b"x" * 1000, fin=False) + frame(CONT, b"x" * 1000, fin=False) * (sized(16, 64) * 1024)


@pytest.fixture(scope="module")
def compressing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway for all that is too much for one message: each test's clients are gone at its end."""
    settings = {**QUICK, "PORTICO_COMPRESSION": "true"}
    with gateway(tmp_path_factory.mktemp("floods"), settings=settings, forked=False) as running:
        yield running


@pytest.mark.parametrize(
    "sends",
    [lambda: frame(BINARY, b"x" * sized(16, 64) * MIB, announce=2**40), endless],
    ids=["a frame of 2^40 bytes", "endless fragments"],
)
@pytest.mark.parametrize("transport", DOORS)
def test_a_message_without_end(compressing: Running, transport: str, sends: Callable[[], bytes]) -> None:
    door, kind = DOORS[transport]
    running = compressing
    with Crowd(at(running, door)) as crowd:
        clients = [crowd.join(kind(crowd, register(f"c{n}"))) for n in range(3)]
        crowd.until(lambda: all(client.registered for client in clients), 30, "everybody in")
        before = memory(serving_pid(running))
        data = sends()
        for client in clients:
            client.send(data)
        most = 0

        def ended() -> bool:
            nonlocal most
            most = max(most, memory(serving_pid(running)))
            return all(client.ended for client in clients)

        crowd.until(ended, 30, "TCP closed")
        assert [client.code for client in clients] == [1009] * 3
        # Beside what a message may have, and again for the copy that is decoded: the allocator's own slack.
        assert most - before < len(clients) * 2 * MIB + 6 * MIB


@pytest.mark.parametrize("transport", DOORS)
def test_a_little_that_unfolds_to_very_much(compressing: Running, transport: str) -> None:
    door, kind = DOORS[transport]
    running = compressing
    with Crowd(at(running, door)) as crowd:
        clients = [kind(crowd, register(f"c{n}")) for n in range(3)]
        for client in clients:
            client.offer = OFFER
            crowd.join(client)
        crowd.until(lambda: all(client.let_in for client in clients), 30, "everybody in")
        before = memory(serving_pid(running))
        data = frame(TEXT, bomb(MIB - 1), rsv=RSV1)
        for client in clients:
            client.send(data)
        most = 0

        def ended() -> bool:
            nonlocal most
            most = max(most, memory(serving_pid(running)))
            return all(client.ended for client in clients)

        crowd.until(ended, 30, "TCP closed")
        assert [client.code for client in clients] == [1009] * 3
        # As above: each of them unfolds to 1 GiB.
        assert most - before < len(clients) * 2 * MIB + 6 * MIB


def test_heads_with_too_much_in_them(compressing: Running) -> None:
    many = b"".join(b"X-%d: y\r\n" % number for number in range(400))
    running = compressing
    with Crowd(address_of(running.base_url)) as crowd:
        attackers = [
            crowd.join(Attacker(crowd, [head], 10), address=at(running, door))
            for head in (
                upgrade(extra=many),
                upgrade(extra=b"X: " + b"y" * 100_000 + b"\r\n"),
                upgrade("/" + "p" * 100_000),
                b"GET /livez HTTP/1.1\r\nHost: gw\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
            )
            for door in ("native", "door")
        ]
        crowd.until(lambda: all(attacker.ended for attacker in attackers), 20, "all of them refused")
        for attacker in attackers:
            assert attacker.answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"HTTP/1.1 414"), attacker.answer[:60]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("PORTICO_MAX_CONNECTIONS", 20),
        ("PORTICO_MAX_CONNECTIONS_PER_ADDRESS", 20),
        ("PORTICO_MAX_HANDSHAKES_PER_SECOND", 10),
    ],
)
def test_more_than_may_come(tmp_path: Path, setting: str, value: int) -> None:
    with (
        gateway(tmp_path, settings={**QUICK, setting: value}) as running,
        Crowd(address_of(running.base_url)) as crowd,
    ):
        kinds = list(DOORS.values())
        clients = [
            crowd.join(kinds[n % 3][1](crowd, register(f"c{n}")), address=at(running, kinds[n % 3][0]))
            for n in range(120)
        ]
        crowd.until(lambda: all(client.registered or client.ended for client in clients), 30, "everybody in or out")
        let_in = [client for client in clients if client.registered]
        refused = [client for client in clients if not client.registered]
        assert 20 <= len(let_in) <= (20 if "CONNECTIONS" in setting else 110)
        assert {client.code for client in refused} <= {503, 1013}
        for client in refused:
            assert client.code == 1013 or "retry-after: 5" in client.reason.lower()
        by_http = sum(client.code == 503 for client in refused)
        eventually(lambda: metric(running, "handshakes_refused_total") == by_http, 10, "every refusal counted")
        # Whoever comes when there is room again gets in.
        for client in let_in:
            client.hang_up()
        eventually(lambda: fetch(running, "/api/c-client/status")["total"] == 0, 10, "nobody there")
        crowd.pump(0.5)
        crowd.c_clients(3)


@pytest.mark.parametrize("server", ["portico serve", "hypercorn"])
@pytest.mark.parametrize("door", ["native", "door"])
def test_no_descriptors_left(tmp_path: Path, server: str, door: str) -> None:
    with (
        gateway(tmp_path, server=server, settings=QUICK) as running,
        Crowd(at(running, door)) as crowd,
    ):
        pid = serving_pid(running)
        limit = descriptors(pid) + 20
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, most))
        early = [crowd.join(Client(crowd, register(f"early{n}"))) for n in range(60)]
        crowd.until(lambda: sum(client.registered for client in early) >= 10, 20, "the first in")
        crowd.pump(1)
        let_in = [client for client in early if client.registered]
        # One may have been the probe's when they were counted.
        assert len(let_in) <= 22
        assert [client.code for client in early if client.code] == []
        for client in let_in[:10]:
            client.hang_up()
        crowd.until(lambda: sum(client.registered for client in early) >= len(let_in) + 8, 20, "others in their place")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        crowd.until(lambda: all(client.registered for client in early), 20, "everybody in")
        said = running.said()
        assert "Traceback" not in said
        assert EVENTS["accept_paused"] in said
        if door == "native":
            eventually(lambda: "accepting again" in running.said(), 10, "accepting again")


@pytest.mark.parametrize("transport", DOORS)
def test_all_that_came_before_a_close_is_handled(tmp_path: Path, transport: str) -> None:
    door, kind = DOORS[transport]
    beats = frame(TEXT, b'{"type": "heartbeat"}') * 8

    class Hasty(kind):  # type: ignore[misc, valid-type]  # a class that is picked at run time
        def send(self, data: bytes) -> None:
            if self.first is not None and data == frame(TEXT, self.first.encode()):
                data += beats + close_frame(1000)
            super().send(data)

    with gateway(tmp_path, settings=QUICK) as running, Crowd(at(running, door)) as crowd:
        clients: list[Any] = [crowd.join(Hasty(crowd, register(f"c{n}"))) for n in range(20)]
        crowd.until(lambda: all(client.ended for client in clients), 20, "everybody gone")
        assert [(client.texts, client.code) for client in clients] == [(9, 1000)] * 20
