"""A client that has come further than its node is not given again what it has had, whoever it registers as."""

from collections.abc import Collection
from typing import Any

import pytest

from portico.wire.messages import Target, stream_of
from service.core.cluster.backplane import Joined, StreamPositions
from service.core.connections.ahead import STREAMS
from service.core.reply import Reply

from ...fakes import Stage, stage
from .test_registration import durable, registered


@pytest.mark.shows("what it had by another node is not delivered to it once more")
def test_what_a_client_has_had_is_not_delivered_to_it_by_a_node_that_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    first = durable(house, 1)
    backplane = house.gateway.backplane
    stays, _, _ = registered(house, client_id="c1", user_id="u1")

    def behind(targets: Collection[Target], resume: StreamPositions | None, reply: Reply[Joined]) -> None:
        assert resume is not None
        reply(Joined(backplane.epoch, resume.offsets, {}, list(resume.offsets), False, resume.offsets))

    with monkeypatch.context() as patched:
        patched.setattr(backplane, "join", behind)
        had = {"user:u1": first + 2, "client:c2": first + 9, "all": first}
        comes, answer, _ = registered(house, {"epoch": house.world.epoch, "offsets": had}, client_id="c2", user_id="u1")
    assert answer["resume"]["offsets"] == had
    offsets = [durable(house, n) for n in range(4)]
    assert [m["offset"] for m in stays.take()] == offsets
    assert [m["offset"] for m in comes.take()] == offsets[2:]
    # A gap before that leads it back nowhere; a later one, or one of another epoch, is a gap.
    house.gateway.delivery.on_gap(Target("client_id", "c2"), house.world.epoch, first + 5)
    assert comes.take() == []
    house.gateway.delivery.on_gap(Target("client_id", "c2"), "another", first + 5)
    (gap,) = comes.take()
    assert (gap["type"], gap["epoch"]) == ("stream_gap", "another")
    house.close(next(reversed(house.peers)))
    assert len(house.gateway.ahead) == 0


class Behind:
    """This node has not come as far as its clients, and cannot read on: joins are answered as after PATIENCE."""

    def __init__(self, house: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = 0
        backplane = house.gateway.backplane

        def behind(targets: Collection[Target], resume: StreamPositions | None, reply: Reply[Joined]) -> None:
            named = {} if resume is None else dict(resume.offsets)
            offsets = {stream_of(target): max(self.at, named.get(stream_of(target), 0)) for target in targets}
            further = {stream: at for stream, at in named.items() if at > self.at}
            reply(Joined(backplane.epoch, offsets, {}, list(named), not named, further))

        monkeypatch.setattr(backplane, "join", behind)


AGAIN: dict[str, list[dict[str, Any]]] = {
    "another name": [{"user_id": "u1", "username": "ann"}],
    "and another": [{"user_id": "u1", "username": "ann"}, {"user_id": "u1", "username": "bob"}],
    "another user and back": [{"user_id": "u2"}, {"user_id": "u1"}],
    "nobody and back": [{}, {"user_id": "u1"}],
}


@pytest.mark.parametrize("said", AGAIN.values(), ids=AGAIN.keys())
@pytest.mark.shows("what it had by another node is not delivered to it once more", "no answer leads it back")
def test_nor_where_it_registers_again_before_its_node_has_caught_up(
    monkeypatch: pytest.MonkeyPatch, said: list[dict[str, Any]]
) -> None:
    house = stage()
    behind = Behind(house, monkeypatch)
    behind.at = durable(house, 1)
    had = behind.at + 2
    peer, _, _ = registered(
        house, {"epoch": house.world.epoch, "offsets": {"user:u1": had}}, client_id="c1", user_id="u1"
    )
    session = next(iter(house.peers))
    for each in said:
        (answer,) = house.ask(session, {"type": "c_client_register", "client_id": "c1", **each})
    # A client keeps what the last answer says, so that is not to lead it back.
    assert answer["resume"]["offsets"]["user:u1"] == had
    offsets = [durable(house, n) for n in range(4)]
    assert [m["offset"] for m in peer.take()] == offsets[2:]


def test_one_that_says_to_have_had_less_is_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    behind = Behind(house, monkeypatch)
    behind.at = durable(house, 1)
    epoch = house.world.epoch
    peer, _, _ = registered(
        house, {"epoch": epoch, "offsets": {"user:u1": behind.at + 2}}, client_id="c1", user_id="u1"
    )
    resume = {"epoch": epoch, "offsets": {"user:u1": behind.at + 1}}
    house.ask(
        next(iter(house.peers)), {"type": "c_client_register", "client_id": "c1", "user_id": "u1", "resume": resume}
    )
    offsets = [durable(house, n) for n in range(4)]
    assert [m["offset"] for m in peer.take()] == offsets[1:]


def test_what_it_has_had_of_an_epoch_that_is_over_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    behind = Behind(house, monkeypatch)
    behind.at = durable(house, 1)
    resume = {"epoch": house.world.epoch, "offsets": {"user:u1": behind.at + 2}}
    peer, _, _ = registered(house, resume, client_id="c1", user_id="u1")
    session = next(iter(house.peers))
    house.ask(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u2"})
    house.world.epoch = "another"
    (answer,) = house.ask(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u1"})
    assert answer["resume"]["offsets"]["user:u1"] == behind.at
    offsets = [durable(house, n) for n in range(3)]
    assert [m["offset"] for m in peer.take()] == offsets


@pytest.mark.shows("32 streams of a connection")
def test_how_far_a_client_has_come_is_kept_of_a_bounded_number_of_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    Behind(house, monkeypatch)
    session, _ = house.connect("/ws")
    for n in range(100):
        resume = {"epoch": house.world.epoch, "offsets": {f"user:u{n}": 5}}
        house.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": f"u{n}", "resume": resume})
    assert house.gateway.ahead.streams == STREAMS
    house.close(session)
    assert (len(house.gateway.ahead), house.gateway.ahead.streams) == (0, 0)
