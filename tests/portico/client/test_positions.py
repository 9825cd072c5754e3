"""What a client resumes from."""

from typing import Any

import pytest

from portico.client.positions import LEFT, Positions


def success(epoch: str, lost: list[str] | None = None, **offsets: object) -> dict[str, Any]:
    resume: dict[str, Any] = {"epoch": epoch, "offsets": offsets, "recovered": not lost}
    if lost is not None:
        resume["lost"] = lost
    return {"type": "registration_success", "resume": resume}


def event(stream: str, offset: object) -> dict[str, Any]:
    return {"type": "e", "stream": stream, "offset": offset}


def registered(at: Positions, message: dict[str, Any], *streams: str, resumed: bool = False) -> list[str]:
    """Register as somebody with these streams; those that the answer names, if none are given."""
    named = message["resume"].get("offsets", {}) if isinstance(message.get("resume"), dict) else {}
    return at.registered(message, streams or tuple(named), resumed=resumed)


def take(at: Positions, push: dict[str, Any]) -> str:
    """What the client does with a push: `again`, `after a gap` or `new`."""
    if not at.is_new(push):
        return "again"
    doubtful = at.is_in_doubt(push)
    at.took(push)
    return "after a gap" if doubtful else "new"


def test_it_resumes_from_the_last_event_of_each_stream() -> None:
    at = Positions()
    assert at.resume is None
    assert registered(at, success("e1", user=5, all=7)) == []
    assert take(at, event("user", 9)) == "new"
    assert take(at, {"type": "live"}) == "new"
    assert at.resume == {"epoch": "e1", "offsets": {"user": 9, "all": 7}}


def test_an_event_that_was_not_passed_on_is_not_taken_for_had() -> None:
    at = Positions()
    registered(at, success("e1", user=5))
    assert at.is_new(event("user", 6))
    assert at.resume == {"epoch": "e1", "offsets": {"user": 5}}


def test_what_it_has_had_is_not_new() -> None:
    at = Positions()
    registered(at, success("e1", user=5))
    assert [take(at, event("user", offset)) for offset in (5, 6, 6, 4, 7)] == ["again", "new", "again", "again", "new"]


def test_a_resumed_stream_stays_where_it_was_until_its_events_come() -> None:
    at = Positions()
    registered(at, success("e1", user=5, all=0))
    assert registered(at, success("e1", user=9, all=0, channel=3), resumed=True) == []
    assert at.resume == {"epoch": "e1", "offsets": {"user": 5, "all": 0, "channel": 3}}
    assert take(at, event("user", 6)) == "new"


def test_a_lost_stream_goes_on_from_where_it_is() -> None:
    at = Positions()
    registered(at, success("e1", user=5, all=2))
    assert registered(at, success("e1", ["user"], user=90, all=3), resumed=True) == ["user"]
    assert at.resume == {"epoch": "e1", "offsets": {"user": 90, "all": 2}}


@pytest.mark.parametrize("named", [["user"], None])
def test_another_epoch_is_another_history(named: list[str] | None) -> None:
    at = Positions()
    registered(at, success("e1", user=500))
    assert registered(at, success("e2", named, user=1), resumed=True) == ["user"]
    assert take(at, event("user", 2)) == "new"
    assert at.resume == {"epoch": "e2", "offsets": {"user": 2}}


def test_a_gateway_that_could_not_tell_is_asked_again_from_the_same_place() -> None:
    at = Positions()
    registered(at, success("e1", user=5))
    assert registered(at, success("", ["user"]), "user", resumed=True) == ["user"]
    assert at.resume == {"epoch": "e1", "offsets": {"user": 5}}
    # What was missed since then nobody has told yet.
    assert take(at, event("user", 9)) == "after a gap"
    assert take(at, event("user", 10)) == "new"


def test_streams_of_another_user_are_forgotten() -> None:
    at = Positions()
    registered(at, success("e1", user1=5))
    registered(at, success("e1", user2=6))
    assert at.resume == {"epoch": "e1", "offsets": {"user2": 6}}
    # An event of the old user's that was on its way moves nothing.
    assert take(at, event("user1", 9)) == "new"
    assert at.resume == {"epoch": "e1", "offsets": {"user2": 6}}


