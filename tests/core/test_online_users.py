"""Which users come and go, for people who watch: once each, over all nodes, and nothing of those who come back soon."""

import json

import pytest

from service.core import online_users
from service.core.back_end_events import BackEndEvent
from tests.fakes import Stage, stages

Seen = list[tuple[str, str | None]]
AWAY = 10.0


def watch(gw: Stage) -> Seen:
    """What is shown at a node of users that come and go."""
    seen: Seen = []

    def listener(node: str, event: BackEndEvent) -> None:
        told = json.loads(event.body)
        assert (told["event"], told.get("user_id")) == (event.event, event.user_id)
        if event.event.startswith("user_"):
            assert told.keys() == {"id", "event", "timestamp", "node", "user_id"}
            assert told["node"] == node
            seen.append((event.event, event.user_id))

    gw.gateway.event_tail.follow(listener)
    return seen


def test_a_user_is_online_from_the_first_connection_and_offline_some_time_after_the_last() -> None:
    here, there = stages(2, offline_seconds=AWAY)
    at_one, at_other = watch(here), watch(there)
    first, _ = here.client(client_id="c1", user_id="ann")
    second, _ = there.client(client_id="c2", user_id="ann")
    third, _ = there.client(client_id="c3", user_id="ann")
    here.client(client_id="c4")
    assert at_one == at_other == [("user_online", "ann")]
    for stage, session in ((here, first), (there, third), (there, second)):
        stage.close(session)
    pass_time(AWAY - 0.5, here, there)
    assert len(at_one) == 1
    pass_time(1, here, there)
    assert at_one == at_other == [("user_online", "ann"), ("user_offline", "ann")]
    there.client(client_id="c2", user_id="ann")
    assert at_one == at_other == [("user_online", "ann"), ("user_offline", "ann"), ("user_online", "ann")]


def pass_time(seconds: float, here: Stage, there: Stage) -> None:
    here.pass_time(seconds)
    there.gateway.tick()  # the two have one clock


def test_who_comes_back_soon_or_is_connected_elsewhere_was_never_away() -> None:
    here, there = stages(2, offline_seconds=AWAY)
    seen = watch(here)
    first, _ = here.client(client_id="c1", user_id="ann")
    here.close(first)
    here.pass_time(1)
    again, _ = there.client(client_id="c1", user_id="ann")
    here.pass_time(AWAY + 1)
    assert seen == [("user_online", "ann")]
    there.close(again)
    here.pass_time(AWAY + 1)
    assert seen == [("user_online", "ann"), ("user_offline", "ann")]


def test_one_who_is_another_from_now_on_has_left() -> None:
    (here,) = stages(1, offline_seconds=AWAY)
    seen = watch(here)
    session, _ = here.client(client_id="c1", user_id="ann")
    here.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "ann"})
    here.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "bob"})
    here.pass_time(AWAY + 1)
    assert seen == [("user_online", "ann"), ("user_online", "bob"), ("user_offline", "ann")]


def test_those_who_were_there_before_anybody_looked() -> None:
    (here,) = stages(1, offline_seconds=AWAY)
    session, _ = here.client(client_id="c1", user_id="ann")
    seen = watch(here)
    here.client(client_id="c2", user_id="ann")
    assert seen == [], "she was online already"
    here.close(session)
    here.pass_time(AWAY + 1)
    assert seen == []


def test_with_the_others_out_of_reach_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    (here,) = stages(1, offline_seconds=AWAY)
    seen = watch(here)
    monkeypatch.setattr(type(here.gateway.backplane), "trouble", "Redis is away.")
    here.client(client_id="c1", user_id="ann")
    assert seen == []


def test_what_is_waited_for_is_bounded_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online_users, "MAX_WAITING", 2)
    (here,) = stages(1, offline_seconds=AWAY)
    seen: Seen = []
    stop = here.gateway.event_tail.follow(lambda node, event: seen.append((event.event, event.user_id)))
    for number in range(3):
        session, _ = here.client(client_id=f"c{number}", user_id=f"u{number}")
        here.close(session)
    here.pass_time(AWAY + 1)
    assert [user for event, user in seen if event == "user_offline"] == ["u0", "u1"]
    session, _ = here.client(client_id="c9", user_id="u9")
    here.close(session)
    stop()
    stop_again = watch(here)
    here.pass_time(AWAY + 1)
    assert stop_again == []
