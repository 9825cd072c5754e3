"""What was taken back is closed at every node, and kept away until the revocation ends."""

from typing import Any

import pytest
from msgspec import Raw

from portico.wire.codes import CloseCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Target
from service.core import revocations
from service.core.connections import revoking
from service.core.connections.revoking import TAKEN_BACK
from service.core.reply import Reply
from service.core.revocations import Kind, Revocation
from tests.fakes import Refused, Stage, publish, stages

from .test_authentication import FakeTokens, at, register

CLOSED = [(CloseCode.NOT_AUTHENTICATED, TAKEN_BACK)]
HOUR = 3600.0


def revocation(house: Stage, kind: Kind, value: str = "", before: float | None = None, ttl: float = HOUR) -> Revocation:
    now = house.clock.wall()
    return Revocation(kind, value, before, now, now + ttl)


def revoke(house: Stage, *what: Any, **more: Any) -> PeerFault | None:
    """Take something back, and let every node of the test's see to it by `settle`."""
    replies: list[PeerFault | None] = []
    house.gateway.revoking.revoke(revocation(house, *what, **more), Reply(replies.append))
    (reply,) = replies
    return reply


def settle(*houses: Stage) -> None:
    for house in houses:
        house.gateway.tick()
        house.defer.run()


def test_a_user_is_closed_on_every_node_and_kept_away_until_the_end() -> None:
    tokens = FakeTokens()
    one, other = houses = stages(2, authentication="required", tokens=tokens)
    peers = []
    for name, user in (("t1", "ann"), ("t2", "ann"), ("t3", "bob")):
        tokens.make(name, user)
    for house, name in ((one, "t1"), (other, "t2"), (other, "t3")):
        session, peer = house.connect("/ws")
        house.ask(session, register(f"a.{name}.c", client_id=name))
        peers.append(peer)
    assert revoke(one, "user_id", "ann") is None
    settle(*houses)
    assert [peer.closes for peer in peers] == [CLOSED, CLOSED, []]
    for house in houses:
        # In the first message, or in the handshake; and whatever the token.
        tokens.make("fresh", "ann", issued_at=house.clock.wall() + 1)
        session, peer = house.connect("/ws")
        house.say(session, register("a.fresh.c"))
        assert peer.take()[0]["reason"] == "unauthorized"
        assert peer.close_code == 4001
        with pytest.raises(Refused) as caught:
            house.connect("/ws", query="token=a.fresh.c")
        assert caught.value.answer.status == 401
        assert house.gateway.authentication.refused["revoked"] >= 2
    one.clock.move(HOUR + 1)
    settle(*houses)
    session, _ = one.connect("/ws")
    assert one.ask(session, register("a.fresh.c"))[0]["type"] == "registration_success"
    assert len(one.gateway.revoking.index) == 0


def test_every_kind_of_connection_is_closed() -> None:
    house, tokens = at("optional")
    tokens.make("ann", "ann")
    tokens.make("worker", "ann", role="worker")
    tokens.make("asker", "ann", role="requester")
    client, registered = house.connect("/ws", query="token=a.ann.c")
    house.ask(client, register())
    _, silent = house.connect("/ws", query="token=a.ann.c")
    _, user = house.connect("/ws/ann", query="token=a.ann.c")
    _, unproven = house.connect("/ws/ann")
    worker, at_work = house.connect("/worker", query="token=a.worker.c")
    assert worker.worker is not None
    _, asker = house.connect("/requester", query="token=a.asker.c")
    _, bystander = house.connect("/ws/bob")
    revoke(house, "user_id", "ann")
    settle(house)
    for peer in (registered, silent, user, unproven, at_work, asker):
        assert peer.closes == CLOSED
    assert not bystander.closes
    assert house.gateway.dispatcher.worker_statuses() == []
    for path in ("/ws/ann", "/requester"):
        with pytest.raises(Refused):
            house.connect(path, query="token=a.asker.c" if path == "/requester" else "")


@pytest.mark.parametrize("mode", ["off", "optional"])
def test_a_user_who_proves_nothing_is_kept_away_too(mode: str) -> None:
    house = stages(1, authentication=mode, tokens=None if mode == "off" else FakeTokens())[0]
    session, before = house.connect("/ws")
    house.ask(session, register(user_id="ann"))
    revoke(house, "user_id", "ann")
    # Tokens issued before a moment are none of hers, who has none.
    revoke(house, "all", before=house.clock.wall() + 10)
    settle(house)
    assert before.closes == CLOSED
    session, peer = house.connect("/ws")
    house.say(session, register(user_id="ann"))
    assert peer.close_code == 4001
    session, _ = house.connect("/ws")
    assert house.ask(session, register(user_id="bob"))[0]["type"] == "registration_success"


