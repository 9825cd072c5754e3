"""The front door: what it hands over, and what becomes of everything else."""

import socket
from dataclasses import replace

import hypercorn.trio.run
import pytest
import trio
import trio.testing
from quart_trio import QuartTrio

from service.transports import front_door

from .asgi_harness import make_app, serving
from .contract import until
from .door_stage import Stage, tasks_at_rest
from .raw import TEXT, RawClient, close_frame, frame, upgrade
from .script import Silent
from .vectors import GET, whole


async def test_an_upgrade_on_a_kept_alive_connection() -> None:
    stage = Stage()
    stage.door = replace(stage.door, adopt=lambda *_: pytest.fail("not the first request"))
    async with stage.serve() as address, await RawClient.dial(address) as client:
        await client.send(GET)
        await whole(client)
        await client.send(upgrade())
        assert (await client.answer()).status == 101
        await client.say("by ASGI")
        assert await client.message() == "by ASGI"
    assert stage.gate.recorders[0].peer.transport == "asgi"


class Adopting(Stage):
    """A stage whose door hands over to the test."""

    def __init__(self) -> None:
        super().__init__(linger=0.2)
        self.door = replace(self.door, adopt=lambda *taken: self.adopted.append(taken))


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

    stage.door = replace(stage.door, adopt=refuse)
    async with stage.serve() as address:
        async with await RawClient.dial(address) as client:
            await client.send(upgrade())
            await client.ended()
        async with await RawClient.dial(address) as client:
            await client.send(GET)
            await whole(client)
    assert stage.counts.contained_errors == 1


async def test_an_app_that_was_not_installed_is_not_touched() -> None:
    stage = Stage()
    app = make_app(stage.gate, stage.counts, stage.lines)
    async with serving(app, stage.door, behind_door=False) as address, await RawClient.open(address) as client:
        await client.say("plain")
        assert await client.message() == "plain"
        await client.send(frame(TEXT, b"a", rsv=4))
        # Hypercorn's own stream says nothing.
        assert (await client.closed())[0] == 1006


async def test_without_the_door_nothing_received_is_lost_either() -> None:
    stage = Stage()
    stage.gate.make = Silent
    app = make_app(stage.gate, stage.counts, stage.lines)
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
