"""What a client resumes from."""

from typing import Any

import pytest

from portico.client.positions import Positions


def success(epoch: str, lost: list[str] | None = None, **offsets: object) -> dict[str, Any]:
    resume: dict[str, Any] = {"epoch": epoch, "offsets": offsets, "recovered": not lost}
    if lost is not None:
        resume["lost"] = lost
    return {"type": "registration_success", "resume": resume}


def event(stream: str, offset: object) -> dict[str, Any]:
    return {"type": "e", "stream": stream, "offset": offset}


def test_it_resumes_from_the_last_event_of_each_stream() -> None:
    at = Positions()
    assert at.resume is None
    assert at.registered(success("e1", user=5, all=7)) == []
    assert at.is_new(event("user", 9))
    assert at.is_new({"type": "live"})
    assert at.resume == {"epoch": "e1", "offsets": {"user": 9, "all": 7}}


def test_what_it_has_had_is_not_new() -> None:
    at = Positions()
    at.registered(success("e1", user=5))
    assert [at.is_new(event("user", offset)) for offset in (5, 6, 6, 4, 7)] == [False, True, False, False, True]


def test_a_resumed_stream_stays_where_it_was_until_its_events_come() -> None:
    at = Positions()
    at.registered(success("e1", user=5, all=0))
    assert at.registered(success("e1", user=9, all=0, channel=3)) == []
    assert at.resume == {"epoch": "e1", "offsets": {"user": 5, "all": 0, "channel": 3}}
    assert at.is_new(event("user", 6))


def test_a_lost_stream_goes_on_from_where_it_is() -> None:
    at = Positions()
    at.registered(success("e1", user=5, all=2))
    assert at.registered(success("e1", ["user"], user=90, all=3)) == ["user"]
    assert at.resume == {"epoch": "e1", "offsets": {"user": 90, "all": 2}}


def test_another_epoch_is_another_history() -> None:
    at = Positions()
    at.registered(success("e1", user=500))
    assert at.registered(success("e2", ["user"], user=1)) == ["user"]
    assert at.is_new(event("user", 2))


def test_a_gateway_that_could_not_tell_is_asked_again_from_the_same_place() -> None:
    at = Positions()
    at.registered(success("e1", user=5))
    assert at.registered(success("", ["user"])) == ["user"]
    assert at.resume == {"epoch": "e1", "offsets": {"user": 5}}


def test_streams_of_another_user_are_forgotten() -> None:
    at = Positions()
    at.registered(success("e1", user1=5))
    at.registered(success("e1", user2=6))
    assert at.resume == {"epoch": "e1", "offsets": {"user2": 6}}


@pytest.mark.parametrize(
    "message",
    [{}, {"resume": 5}, {"resume": {"epoch": 1}}, {"resume": {"epoch": "e", "offsets": 5, "lost": {}}}],
)
def test_nonsense_is_nothing(message: dict[str, Any]) -> None:
    at = Positions()
    assert at.registered(message) == []
    assert at.resume is None


@pytest.mark.parametrize("offset", ["5", 5.0, True, None, -1])
def test_an_offset_that_is_none_is_passed_on(offset: object) -> None:
    at = Positions()
    at.registered(success("e1", user=5))
    assert at.is_new(event("user", offset))
    assert at.resume == {"epoch": "e1", "offsets": {"user": 5}}
