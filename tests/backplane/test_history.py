"""The history in memory: what is kept, what is lost, what is over, and what it all takes."""

import tracemalloc

import pytest
from msgspec import Raw

from portico.wire.messages import Event
from service.backplane.history import LOOKED_AT, History
from tests.fakes import ManualClock

TTL = 100.0


def history(clock: ManualClock, *, length: int = 5, limit: int = 1 << 30) -> History:
    return History(now=clock.now, length=length, ttl=TTL, limit=limit)


def add(some: History, stream: str, number: int, ttl: float | None = None) -> int:
    """Keep an event; its offset."""
    offset = some.append(stream, Event("e", Raw(b'{"n":%d}' % number)), ttl).offset
    assert offset is not None
    return offset


def numbers(found: list[Event] | None) -> list[int] | None:
    """Which events they are; None where something is lost."""
    return None if found is None else [int(bytes(event.data)[5:-1]) for event in found]


def test_an_event_whose_own_time_has_passed_is_over_and_takes_no_other_along() -> None:
    clock = ManualClock()
    some = history(clock, length=10)
    start = some.position
    for number in range(7):
        add(some, "s", number, 1.0 if number == 3 else None)
    assert numbers(some.since("s", start)) == [0, 1, 2, 3, 4, 5, 6]
    clock.move(1.5)
    assert numbers(some.since("s", start)) == [0, 1, 2, 4, 5, 6]
    some.expire()
    clock.move(1.5)
    some.expire()
    assert numbers(some.since("s", start)) == [0, 1, 2, 4, 5, 6]


def test_what_the_history_is_too_short_for_is_lost() -> None:
    clock = ManualClock()
    some = history(clock, length=3)
    offsets = [add(some, "s", number) for number in range(5)]
    assert numbers(some.since("s", offsets[0])) is None
    assert numbers(some.since("s", offsets[1])) == [2, 3, 4]
    clock.move(TTL + 1)
    assert numbers(some.since("s", offsets[3])) is None
    some.expire()
    assert numbers(some.since("s", offsets[3])) is None
    assert numbers(some.since("s", offsets[4])) == []
    assert len(some) == 0


def test_events_that_are_over_leave_room_for_others() -> None:
    clock = ManualClock()
    some = history(clock, length=3)
    start = some.position
    for number in range(3):
        add(some, "s", number, 1.0)
    clock.move(2)
    for number in range(3, 6):
        add(some, "s", number)
    assert numbers(some.since("s", start)) == [3, 4, 5]


def test_a_stream_of_which_all_is_over_loses_nothing() -> None:
    clock = ManualClock()
    some = history(clock)
    start = some.position
    add(some, "s", 1, 1.0)
    add(some, "other", 1)
    clock.move(3)
    some.expire()
    assert (len(some), numbers(some.since("s", start)), numbers(some.since("nobody", start))) == (1, [], [])


def test_lapsed_is_gone_within_moments_however_many_streams() -> None:
    clock = ManualClock()
    some = history(clock)
    add(some, "stays", 0)
    left = some.bytes
    streams = 5 * LOOKED_AT
    for number in range(streams):
        add(some, f"user:{number}", number, 2.0)
    clock.move(3.1)
    for _ in range(streams // LOOKED_AT):
        some.expire()
    assert (len(some), some.bytes) == (1, left)


def test_past_its_bytes_what_was_written_to_longest_ago_goes_first_but_what_is_over_before() -> None:
    clock = ManualClock()
    some = history(clock)
    add(some, "first", 0)
    size = some.bytes
    some = history(clock, limit=int(3.5 * size))
    first, over = add(some, "first", 0), add(some, "lapse", 0, 1.0)
    add(some, "third", 0)
    clock.move(3)
    add(some, "forth", 0)
    assert numbers(some.since("first", first - 1)) == [0]
    assert numbers(some.since("lapse", over - 1)) == []
    add(some, "fifth", 0)
    assert numbers(some.since("first", first - 1)) is None
    assert some.bytes <= 3.5 * size


@pytest.mark.parametrize(("streams", "events", "size"), [(5000, 1, 20), (100, 50, 20), (20, 20, 2000), (500, 5, 200)])
def test_the_bytes_that_are_counted_are_those_that_it_takes(streams: int, events: int, size: int) -> None:
    clock = ManualClock()
    some = history(clock, length=1000)
    message = b'{"a":"' + b"x" * (size - 8) + b'"}'
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(events):
            for number in range(streams):
                some.append(f"user:{number}", Event("cart_updated", Raw(message)), None)
        took = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 < took / some.bytes < 1.05


def test_what_is_kept_does_not_keep_the_message_alive_that_it_came_in() -> None:
    clock = ManualClock()
    some = history(clock)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        batch = b'{"a":1}' + b" " * 1_000_000
        view = memoryview(batch)[:7]
        some.append("s", Event("e", Raw(view)), None)
        del view, batch
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()
