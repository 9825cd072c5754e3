"""Each thing that is cut, refused or restarted shows in /metrics, over every way in."""

import socket
from pathlib import Path

import pytest

from tests.gateways import gateway
from tests.transports.raw import BINARY, TEXT, Address, frame, upgrade

from .scene import address_of, eventually, metric

pytestmark = pytest.mark.live

QUICK = {"PORTICO_DRAIN_SECONDS": 0.2}
PORTS = pytest.mark.parametrize("door", ["native", "front door"])


def ask(address: Address, *data: bytes) -> socket.socket:
    """A connection that has sent this."""
    sock = socket.create_connection(address, timeout=30)
    sock.sendall(b"".join(data))
    return sock


def upgraded(address: Address, *data: bytes) -> socket.socket:
    sock = ask(address, upgrade(), *data)
    assert b" 101 " in sock.recv(4096)
    return sock


@PORTS
@pytest.mark.parametrize(
    ("setting", "label"),
    [
        ("PORTICO_MAX_CONNECTIONS", "connections"),
        ("PORTICO_MAX_CONNECTIONS_PER_ADDRESS", "address"),
        ("PORTICO_MAX_HANDSHAKES_PER_SECOND", "handshakes"),
    ],
)
def test_what_each_limit_refuses(tmp_path: Path, door: str, setting: str, label: str) -> None:
    with gateway(tmp_path, settings={**QUICK, setting: 1}) as running:
        address = address_of(running.websocket_url if door == "native" else running.base_url)
        assert metric(running, "connections_refused_total") == 0
        # Of handshakes, bursts of two seconds are let in, and then one a second.
        held = [upgraded(address) for _ in range(2 if label == "handshakes" else 1)]
        while True:
            held.append(ask(address, upgrade()))
            if b" 503 " in held[-1].recv(4096):
                break
            assert label == "handshakes"
            assert len(held) < 20
        eventually(lambda: metric(running, "connections_refused_total", f'limit="{label}"') == 1, 10, "the refusal")
        for sock in held:
            sock.close()


@PORTS
def test_a_head_that_does_not_come(tmp_path: Path, door: str) -> None:
    with gateway(tmp_path, settings={**QUICK, "PORTICO_HANDSHAKE_TIMEOUT": 0.3}) as running:
        address = address_of(running.websocket_url if door == "native" else running.base_url)
        with ask(address, upgrade()[:20]) as slow:
            assert slow.recv(4096) == b""

        def is_counted() -> bool:
            try:
                return metric(running, "handshakes_timed_out_total") >= 1
            except OSError:
                return False  # we stood still ourselves, and were cut

        eventually(is_counted, 10, "the metric")


def test_too_large_and_not_the_protocol(tmp_path: Path) -> None:
    with gateway(tmp_path, settings={**QUICK, "PORTICO_MAX_MESSAGE_SIZE": 1000}) as running:
        address = address_of(running.websocket_url)
        for data in (frame(BINARY, b"x" * 2000), frame(TEXT, b"x", mask=None)):
            with upgraded(address, data) as sock:
                while sock.recv(4096):
                    pass
        eventually(lambda: metric(running, "connections_closed_total", 'code="1009"') == 1, 10, "1009")
        eventually(lambda: metric(running, "connections_closed_total", 'code="1002"') == 1, 10, "1002")
        assert metric(running, "protocol_errors_total") >= 1


def test_there_is_a_number_for_the_drain(tmp_path: Path) -> None:
    with gateway(tmp_path, settings={"PORTICO_DRAIN_SECONDS": 600}, exit_code=None) as running:
        assert (metric(running, "draining"), metric(running, "ready")) == (0, 1)
        # Somebody who does not go by itself, so that there is a drain to look at.
        with upgraded(address_of(running.base_url)):
            running.process.terminate()
            eventually(lambda: metric(running, "draining") == 1, 10, "the drain seen")
            assert metric(running, "ready") == 0
            running.process.kill()
