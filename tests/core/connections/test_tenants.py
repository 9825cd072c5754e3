"""What one user or tenant gets of another's: nothing, in every dialect, and not a word on whether it is there."""

from typing import Any

import pytest

from portico.wire.messages import Event, Target
from tests.core.connections.test_authentication import FakeTokens, at, register
from tests.fakes import Stage, publish, stages, start_login


def clients_told(made: Stage, session: Any) -> list[str]:
    (answer,) = made.ask(session, {"type": "request", "msg_id": "m", "data": {"action": "get_client_info"}})
    return [client["client_id"] for client in answer["data"]["result"]["clients"]]


@pytest.mark.parametrize("role", ["client", "admin"])
def test_another_tenants_clients_are_not_told(role: str) -> None:
    made, tokens = at("required", production=True)
    theirs = tokens.make("theirs", "bob", tenant="other")
    session, _ = made.connect("/")
    made.ask(session, register(theirs, user_id="bob", client_id="bobs-device"))
    mine = tokens.make("mine", "ann", role=role, tenant="mine")
    session, _ = made.connect("/")
    made.ask(session, {"type": "connect", "data": {"client_id": "mine", "user_id": "ann", "token": mine}})
    assert clients_told(made, session) == ["mine"]
    # The operator's own admin is of no tenant.
    operator = tokens.make("operator", role="admin")
    session, _ = made.connect("/")
    made.ask(session, {"type": "connect", "data": {"client_id": "op", "token": operator}})
    assert "bobs-device" in clients_told(made, session)


def test_anothers_history_is_not_resumed() -> None:
    made, tokens = at("required", production=True)
    ann = tokens.make("ann")
    session, peer = made.connect("/")
    (answer,) = made.ask(session, register(ann, user_id="ann"))
    epoch = answer["resume"]["epoch"]
    session.closed(1006, "")
    for number in range(3):
        publish(made, Target("user_id", "ann"), Event(f"secret-{number}"), durable=True)
    start_login(made, "ann")
    bob = tokens.make("bob", "bob")
    session, peer = made.connect("/")
    resume = {"epoch": epoch, "offsets": {"user:ann": 0}}
    told = made.ask(session, register(bob, client_id="bobs", user_id="bob", resume=resume))
    made.pass_time(1)
    assert [message["type"] for message in [*told, *peer.take()]] == ["registration_success"]
    assert "user:ann" not in told[0]["resume"]["offsets"]


def test_a_refusal_says_the_same_of_a_user_that_is_there_and_of_one_that_is_not() -> None:
    made, tokens = at("required", production=True)
    session, _ = made.connect("/")
    made.ask(session, register(tokens.make("ann"), user_id="ann", client_id="hers"))
    start_login(made, "ann")
    bob = tokens.make("bob", "bob")
    answers = []
    for user in ("ann", "nobody"):
        for shown in (bob, "a.bad.c", None):
            stranger, peer = made.connect("/")
            (told,) = made.ask(stranger, register(shown, client_id="x", user_id=user))
            answers.append((told | {"user_id": None}, peer.closes))
    assert answers[:3] == answers[3:]


def test_a_client_of_the_same_names_in_another_tenant_replaces_nobody_and_is_not_asked_for_her() -> None:
    made, tokens = at("required", production=True)
    peers = []
    for tenant in ("mine", "other"):
        session, peer = made.connect("/")
        token = tokens.make(tenant, "ann", tenant=tenant)
        made.ask(session, register(token, user_id="ann", client_id="c1", node_id="n1"))
        peers.append(peer)
    made.pass_time(1)
    assert [peer.closes for peer in peers] == [[], []]


def test_a_claim_keeps_a_tenant_out_of_the_channels_of_another() -> None:
    # Names are everybody's: without the claim the token would be let into any channel.
    made, tokens = at("required", production=True)
    publish(made, Target("channel_id", "other-news"), Event("secret"), durable=True)
    token = tokens.make("mine", "ann", tenant="mine", fields={"channel_id": ("mine-*",)})
    session, peer = made.connect("/")
    resume = {"epoch": "e", "offsets": {"channel:other-news": 0}}
    told = made.ask(session, register(token, user_id="ann", channel_id="mine-news", resume=resume))
    assert [message["type"] for message in told] == ["registration_success"]
    assert "channel:other-news" not in told[0]["resume"]["offsets"]
    made.say(session, register(user_id="ann", channel_id="other-news"))
    assert peer.close_code == 4003
    assert all(message["type"] != "secret" for message in peer.take())


@pytest.mark.parametrize("stranger", [None, "a.other.c"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_who_has_not_proven_the_same_takes_nothing_of_a_users_connections(nodes: int, stranger: str | None) -> None:
    tokens = FakeTokens()
    tokens.make("other", "ann", tenant="other")
    made = stages(nodes, authentication="optional", production=True, tokens=tokens, max_connections_per_user=2)
    here, there = made[0], made[-1]

    def settle() -> None:
        while any(each.defer.run() for each in made):
            pass

    def came(at: Stage, token: str | None, client_id: str) -> int | None:
        session, peer = at.connect("/")
        at.say(session, register(token, user_id="ann", client_id=client_id))
        settle()
        here.clock.move(1)
        return peer.close_code

    for number in range(4):
        came(there, stranger, f"s{number}")
    mine = tokens.make("mine", "ann")
    # Hers alone count for her, on every node, and still do.
    assert [came(here, mine, f"m{number}") for number in range(3)] == [None, None, 1013]
