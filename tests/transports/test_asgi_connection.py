"""The Peer over ASGI by itself: its queue, its Close, and what it tells Pressure."""

from typing import Any

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from portico.wire.codes import CloseCode
from portico.wire.frame import Frame
from service.asgi_types import Message
from service.core.ports import BACKLOG
from service.transports.allowance import Allowance
from service.transports.asgi_connection import AsgiConnection
from service.transports.pressure import Pressure

from .script import Counts

KB = 1024


class Server:
    """An ASGI server that takes messages when the test lets it."""

    def __init__(self, **extension: Any) -> None:
        self.counts = Counts()
        self.pressure = Pressure(limit=100 * KB, hard_limit=1 << 30, total_limit=1 << 30, slow_seconds=5)
        self.taken: list[Message] = []
        self.open = trio.Event()
        self.open.set()
        allowance = Allowance(0, 0, 0.0)
        self.peer = AsgiConnection(
            self.send, extension, "192.0.2.1", self.pressure, allowance, self.counts, lambda event, /, **fields: None
        )

    async def send(self, message: Message) -> None:
        await self.open.wait()
        self.taken.append(message)

    def shut(self) -> None:
        self.open = trio.Event()


async def test_messages_then_the_close(autojump_clock: MockClock) -> None:
    server = Server()
    server.peer.send(Frame(b"one"))
    server.peer.send(Frame(b"two"))
    server.peer.close(CloseCode.RESTARTING, "é" * 100)
    server.peer.send(Frame(b"after the close"))
    await server.peer.write()
    assert [message.get("text") for message in server.taken[:-1]] == ["one", "two"]
    assert server.taken[-1] == {"type": "websocket.close", "code": 1012, "reason": "é" * 61}
    assert server.peer.ending(1006, "") == (1012, "é" * 61)
    assert (server.counts.messages_out, server.counts.bytes_out) == (2, 6)


async def test_a_server_that_takes_nothing_is_a_backlog_and_then_too_slow(autojump_clock: MockClock) -> None:
    server = Server()
    server.shut()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.peer.write)
        nursery.start_soon(server.pressure.run)
        called: list[str] = []
        for _ in range(10):
            server.peer.send(Frame(b"x" * BACKLOG))
        server.peer.when_room(lambda: called.append("room"))
        assert server.peer.has_backlog
        await trio.sleep(4.9)
        assert server.counts.slow_closed == 0
        await trio.sleep(0.7)
        assert server.counts.slow_closed == 1
        assert server.peer.closing is not None
        assert server.peer.closing[0] == 4008
        assert server.peer.waiting == server.peer.frame_count == 0
        assert called == []
        server.open.set()
        await wait_all_tasks_blocked()
        # The message that was on its way, and the Close.
        assert [message["type"] for message in server.taken] == ["websocket.send", "websocket.close"]
        nursery.cancel_scope.cancel()


async def test_what_the_peer_has_taken_is_what_the_server_below_knows(autojump_clock: MockClock) -> None:
    server = Server(taken=lambda: 12345)
    assert server.peer.taken() == 12345
    server = Server(taken=lambda: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.peer.write)
        server.peer.send(Frame(b"12345678"))
        await wait_all_tasks_blocked()
        assert server.peer.taken() == 8
        nursery.cancel_scope.cancel()


async def test_the_server_below_is_told_how_large_a_message_may_be() -> None:
    told: list[int] = []
    server = Server(limit=told.append)
    server.peer.allow_message_size(5)
    server.peer.end()
    server.peer.allow_message_size(6)
    assert told == [5]
    assert server.peer.limit == 5
