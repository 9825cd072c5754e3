"""Replies are the same however the network cuts them, and what isn't Redis' is refused."""

import itertools
import tracemalloc

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.redis.faults import MalformedReply
from service.redis.pubsub import (
    ERROR,
    LONGEST_LINE,
    MESSAGE,
    SUBSCRIBED,
    UNSUBSCRIBED,
    PubSubReader,
    Reply,
)


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def message(channel: bytes, payload: bytes) -> bytes:
    return b"*3\r\n" + bulk(b"message") + bulk(channel) + bulk(payload)


def sharded(channel: bytes, payload: bytes) -> bytes:
    return b"*3\r\n" + bulk(b"smessage") + bulk(channel) + bulk(payload)


def acknowledged(kind: bytes, channel: bytes) -> bytes:
    return b"*3\r\n" + bulk(kind) + bulk(channel) + b":1\r\n"


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


NAMES = st.binary(max_size=40) | st.sampled_from([b"", b"\r\n", b"*3\r\n$8\r\nsmessage\r\n$1\r\n", b"c" * 300])
SAID = st.one_of(
    st.tuples(NAMES, NAMES | st.just(b"p" * 200)).map(lambda m: message(*m)),
    st.tuples(NAMES, NAMES | st.just(b"p" * 200)).map(lambda m: sharded(*m)),
    st.tuples(st.sampled_from([SUBSCRIBED, UNSUBSCRIBED, b"ssubscribe", b"sunsubscribe"]), NAMES).map(
        lambda a: acknowledged(*a)
    ),
)


@given(st.lists(SAID, max_size=8), st.lists(st.integers(0, 10_000), max_size=20))
def test_the_same_as_hiredis_reads_however_it_is_cut(said: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(said)
    reader = hiredis.Reader()
    reader.feed(stream)
    expected = [reader.gets() for _ in said]
    replies = PubSubReader(100)
    got = [reply for piece in pieces(stream, cuts) for reply in replies.feed(piece)]
    assert len(got) == len(expected)
    for (kind, name, payload), theirs in zip(got, expected, strict=True):
        if kind is MESSAGE:
            assert theirs[0] in (kind, b"s" + kind)
            assert [name, payload] == [theirs[1], theirs[2] if len(theirs[2]) <= 100 else None]
        else:
            assert theirs[0] in (kind, b"s" + kind)
            assert name == theirs[1]


def test_an_error_is_told() -> None:
    assert list(PubSubReader(10).feed(b"-NOPERM no\r\n")) == [(ERROR, b"NOPERM no", None)]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
        b":1\r\n",
        b"+OK\r\n",
        b"$2\r\nOK\r\n",
        b"*3\r\n$5\r\nother\r\n$1\r\nc\r\n:1\r\n",
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n$1\r\n1\r\n",
        b"*3\r\n$9\r\nsubscribe\r\n:1\r\n:1\r\n",
        b"*3\r\n$9\r\nsubscribe\r\n$-1\r\n:1\r\n",
        b"*3\r\n$7\r\nmessage\r\n$x\r\nc\r\n$1\r\np\r\n",
        b"*3\r\n$7\r\nmessage\r\n$2\r\nc\r\n$1\r\np\r\n",
        b"*3\r\n$7\r\nmessage\r\n$-3\r\nc\r\n$1\r\np\r\n",
        b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$-1\r\n",
        b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\np\r\n*3\r\n",
        b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n:1\r\n",
        b"+" + b"x" * (3 * LONGEST_LINE),
        b"*3\r\n$7\r\nmessage\r\n$99999999\r\n" + b"x" * (3 * LONGEST_LINE),
    ],
)
@pytest.mark.parametrize("step", [1 << 30, 7])
def test_what_redis_does_not_say_is_refused(data: bytes, step: int) -> None:
    replies = PubSubReader(1000)
    with pytest.raises(MalformedReply):
        list(itertools.chain.from_iterable(replies.feed(data[at : at + step]) for at in range(0, len(data), step)))


def test_what_is_too_large_is_never_kept() -> None:
    replies = PubSubReader(1000)
    size = 64 << 20
    piece = b"x" * 65_536
    tracemalloc.start()
    try:
        got: list[Reply] = list(replies.feed(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$%d\r\n" % size))
        for _ in range(size // len(piece)):
            got += replies.feed(piece)
        got += replies.feed(b"\r\n" + message(b"c", b"next"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert got == [(MESSAGE, b"c", None), (MESSAGE, b"c", b"next")]
    assert peak < 1 << 20
