"""What the kernel says of a connection, and what proves that its peer lives."""

import socket
import sys

import pytest
import trio

from service.transports.traffic import PING_BYTES, Traffic, shows_life, traffic

from .harness import until


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO's fields are Linux'")
async def test_what_a_peer_has_taken_and_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        ours, _ = server.accept()
        with ours:
            assert traffic(ours) == Traffic(0, 0)
            ours.send(b"x" * 1000)
            peer.send(b"y" * 10)
            await until(lambda: traffic(ours) == Traffic(1000, 10))


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO's fields are Linux'")
async def test_what_the_kernel_has_is_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(server.getsockname())
        ours, _ = server.accept()
        with ours:
            ours.setblocking(False)
            written = ours.send(bytes(1_000_000))
            await trio.sleep(0.05)
            seen = traffic(ours)
            assert seen is not None
            assert seen.taken < 100_000 < written
            before = seen.taken
            while len(peer.recv(65536)) == 65536:
                pass
            await until(lambda: (traffic(ours) or seen).taken > before)


def test_what_is_no_tcp_is_not_known() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert traffic(one) is None
    assert traffic(one) is None


def test_life() -> None:
    before = Traffic(1000, 1000)
    assert shows_life(before, Traffic(1000, 1001))
    assert shows_life(before, Traffic(1001 + PING_BYTES, 1000))
    assert not shows_life(before, before)
    assert not shows_life(before, Traffic(1000 + PING_BYTES, 1000)), "that may have been our ping"
    assert not shows_life(None, before)
    assert not shows_life(before, None)
