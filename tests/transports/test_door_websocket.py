"""WebSockets that Hypercorn keeps: pings, compression, messages before a Close, and HTTP/2."""

import h2.config
import h2.connection
import h2.events
import trio
import trio.testing

from portico.wire.frame import Frame

from .door_stage import Stage
from .raw import BINARY, PING, PONG, TEXT, RawClient, close_frame, frame, upgrade
from .script import Silent


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


async def test_a_header_that_has_one_value_comes_once_within_http_2_too() -> None:
    stage = Stage(h2c=True)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    async with stage.serve() as address, await RawClient.dial(address) as client:
        connection.initiate_connection()
        origins = [(b"origin", b"https://shop.example"), (b"origin", b"https://evil.example")]
        connection.send_headers(1, [*WITHIN_HTTP_2, *origins])
        await client.send(connection.data_to_send())
        statuses: list[bytes] = []
        while not statuses:
            assert await client._more()
            events = connection.receive_data(bytes(client._buffer))
            client._buffer.clear()
            statuses += [
                dict(event.headers)[b":status"] for event in events if isinstance(event, h2.events.ResponseReceived)
            ]
    assert statuses == [b"400"]
    assert stage.counts.handshakes_refused == 1


WITHIN_HTTP_2 = [
    (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"http"),
    (b":path", b"/"), (b":authority", b"gw.example.com"), (b"sec-websocket-version", b"13"),
]  # fmt: skip


async def test_a_websocket_within_http_2() -> None:
    stage = Stage(h2c=True)
    config = h2.config.H2Configuration(header_encoding=None)
    connection = h2.connection.H2Connection(config)
    async with stage.serve() as address, await RawClient.dial(address) as client:
        connection.initiate_connection()
        connection.send_headers(1, WITHIN_HTTP_2)
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
