"""Which heads are handed to the reactor."""

import pytest

from service.transports.request_head import asks_for_websocket, is_whole, may_be_get

from .raw import upgrade


def test_the_beginning_of_a_get() -> None:
    assert may_be_get(b"")
    assert may_be_get(b"GE")
    assert may_be_get(b"GET / HTTP/1.1")
    assert not may_be_get(b"P")
    assert not may_be_get(b"GETX")


def test_a_head_ends_with_a_blank_line() -> None:
    assert is_whole(b"GET / HTTP/1.1\r\n\r\n")
    assert is_whole(b"GET / HTTP/1.1\n\n")
    assert not is_whole(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("head", "asked"),
    [
        (upgrade(), True),
        (upgrade(extra=b"Content-Length: 0\r\n"), True),
        (upgrade(extra=b"Sec-WebSocket-Protocol: caf\xe9\r\n"), True),
        (upgrade().replace(b"Upgrade: websocket", b"Upgrade: h2c\r\nUpgrade: WebSocket"), True),
        (upgrade()[:-1], False),
        (upgrade(method="POST"), False),
        (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        (upgrade(extra=b"Content-Length: 5\r\n"), False),
        (upgrade(extra=b"Content-Length: 0\r\nContent-Length: 5\r\n"), False),
        (upgrade(extra=b"Transfer-Encoding: chunked\r\n"), False),
        (upgrade(extra=b" folded: yes\r\n"), False),
        (upgrade(extra=b"no colon\r\n"), False),
        (upgrade().replace(b"Upgrade: websocket", b"Upgrade: h2c"), False),
        (upgrade().replace(b"Connection: Upgrade", b"Connection: close"), False),
    ],
)
def test_who_asks_for_a_websocket_without_doubt(head: bytes, asked: bool) -> None:
    assert asks_for_websocket(head) is asked
