"""Whether what came is one answer and nothing more."""

import pytest

from service.outgoing.answer_end import ends_with_answer

CODED = {"transfer-encoding": "chunked"}


@pytest.mark.parametrize(
    ("came", "status", "headers"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, {"content-length": "2"}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, {"content-length": "0"}),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, {}),
        (b"HTTP/1.1 200 OK\r\n\r\n2\r\n{}\r\nA\r\n0123456789\r\n0\r\n\r\n", 200, CODED),
        (b"HTTP/1.1 200 OK\r\n\r\n0\r\n\r\n", 200, CODED),
    ],
)
def test_one_answer_and_nothing_behind_it(came: bytes, status: int, headers: dict[str, str]) -> None:
    assert ends_with_answer(came, status, headers)
    for end in range(len(came)):
        assert not ends_with_answer(came[:end], status, headers)
    for more in (b"\n", b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n", came):
        assert not ends_with_answer(came + more, status, headers)


@pytest.mark.parametrize(
    ("came", "headers"),
    [
        # A head that ends earlier for who takes LF for a line end: the second answer would be the body.
        (b"HTTP/1.1 200 OK\nx: y\n\n{}HTTP/1.1 200 OK\r\n\r\n{}", {"content-length": "2"}),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", {"content-length": "2"}),
        (b"HTTP/1.1 200 OK\r\n\r\n", {}),
        (b"HTTP/1.1 200 OK\r\n\r\n2;x=y\r\n{}\r\n0\r\n\r\n", CODED),
        (b"HTTP/1.1 200 OK\r\n\r\n-2\r\n{}\r\n0\r\n\r\n", CODED),
        (b"HTTP/1.1 200 OK\r\n\r\n0\r\nx: y\r\n\r\n", CODED),
        (b"HTTP/1.1 200 OK\r\n\r\n0\r\nab\r\n\r\n", CODED),
    ],
)
def test_what_is_not_plain_is_no_reason_to_go_on(came: bytes, headers: dict[str, str]) -> None:
    assert not ends_with_answer(came, 200, headers)
