"""Requests without end on connections that are kept: each is answered, in order, and none leaves anything behind.

At full size (`make adversity`) a million for each way to serve; every day some thousands for one of them.
"""

import json
import socket
from pathlib import Path
from typing import Final

import pytest

from tests.gateways import SERVERS, gateway

from .scene import FULL, address_of, descriptors, memory, metric, serving_pid, sized

pytestmark = pytest.mark.live

REQUESTS: Final = sized(6_400, 1_000_000)
WARM_UP: Final = sized(1_600, 50_000)
CONNECTIONS: Final = 32
PIPELINED: Final = 25
_ROUND: Final = CONNECTIONS * PIPELINED

_PUSH: Final = json.dumps({"target": {"user_id": "nobody"}, "type": "t", "data": {"a": 1}}).encode()
_HEAD: Final = b"%b HTTP/1.1\r\nHost: localhost\r\n"
_POST: Final = b"POST /api/notifications"
ASKED: Final = [
    _HEAD % b"GET /api/b-client/websocket-info" + b"\r\n",
    _HEAD % b"GET /livez" + b"\r\n",
    _HEAD % _POST + b"Content-Length: %d\r\n\r\n" % len(_PUSH) + _PUSH,
    _HEAD % b"POST /api/notifications"
    + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(_PUSH), _PUSH),
    _HEAD % _POST + b"Content-Length: 1\r\n\r\n{",
]
STATUSES: Final = [200, 200, 202, 202, 400]


class Caller:
    """One kept connection. Its requests go out in bundles, without a wait for the answers of those before."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=60)
        self._received = b""

    def ask(self) -> None:
        """Send a bundle."""
        self.socket.sendall(b"".join(ASKED) * (PIPELINED // len(ASKED)))

    def statuses(self) -> list[int]:
        """The statuses of a bundle's answers."""
        found: list[int] = []
        while len(found) < PIPELINED:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            size = -1
            if end:
                _, _, after = head.lower().partition(b"content-length:")
                size = int(after.split(b"\r\n", 1)[0])
            if size < 0 or len(rest) < size:
                data = self.socket.recv(1 << 20)
                assert data, "the gateway closed a connection that is to be kept"
                self._received += data
                continue
            assert b"connection: close" not in head.lower()
            self._received = rest[size:]
            found.append(int(head.split(b" ", 2)[1]))
        return found


@pytest.mark.parametrize("server", SERVERS if FULL else SERVERS[:1])
def test_requests_without_end(tmp_path: Path, server: str) -> None:
    with gateway(tmp_path, server=server, forked=False) as running:
        pid = serving_pid(running)
        callers = [Caller(address_of(running.base_url)) for _ in range(CONNECTIONS)]
        try:
            go_on(callers, WARM_UP)
            before = (descriptors(pid), memory(pid), metric(running, "http_requests_total"))
            go_on(callers, REQUESTS)
            assert descriptors(pid) <= before[0] + 1  # the connection that asks for the metrics may be there yet
            assert memory(pid) - before[1] < 4 * 1024 * 1024
        finally:
            for caller in callers:
                caller.socket.close()
        assert metric(running, "http_requests_total") - before[2] >= REQUESTS
        assert metric(running, "internal_errors_total") == 0
        assert metric(running, "contained_errors_total") == 0
        assert "Traceback" not in running.said()


def go_on(callers: list[Caller], requests: int) -> None:
    """So many requests, shared by all."""
    for _ in range(requests // _ROUND):
        for caller in callers:
            caller.ask()
        for caller in callers:
            assert caller.statuses() == STATUSES * (PIPELINED // len(STATUSES))
