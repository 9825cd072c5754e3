"""What one client can send to end a whole server that doesn't expect it; and a plain request, to see if it did."""

import h2.config
import h2.connection
import pytest

from .raw import TEXT, RawClient, frame, upgrade

GET = b"GET /hello HTTP/1.1\r\nHost: gw\r\n\r\n"


async def whole(client: RawClient) -> bytes:
    """An HTTP response with a content-length: its body."""
    answer = await client.answer()
    assert answer.status == 200, answer
    size = int(answer.headers["content-length"])
    while len(client._buffer) < size:
        assert await client._more()
    body = bytes(client._buffer[:size])
    del client._buffer[:size]
    return body


def h2_preface(headers: list[tuple[bytes, bytes]]) -> bytes:
    """HTTP/2 with prior knowledge and one request, however wrong."""
    config = h2.config.H2Configuration(
        validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    connection.send_headers(1, headers, end_stream=True)
    return connection.data_to_send()


VECTORS = [
    pytest.param(upgrade(extra=b"Sec-WebSocket-Protocol: caf\xe9\r\n"), id="high byte in the subprotocol"),
    pytest.param(upgrade(extra=b"Sec-WebSocket-Extensions: \xff\r\n"), id="high byte in the extensions"),
    pytest.param(upgrade().replace(b"Connection: Upgrade", b"Connection: Upgrade, \xe9"), id="high byte in Connection"),
    pytest.param(upgrade() + frame(TEXT, b"early"), id="a frame with the upgrade"),
    pytest.param(upgrade() + frame(TEXT, b"early") * 3000, id="many frames with the upgrade"),
    pytest.param(upgrade("/refused") + frame(TEXT, b"early") * 3000, id="frames with a refused upgrade"),
    pytest.param(upgrade(extra=b"Content-Length: 5\r\n") + b"hello", id="a body on the upgrade"),
    pytest.param(upgrade(extra=b"Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n0\r\n\r\n", id="chunks on it"),
    pytest.param(upgrade() + b"\xff" * 70_000, id="garbage after the upgrade"),
    pytest.param(h2_preface([(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a")]), id="h2: no path"),
    pytest.param(
        h2_preface([(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/\xe9")]),
        id="h2: a path beyond ASCII",
    ),
    pytest.param(
        h2_preface([(b":method", b"\xff"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]),
        id="h2: a method beyond ASCII",
    ),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 400, id="h2: frames of zeros"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\n", id="h2: half a preface"),
    pytest.param(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: \xff\xff\r\n\r\n",
        id="h2c: settings that are none",
    ),
    pytest.param(b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", id="Host is not UTF-8"),
    pytest.param(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", id="a target beyond ASCII"),
    pytest.param(b"GET /%ff%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n", id="escapes that are not UTF-8"),
    pytest.param(b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n", id="a target that is no URL"),
    pytest.param(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", id="a star"),
    pytest.param(b"GET / HTTP/1.1\r\nContent-Length: 5, 6\r\nHost: a\r\n\r\nhello", id="two lengths"),
    pytest.param(b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="a bad chunk"),
    pytest.param(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n" * 50, id="pipelined"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200, id="TLS on a plain port"),
    pytest.param(b"\r\n\r\n\x00\x01\x02", id="nonsense"),
    pytest.param(b"X" * 100_000, id="a line without an end"),
]
