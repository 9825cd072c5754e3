"""Pushes of the gateway's own to a user's clients on every node, of which one connection may be left out."""

from typing import Any

import pytest
from msgspec import Raw

from portico.wire.faults import PeerFault
from portico.wire.messages import Event
from service.core.push import delivery
from service.core.push.user_push import KIND, UserPush
from service.core.reply import Reply

from ...fakes import Stage, stages


def pushes(house: Stage) -> UserPush:
    """The stage's UserPush."""
    return house.gateway.logins._users


def push(house: Stage, skip: Any = None) -> list[PeerFault | None]:
    """Push to u1's clients; what is answered."""
    answers: list[PeerFault | None] = []
    pushes(house).push("u1", Event("e", Raw(b'{"n":1}')), skip, Reply(answers.append))
    return answers


def test_it_reaches_the_users_clients_on_every_node_but_one_connection() -> None:
    one, two = stages(2)
    session, own = one.client(client_id="a", user_id="u1")
    _, beside = one.client(client_id="b", user_id="u1")
    _, there = two.client(client_id="c", user_id="u1")
    _, stranger = two.client(client_id="d", user_id="u2")
    assert push(one, session) == [None]
    assert [peer.take() for peer in (own, stranger)] == [[], []]
    assert beside.take() == there.take() == [{"type": "e", "n": 1}]
    assert push(two) == [None]
    assert [len(peer.take()) for peer in (own, beside, there, stranger)] == [1, 1, 1, 0]


def test_where_too_much_waits_it_is_refused_here_and_dropped_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SLICE", 1)
    monkeypatch.setattr(delivery, "MAX_WAITING_SENDS", 3)
    one, two = stages(2)
    session, _ = one.client(client_id="x", user_id="u1")
    there = [two.client(client_id=f"c{number}", user_id="u1")[1] for number in range(2)]
    assert push(one, session) == push(one, session) == [None]
    two.defer.run()
    assert [len(peer.take()) for peer in there] == [1, 1], "the second found no room"
    one.client(client_id="y", user_id="u1")
    assert push(one, session) == [None]
    [fault] = push(one, session)
    assert fault is not None
    assert fault.code == "unavailable"


def test_a_message_that_makes_no_sense_does_no_harm() -> None:
    one, two = stages(2)
    _, peer = one.client(client_id="a", user_id="u1")
    for body in (b"", b"[]", b'["u1", 5, {}]'):
        two.gateway.backplane.tell("node-1", KIND, body)
    assert peer.take() == []
    assert len(one.journal.broken) == 3
