"""Who is replaced or kicked again and again, and comes straight back, is slowed down."""

from typing import Any

import pytest

from portico.wire.codes import CloseCode
from service.core.connections import returns
from service.core.connections.returns import OFTEN, SECONDS_PER_RETURN, Returns
from service.core.reply import Reply
from tests.fakes import MemoryPeer, Stage, stage, stages

REGISTER = {"type": "c_client_register", "client_id": "c1", "user_id": "u1"}
WORKER = {"type": "connect", "data": {"client_id": "w1", "role": "worker"}}


def come(house: Stage, message: dict[str, Any] = REGISTER) -> MemoryPeer:
    session, peer = house.connect("/ws")
    house.say(session, message)
    return peer


@pytest.mark.parametrize("message", [REGISTER, WORKER], ids=["c_client", "worker"])
def test_two_programs_of_one_name_replace_each_other_ever_more_slowly(message: dict[str, Any]) -> None:
    house = stage()
    stayed = 0.0
    put_out = 0
    holder = come(house, message)
    for _ in range(300):  # 20 minutes
        house.pass_time(4)
        peer = come(house, message)
        if peer.closes:
            ((code, reason),) = peer.closes
            assert (code, "try again in" in reason) == (CloseCode.TRY_LATER, True)
            assert not holder.closes
            stayed += 4
        else:
            assert holder.closes[0][0] == CloseCode.REPLACED
            holder, put_out = peer, put_out + 1
    assert put_out <= OFTEN + 1 + 1200 / SECONDS_PER_RETURN
    assert stayed > 900


def test_one_that_waits_is_told_and_may_return() -> None:
    house = stage()
    peers = [come(house) for _ in range(OFTEN + 2)]
    assert not peers[-1].closes
    refused = come(house)
    (rejected,) = refused.messages
    assert (rejected["type"], rejected["reason"]) == ("registration_rejected", "rate_limited")
    assert not peers[-1].closes
    assert house.gateway.registration.returns.refused == 1
    # Neither others nor the same name of another user's are concerned.
    for other in ({"client_id": "c2"}, {"user_id": "u2"}, {"node_id": "n"}):
        assert not come(house, {**REGISTER, **other}).closes
    house.pass_time(SECONDS_PER_RETURN + 1)
    assert not come(house).closes
    assert peers[-1].closes[0][0] == CloseCode.REPLACED


def test_a_client_on_a_bad_link_never_waits() -> None:
    house = stage()
    for _ in range(200):
        assert not come(house).closes
        house.pass_time(SECONDS_PER_RETURN)


def test_who_is_connected_may_say_again_who_it_is() -> None:
    house = stage()
    for _ in range(OFTEN + 1):
        come(house)
    session, peer = house.connect("/ws")
    house.say(session, REGISTER)
    house.say(session, REGISTER)
    assert not peer.closes


def test_one_that_is_kicked_again_and_again_waits() -> None:
    house = stage()
    for _ in range(OFTEN + 1):
        peer = come(house)
        house.gateway.presence.kick("c1", Reply(lambda _: None))
        assert peer.closes == [(CloseCode.KICKED, "kicked by the operator")]
    assert come(house).closes[0][0] == CloseCode.TRY_LATER


def test_programs_at_two_nodes_are_slowed_down_too() -> None:
    houses = stages(2)
    refused = 0
    for number in range(4 * OFTEN):
        peer = come(houses[number % 2])
        refused += bool(peer.closes) and peer.closes[0][0] == CloseCode.TRY_LATER
        for house in houses:
            house.gateway.tick()
    assert refused > OFTEN


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returns, "CLIENTS", 3)
    table = Returns(now=lambda: 1.0)
    for number in range(5):
        table.on_put_out((f"c{number}", None, None, "c_client", ""))
    table.on_put_out(None)
    assert len(table) == 3
