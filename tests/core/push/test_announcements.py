"""A user's other clients hear that there is one more: once, on every node, and only where the operator wants it."""

from typing import Any

import pytest

from tests.core.test_back_end_events import Kept
from tests.fakes import MemoryPeer, Stage, stage, stages

CLIENT = "user_connected_on_another_client"
NODE = "user_connected_on_another_node"


def told(peer: MemoryPeer) -> list[tuple[str, Any, Any]]:
    return [(one["type"], one.get("new_client_id"), one.get("new_node_id")) for one in peer.take()]


def client(gw: Stage, client_id: str, user_id: str | None = "ann", **more: str) -> tuple[Any, MemoryPeer]:
    return gw.client(client_id=client_id, user_id=user_id, **more)


def test_the_others_are_told_and_the_new_one_is_not() -> None:
    gw = stage(announce_others=True)
    _, one = client(gw, "c1", node_id="n1")
    _, bob = client(gw, "c9", "bob")
    _, nobody = client(gw, "c8", None)
    new, two = client(gw, "c2", node_id="n1")
    assert told(one) == [(CLIENT, "c2", "n1")]
    _, three = client(gw, "c3", node_id="n2")
    assert told(one) == told(two) == [(NODE, "c3", "n2")]
    assert told(three) == told(bob) == told(nobody) == []
    gw.say(new, {"type": "c_client_register", "client_id": "c2", "user_id": "ann", "channel_id": "news"})
    assert told(one) == [], "it is no other than before"


def test_other_nodes_clients_are_told_too() -> None:
    here, there = stages(2, announce_others=True)
    _, one = client(here, "c1")
    client(there, "c2")
    assert told(one) == [(CLIENT, "c2", None)]


def test_envelope_clients_are_told_and_workers_and_listeners_are_not() -> None:
    gw = stage(announce_others=True)
    session, envelope = gw.connect("/")
    gw.say(session, {"type": "connect", "data": {"client_id": "e1", "user_id": "ann"}})
    _, listener = gw.connect("/ws/ann")
    envelope.take()
    client(gw, "c1")
    (note,) = envelope.take()
    assert (note["type"], note["data"]["event"], note["data"]["payload"]["new_client_id"]) == (
        "notification",
        CLIENT,
        "c1",
    )
    assert not listener.messages


def test_back_ends_are_told_once() -> None:
    log = Kept()
    gw = stage(announce_others=True, event_log=log, relayed=())
    client(gw, "c1")
    client(gw, "c2")
    assert [one["event"] for one in log.take()] == ["registered", "registered", CLIENT]
    client(gw, "c3", node_id="n3")
    assert [(one["event"], one["client_id"]) for one in log.take()] == [("registered", "c3"), (NODE, "c3")]


@pytest.mark.parametrize("events", [None, Kept()])
def test_nobody_is_told_where_it_is_not_wanted(events: Kept | None) -> None:
    gw = stage(event_log=events, relayed=())
    _, one = client(gw, "c1")
    client(gw, "c2")
    assert told(one) == []
    assert CLIENT not in [one["event"] for one in (events.take() if events else [])]
