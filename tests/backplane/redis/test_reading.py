"""What was read of a history: what it proves, and what it doesn't."""

import gc
from weakref import WeakValueDictionary

import msgspec
import pytest
from msgspec import Raw

from portico.wire.messages import Event
from service.backplane.redis.payloads import body_of
from service.backplane.redis.reading import STREAM_BYTES, TRUSTED, Kept, Known, Moment, RedisClock

TTL = 1000
NOW = 10_000
AT = Moment("e", NOW + 5, NOW)


def entry(offset: int, until: int = 0, number: int = 1) -> list[bytes]:
    """One event as the script gives it."""
    return [b"%d" % offset, b"%d" % until, body_of(Event("t", Raw(b"{}")), "n", number)]


def kept(last: int | None, *entries: list[bytes], dropped: int = 0, more: int = 0, evicted: int = 0) -> Kept:
    """A stream of which this was read."""
    one = Kept("user:ann", 0)
    text = b"" if last is None else b"%d" % last
    one.take([text, b"%d" % dropped, more, evicted, *(word for each in entries for word in each)])
    return one


@pytest.mark.parametrize(
    ("read", "offset", "whole"),
    [
        # Nothing was ever published, or all of it was swept: up to which offset is known, or else how long it is kept.
        (kept(None, dropped=9_500), 9_500, True),
        (kept(None, dropped=9_500), 9_499, False),
        (kept(None, dropped=8_000), 8_500, True),
        (kept(None), NOW - TTL, True),
        (kept(None), NOW - TTL - 1, False),
        (kept(None), AT.clock, True),
        (kept(None), AT.clock + 1, False),
        (kept(None), -1, False),
        # There was something, and Redis has thrown it away.
        (kept(None, evicted=1), AT.clock, False),
        (kept(9_990, evicted=1), 9_989, False),
        (kept(9_990, evicted=1), 9_990, True),
        # The first ones had to go.
        (kept(9_990, entry(9_990), dropped=9_980), 9_980, True),
        (kept(9_990, entry(9_990), dropped=9_980), 9_979, False),
        # One is older than the history is to be, and has not been trimmed yet.
        (kept(9_990, entry(8_990), entry(9_990)), 8_000, False),
        (kept(9_990, entry(8_990), entry(9_990)), 8_990, True),
        # One that its publisher let lapse is not lost.
        (kept(9_990, entry(9_980, until=NOW), entry(9_990)), 9_970, True),
        # An offset from a time when Redis's clock was ahead.
        (kept(AT.clock, entry(AT.clock)), AT.clock, True),
    ],
)
def test_what_is_proved(read: Kept, offset: int, whole: bool) -> None:
    assert read.proves(offset, AT, TTL) is whole


def test_what_cannot_be_read_proves_nothing() -> None:
    for answer in (None, [], [b"1"], [b"x", b"0", 0, 0], [b"1", b"0", 0, 0, b"1", b"0"], ValueError("WRONGTYPE")):
        one = Kept("user:ann", 0)
        one.take(answer)
        assert not one.proves(1, AT, TTL), answer
        assert not one.more


def test_it_is_read_in_pieces_up_to_a_bound() -> None:
    one = Kept("user:ann", 0)
    one.take([b"30", b"0", 1, 0, *entry(10)])
    assert (one.more, one.after) == (True, 10)
    one.take([b"30", b"0", 0, 0, *entry(30)])
    assert (one.more, one.after, one.beyond) == (False, 30, False)
    assert [event.offset for event in one.events(0, 30, NOW)] == [10, 30]
    one.size = STREAM_BYTES
    one.take([b"40", b"0", 1, 0, *entry(40)])
    assert (one.more, one.beyond) == (False, True)
    assert not one.proves(30, AT, TTL)


def test_events_are_those_in_between_that_are_worth_something() -> None:
    one = kept(40, entry(10), entry(20, until=NOW), entry(30, until=NOW + 1), entry(40), [b"50", b"0", b"nonsense"])
    assert [event.offset for event in one.events(10, 40, NOW)] == [30, 40]
    assert [event.offset for event in one.events(0, 99, NOW)] == [10, 30, 40]
    assert {event.stream for event in one.events(0, 99, NOW)} == {"user:ann"}
    with pytest.raises(msgspec.MsgspecError):
        msgspec.msgpack.decode(b"nonsense", type=int)


def test_events_that_somebody_still_has_are_not_made_anew() -> None:
    known: Known = WeakValueDictionary()
    answer = [b"20", b"0", 0, 0, *entry(10), *entry(20)]
    first, second = Kept("user:ann", 0, known), Kept("user:ann", 10, known)
    first.take(answer)
    one = first.events(0, 20, NOW)
    second.take([*answer[:4], *entry(20)])
    assert second.events(10, 20, NOW) == one[1:]
    assert second.events(10, 20, NOW)[0] is one[1]
    assert Kept("user:bob", 0, known).events(0, 20, NOW) == []
    one.clear()
    del second  # what was read and is still looked at is had as well
    gc.collect()
    assert not known, "what nobody has is not kept"


def test_what_time_it_is_at_redis_is_the_least_that_it_said_lately() -> None:
    clock = RedisClock()
    assert clock.now(0.0) == 0, "it has said nothing yet"
    clock.see(1_000_000_000, 10.0)
    assert clock.now(12.0) == 1_002_000_000
    clock.see(4_601_000_000, 11.0)  # an hour ahead
    assert clock.now(12.0) == 1_002_000_000
    clock.see(1_001_500_000, 12.0)  # put right, and half a second more
    assert clock.now(12.0) == 1_001_500_000
    # What lasts is no mistake.
    clock.see(2_000_000_000 + int(TRUSTED * 1e6), 12.0 + TRUSTED)
    assert clock.now(12.0 + TRUSTED) == 1_001_500_000 + int(TRUSTED * 1e6)
    clock.see(2_000_000_000 + int(2 * TRUSTED * 1e6), 12.0 + 2 * TRUSTED)
    assert clock.now(12.0 + 2 * TRUSTED) == 2_000_000_000 + int(2 * TRUSTED * 1e6)
    # Nor does what was long ago say anything.
    clock.see(0, 12.0 + 2 * TRUSTED)
    clock.see(9_000_000_000, 12.0 + 5 * TRUSTED)
    assert clock.now(12.0 + 5 * TRUSTED) == 9_000_000_000


def test_what_is_trimmed_after_it_was_read_is_not_missing() -> None:
    one = Kept("user:ann", 5)
    one.take([b"30", b"5", 1, 0, *entry(10)])
    one.take([b"40", b"10", 0, 0, *entry(20), *entry(40)])
    assert one.proves(5, AT._replace(now=TTL), TTL)
    one = Kept("user:ann", 5)
    one.take([b"30", b"5", 1, 0, *entry(10)])
    one.take([b"40", b"11", 0, 0, *entry(40)])
    assert not one.proves(5, AT._replace(now=TTL), TTL), "what was between 10 and 40 was trimmed unread"
    assert one.proves(11, AT._replace(now=TTL), TTL)
