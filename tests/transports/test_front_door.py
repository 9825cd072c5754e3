"""The front door: nothing that one client does reaches another, and what should end ends."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
import hypercorn.trio.run
import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from portico.wire.frame import Frame
from service.transports import front_door
from service.transports.door import Door
from service.transports.http_server import serve_http

from .asgi_harness import Lines, make_app, serving
from .contract import send_what_is_taken, until
from .raw import BINARY, PING, PONG, TEXT, Address, RawClient, close_frame, frame, upgrade
from .script import Counts, Recorder, ScriptGate, Silent
from .vectors import GET, VECTORS, h2_preface, whole


class Stage:
    """A served app with everything a test may want to look at."""

    def __init__(self, **options: float) -> None:
        self.gate = ScriptGate()
        self.counts = Counts()
        self.lines = Lines()
        self.adopted: list[tuple[socket.socket, bytes, str, str]] = []
        self.door = Door(counts=self.counts, log=self.lines, **options)  # type: ignore[arg-type]  # floats all

    @asynccontextmanager
    async def serve(self, *, outbound_limit: int = 1024 * 1024) -> AsyncIterator[Address]:
        app = make_app(self.gate, self.counts, self.lines, outbound_limit=outbound_limit)
        async with serving(app, self.door) as address:
            yield address


async def tasks_at_rest() -> int:
    """How many tasks there are while nobody is connected, the server's own last ones included."""
    await trio.testing.wait_all_tasks_blocked()
    return trio.lowlevel.current_statistics().tasks_living


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("adopting", [False, True], ids=["kept", "adopting"])
async def test_one_connection_ends_nothing_but_itself(vector: bytes, adopting: bool) -> None:
    stage = Stage()
    if adopting:
        stage.door = Door(counts=stage.counts, log=stage.lines, adopt=lambda sock, *_: sock.close())
    async with stage.serve() as address:
        async with await RawClient.dial(address) as bystander, await RawClient.dial(address) as attacker:
            await bystander.send(GET)
            await whole(bystander)
            await send_what_is_taken(attacker, vector)
            with trio.move_on_after(1):
                await attacker.rest()
            await bystander.send(GET)
            assert (await whole(bystander)).startswith(b"hello 127.0.0.1 http gw")
        async with await RawClient.dial(address) as later:
            await later.send(GET)
            await whole(later)
    for _, fields in stage.lines.lines:
        for text in fields.values():
            assert str(text).isprintable()


