"""HTTP/2 in cleartext, which behind a proxy is a tunnel past it: refused on every server, unless it was asked for.

The attack: a proxy that passes `Upgrade` on lets a client ask for `h2c`; once it has seen 101 it copies bytes, and what
comes then reaches the gateway from a trusted proxy, with whatever path and forwarded headers the client likes.
"""

import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
import trio

from tests.certificates import Certificate, make_certificate
from tests.transports.asgi_harness import Lines, make_app
from tests.transports.script import Counts, ScriptGate

from .servers import PLAIN, Served, serve_everywhere
from .stage import house

PATHS = ("/api/health", "/nothing", "/of-the-app")
SETTINGS = base64.urlsafe_b64encode(b"\x00\x03\x00\x00\x00\x64").rstrip(b"=")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAMES = (*PLAIN, "tls")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def served(certificate: Certificate, **options: Any) -> AsyncIterator[Served]:
    with trio.fail_after(60):
        async with serve_everywhere(house(), certificate, **options) as everywhere:
            yield everywhere


async def dial(everywhere: Served, server: str) -> trio.abc.Stream:
    stream = await everywhere.dial(server)
    if server != "tls":
        return stream
    # No ALPN: nobody has agreed on HTTP/2.
    secure = trio.SSLStream(stream, everywhere.certificate.trusted(), server_hostname="127.0.0.1")
    await secure.do_handshake()
    return secure


async def read_to_end(stream: trio.abc.Stream) -> bytes:
    got = b""
    try:
        while data := await stream.receive_some(65536):
            got += data
    except trio.BrokenResourceError:
        pass
    return got


def asking(path: str, *fields: bytes, method: bytes = b"GET") -> bytes:
    lines = (b"%b %b HTTP/1.1" % (method, path.encode()), b"Host: 127.0.0.1", *fields)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def h2c(path: str) -> bytes:
    return asking(path, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: " + SETTINGS)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("server", FRAMES)
async def test_h2c_is_not_upgraded_to(certificate: Certificate, server: str, path: str) -> None:
    async with served(certificate) as everywhere:
        stream = await dial(everywhere, server)
        async with stream:
            # Answered by HTTP/1.1, as if it had not asked (RFC 9110 section 7.8), and then HTTP/2 is no request at all.
            await stream.send_all(h2c(path) + PREFACE)
            got = await read_to_end(stream)
            assert got.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 404 ")), got[:80]
            assert b" 101 " not in got
            assert len(re.findall(rb"HTTP/1\.1 \d\d\d ", got)) == 2
            assert b"HTTP/1.1 505 " in got


@pytest.mark.parametrize("server", FRAMES)
async def test_prior_knowledge_is_refused(certificate: Certificate, server: str) -> None:
    async with served(certificate) as everywhere:
        stream = await dial(everywhere, server)
        async with stream:
            await stream.send_all(PREFACE)
            assert (await read_to_end(stream)).startswith(b"HTTP/1.1 505 ")


@pytest.mark.parametrize("server", [*PLAIN, "tls"])
@pytest.mark.parametrize(
    "first",
    [
        asking("/of-the-app", b"Connection: Upgrade", b"Upgrade: h2c, websocket"),
        asking("/of-the-app", b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 0"),
        asking("/nothing", b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 0", method=b"POST"),
    ],
)
async def test_what_comes_behind_an_upgrade_that_is_none_is_still_looked_at(
    certificate: Certificate, server: str, first: bytes
) -> None:
    two_lengths = asking("/livez", b"Content-Length: 3", b"Transfer-Encoding: chunked", method=b"POST")
    async with served(certificate) as everywhere:
        stream = await dial(everywhere, server)
        async with stream:
            await stream.send_all(first)
            # On its own, so that no parser has it together with the head.
            await stream.receive_some(65536)
            try:
                await stream.send_all(two_lengths + b"0\r\n\r\n" + asking("/livez"))
            except trio.BrokenResourceError:
                return  # the first was refused, and the connection with it
            assert b"HTTP/1.1 200" not in await read_to_end(stream)


@pytest.mark.parametrize("server", PLAIN)
async def test_where_the_operator_wants_it_both_ways_work(certificate: Certificate, server: str) -> None:
    async with served(certificate, h2c=True) as everywhere:
        stream = await everywhere.dial(server)
        async with stream:
            connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
            connection.initiate_connection()
            head = [(":method", "GET"), (":scheme", "http"), (":authority", "127.0.0.1"), (":path", "/livez")]
            connection.send_headers(1, head, end_stream=True)
            await stream.send_all(connection.data_to_send())
            assert await status_of(connection, stream) == "200"
        stream = await everywhere.dial(server)
        async with stream:
            await stream.send_all(h2c("/of-the-app"))
            assert b"HTTP/1.1 101 " in await stream.receive_some(65536)


STRANGE: dict[str, tuple[bytes, bytes]] = {
    "a space in the target": (b"/of-the-app /livez", b"y"),
    "a tab in the query": (b"/of-the-app?a\tb", b"y"),
    "no path": (b"of-the-app", b"y"),
    "a value that isn't ASCII": (b"/of-the-app", b"\xc3\xa4"),
}


@pytest.mark.parametrize("what", STRANGE)
@pytest.mark.parametrize("path", [b"/livez", b"/of-the-app"])
async def test_http_2_has_no_heads_that_http_1_1_has_not(certificate: Certificate, what: str, path: bytes) -> None:
    target, value = STRANGE[what]
    config = h2.config.H2Configuration(header_encoding=None, validate_outbound_headers=False)
    head = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"127.0.0.1")]
    async with served(certificate, h2c=True) as everywhere:
        for server in PLAIN:
            async with await everywhere.dial(server) as stream:
                connection = h2.connection.H2Connection(config)
                connection.initiate_connection()
                connection.send_headers(
                    1, [*head, (b":path", target.replace(b"/of-the-app", path)), (b"x", value)], end_stream=True
                )
                await stream.send_all(connection.data_to_send())
                assert await status_of(connection, stream) == "400"


async def test_the_ports_for_websockets_never_speak_it(certificate: Certificate) -> None:
    async with served(certificate, h2c=True) as everywhere, trio.open_nursery() as nursery:
        ((_, port),) = await nursery.start(everywhere.reactor.listen, "127.0.0.1", 0, "websocket")
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(PREFACE)
            assert (await read_to_end(stream)).startswith(b"HTTP/1.1 505 ")
        nursery.cancel_scope.cancel()


async def status_of(connection: h2.connection.H2Connection, stream: trio.abc.Stream) -> str:
    got = b""
    while data := await stream.receive_some(65536):
        got += data
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                return dict(event.headers)[b":status"].decode()
    raise AssertionError(f"the connection ended without an answer: {got!r}")


@pytest.mark.parametrize(("kind", "scheme"), [("http", "http"), ("websocket", "ws")])
async def test_the_app_itself_refuses_it_from_a_server_without_our_door(kind: str, scheme: str) -> None:
    app: Any = make_app(ScriptGate(), Counts(), Lines())
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": kind,
        "http_version": "2",
        "scheme": scheme,
        "path": "/hello",
        "method": "GET",
        "headers": [],
    }
    scope |= {"extensions": {"websocket.http.response": {}}, "query_string": b""}
    await app(scope, trio.sleep_forever, send)
    assert sent[0]["status"] == 505
