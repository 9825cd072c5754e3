"""Connections that the reactor hands over to Hypercorn: what was read of them is served; afterwards they are closed."""

import socket
from typing import Any

import trio
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event, StreamEnded
from trio.testing import wait_all_tasks_blocked

from service.core.counters import Counters
from service.transports.connection_rules import ConnectionRules
from service.transports.door import Door
from service.transports.handed_over import HandedOver


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": scope["path"].encode()})


def pair() -> tuple[trio.SocketStream, socket.socket]:
    """The client's end, and the one that is handed over."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(ours)), theirs


async def read_all(stream: trio.SocketStream) -> bytes:
    async with stream:
        return b"".join([part async for part in stream])


async def test_what_was_read_comes_first() -> None:
    handed_over = HandedOver(app, Door(counts=Counters(), log=lambda *_, **__: None))
    async with trio.open_nursery() as nursery:
        await nursery.start(handed_over.run)
        client, sock = pair()
        handed_over.take(sock, b"GET /one HTTP/1.1\r\nHost: h\r\nConnec")
        await client.send_all(b"tion: close\r\n\r\n")
        with trio.fail_after(30):
            answer = await read_all(client)
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"/one")
        idle, sock = pair()
        handed_over.take(sock, b"")
        with trio.fail_after(30):
            await handed_over.end()
            assert await read_all(idle) == b"", "who asks for nothing is closed at the end"
        nursery.cancel_scope.cancel()
    late, sock = pair()
    handed_over.take(sock, b"GET / HTTP/1.1\r\n\r\n")
    with trio.fail_after(30):
        assert await read_all(late) == b""


async def test_a_drain_tells_each_client_by_the_answer_and_loses_no_request() -> None:
    draining = False
    door = Door(counts=Counters(), log=lambda *_, **__: None, draining=lambda: draining)
    handed_over = HandedOver(app, door)
    request = b"GET /one HTTP/1.1\r\nHost: h\r\n\r\n"
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(handed_over.run)
            kept, sock = pair()
            handed_over.take(sock, request)
            before = b""
            while not before.endswith(b"/one"):
                before += await kept.receive_some()
            assert b"connection: close" not in before.lower()
            draining = True
            await kept.send_all(request)
            after = await read_all(kept)
            assert after.endswith(b"/one")
            assert b"connection: close" in after.lower()
            new, sock = pair()
            handed_over.take(sock, b"")
            nursery.start_soon(handed_over.end)
            await wait_all_tasks_blocked()
            await new.send_all(request)
            assert (await read_all(new)).endswith(b"/one")
            nursery.cancel_scope.cancel()


class Http2:
    """A client that speaks it without TLS, and asks for the same again and again."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._h2 = H2Connection()
        self._h2.initiate_connection()

    async def ask(self) -> None:
        fields = [(":method", "GET"), (":path", "/one"), (":scheme", "http"), (":authority", "h")]
        self._h2.send_headers(self._h2.get_next_available_stream_id(), fields, end_stream=True)
        await self.stream.send_all(self._h2.data_to_send())

    async def until(self, kind: type[Event]) -> list[Event]:
        found: list[Event] = []
        while not any(isinstance(event, kind) for event in found):
            data = await self.stream.receive_some()
            assert data, found
            found += self._h2.receive_data(data)
        return found


async def test_over_http_2_each_client_is_told_which_request_was_the_last() -> None:
    draining = False
    door = Door(
        counts=Counters(), log=lambda *_, **__: None, rules=ConnectionRules(h2c=True), draining=lambda: draining
    )
    handed_over = HandedOver(app, door)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(handed_over.run)
            clients = []
            for _ in range(2):
                stream, sock = pair()
                handed_over.take(sock, b"")
                clients.append(Http2(stream))
                await clients[-1].ask()
                assert not any(
                    isinstance(event, ConnectionTerminated) for event in await clients[-1].until(StreamEnded)
                )
            asks, idles = clients
            draining = True
            await asks.ask()
            events = await asks.until(ConnectionTerminated)
            assert any(isinstance(event, StreamEnded) for event in events)
            assert {event.last_stream_id for event in events if isinstance(event, ConnectionTerminated)} == {3}
            stream, sock = pair()
            handed_over.take(sock, b"")
            clients.append(Http2(stream))
            nursery.start_soon(handed_over.end)
            await wait_all_tasks_blocked()
            await clients[-1].ask()
            assert any(isinstance(event, StreamEnded) for event in await clients[-1].until(ConnectionTerminated))
            events = await idles.until(ConnectionTerminated)
            assert {event.last_stream_id for event in events if isinstance(event, ConnectionTerminated)} == {1}
            nursery.cancel_scope.cancel()
    for client in clients:
        await client.stream.aclose()
