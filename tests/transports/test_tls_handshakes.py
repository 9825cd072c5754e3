"""Handshakes over TLS whose bytes come in any pieces, the end of TLS's own with the request or apart from it."""

import random
import socket
import ssl
import time
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.gateways import gateway

pytestmark = pytest.mark.live

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class _Client:
    """TLS between two memory BIOs, so that the test decides what goes out together."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, chance: random.Random) -> None:
        self._sock = sock
        self._chance = chance
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")

    def push(self) -> None:
        """Send what is due, in pieces."""
        data = self._outgoing.read()
        while data:
            size = self._chance.choice([len(data), self._chance.randint(1, len(data)), min(50, len(data))])
            self._sock.sendall(data[:size])
            data = data[size:]
            if data and self._chance.random() < 0.5:
                time.sleep(self._chance.random() / 500)

    def _hear(self) -> None:
        self._incoming.write(self._sock.recv(self._chance.choice([100, 5000])))

    def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.push()
                self._hear()
            else:
                return

    def ask(self, request: bytes) -> bytes:
        self._tls.write(request)
        self.push()
        answer = b""
        while b"\r\n\r\n" not in answer:
            try:
                answer += self._tls.read(4096)
            except ssl.SSLWantReadError:
                self._hear()
        return answer


def test_a_handshake_comes_in_any_pieces(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    with gateway(tmp_path, server="portico serve", certificate=made) as running:
        context = made.trusted()
        port = int(running.base_url.rpartition(":")[2])
        for seed in range(60):
            chance = random.Random(seed)
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.settimeout(60)
                client = _Client(sock, context, chance)
                client.shake_hands()
                if chance.random() < 0.5:
                    client.push()  # else it goes out with the request
                assert client.ask(REQUEST).startswith(b"HTTP/1.1 101 "), seed
