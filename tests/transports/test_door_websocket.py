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


GET = [(b":method", b"GET"), *WITHIN_HTTP_2[2:5]]
WITHOUT = [[field for field in request if field[0] != b":authority"] for request in (WITHIN_HTTP_2, GET)]


async def test_two_hosts_or_one_beside_another_authority_are_no_request_within_http_2() -> None:
    """Hypercorn reads `:authority`, or else the last host; who stands in front may read the other. h2 takes no such
    request (from 4.4.1 on), by ending the connection: it has no request that could be answered."""
    stage = Stage(h2c=True)
    host = (b"host", b"gw.example.com")
    hostile = [[*request, (b"host", b"evil.example")] for request in (WITHIN_HTTP_2, GET)]
    hostile += [[*request, host, host] for request in (WITHIN_HTTP_2, GET)]
    hostile += [[*request, host, (b"host", b"evil.example")] for request in WITHOUT]
    config = h2.config.H2Configuration(header_encoding=None, validate_outbound_headers=False)
    async with stage.serve() as address:
        for headers in hostile:
            connection = h2.connection.H2Connection(config)
            async with await RawClient.dial(address) as client:
                connection.initiate_connection()
                connection.send_headers(1, headers, end_stream=headers[0][1] == b"GET")
                await client.send(connection.data_to_send())
                seen: list[h2.events.Event] = []
                with trio.fail_after(60):
                    while await client._more():
                        seen += connection.receive_data(bytes(client._buffer))
                        client._buffer.clear()
            assert not any(isinstance(event, h2.events.ResponseReceived) for event in seen), headers
            assert any(isinstance(event, h2.events.ConnectionTerminated) for event in seen), headers
        assert not stage.gate.recorders
        async with await RawClient.open(address):
            await stage.gate.recorder()


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