async def test_an_error_is_counted_and_logged_as_one_safe_line() -> None:
    stage = Stage()
    path = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/\xe9\x1b[31m")]
    async with stage.serve() as address, await RawClient.dial(address) as client:
        await client.send(h2_preface(path))
        await client.ended()
        await until(lambda: stage.counts.contained_errors == 1)
    ((event, fields),) = stage.lines.lines
    assert event == "contained_error"
    assert "UnicodeDecodeError" in str(fields["error"])


async def test_an_error_of_the_app_is_one_safe_line() -> None:
    stage = Stage()

    def explode(*_: object) -> Recorder:
        raise RuntimeError("a \x1b[31mbug\r\nof ours")

    stage.gate.make = explode
    async with stage.serve() as address, await RawClient.open(address) as client:
        assert (await client.closed())[0] == 1011
        await client.ended()
    ((event, fields),) = stage.lines.lines
    assert event == "hypercorn_error"
    assert r"RuntimeError: a \x1b[31mbug\r\nof ours" in str(fields["error"])


# ---- what should end ends


async def ends_after(address: Address, request: bytes) -> float:
    """Seconds from the answer to the end of the connection."""
    async with await RawClient.dial(address) as client:
        await client.send(request)
        await whole(client)
        start = trio.current_time()
        await client.ended()
        return trio.current_time() - start


async def test_connections_are_closed_when_they_should_be() -> None:
    took: dict[str, float] = {}

    async def measure(name: str, address: Address, request: bytes) -> None:
        took[name] = await ends_after(address, request)

    async with Stage().serve() as address, trio.open_nursery() as nursery:
        nursery.start_soon(measure, "close", address, b"GET /hello HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n")
        nursery.start_soon(measure, "1.0", address, b"GET /hello HTTP/1.0\r\nHost: gw\r\n\r\n")
        nursery.start_soon(measure, "idle", address, GET)
    assert took["close"] < 2.5
    assert took["1.0"] < 2.5
    assert 4 < took["idle"] < 9


async def test_a_kept_alive_connection_serves_many() -> None:
    async with Stage().serve() as address, await RawClient.dial(address) as client:
        for _ in range(20):
            await client.send(GET)
            await whole(client)


async def test_a_client_that_stops_reading_is_cut() -> None:
    stage = Stage(send_timeout=0.5, linger=0.2)
    async with stage.serve() as address:
        tasks = await tasks_at_rest()
        async with await RawClient.dial(address, receive_buffer=4096) as client:
            # A second request waits behind the first: it must not keep the connection either.
            await client.send(GET.replace(b"hello", b"big") * 2)
            await until(lambda: trio.lowlevel.current_statistics().tasks_living > tasks)
            await until(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
            await client.ended()
            assert len(client._buffer) < 30_000_000


@pytest.mark.parametrize("start", [b"", b"GET /hel", b"POST /length HTTP/1.1\r\nHost:", b"PRI * HT"])
@pytest.mark.parametrize("adopting", [False, True], ids=["kept", "adopting"])
async def test_half_a_head_then_silence(start: bytes, adopting: bool) -> None:
    stage = Stage(handshake_timeout=0.3, linger=0.2)
    if adopting:
        stage.door = Door(
            counts=stage.counts, log=stage.lines, handshake_timeout=0.3, linger=0.2, adopt=lambda *_: None
        )
    async with stage.serve() as address, await RawClient.dial(address) as client:
        await client.send(start)
        with trio.fail_after(8):
            await client.ended()


@pytest.mark.parametrize("adopting", [False, True], ids=["kept", "adopting"])
@pytest.mark.parametrize("head", [upgrade(extra=b"X: " + b"y" * 70_000 + b"\r\n"), GET[:-2] + b"X: " + b"y" * 20_000])
async def test_a_head_has_a_bound(head: bytes, adopting: bool) -> None:
    stage = Stage()
    taken: list[bytes] = []
    if adopting:
        stage.door = Door(counts=stage.counts, log=stage.lines, adopt=lambda sock, data, *_: taken.append(data))
    async with stage.serve() as address, await RawClient.dial(address) as client:
        await send_what_is_taken(client, head)
        assert (await client.answer()).status == 431
        await client.ended()
    assert not taken


async def test_a_long_body_that_nobody_waits_for() -> None:
    async with Stage().serve() as address, await RawClient.dial(address) as client, trio.open_nursery() as nursery:
        body = b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
        nursery.start_soon(send_what_is_taken, client, body)
        assert (await client.answer()).status in (404, 413)
        nursery.cancel_scope.cancel()


# ---- WebSockets that Hypercorn keeps


async def test_a_mute_client_is_cut() -> None:
    stage = Stage(ping_interval=0.1, pong_timeout=0.2, linger=0.2)
    async with stage.serve() as address:
        async with await RawClient.open(address) as mute:
            recorder = await stage.gate.recorder()
            assert (await recorder.ending())[0] == 4000
            assert (await mute.closed())[0] == 4000
            await mute.ended()
        async with await RawClient.open(address) as lively:
            for _ in range(6):
                ping = await lively.frame()
                assert ping is not None
                assert ping.opcode == PING
                await lively.send(frame(PONG, ping.payload))
            await lively.say("still here")
            assert await lively.message() == "still here"
    assert stage.counts.mute_closed == 1


async def test_compression_is_not_negotiated() -> None:
    async with Stage().serve() as address, await RawClient.dial(address) as client:
        await client.send(upgrade(extra=b"Sec-WebSocket-Extensions: permessage-deflate\r\n"))
        answer = await client.answer()
        assert answer.status == 101
        assert "sec-websocket-extensions" not in answer.headers


async def test_many_messages_in_one_segment_then_close() -> None:
    stage = Stage()
    stage.gate.make = Silent
    async with stage.serve() as address, await RawClient.open(address) as client:
        await client.send(b"".join(frame(BINARY, b"%d" % n) for n in range(500)) + close_frame(4000))
        recorder = await stage.gate.recorder()
        assert (await recorder.ending())[0] == 4000
    assert len(recorder.messages) == 500


async def test_an_upgrade_on_a_kept_alive_connection() -> None:
    stage = Stage()
    stage.door = Door(counts=stage.counts, log=stage.lines, adopt=lambda *_: pytest.fail("not the first request"))
    async with stage.serve() as address, await RawClient.dial(address) as client:
        await client.send(GET)
        await whole(client)
        await client.send(upgrade())
        assert (await client.answer()).status == 101
        await client.say("by ASGI")
        assert await client.message() == "by ASGI"
    assert stage.gate.recorders[0].peer.transport == "asgi"


async def test_a_websocket_within_http_2() -> None:
    stage = Stage()
    config = h2.config.H2Configuration(header_encoding=None)
    connection = h2.connection.H2Connection(config)
    async with stage.serve() as address, await RawClient.dial(address) as client:
        connection.initiate_connection()
        connection.send_headers(
            1,
            [
                (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"http"),
                (b":path", b"/"), (b":authority", b"gw.example.com"), (b"sec-websocket-version", b"13"),
            ],
        )  # fmt: skip
        await client.send(connection.data_to_send())
        received, seen = b"", []
        with trio.fail_after(10):
            while b"bye" not in received:
                assert await client._more()
                events = connection.receive_data(bytes(client._buffer))
                client._buffer.clear()
                for event in events:
                    if isinstance(event, h2.events.ResponseReceived):
                        seen.append(dict(event.headers)[b":status"])
                        connection.send_data(1, frame(TEXT, b"hello") + close_frame(1000, b"bye"))
                    elif isinstance(event, h2.events.DataReceived):
                        received += event.data
                await client.send(connection.data_to_send())
        recorder = await stage.gate.recorder()
        assert await recorder.ending() == (1000, "bye")
    assert seen == [b"200"]
    assert received.startswith(Frame(b"hello").wire)
    assert recorder.handshake.host == "gw.example.com"


# ---- the hand-over


class Adopting(Stage):
    """A stage whose door hands over to the test."""

    def __init__(self) -> None:
        super().__init__()
        self.door = Door(
            counts=self.counts, log=self.lines, adopt=lambda *taken: self.adopted.append(taken), linger=0.2
        )


async def test_an_upgrade_is_handed_over_with_every_byte() -> None:
    stage = Adopting()
    sent = upgrade(extra=b"Sec-WebSocket-Protocol: caf\xe9\r\n") + frame(TEXT, b"early")
    async with stage.serve() as address:
        tasks = await tasks_at_rest()
        client = await RawClient.dial(address)
        for start in range(0, len(sent), 20):
            await client.send(sent[start : start + 20])
            await trio.sleep(0.001)
        await until(lambda: bool(stage.adopted))
        await until(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
        ((sock, data, kind, peer),) = stage.adopted
        with sock:
            assert (kind, peer) == ("websocket", "127.0.0.1")
            assert not sock.getblocking()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            # The rest may not have been read yet: it is still in the socket.
            adopted = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            while len(data) < len(sent):
                data += await adopted.receive_some(1000)
            assert data == sent
            await adopted.send_all(b"from the reactor")
        async with client:
            assert await client.rest() == b"from the reactor"


@pytest.mark.parametrize("pieces", [1, 7, 1000])
async def test_what_is_no_upgrade_is_hypercorns_with_every_byte(pieces: int) -> None:
    body = b"x" * 20_000
    post = b"POST /length HTTP/1.1\r\nHost: gw\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    stage = Adopting()
    async with stage.serve() as address:
        for request, answer in ((GET, b"hello 127.0.0.1 http gw\n"), (post, b"20000\n")):
            async with await RawClient.dial(address) as client:
                for start in range(0, len(request), -(-len(request) // pieces)):
                    await client.send(request[start : start + -(-len(request) // pieces)])
                    await trio.lowlevel.checkpoint()
                assert await whole(client) == answer
    assert not stage.adopted


async def test_an_adopt_that_raises_ends_that_connection_only() -> None:
    stage = Stage()

    def refuse(*_: object) -> None:
        raise RuntimeError("the reactor is closed")

    stage.door = Door(counts=stage.counts, log=stage.lines, adopt=refuse)
    async with stage.serve() as address:
        async with await RawClient.dial(address) as client:
            await client.send(upgrade())
            await client.ended()
        async with await RawClient.dial(address) as client:
            await client.send(GET)
            await whole(client)
    assert stage.counts.contained_errors == 1


# ---- serving


async def test_a_taken_port_is_said_cleanly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        stage = Stage()
        app = make_app(stage.gate, stage.counts, stage.lines, outbound_limit=1)
        with pytest.raises(OSError, match="in use"):
            await serve_http(app, door=stage.door, shutdown=trio.Event(), host="127.0.0.1", port=taken.getsockname()[1])


async def test_the_end_runs_the_apps_shutdown_and_frees_the_port() -> None:
    stage = Stage()
    app = make_app(stage.gate, stage.counts, stage.lines, outbound_limit=1)
    ran: list[str] = []

    @app.after_serving
    async def after() -> None:
        ran.append("shutdown")

    async with serving(app, stage.door) as address, await RawClient.dial(address) as idle:
        await idle.send(GET)
        await whole(idle)
    assert ran == ["shutdown"]
    with socket.create_server(address):
        pass


async def test_an_app_that_was_not_installed_is_not_touched() -> None:
    stage = Stage()
    app = make_app(stage.gate, stage.counts, stage.lines, outbound_limit=1)
    async with serving(app, stage.door, behind_door=False) as address, await RawClient.open(address) as client:
        await client.say("plain")
        assert await client.message() == "plain"
        await client.send(frame(TEXT, b"a", rsv=4))
        # Hypercorn's own stream says nothing.
        assert (await client.closed())[0] == 1006


async def test_without_the_door_nothing_received_is_lost_either() -> None:
    stage = Stage()
    stage.gate.make = Silent
    app = make_app(stage.gate, stage.counts, stage.lines, outbound_limit=1)
    async with serving(app, stage.door, behind_door=False) as address, await RawClient.open(address) as client:
        await client.send(b"".join(frame(TEXT, b"%d" % n) for n in range(40)) + close_frame(1000))
        recorder = await stage.gate.recorder()
        await recorder.ending()
    assert recorder.messages == [(b"%d" % n, True) for n in range(40)]


@pytest.mark.parametrize("missing", ["TCPServer", "worker_serve"])
def test_a_hypercorn_without_the_places(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "_originals", {})
    monkeypatch.delattr(hypercorn.trio.run, missing)
    stage = Stage()
    app = QuartTrio("places")

    async def drain() -> None:
        """Never called."""

    if missing == "TCPServer":
        assert not front_door.install(app, stage.door)
    else:
        assert not front_door.install_drain(app, stage.door, drain)
    assert stage.lines.lines[0][0] in ("front_door_missing", "drain_missing")


async def test_http_is_left_to_judge_by_itself_who_asks() -> None:
    stage = Stage()
    app = make_app(stage.gate, stage.counts, stage.lines, outbound_limit=1, trusted=("127.0.0.1",))
    async with serving(app, stage.door) as address, await RawClient.dial(address) as client:
        await client.send(
            b"GET /hello HTTP/1.1\r\nHost: inside\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.5\r\n"
            b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: gw.example.com\r\n\r\n"
        )
        assert await whole(client) == b"hello 127.0.0.1 http inside\n"
