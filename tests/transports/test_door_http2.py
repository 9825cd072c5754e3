"""Requests over HTTP/2 that are none: each is refused, and the connection's other requests go on."""

import h2.config
import h2.connection
import h2.events
import pytest
import trio

from .door_stage import Stage
from .raw import RawClient

Fields = list[tuple[bytes, bytes]]
REST: Fields = [(b":scheme", b"http"), (b":path", b"/"), (b":authority", b"gw.example.com")]
GET: Fields = [(b":method", b"GET"), *REST]


def to_a(protocol: bytes) -> Fields:
    return [(b":method", b"CONNECT"), (b":protocol", protocol), *REST, (b"sec-websocket-version", b"13")]


MALFORMED: list[Fields] = [
    [*GET, (b"content-length", b"5")],
    [(b":method", b"POST"), *REST, (b"content-length", b"00012")],
    [(b":method", b"CONNECT"), (b":authority", b"gw.example.com:22")],
    [(b":method", b"G\xcbT"), *REST],
    [(b":method", b"GET"), REST[0], (b":path", b"/\xff"), REST[2]],
    to_a(b"h2c"),
    to_a(b"connect-udp"),
    to_a(b"WebSocket"),
    to_a(b""),
]


@pytest.mark.parametrize("fields", MALFORMED)
async def test_what_is_no_request_ends_its_stream_and_no_other(fields: Fields) -> None:
    stage = Stage(h2c=True)
    config = h2.config.H2Configuration(header_encoding=None, validate_outbound_headers=False)
    connection = h2.connection.H2Connection(config)
    async with stage.serve() as address, await RawClient.dial(address) as client:
        connection.initiate_connection()
        # The first request of a connection, and one after another.
        for stream_id in (1, 5):
            connection.send_headers(stream_id, fields, end_stream=fields[0][1] != b"CONNECT")
            connection.send_headers(stream_id + 2, GET, end_stream=True)
            await client.send(connection.data_to_send())
            ended: dict[int, str] = {}
            with trio.fail_after(60):
                while len(ended) < 2:
                    assert await client._more()
                    for event in connection.receive_data(bytes(client._buffer)):
                        if isinstance(event, h2.events.ResponseReceived):
                            ended[event.stream_id] = "answered"
                        elif isinstance(event, h2.events.StreamReset):
                            ended[event.stream_id] = "reset"
                    client._buffer.clear()
            assert ended == {stream_id: "reset", stream_id + 2: "answered"}
        assert not stage.gate.recorders


async def test_data_behind_what_is_no_request_is_nobodys() -> None:
    """It may be on its way, or here already, when its stream ends."""
    stage = Stage(h2c=True)
    config = h2.config.H2Configuration(header_encoding=None, validate_outbound_headers=False)
    connection = h2.connection.H2Connection(config)
    async with stage.serve() as address, await RawClient.dial(address) as client:
        connection.initiate_connection()
        connection.send_headers(1, GET, end_stream=True)
        connection.send_headers(3, [(b":method", b"CONNECT"), (b":authority", b"gw.example.com:22")])
        connection.send_data(3, b"SSH-2.0-x")
        connection.send_data(3, b"and more", end_stream=True)
        connection.send_headers(5, GET, end_stream=True)
        await client.send(connection.data_to_send())
        answered: set[int] = set()
        with trio.fail_after(60):
            while answered != {1, 5}:
                assert await client._more(), answered
                events = connection.receive_data(bytes(client._buffer))
                client._buffer.clear()
                answered |= {event.stream_id for event in events if isinstance(event, h2.events.ResponseReceived)}


async def test_a_length_of_nothing_is_one() -> None:
    stage = Stage(h2c=True)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    async with stage.serve() as address, await RawClient.dial(address) as client:
        connection.initiate_connection()
        connection.send_headers(1, [*GET, (b"content-length", b"0")], end_stream=True)
        await client.send(connection.data_to_send())
        with trio.fail_after(60):
            answered = False
            while not answered:
                assert await client._more()
                events = connection.receive_data(bytes(client._buffer))
                client._buffer.clear()
                answered = any(isinstance(event, h2.events.ResponseReceived) for event in events)
