"""Where a request ends and the next begins: what is refused, and that no cut of the bytes changes what is found."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.transports.handshake import BadHead
from service.transports.head import parse_head
from service.transports.http_framing import Chunks, Guard, body_length, end_of_head
from service.transports.proxies import ProxyRules

from .http_corpus import HOSTILE, SOUND


def length_of(*fields: str, version: str = "1.1") -> int | None:
    head = "\r\n".join((f"POST / HTTP/{version}", "Host: x", *fields))
    return body_length(parse_head(head.encode(), "", "websocket", ProxyRules().resolve))


def status_of(*fields: str, version: str = "1.1") -> int:
    with pytest.raises(BadHead) as caught:
        length_of(*fields, version=version)
    return caught.value.answer.status


def test_what_a_body_is_long() -> None:
    assert length_of() == 0
    assert length_of("Content-Length: 0") == 0
    assert length_of("Content-Length:\t12 ") == 12
    assert length_of("Transfer-Encoding: Chunked") is None


@pytest.mark.parametrize("text", ["+5", "-5", "5 0", "0x5", "5,5", "5, 5", "", "5.0", "٣", "1" * 19, "5;", "1_0"])
def test_a_length_is_digits(text: str) -> None:
    assert status_of(f"Content-Length: {text}") == 400


def test_what_leaves_room_for_two_readings_is_refused() -> None:
    assert status_of("Content-Length: 5", "Transfer-Encoding: chunked") == 400
    assert status_of("Content-Length: 5", "Content-Length: 5") == 400
    assert status_of("Transfer-Encoding: chunked", version="1.0") == 400
    for coding in ("gzip", "gzip, chunked", "chunked, chunked", "xchunked", "identity"):
        assert status_of(f"Transfer-Encoding: {coding}") == 501
    assert status_of("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") == 501


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\nHost: x\n\n", b"GET / HTTP/1.1\r\nHost: x\n"])
def test_lines_that_end_in_lf_alone_are_refused_at_once(data: bytes) -> None:
    with pytest.raises(BadHead):
        end_of_head(data)


@pytest.mark.parametrize(
    "data", [b"", b"G", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r"]
)
def test_a_head_that_is_not_whole_is_waited_for(data: bytes) -> None:
    assert end_of_head(data) == -1


def decode(*pieces: bytes) -> tuple[bytes, bytes | None]:
    chunks = Chunks()
    body: list[bytes] = []
    rest: bytes | None = None
    for at, piece in enumerate(pieces):
        parts, rest = chunks.take(piece)
        body += parts
        if rest is not None:
            rest += b"".join(pieces[at + 1 :])
            break
    return b"".join(body), rest


WHOLE = b'3\r\nabc\r\n5 ;x="y"\r\n\r\n\r\n0\r\n0\r\nTrailer: of no use\r\n\r\nGET /next'


def test_chunks_are_put_together() -> None:
    assert decode(WHOLE) == (b"abc\r\n\r\n0", b"GET /next")
    assert decode(b"0\r\n\r\n") == (b"", b"")
    assert decode(b"A\r\n0123456789\r\n") == (b"0123456789", None)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_no_cut_changes_what_chunks_say(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[start:end] for start, end in pairwise(places)]
    assert decode(*pieces) == (b"abc\r\n\r\n0", b"GET /next")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b" 1\r\n",
        b"0x1\r\n",
        b"1\n",
        b"1\r\nab",
        b"1\r\na\n",
        b"1\r\na\rb",
        b"0\r\nno trailer\r\n",
        b"0\r\n folded: x\r\n",
        b"1;" + b"e" * 300,
        b"0\r\n" + b"a: b\r\n" * 3000,
        b"f" * 16 + b"\r\n",
    ],
)
def test_a_broken_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(BadHead):
        decode(data)


def check_by_bytes(data: bytes) -> None:
    guard = Guard()
    for at in range(len(data)):
        guard.check(piece(guard, data[at : at + 1]))


def piece(guard: Guard, data: bytes) -> bytes:
    """What is given to the other server."""
    return guard.without_blank_line(data) if guard.between else data


def check_whole(data: bytes) -> list[bytes]:
    """The requests in the data, the last of them perhaps not whole."""
    guard = Guard()
    found: list[bytes] = []
    while data := piece(guard, data):
        taken = guard.check(data)
        assert taken, data
        found.append(data[:taken])
        data = data[taken:]
    return found


def test_a_guard_tells_where_a_request_ends() -> None:
    post = b"POST / HTTP/1.1\r\nHost: x\r\n"
    requests = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        post + b"Content-Length: 3\r\n\r\nabc",
        post + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\na: b\r\n\r\n",
    ]
    whole = b"".join(requests)
    assert check_whole(whole * 2) == requests * 2
    for cut in range(1, len(whole)):
        assert b"".join(check_whole(whole[:cut])) == whole[:cut]
    guard = Guard()
    between = [guard.check(whole[at : at + 1]) and guard.between for at in range(len(whole))]
    ends = {len(b"".join(requests[: number + 1])) - 1 for number in range(3)}
    assert {at for at, said in enumerate(between) if said} == ends


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:60]))
def test_a_guard_refuses_what_is_hostile_however_it_is_cut(data: bytes) -> None:
    with pytest.raises(BadHead):
        check_whole(data)
    with pytest.raises(BadHead):
        check_by_bytes(data)


@pytest.mark.parametrize("data", SOUND, ids=lambda data: repr(data[:60]))
def test_a_guard_lets_everything_else_pass(data: bytes) -> None:
    check_whole(data * 3)
    check_by_bytes(data * 2)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for begin in (b"", chunked, b"GET / HTTP/1.1\r\nHost: x\r\n"):
        with suppress(BadHead):
            check_whole(begin + data)
