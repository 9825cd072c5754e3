import re
from collections.abc import Awaitable, Callable

import pytest
import trio

from portico.client.errors import (
    ClientError,
    ConnectFailed,
    ConnectionLost,
    HandshakeRefused,
    MessageTooLarge,
    Unsendable,
)
from portico.client.events import BadMessage
from portico.client.link import LinkOptions, open_link
from tests.portico.client.fake_gateway import Events, Peer, fake_gateway

OPTIONS = LinkOptions(connect_timeout=5, max_message=1000)


async def echo(peer: Peer) -> None:
    while True:
        await peer.say(await peer.next())


async def test_messages_go_out_and_come_in() -> None:
    async with fake_gateway(echo) as gateway, open_link(gateway.url, OPTIONS, Events()) as link:
        await link.send({"a": [1, "ü", None]})
        assert await link.receive() == {"a": [1, "ü", None]}


async def test_what_was_sent_last_is_still_written_on_leaving() -> None:
    got: list[object] = []
    closed = trio.Event()

    async def script(peer: Peer) -> None:
        try:
            while True:
                got.append((await peer.next())["n"])
        finally:
            closed.set()

    async with fake_gateway(script) as gateway:
        async with open_link(gateway.url, OPTIONS, Events()) as link:
            for n in range(100):
                await link.send({"n": n})
        with trio.fail_after(60):
            await closed.wait()
    assert got == list(range(100))


async def test_what_is_not_a_json_object_is_reported_and_skipped() -> None:
    async def script(peer: Peer) -> None:
        for bad in ("{", "[1]", "null", "NaN", '"\\ud800"', "[" * 50_000, b"\xff\xfe"):
            await peer.raw(bad)
        await peer.bytes_on_the_wire(b"\x81\x02\xff\xfe")  # a text that is not UTF-8
        await peer.raw(b'{"binary": "but JSON"}')
        await peer.forever()

    events = Events()
    async with fake_gateway(script) as gateway, open_link(gateway.url, OPTIONS, events) as link:
        assert await link.receive() == {"binary": "but JSON"}
    assert len(events.of(BadMessage)) == 8
    assert all("\n" not in str(event) for event in events.seen)


@pytest.mark.parametrize(
    "cut",
    [
        lambda peer: peer.drop(),
        lambda peer: peer.bytes_on_the_wire(b"\x83\x00"),  # an opcode that doesn't exist
        lambda peer: peer.bytes_on_the_wire(b"\xf1\x00"),  # reserved bits
        lambda peer: peer.bytes_on_the_wire(b"\x81\x81abcdX"),  # a masked frame from a server
    ],
)
async def test_a_connection_that_breaks_is_lost_whatever_broke_it(
    cut: Callable[[Peer], Awaitable[None]],
) -> None:
    async def script(peer: Peer) -> None:
        await cut(peer)
        await peer.forever()

    async with fake_gateway(script) as gateway, open_link(gateway.url, OPTIONS, Events()) as link:
        with trio.fail_after(60), pytest.raises(ConnectionLost) as caught:
            await link.receive()
    assert caught.value.code == 1006


async def test_the_gateway_s_close_code_and_reason_come_through_after_its_messages() -> None:
    async def script(peer: Peer) -> None:
        await peer.say({"last": "words"})
        await peer.close(4010, "kicked")

    async with fake_gateway(script) as gateway, open_link(gateway.url, OPTIONS, Events()) as link:
        assert await link.receive() == {"last": "words"}
        with pytest.raises(ConnectionLost) as caught:
            await link.receive()
        assert (caught.value.code, caught.value.reason) == (4010, "kicked")
        with pytest.raises(ConnectionLost) as caught:
            await link.send({"too": "late"})
        assert caught.value.code == 4010


async def test_a_cancelled_send_costs_nobody_the_connection() -> None:
    release = trio.Event()
    got: list[dict[str, object]] = []

    async def script(peer: Peer) -> None:
        await release.wait()
        while True:
            got.append(await peer.next())
            if "after" in got[-1]:
                await peer.say({"seen": len(got)})

    big = {"filler": "x" * 200_000}
    options = LinkOptions(max_message=2**20)
    async with fake_gateway(script) as gateway, open_link(gateway.url, options, Events()) as link:
        for _ in range(100):  # far more than the socket's buffers take while nobody reads
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(link.send, big)
                    await trio.lowlevel.checkpoint()
                    scope.cancel()
        release.set()
        await link.send({"after": "all"})
        with trio.fail_after(30):
            assert (await link.receive())["seen"] == len(got)
    assert all(message in (big, {"after": "all"}) for message in got)


