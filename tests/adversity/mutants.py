"""Requests and frames as nobody should send them: seeded, so that a number names each for ever."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any, Final, cast

from tests.transports.raw import BINARY, CLOSE, CONT, PING, PONG, TEXT, close_frame, frame, upgrade
from tests.transports.vectors import GET, VECTORS

VECTOR_BYTES: Final = [cast("bytes", vector.values[0]) for vector in VECTORS]
"""Every one that is known to have ended some server."""

_HEADERS: Final = (
    b"Sec-WebSocket-Protocol: portico.c-client.v1\r\n",
    b"Sec-WebSocket-Protocol: caf\xe9\r\n",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    b"Sec-WebSocket-Extensions: \xff\xfe\r\n",
    b"Origin: http://evil.example\r\n",
    b"Origin: \x00\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: keep-alive, Upgrade\r\n",
    b"Host: \xff\r\n",
    b"X-Forwarded-For: 1.2.3.4, \xc3\x28\r\n",
    b"X-Forwarded-Host: ]\r\n",
    b"Cookie: " + b"c" * 3000 + b"\r\n",
    b" folded\r\n",
    b": no name\r\n",
)
_PATHS: Final = ("/", "/ws", "/ws/ann", "/ws/%ff", "/worker", "/requester", "/api/websocket", "/nowhere", "//", "/?a=%")
_BODIES: Final = (
    b'{"type": "c_client_register", "client_id": "m"}',
    b'{"type": "c_client_register", "client_id": 5, "user_id": []}',
    b'{"type": "heartbeat"}',
    b'{"request_id": "r", "command": "echo", "data": {"message": "x"}}',
    b'{"command": NaN}',
    b'{"type": "connect", "data": {"role": "worker", "capacity": -1}}',
    b'{"type": "response", "data": {"request_id": "none"}}',
    b'{"type": "request", "data": {"action": "calculate", "params": {"a": 1e999, "b": 0, "op": "/"}}}',
    b"[" * 5000,
    b"\xff\xfe",
    b"",
    b"\xed\xa0\x80",
    b'"\\ud800"',
    b"1" * 400,
)


def mutant(number: int) -> list[bytes]:
    """The pieces of the mutant of that number: bytes to send one after the other."""
    chance = Random(number)
    data = _start(chance)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 5))):
        data = _mutated(chance, data)
    return _cut(chance, data)


def _start(chance: Random) -> bytes:
    kind = chance.random()
    if kind < 0.1:
        return chance.choice(VECTOR_BYTES)
    if kind < 0.2:
        method = chance.choice((b"GET", b"POST", b"PUT", b"OPTIONS", b"HEAD", b"BREW", b"get"))
        path = chance.choice((b"/readyz", b"/api/notifications", b"/api/clients?limit=%00", b"/metrics", b"/%2e%2e/"))
        body = chance.choice(_BODIES)
        length = b"Content-Length: %d\r\n" % (len(body) + chance.choice((0, 0, 0, -1, 7)))
        return method + b" " + path + b" HTTP/1.1\r\nHost: gw\r\n" + length + b"\r\n" + body
    extra = b"".join(chance.sample(_HEADERS, chance.choice((0, 0, 0, 1, 2))))
    head = upgrade(chance.choice(_PATHS), extra=extra)
    if kind < 0.3:
        # Some come on a connection that has served plain HTTP before.
        head = GET.replace(b"/hello", b"/livez") + head
    return head + b"".join(_frame(chance) for _ in range(chance.randrange(8)))


def _frame(chance: Random) -> bytes:
    payload = chance.choice(_BODIES)
    opcode = chance.choice((TEXT, TEXT, TEXT, BINARY, CONT, PING, PONG, CLOSE, chance.randrange(16)))
    if opcode == CLOSE and chance.random() < 0.7:
        return close_frame(chance.choice((1000, 1001, 1005, 1006, 999, 4000, 5000, 65535)), payload[:60])
    odd: dict[str, Any] = {}
    if chance.random() < 0.15:
        odd = chance.choice(({"fin": False}, {"rsv": 4}, {"mask": None}, {"announce": 2**40}, {"announce": 2**63 + 5}))
    return frame(opcode, payload, **odd)


def _mutated(chance: Random, data: bytes) -> bytes:
    if not data:
        return data
    at = chance.randrange(len(data))
    match chance.randrange(7):
        case 0:
            return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        case 1:
            return data[:at] + chance.randbytes(chance.randrange(1, 20)) + data[at:]
        case 2:
            return data[:at] + data[at + chance.randrange(1, 30) :]
        case 3:
            return data[:at]
        case 4:
            return data[:at] + data[max(0, at - 40) :]
        case 5:
            return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
        case _:
            return data + chance.choice(VECTOR_BYTES)[:3000]


def _cut(chance: Random, data: bytes) -> list[bytes]:
    places: Sequence[int] = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice((0, 0, 0, 1, 3))))
    edges = [0, *places, len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]
