"""One target that is followed and one join that waits for it: what the join is told in the end."""

from collections.abc import Callable

import pytest
from msgspec import Raw

from portico.wire.messages import Event
from service.backplane.redis.joining import EPOCHS_HAD, Followed, Join
from service.backplane.redis.payloads import Arrival, Push
from service.backplane.redis.reading import Kept
from service.core.cluster.backplane import Joined, StreamPositions
from service.core.reply import Reply

STREAM = "user:ann"


class Waiting:
    """A join that waits for one stream, which it resumed at `offset` (None: it names none)."""

    def __init__(self, offset: int | None = None, *, epoch: str = "e1", seen: int = 0) -> None:
        self.told: list[Joined] = []
        resume = None if offset is None else StreamPositions(epoch, {STREAM: offset})
        self.followed = Followed(STREAM)
        self.join = Join(resume, Reply(self.told.append), 0.0, seen)
        self.join.open[STREAM] = self.followed

    def finish(self, recovered: bool = True) -> Joined:
        self.join.finish("e1", recovered)
        (joined,) = self.told
        return joined


def event(offset: int) -> Event:
    return Event("t", Raw(b"{}"), STREAM, offset)


def test_what_arrives_while_other_streams_are_pending_is_added() -> None:
    at = Waiting(7)
    at.join.settle(at.followed)
    assert list(at.followed.watched) == [at.join]
    at.join.on_event(STREAM, event(8))
    joined = at.finish()
    assert (joined.offsets, joined.missed, joined.recovered) == ({STREAM: 8}, {STREAM: [event(8)]}, True)
    assert not at.followed.watched


def test_one_that_named_no_position_has_missed_nothing() -> None:
    at = Waiting()
    at.join.settle(at.followed)
    at.join.on_event(STREAM, event(8))
    at.join.lose(STREAM)
    joined = at.finish()
    assert (joined.offsets, joined.missed, joined.lost) == ({STREAM: 8}, {}, [])


def test_of_a_stream_that_is_lost_nothing_is_given() -> None:
    at = Waiting(7)
    at.join.settle(at.followed)
    at.join.on_event(STREAM, event(8))
    at.join.lose(STREAM)
    at.join.lose(STREAM)
    at.join.on_event(STREAM, event(9))
    joined = at.finish()
    assert (joined.missed, joined.lost, joined.recovered) == ({}, [STREAM], False)


def test_another_epoch_has_the_stream_read_again() -> None:
    at = Waiting(7)
    del at.join.open[STREAM]
    at.join.settle(at.followed)
    at.join.offsets[STREAM] = 7
    at.join.reopen(at.followed)
    assert (list(at.join.open), at.join.settled, at.join.offsets) == ([STREAM], [], {})
    assert at.followed.joins == [(at.join, None)]
    assert not at.followed.watched
    at.followed.forget_answered()
    assert len(at.followed.joins) == 1
    at.finish()
    at.followed.forget_answered()
    assert at.followed.joins == []


@pytest.mark.parametrize(
    ("at", "offsets", "unknown"),
    [
        (lambda: Waiting(), {}, True),
        (lambda: Waiting(7, seen=3), {STREAM: 7}, False),
        # What was had in another epoch is no offset of this one.
        (lambda: Waiting(7, epoch="another", seen=3), {STREAM: 3}, False),
    ],
)
def test_let_in_without_reading_at_what_is_known(
    at: Callable[[], Waiting], offsets: dict[str, int], unknown: bool
) -> None:
    waiting = at()
    waiting.followed.let_in(waiting.join, "e1")
    assert (waiting.followed.unknown, waiting.followed.position) == (unknown, offsets.get(STREAM))
    assert waiting.finish().offsets == offsets


def test_several_with_different_positions_are_told_later() -> None:
    at = Waiting(7)
    at.followed.let_in(at.join, "e1")
    behind = Join(None, Reply(lambda _: None), 0.0, 5)
    at.followed.let_in(behind, "e1")
    assert (behind.offsets, at.followed.unknown) == ({STREAM: 7}, True), "it may miss 6 and 7"
    behind.finish("e1", False)
    at.finish(False)
    ahead = Waiting(9)
    ahead.followed.position, ahead.followed.epoch = 7, "e1"
    ahead.followed.let_in(ahead.join, "e1")
    assert (ahead.followed.position, ahead.followed.unknown) == (7, False), "others are to be given 8 and 9"
    joined = ahead.finish()
    assert joined.offsets == joined.ahead == {STREAM: 9}


def test_of_epochs_that_are_named_the_last_few_are_kept_with_the_largest_offset() -> None:
    followed = Followed(STREAM)
    for number in range(EPOCHS_HAD + 3):
        followed.note_had(f"e{number}", number)
    followed.note_had("e10", 4)
    assert followed.had is not None
    assert len(followed.had) == EPOCHS_HAD
    assert "e0" not in followed.had
    assert followed.had["e10"] == 10


def test_what_is_held_back() -> None:
    followed = Followed(STREAM)
    followed.held = None
    followed.hold()
    held: list[Arrival] | None = followed.held
    assert held == []
    live = Arrival(Push("n", 1, "t", b"{}"), None, 0, b"e1")
    durable = Arrival(Push("n", 2, "t", b"{}"), 8, 7, b"e1")
    followed.held = [live, durable]
    followed.hold()
    assert followed.held == [live, durable], "what is held already stays"
    assert followed.first_held(b"e1") is durable
    assert followed.first_held(b"e2") is None


def test_between_two_offsets_what_was_read_and_what_was_heard_meanwhile() -> None:
    followed = Followed(STREAM)
    followed.log = [event(5), event(8), event(12)]
    assert followed.between(Kept(STREAM, 6), 3, 10, 0) == [event(8)]
