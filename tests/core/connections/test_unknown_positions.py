"""Connections that registered while Redis was away are told where their streams are, once, as soon as it is known."""

from collections.abc import Collection

import pytest

from portico.wire.messages import Target
from service.core.cluster.backplane import Joined, StreamPositions
from service.core.reply import Reply

from ...fakes import Stage, stage
from .test_registration import USER, durable, registered


class Outage:
    """Redis is away: joins are answered without positions, as after PATIENCE."""

    def __init__(self, house: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        backplane = house.gateway.backplane
        join = backplane.join
        self.over = False

        def given_up(targets: Collection[Target], resume: StreamPositions | None, reply: Reply[Joined]) -> None:
            if self.over:
                join(targets, resume, reply)
            else:
                named = [] if resume is None else list(resume.offsets)
                reply(Joined(backplane.epoch, {}, {}, named, False))

        monkeypatch.setattr(type(backplane), "trouble", property(lambda _: None if self.over else "away"))
        monkeypatch.setattr(backplane, "join", given_up)


def test_a_client_that_registers_in_an_outage_is_told_its_positions_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = stage()
    offset = durable(house, 1)
    outage = Outage(house, monkeypatch)
    peer, answer, _ = registered(house, client_id="c1", user_id="u1")
    assert answer["resume"]["recovered"] is False
    assert answer["resume"]["offsets"] == {"all": -1, "client:c1": -1, "user:u1": -1}
    house.pass_time(0.2)
    durable(house, 2)  # another node has Redis back already
    peer.take()
    outage.over = True
    house.pass_time(0.2)
    (gap,) = peer.take()
    assert (gap["type"], gap["epoch"]) == ("stream_gap", house.world.epoch)
    assert gap["streams"] == ["all", "client:c1", "user:u1"]
    assert gap["offsets"]["user:u1"] > offset
    house.pass_time(1)
    assert peer.take() == [], "once"
    # It goes on from there.
    house.close(next(iter(house.peers)))
    missed = durable(house, 3)
    resume = {"epoch": gap["epoch"], "offsets": gap["offsets"]}
    _, answer, more = registered(house, resume, client_id="c1", user_id="u1")
    assert ([m["offset"] for m in more], answer["resume"]["recovered"]) == ([missed], True)


def test_what_it_named_is_kept_through_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    first = durable(house, 1)
    missed = durable(house, 2)
    outage = Outage(house, monkeypatch)
    resume = {"epoch": house.world.epoch, "offsets": {"user:u1": first}}
    _, answer, _ = registered(house, resume, client_id="c1", user_id="u1")
    assert (answer["resume"]["recovered"], answer["resume"]["lost"]) == (False, ["user:u1"])
    assert answer["resume"]["offsets"]["user:u1"] == first
    # Cut before it was told more, it misses nothing.
    house.close(next(iter(house.peers)))
    outage.over = True
    resume = {"epoch": answer["resume"]["epoch"], "offsets": answer["resume"]["offsets"]}
    _, answer, more = registered(house, resume, client_id="c1", user_id="u1")
    assert [m["offset"] for m in more] == [missed]
    assert answer["resume"]["lost"] == ["all", "client:c1"], "of these nobody knew where it was"


def test_one_that_registers_anew_after_an_outage_is_told_by_that(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    outage = Outage(house, monkeypatch)
    peer, _, _ = registered(house, client_id="c1", user_id="u1")
    outage.over = True
    session = next(iter(house.peers))
    (answer,) = house.ask(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u2"})
    house.pass_time(0.2)
    assert -1 not in answer["resume"]["offsets"].values()
    assert peer.take() == []


def test_a_gap_that_all_were_told_after_an_outage_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    outage = Outage(house, monkeypatch)
    peer, _, _ = registered(house, client_id="c1", user_id="u1")
    house.gateway.delivery.on_gap(USER, house.world.epoch, 7)
    assert [m["streams"] for m in peer.take()] == [["user:u1"]]
    outage.over = True
    house.pass_time(0.2)
    assert [m["streams"] for m in peer.take()] == [["all", "client:c1"]]
