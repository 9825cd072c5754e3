"""What waits for a session that is joining: bounded, in order, and given once."""

import pytest

from portico.wire.frame import Frame
from portico.wire.messages import Event
from service.core.connections import held as module
from service.core.connections.held import Held, HeldMessage, Replay


class Waiting:
    """A registration that is not answered."""

    complete = False


def message(size: int = 1, stream: str | None = None, offset: int | None = None) -> HeldMessage:
    return HeldMessage(Frame(b"x" * size), stream, offset)


def test_messages_and_bytes_are_counted_in_and_out() -> None:
    held = Held()
    held.expect(Waiting())
    assert held.add(message(3))
    assert held.add(message(4))
    assert (held.unanswered, held.messages, held.size) == (1, 2, 7)
    for _ in range(3):
        held.take()
    assert (held.unanswered, held.messages, held.size, list(held.items)) == (0, 0, 0, [])


def test_one_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HELD", 2)
    held = Held()
    assert [held.add(message()) for _ in range(3)] == [True, True, False]
    assert len(held.items) == 2


def test_one_of_any_size_is_let_through_and_nothing_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 10)
    held = Held()
    assert [held.add(message(size)) for size in (1000, 1)] == [True, False]


def test_a_replay_goes_before_everything_and_is_not_counted() -> None:
    held = Held()
    held.add(message())
    held.replay([Event("a"), Event("b")])
    first = held.items[0]
    assert isinstance(first, Replay)
    assert [event.type for event in first.events] == ["a", "b"]
    assert (held.messages, held.size, held.unanswered) == (1, 1, 0)
    held.take()
    assert (held.messages, held.size, held.unanswered) == (1, 1, 0)


def test_nothing_is_owed_before_a_registration_was_answered() -> None:
    held = Held()
    assert not held.owes(message())
    held.answered = True
    assert held.owes(message())


def test_what_an_answer_has_given_is_not_owed_again() -> None:
    held = Held()
    held.on_answered("e")
    held.account_for("s", 4, 5)
    held.account_for("s", 2, 3)  # an older reading takes nothing back
    owed = [offset for offset in (4, 5, 6) if held.owes(message(1, "s", offset))]
    assert owed == [6]
    assert held.owes(message(1, "another", 4))
    assert held.owes(message())


def test_the_first_that_is_still_to_be_given_of_each_stream() -> None:
    held = Held()
    held.expect(Waiting())
    for stream, offset in (("s", 4), (None, None), ("t", 9), ("s", 6), ("s", 7)):
        held.add(message(1, stream, offset))
    assert held.first_offsets() == {"s": 4, "t": 9}
    held.account_for("s", 2, 4)
    held.account_for("t", 9, 9)
    assert held.first_offsets() == {"s": 6}


def test_a_replay_begins_behind_what_was_given_before() -> None:
    held = Held()
    held.on_answered("e")
    held.account_for("s", 3, 7)
    assert [held.begins("s", after, "e") for after in (2, 3, 5, 9)] == [2, 7, 7, 9]
    assert (held.begins("t", 3, "e"), held.begins("s", 3, "another")) == (3, 3)
    assert (held.given_up_to("s", "e"), held.given_up_to("s", "another"), held.given_up_to("t", "e")) == (7, -1, -1)
    held.on_answered("e")
    assert held.given_up_to("s", "e") == 7
    held.on_answered("another")
    assert held.given_up_to("s", "another") == -1
