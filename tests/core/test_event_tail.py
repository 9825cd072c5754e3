"""What passes in a deployment, told to whoever looks at any node; and nothing made where nobody looks."""

import json

from service.core import event_tail
from service.core.back_end_events import EVENTS, BackEndEvent
from tests.fakes import Stage, stages

from .test_back_end_events import Kept

Seen = list[tuple[str, str, str | None]]


def look(gw: Stage) -> tuple[Seen, "object"]:
    seen: Seen = []

    def listener(node: str, event: BackEndEvent) -> None:
        assert json.loads(event.body)["event"] == event.event
        seen.append((node, event.event, event.client_id))

    return seen, gw.gateway.event_tail.follow(listener)


def test_what_passes_at_every_node_is_seen_at_one() -> None:
    here, there = stages(2)
    seen, stop = look(here)
    one, _ = here.client(client_id="c1")
    two, _ = there.client(client_id="c2")
    here.close(one)
    there.close(two)
    a, b = here.gateway.backplane.node, there.gateway.backplane.node
    assert seen == [(a, "registered", "c1"), (b, "registered", "c2"), (a, "left", "c1"), (b, "left", "c2")]
    assert callable(stop)
    stop()
    there.pass_time(event_tail.WANTED + 1)
    assert not here.gateway.events.listening
    assert not there.gateway.events.listening
    here.client(client_id="c3")
    assert len(seen) == 4


def test_one_that_goes_on_looking_is_told_on_and_on() -> None:
    here, there = stages(2)
    seen, _ = look(here)
    for _ in range(10):
        here.pass_time(event_tail.AGAIN)
        there.pass_time(event_tail.AGAIN)
    there.client(client_id="c2")
    assert [name for _, name, _ in seen] == ["registered"]


def test_those_who_were_there_before_are_seen_to_leave() -> None:
    (here,) = stages(1)
    session, _ = here.client(client_id="c1")
    seen, _ = look(here)
    here.close(session)
    assert [name for _, name, _ in seen] == ["left"]


def test_every_event_that_back_ends_get_is_seen_from_another_node() -> None:
    here, there = stages(2, relayed=("*", "-"), announce_others=True, event_log=Kept(), offline_seconds=1)
    seen, _ = look(here)
    session, _ = there.client(client_id="c1", user_id="ann", node_id="n1")
    more, _ = there.client(client_id="c2", user_id="ann", node_id="n1")
    another, _ = there.client(client_id="c3", user_id="ann", node_id="n2")
    there.say(session, {"type": "cookie_response"})
    requester, _ = there.connect("/requester")
    there.say(requester, {"command": "echo"})
    for one in (session, more, another):
        there.close(one)
    here.pass_time(2)
    assert {name for _, name, _ in seen} == set(EVENTS)


def test_of_a_flood_of_another_nodes_a_part_is_seen() -> None:
    here, there = stages(2)
    seen, _ = look(here)
    requester, _ = there.connect("/requester")
    for number in range(event_tail.PER_SECOND + 10):
        there.say(requester, {"command": "echo", "request_id": number})
    assert len(seen) == event_tail.PER_SECOND
    assert there.gateway.event_tail.left_out == 10
    there.pass_time(1)
    there.say(requester, {"command": "echo"})
    assert len(seen) == event_tail.PER_SECOND + 1