def test_a_user_who_was_taken_back_is_no_worker_either() -> None:
    house = stages(1, authentication="off", tokens=None, production=True, handshake_key="k" * 32)[0]
    revoke(house, "user_id", "ann")
    session, peer = house.connect("/ws")
    house.say(session, {"type": "connect", "data": {"role": "worker", "token": "k" * 32, "user_id": "ann"}})
    assert peer.close_code == CloseCode.NOT_AUTHENTICATED
    assert session.worker is None


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_who_may_not_be_a_user_is_not_told_that_she_was_taken_back(mode: str) -> None:
    house, tokens = at(mode, production=True, open_users=False)
    tokens.make("bob", "bob")
    revoke(house, "user_id", "ann")
    settle(house)
    told: dict[str, list[object]] = {"ann": [], "nobody": []}
    for user, answers in told.items():
        # With another's token, and where it is required with none, in the first message and by the path.
        for message in (register("a.bob.c", user_id=user), *([register(user_id=user)] if mode == "required" else [])):
            session, peer = house.connect("/ws")
            house.say(session, message)
            answers += [[said | {"user_id": None} for said in peer.take()], peer.closes]
        for query in ("token=a.bob.c", ""):
            with pytest.raises(Refused) as refused:
                house.connect(f"/ws/{user}", query=query)
            answers += [vars(refused.value)]
    assert told["ann"] == told["nobody"]
    assert told["ann"]


def test_a_switch_to_a_revoked_user_and_a_refresh_with_a_revoked_token_are_refused() -> None:
    house, tokens = at("required")
    tokens.make("old", "ann", token_id="j1")
    tokens.make("new", "ann", token_id="j2")
    session, peer = house.connect("/ws")
    house.ask(session, register("a.old.c"))
    revoke(house, "token_id", "j2")
    settle(house)
    (answer,) = house.ask(session, {"type": "token_refresh", "token": "a.new.c"})
    assert (answer["type"], answer["code"]) == ("error", "unauthorized")
    assert not peer.closes


def test_who_is_being_replayed_what_she_missed_gets_no_more_of_it() -> None:
    house, tokens = at("required")
    tokens.make("ann", "ann")
    session, peer = house.connect("/ws")
    (answer,) = house.ask(session, register("a.ann.c"))
    session.closed(1006, "")
    event = Event("news", Raw(b'{"text":"%s"}' % (b"x" * 100_000)))
    for number in range(50):
        publish(house, Target("user_id", "ann"), event, f"e{number}", durable=True)
    session, peer = house.connect("/ws")
    peer.reads = False  # the replay waits for her
    house.say(
        session,
        register("a.ann.c", resume={"epoch": answer["resume"]["epoch"], "offsets": answer["resume"]["offsets"]}),
    )
    house.defer.run()
    had = len(peer.frames)
    assert 1 < had < 50
    revoke(house, "user_id", "ann")
    settle(house)
    assert peer.closes == CLOSED
    peer.make_room()
    house.defer.run()
    assert (len(peer.frames), peer.sent_after_close) == (had, 0)


def test_many_connections_are_looked_at_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revoking, "SLICE", 2)
    house, tokens = at("required")
    tokens.make("ann", "ann")
    peers = [house.connect("/ws", query="token=a.ann.c")[1] for _ in range(5)]
    revoke(house, "user_id", "ann")
    house.gateway.tick()
    assert [bool(peer.closes) for peer in peers] == [True, True, False, False, False]
    # What is taken back meanwhile is heeded in another round.
    revoke(house, "user_id", "bob")
    house.defer.run()
    assert all(peer.closes == CLOSED for peer in peers)
    house.gateway.tick()
    house.defer.run()


def test_there_is_a_limit_and_what_is_there_may_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revoking, "LIMIT", 2)
    house, _ = at("required")
    assert revoke(house, "user_id", "u1") is None
    assert revoke(house, "user_id", "u2", ttl=5.0) is None
    refused = revoke(house, "user_id", "u3")
    assert refused is not None
    assert (refused.code, str(revocations.LIMIT) in refused.message) == ("unavailable", True)
    assert revoke(house, "user_id", "u1", ttl=1.0) is None
    house.clock.move(6)
    settle(house)
    assert revoke(house, "user_id", "u3") is None
