"""Requests over HTTP/2 that are none: each is refused, and the connection's other requests go on."""

from collections.abc import Callable, Iterator

import h2.config
import h2.connection
import h2.events
import pytest
import trio

from tests.gateways import Running, gateway

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


# Answers that come before the request is whole, by a real gateway

KEY = "an-api-key-of-this-test-0123456789"
PART = b"x" * 16_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with gateway(tmp_path_factory.mktemp("h2c"), settings={"PORTICO_H2C": "true", "PORTICO_API_KEYS": KEY}) as up:
        yield up


class Exchange:
    """One connection, and what came for each of its streams."""

    def __init__(self, client: RawClient, authority: bytes) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self.statuses: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self._client = client
        self._rest = [(b":scheme", b"http"), (b":authority", authority)]
        self.h2.initiate_connection()

    def begin(self, stream_id: int, method: bytes, path: bytes, *fields: tuple[bytes, bytes], end: bool) -> None:
        """Queue a request's head."""
        head = [(b":method", method), (b":path", path), *self._rest, *fields]
        self.h2.send_headers(stream_id, head, end_stream=end)

    async def until(self, true: Callable[[], object]) -> None:
        """Send what is queued, and take what comes, until this is so. AssertionError where the connection ends."""
        await self._client.send(self.h2.data_to_send())
        while not true():
            assert await self._client._more(), f"the connection ended; so far {self.statuses}"
            events = self.h2.receive_data(bytes(self._client._buffer))
            self._client._buffer.clear()
            for event in events:
                assert not isinstance(event, h2.events.ConnectionTerminated)
                if isinstance(event, h2.events.ResponseReceived):
                    assert event.headers is not None
                    self.statuses[event.stream_id] = bytes(dict(event.headers)[b":status"])
                elif isinstance(event, h2.events.StreamEnded):
                    self.ended.add(event.stream_id)
            await self._client.send(self.h2.data_to_send())

    async def upload(self, stream_id: int, parts: int, *, end: bool = False) -> None:
        """Send a body of so many parts, as the windows allow."""
        for part in range(parts):
            await self.until(lambda: self.h2.local_flow_control_window(stream_id) >= len(PART))
            self.h2.send_data(stream_id, PART, end_stream=end and part == parts - 1)


TOO_LARGE = (
    b"/api/notifications",
    b"413",
    ((b"authorization", f"Bearer {KEY}".encode()), (b"content-length", b"99999999")),
)
NO_ROUTE = (b"/no/such", b"404", ())


@pytest.mark.parametrize(("path", "status", "fields"), [TOO_LARGE, NO_ROUTE], ids=["too large", "no route"])
@pytest.mark.parametrize("first", [0, 3], ids=["data behind the answer", "data before it too"])
@pytest.mark.parametrize("then", ["the end", "a reset", "nothing"])
async def test_data_behind_an_early_answer_is_nobodys(
    running: Running,
    path: bytes,
    status: bytes,
    fields: tuple[tuple[bytes, bytes], ...],
    first: int,
    then: str,
) -> None:
    """It is more than the windows of the stream and of the connection hold: who stopped counting it would stall."""
    port = int(running.base_url.rpartition(":")[2])
    async with await RawClient.dial(("127.0.0.1", port)) as client:
        exchange = Exchange(client, f"127.0.0.1:{port}".encode())
        with trio.fail_after(60):
            exchange.begin(1, b"POST", path, *fields, end=False)
            await exchange.upload(1, first)
            await exchange.until(lambda: 1 in exchange.ended)
            assert exchange.statuses == {1: status}
            exchange.begin(3, b"GET", b"/livez", end=True)
            # (An end at another length than was announced would be malformed.)
            await exchange.upload(1, 100, end=then == "the end" and not fields)
            if then == "a reset":
                exchange.h2.reset_stream(1)
            exchange.begin(5, b"GET", b"/livez", end=True)
            await exchange.until(lambda: exchange.ended >= {3, 5})
            assert exchange.statuses == {1: status, 3: b"200", 5: b"200"}