def test_a_stream_that_was_ours_and_could_not_be_resumed() -> None:
    at = Positions()
    registered(at, success("", None), "user", "all")
    assert at.resume is None
    assert registered(at, success("e1", user=5, all=7)) == ["all", "user"]
    assert registered(at, success("e1", user=5, all=7), resumed=True) == []


def test_a_first_registration_misses_nothing() -> None:
    at = Positions()
    assert registered(at, success("e1", user=5) | {}, resumed=False) == []
    message = success("e1", other=5)
    message["resume"]["recovered"] = False
    assert registered(Positions(), message) == []


def test_a_gap_with_a_position() -> None:
    at = Positions()
    registered(at, success("e1", user=5, all=2))
    at.gap({"streams": ["user"], "epoch": "e1", "offsets": {"user": 8}})
    assert at.resume == {"epoch": "e1", "offsets": {"user": 8, "all": 2}}
    assert take(at, event("user", 9)) == "new"


def test_a_gap_with_another_epoch() -> None:
    at = Positions()
    registered(at, success("e1", user=500, all=200))
    at.gap({"streams": ["user"], "epoch": "e2", "offsets": {"user": 8}})
    assert at.resume == {"epoch": "e2", "offsets": {"user": 8}}
    assert take(at, event("all", 1)) == "after a gap"


def test_a_gap_without_a_position() -> None:
    at = Positions()
    registered(at, success("e1", user=500))
    at.gap({"streams": ["user"]})
    assert at.resume == {"epoch": "e1", "offsets": {}}
    assert take(at, event("user", 1)) == "new"
    assert at.resume == {"epoch": "e1", "offsets": {"user": 1}}


@pytest.mark.parametrize(
    "message",
    [{}, {"resume": 5}, {"resume": {"epoch": 1}}, {"resume": {"epoch": "e", "offsets": 5, "lost": {}}}],
)
def test_nonsense_is_nothing(message: dict[str, Any]) -> None:
    at = Positions()
    assert at.registered(message, ["user"], resumed=False) == []
    assert at.resume is None


@pytest.mark.parametrize("offset", ["5", 5.0, True, None, -1])
def test_an_offset_that_is_none_is_passed_on(offset: object) -> None:
    at = Positions()
    registered(at, success("e1", user=5))
    assert take(at, event("user", offset)) == "new"
    assert at.resume == {"epoch": "e1", "offsets": {"user": 5}}


@pytest.mark.shows("the Python client does the same over connections")
def test_a_stream_that_it_comes_back_to_gives_nothing_again() -> None:
    """The node has not come as far as the client had by another one."""
    at = Positions()
    registered(at, success("e1", user=5))
    assert take(at, event("user", 9)) == "new"
    registered(at, success("e1", other=0))
    assert registered(at, success("e1", user=7)) == []
    assert at.resume == {"epoch": "e1", "offsets": {"user": 9}}
    assert [take(at, event("user", offset)) for offset in (8, 9, 10)] == ["again", "again", "new"]
    # What was published meanwhile was not its own.
    registered(at, success("e1", other=0))
    registered(at, success("e1", user=20))
    assert at.resume == {"epoch": "e1", "offsets": {"user": 20}}


@pytest.mark.parametrize("over", ["answer", "gap"])
def test_what_it_had_in_an_epoch_that_is_over_says_nothing_of_a_stream_that_it_comes_back_to(over: str) -> None:
    at = Positions()
    registered(at, success("e1", user=50))
    registered(at, success("e1", other=0))
    if over == "gap":
        at.gap({"streams": ["other"], "epoch": "e2", "offsets": {"other": 1}})
    registered(at, success("e2", user=7))
    assert [take(at, event("user", offset)) for offset in (8, 9)] == ["new", "new"]


def test_how_far_it_had_come_is_kept_of_a_bounded_number_of_streams() -> None:
    at = Positions()
    for n in range(LEFT + 2):
        registered(at, {"resume": {"epoch": "e1", "offsets": {f"s{n}": 9}, "recovered": True}})
    registered(at, success("e1", s0=5, s1=5, s2=5))
    assert at.resume == {"epoch": "e1", "offsets": {"s0": 5, "s1": 5, "s2": 9}}
