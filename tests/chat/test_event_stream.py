"""Server-sent events, however they are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.chat.event_stream import EventStream, TooLarge

STREAM = (
    "\ufeffdata: one\n\n: a comment\n\ndata:two\r\ndata:  three\r\n\r\nevent: x\rid: 4\rdata\rdata: é\r\r"
    "retry: 5\n\ndata: [DONE]\n\ndata: no end"
).encode()
EVENTS = [b"one", b"two\n three", "\né".encode(), b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM))))
def test_it_does_not_matter_where_the_bytes_are_cut(cuts: list[int]) -> None:
    stream = EventStream()
    at = sorted({0, *cuts, len(STREAM)})
    assert [event for start, end in pairwise(at) for event in stream.feed(STREAM[start:end])] == EVENTS


def test_a_large_event_is_too_large_in_one_line_and_in_many() -> None:
    assert EventStream(100).feed(b"data: " + b"x" * 80 + b"\n\n") == [b"x" * 80]
    with pytest.raises(TooLarge):
        EventStream(100).feed(b"data: " + b"x" * 120)
    with pytest.raises(TooLarge):
        EventStream(100).feed(b"data: xxxxxxxxx\n" * 11)
    stream = EventStream(100)
    stream.feed(b"x" * 90)
    with pytest.raises(TooLarge):
        stream.feed(b"x" * 11)


def test_many_small_events_are_none_too_large() -> None:
    stream = EventStream(100)
    assert len(stream.feed(b"data: 1\n\n" * 1000)) == 1000
