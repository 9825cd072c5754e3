"""Request heads and answers, without a socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.transports.handshake import BadHead, check_handshake
from service.transports.head import Head, parse_head, switching
from service.transports.proxies import ProxyRules

from .raw import upgrade


def parsed(head: bytes) -> Head:
    return parse_head(head.removesuffix(b"\r\n\r\n"), "10.0.0.1", "worker", ProxyRules().resolve)


def status(head: bytes) -> int:
    try:
        read = parsed(head)
        check_handshake(read.method, "1.1" if read.http_1_1 else "1.0", read.headers)
    except BadHead as bad:
        return bad.answer.status
    return 101


def test_an_upgrade_is_read() -> None:
    head = parsed(upgrade("/chat"))
    assert head.wants_upgrade
    assert (head.path, head.query, head.kind, head.host) == ("/chat", "", "worker", "localhost")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/ws/a%20b%C3%A9?x=%20&x=2", "/ws/a bé", "x=%20&x=2"),
        ("/%ff", "/\ufffd", ""),
        ("http://x/ws?x", "/ws", "x"),
        ("ws://X", "/", ""),
        ("*", "*", ""),
    ],
)
def test_targets(target: str, path: str, query: str) -> None:
    head = parsed(f"OPTIONS {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize("target", ["http://evil.example/api", "ws://x:80/", "http://a@x/", "http:///api", "HTTP://y"])
def test_a_target_that_names_another_host_than_the_header(target: str) -> None:
    """Whoever stands in front goes by the target (RFC 9112 section 3.2.2), and what is checked here is the header."""
    with pytest.raises(BadHead) as refused:
        parsed(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert refused.value.answer.status == 400
    assert parsed(f"GET {target} HTTP/1.0\r\n\r\n".encode()).host == ""


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (upgrade(), 101),
        (upgrade().replace(b"Connection: Upgrade", b"connection: keep-alive, upgrade"), 101),
        (upgrade().replace(b"Upgrade: websocket", b"Upgrade: WebSocket"), 101),
        (upgrade(extra=b"Content-Length: 0\r\n"), 101),
        (upgrade(extra=b"X-Tab: a\tb\r\n"), 101),
        (upgrade(version="8"), 426),
        (upgrade(key=""), 400),
        (upgrade(key="dGhl"), 400),
        (upgrade(method="PUT"), 405),
        (upgrade(method="G ET"), 400),
        (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (upgrade().replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
        (upgrade().replace(b"Host: localhost\r\n", b""), 400),
        (upgrade(extra=b"Host: other\r\n"), 400),
        (upgrade(extra=b"Sec-WebSocket-Version: 13\r\n"), 400),
        (upgrade(extra=b"Content-Length: 1\r\n"), 400),
        (upgrade(extra=b"Transfer-Encoding: chunked\r\n"), 400),
        (upgrade(extra=b" folded: yes\r\n"), 400),
        (upgrade(extra=b"no colon\r\n"), 400),
        (upgrade(extra=b"bad name: x\r\n"), 400),
        (upgrade(extra=b"X: a\nY: b\r\n"), 400),
        (upgrade(extra=b"X: a\rY: b\r\n"), 400),
        (upgrade(extra=b"X: caf\xc3\xa9\r\n"), 400),
        (upgrade(extra=b"X: \x7f\r\n"), 400),
        (upgrade(extra=b"X: y\r\n" * 101), 431),
        (upgrade("chat"), 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"\r\n\r\n", 400),
    ],
)
def test_heads(head: bytes, expected: int) -> None:
    assert status(head) == expected


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        upgrade().replace(b"Connection: Upgrade", b"Connection: close"),
        upgrade().replace(b"Upgrade: websocket", b"Upgrade: h2c"),
    ],
)
def test_what_is_no_upgrade(head: bytes) -> None:
    assert not parsed(head).wants_upgrade


def test_header_lists_are_joined() -> None:
    head = parsed(upgrade(extra=b"Sec-WebSocket-Protocol: a\r\nSEC-WEBSOCKET-PROTOCOL:b \r\n"))
    assert head.headers["sec-websocket-protocol"] == "a, b"


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for head in (data, b"GET / HTTP/1.1\r\n" + data, upgrade(extra=data)):
        assert status(head) in (101, 400, 405, 426, 431, 505)


def test_switching() -> None:
    assert b"Sec-WebSocket-Protocol: two\r\n\r\n" in switching("x", "two")
    assert b"Protocol" not in switching("x", None).split(b"\r\n", 1)[1]
