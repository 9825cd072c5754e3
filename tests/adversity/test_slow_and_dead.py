"""Peers that don't read, don't answer, or are no longer there: they go, and nobody else notices."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.gateways import ROOT, Running, clean_environment, gateway
from tests.transports.raw import Address

from .crowd import Client, Crowd, LateClient, register
from .scene import address_of, eventually, fetch, memory, metric, serving_pid, sized

pytestmark = pytest.mark.live

BYSTANDERS: Final = sized(100, 999)
PUSHED: Final = sized(24, 100) * 1024 * 1024
MESSAGE: Final = 64 * 1024
BATCH: Final = 8
LIMIT: Final = 1024 * 1024
INTERVAL, TIMEOUT = 1.0, 3.0
"""Seconds; the second is more than a machine stands still for, since who does so is mute."""

DOORS: Final = {"native": ("native", Client), "front door": ("door", Client), "asgi": ("door", LateClient)}
"""How to come to each transport: by which port, and as whom."""


def at(running: Running, door: str) -> Address:
    return address_of(running.websocket_url if door == "native" else running.base_url)


@pytest.mark.parametrize(
    ("server", "transport"), [*(("portico serve", name) for name in DOORS), ("hypercorn", "front door")]
)
def test_one_that_stops_reading(tmp_path: Path, server: str, transport: str) -> None:
    door, kind = DOORS[transport]
    settings = {
        "PORTICO_DRAIN_SECONDS": 0.3,
        "PORTICO_OUTBOUND_LIMIT": LIMIT,
        "PORTICO_OUTBOUND_HARD_LIMIT": 8 * LIMIT,
        "PORTICO_SLOW_SECONDS": 2,
    }
    with (
        gateway(tmp_path, server=server, settings=settings, forked=False) as running,
        Crowd(at(running, door), mark=b"tick") as crowd,
    ):
        bystanders = crowd.c_clients(BYSTANDERS)
        slow = crowd.join(kind(crowd, register("slow")), receive_buffer=4096)
        crowd.until(lambda: slow.registered, 30, "the slow one in")
        slow.read(False)
        before = memory(serving_pid(running))
        big = {"target": {"user_id": "u-slow"}, "type": "big", "data": {"text": "x" * MESSAGE}}
        tick = {"target": {"all": True}, "type": "tick", "data": {}}
        most = 0
        for _ in range(PUSHED // MESSAGE // BATCH):
            heard = [client.hits for client in bystanders]
            fetch(running, "/api/notifications", [big] * BATCH + [tick])
            crowd.until_all(bystanders, heard, "a tick at everybody")
            most = max(most, memory(serving_pid(running)))
        eventually(lambda: metric(running, "slow_connections_closed_total") == 1, 5, "found too slow")
        eventually(lambda: metric(running, "outbound_bytes") == 0, 5, "nothing kept for it")
        eventually(lambda: metric(running, "connections_closed_total", 'code="4008"') == 1, 20, "closed by 4008")
        assert most - before < 16 * LIMIT
        assert fetch(running, "/api/c-client/status")["total"] == BYSTANDERS
        assert [client.code for client in bystanders if client.code] == []


def test_those_that_answer_no_ping(tmp_path: Path) -> None:
    settings = {"PORTICO_DRAIN_SECONDS": 0.3, "PORTICO_PING_INTERVAL": INTERVAL, "PORTICO_PONG_TIMEOUT": TIMEOUT}
    with gateway(tmp_path, settings=settings) as running, Crowd(address_of(running.base_url)) as crowd:
        everybody = {
            name: [crowd.join(kind(crowd, register(f"{name} {n}")), address=at(running, door)) for n in range(20)]
            for name, (door, kind) in DOORS.items()
        }
        mute = [client for clients in everybody.values() for client in clients[:10]]
        answering = [client for clients in everybody.values() for client in clients[10:]]
        for client in mute:
            client.answers_pings = False
        crowd.until(lambda: all(client.registered for client in answering + mute), 30, "everybody in")
        crowd.until(lambda: all(client.ended for client in mute), 20, "the mute ones gone")
        for name, clients in everybody.items():
            assert [client.code for client in clients] == [4000] * 10 + [0] * 10, name
        eventually(lambda: fetch(running, "/api/c-client/status")["total"] == len(answering), 10, "no ghosts")
        eventually(lambda: metric(running, "mute_connections_closed_total") == len(mute), 10, "all of them counted")
        answered = [client.pings for client in answering]
        crowd.until(
            lambda: all(client.pings > pings + 1 for client, pings in zip(answering, answered, strict=True)),
            20,
            "those who answer are asked again, and again after that",
        )
        assert [client.code for client in answering if client.code] == []


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, str]]:
    """A network of its own: the name of its namespace, and our address as seen from there."""
    if shutil.which("ip") is None:
        pytest.skip("iproute2's `ip` makes the network that goes dark")
    name, ours, theirs = "portico-dark", "portico-here", "portico-there"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"network namespaces are not permitted here: {made.stderr.strip()}")
    try:
        inside = ["ip", "netns", "exec", name, "ip"]
        for command in (
            ["ip", "link", "add", ours, "type", "veth", "peer", "name", theirs],
            ["ip", "link", "set", theirs, "netns", name],
            ["ip", "address", "add", "198.18.77.1/30", "dev", ours],
            ["ip", "link", "set", ours, "up"],
            [*inside, "address", "add", "198.18.77.2/30", "dev", theirs],
            [*inside, "link", "set", theirs, "up"],
        ):
            subprocess.run(command, check=True, capture_output=True)
        yield name, "198.18.77.1"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", ours], check=False, capture_output=True)


GUEST: Final = """
import sys
from tests.adversity.crowd import Client, Crowd, LateClient, register
host, native, door = sys.argv[1:]
with Crowd((host, int(door))) as crowd:
    clients = [crowd.join(kind(crowd, register(f"{kind.__name__}{port}{n}")), address=(host, int(port)))
               for n in range(5) for port, kind in ((native, Client), (door, Client), (door, LateClient))]
    crowd.until(lambda: all(client.registered for client in clients), 30, "everybody in")
    print("in", flush=True)
    crowd.pump(120)
"""
GUESTS: Final = 15


@contextmanager
def guests(namespace: str, host: str, running: Running) -> Iterator[None]:
    """Five registered clients of each transport in the namespace."""
    ports = [str(at(running, door)[1]) for door in ("native", "door")]
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, sys.executable, "-c", GUEST, host, *ports],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == "in\n"
            yield
    finally:
        process.kill()
        process.wait()


def test_those_whose_network_is_gone(tmp_path: Path, elsewhere: tuple[str, str]) -> None:
    namespace, host = elsewhere
    settings = {"PORTICO_DRAIN_SECONDS": 0.3, "PORTICO_PING_INTERVAL": INTERVAL, "PORTICO_PONG_TIMEOUT": TIMEOUT}
    with gateway(tmp_path, host=host, settings=settings) as running, guests(namespace, host, running):
        assert fetch(running, "/api/c-client/status")["total"] == GUESTS
        dark = ["ip", "netns", "exec", namespace, "ip", "link", "set", "portico-there", "down"]
        subprocess.run(dark, check=True)
        eventually(lambda: fetch(running, "/api/c-client/status")["total"] == 0, 20, "the guests gone")
        eventually(lambda: metric(running, "mute_connections_closed_total") == GUESTS, 10, "all of them counted")