async def test_misuse_is_refused_before_anything_is_sent() -> None:
    async with fake_gateway(echo) as gateway, open_link(gateway.url, OPTIONS, Events()) as link:
        for wrong in (object(), "\ud800", {None: 1}):
            with pytest.raises(Unsendable):
                await link.send({"wrong": wrong})
        with pytest.raises(MessageTooLarge, match="at most 1000"):
            await link.send({"wrong": "x" * 1000})
        await link.send({"right": 1})
        assert await link.receive() == {"right": 1}


async def test_a_peer_that_hangs_up_during_the_handshake_is_noticed_at_once() -> None:
    async with fake_gateway(echo) as gateway:
        gateway.slam = 1
        with trio.fail_after(60), pytest.raises(ConnectFailed, match=re.escape(gateway.url)):
            async with open_link(gateway.url, LinkOptions(connect_timeout=60), Events()):
                pass


async def test_a_peer_that_never_answers_the_handshake_is_given_up() -> None:
    async def mute(stream: trio.SocketStream) -> None:
        async for _ in stream:
            pass

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, mute, listeners)
        url = f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        with pytest.raises(ConnectFailed, match="timed out"):
            async with open_link(url, LinkOptions(connect_timeout=0.05), Events()):
                pass
        nursery.cancel_scope.cancel()


async def test_nobody_listening_is_a_failed_attempt() -> None:
    async with fake_gateway(echo) as gateway:
        pass
    with pytest.raises(ConnectFailed):
        async with open_link(gateway.url, OPTIONS, Events()):
            pass


@pytest.mark.parametrize(
    ("status", "headers", "kind", "retry_after"),
    [
        (403, [], HandshakeRefused, None),
        (404, [], HandshakeRefused, None),
        (503, [(b"Retry-After", b"7")], ConnectFailed, 7.0),
        (503, [(b"Retry-After", b"Wed, 21 Oct 2026 07:28:00 GMT")], ConnectFailed, 0.0),
        (429, [], ConnectFailed, 0.0),
    ],
)
async def test_a_refused_upgrade_is_for_good_or_for_now(
    status: int, headers: list[tuple[bytes, bytes]], kind: type[ClientError], retry_after: float | None
) -> None:
    async with fake_gateway(echo) as gateway:
        gateway.refusals.append((status, headers, b"no\x1b[31m way"))
        with pytest.raises(kind) as caught:
            async with open_link(gateway.url, OPTIONS, Events()):
                pass
    assert str(status) in str(caught.value)
    assert str(caught.value).isprintable()
    assert getattr(caught.value, "retry_after", None) == retry_after


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"code": "forbidden", "message": "Send a key."}}', "HTTP 403: Send a key."),
        (b'{"error": "Not here"}', "HTTP 403: Not here."),
        (b'{"other": 1}', 'HTTP 403: {"other": 1}.'),
        (b"", "HTTP 403."),
    ],
)
async def test_a_refusal_says_the_gateway_s_sentence(body: bytes, said: str) -> None:
    async with fake_gateway(echo) as gateway:
        gateway.refusals.append((403, [], body))
        with pytest.raises(HandshakeRefused) as caught:
            async with open_link(gateway.url, OPTIONS, Events()):
                pass
    assert str(caught.value).endswith(said)


async def test_a_peer_that_stops_answering_pings_is_lost() -> None:
    async def script(peer: Peer) -> None:
        peer.socket._wsproto.receive_data = lambda data: None  # type: ignore[method-assign]  # deaf, not gone
        await trio.sleep_forever()

    options = LinkOptions(ping_interval=0.02, pong_timeout=0.05, close_timeout=0.05)
    async with fake_gateway(script) as gateway, open_link(gateway.url, options, Events()) as link:
        with trio.fail_after(60), pytest.raises(ConnectionLost) as caught:
            await link.receive()
    assert caught.value.code == 1006


async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    async with fake_gateway(echo) as gateway:
        with pytest.raises(KeyError, match="mine"):
            async with open_link(gateway.url, OPTIONS, Events()):
                raise KeyError("mine")


async def test_cancelling_closes_in_order() -> None:
    closed: list[int] = []
    over = trio.Event()

    async def script(peer: Peer) -> None:
        try:
            await peer.forever()
        finally:
            assert peer.socket.closed is not None
            closed.append(peer.socket.closed.code)
            over.set()

    async with fake_gateway(script) as gateway:
        with trio.CancelScope() as scope:
            async with open_link(gateway.url, OPTIONS, Events()) as link:
                scope.cancel()
                await link.receive()
        with trio.fail_after(60):
            await over.wait()
    assert closed == [1000]


async def test_the_api_key_is_sent_and_not_shown() -> None:
    seen: list[str | None] = []

    async def script(peer: Peer) -> None:
        seen.append(peer.headers.get("authorization"))
        await peer.say({})
        await peer.forever()

    options = LinkOptions(api_key="sesame")
    async with fake_gateway(script) as gateway, open_link(gateway.url, options, Events()) as link:
        await link.receive()
    assert seen == ["Bearer sesame"]
    assert "sesame" not in repr(options)
