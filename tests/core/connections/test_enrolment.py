"""Joining: from when a client is told that it is registered it misses nothing; nothing overtakes or doubles."""

from collections.abc import Callable, Collection
from typing import Any

import pytest
from msgspec import Raw

from portico.wire.messages import EVERYBODY, Event, Target
from service.core.cluster.backplane import Joined, Resume
from service.core.connections import session as sessions
from service.core.connections.session import State
from service.core.reply import Reply

from ...fakes import Stage, publish, stage, stages

ANN = {"client_id": "c1", "user_id": "u1", "channel_id": "ch"}
USER = Target("user_id", "u1")


def durable(house: Stage, number: int, target: Target = USER) -> int:
    """Push a durable event; its offset."""
    offset = publish(house, target, Event("e", Raw(b'{"n":%d}' % number)), durable=True).offset
    assert offset is not None
    return offset


def registered(house: Stage, resume: object = None, **identity: str) -> tuple[Any, dict[str, Any], list[Any]]:
    """A client; its peer, the answer to its registration, and what came right behind."""
    session, peer = house.connect("/ws")
    message: dict[str, object] = {"type": "c_client_register", **(identity or ANN)}
    if resume is not None:
        message["resume"] = resume
    house.say(session, message)
    answer, *more = peer.take()
    assert answer["type"] == "registration_success", answer
    return peer, answer, more


def test_what_was_missed_comes_in_order_and_before_what_is_new() -> None:
    house = stage()
    peer, answer, more = registered(house)
    assert more == []
    first = durable(house, 1)
    assert peer.take() == [{"type": "e", "n": 1, "stream": "user:u1", "offset": first}]
    house.close(next(iter(house.peers)))
    offsets = [durable(house, number) for number in (2, 3, 4)]
    durable(house, 99, Target("user_id", "somebody else"))
    resume = {
        "epoch": answer["resume"]["epoch"],
        "offsets": {"user:u1": first, "all": answer["resume"]["offsets"]["all"]},
    }
    peer, answer, more = registered(house, resume)
    assert answer["resume"]["recovered"] is True
    assert "lost" not in answer["resume"]
    assert [(m["n"], m["offset"]) for m in more] == list(zip((2, 3, 4), offsets, strict=True))
    assert answer["resume"]["offsets"]["user:u1"] >= offsets[-1]
    last = durable(house, 5)
    assert [m["offset"] for m in peer.take()] == [last]


def test_from_the_offsets_of_the_registration() -> None:
    """A client that never got a durable event resumes from where its streams were when it registered."""
    house = stage()
    durable(house, 0)
    _, answer, more = registered(house)
    assert more == [], "what was before it came is not its own"
    house.close(next(iter(house.peers)))
    durable(house, 1)
    durable(house, 2, EVERYBODY)
    durable(house, 3, Target("channel_id", "ch"))
    _, again, more = registered(house, {"epoch": answer["resume"]["epoch"], "offsets": answer["resume"]["offsets"]})
    assert again["resume"]["recovered"] is True
    assert sorted(m["n"] for m in more) == [1, 2, 3]


def test_another_epoch_is_said_to_be_lost() -> None:
    house = stage()
    durable(house, 1)
    _, answer, more = registered(house, {"epoch": "another", "offsets": {"user:u1": 0, "channel:other": 0}})
    assert answer["resume"]["recovered"] is False
    assert answer["resume"]["lost"] == ["user:u1"], "a stream that isn't its own is not spoken of"
    assert more == []


def test_a_switch_of_users() -> None:
    house = stage()
    peer, _, _ = registered(house)
    session = next(iter(house.peers))
    house.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u2"})
    peer.take()
    durable(house, 1)
    durable(house, 2, Target("user_id", "u2"))
    assert [m["n"] for m in peer.take()] == [2]


class SlowBackplane:
    """Wraps one node's backplane: its joins are answered when the test says so."""

    def __init__(self, house: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.left: list[Target] = []
        join = house.gateway.backplane.join
        leave = house.gateway.backplane.leave

        def slowly(targets: Collection[Target], resume: Resume | None, reply: Reply[Joined]) -> None:
            self.waiting.append(lambda: join(targets, resume, reply))

        def left(targets: Collection[Target]) -> None:
            self.left.extend(targets)
            leave(targets)

        monkeypatch.setattr(house.gateway.backplane, "join", slowly)
        monkeypatch.setattr(house.gateway.backplane, "leave", left)

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each()


def test_what_comes_while_joining_is_held_and_not_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    epoch = house.world.epoch
    start = durable(house, 0)
    missed = durable(house, 1)
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    register = {"type": "c_client_register", **ANN, "resume": {"epoch": epoch, "offsets": {"user:u1": start}}}
    house.say(session, register)
    house.say(session, {"type": "heartbeat"})
    publish(house, USER, Event("live"))
    read = durable(house, 2)
    assert session.state is State.JOINING
    assert peer.take() == []
    slow.answer()
    later = durable(house, 3)
    answer, *more = peer.take()
    assert answer["type"] == "registration_success"
    assert [m.get("offset", m["type"]) for m in more] == [missed, read, "heartbeat", "live", later]


def test_a_switch_without_resume_leaves_no_hole_in_a_stream_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    peer, _, _ = registered(house)
    session = next(iter(house.peers))
    slow = SlowBackplane(house, monkeypatch)
    house.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u2"})
    to_all = durable(house, 1, EVERYBODY)
    slow.answer()
    assert [m.get("offset") for m in peer.take()] == [None, to_all]
    assert set(slow.left) == {EVERYBODY, USER, Target("client_id", "c1"), Target("channel_id", "ch")}


def test_one_that_goes_while_joining(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    house.say(session, {"type": "c_client_register", **ANN})
    publish(house, USER, Event("live"))
    house.close(session, 1006)
    slow.answer()
    assert peer.frames == []
    assert len(house.gateway.hub) == 0
    assert USER in slow.left


def test_one_that_is_kicked_while_joining(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    house.say(session, {"type": "c_client_register", **ANN})
    house.gateway.kick(session, "out")
    publish(house, USER, Event("live"))
    slow.answer()
    assert (peer.frames, peer.close_code, peer.sent_after_close) == ([], 4010, 0)


def test_of_two_identities_the_last_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    house.say(session, {"type": "c_client_register", **ANN})
    house.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u2"})
    slow.answer()
    assert [m["user_id"] for m in peer.take()] == ["u2"]
    assert session.state is State.REGISTERED


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_HELD", 3)
    house = stage()
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    house.say(session, {"type": "c_client_register", **ANN})
    for _ in range(5):
        publish(house, USER, Event("live"))
    assert (peer.frames, peer.close_code) == ([], 4008)
    slow.answer()
    assert peer.frames == []


def test_an_envelope_client_and_one_by_path_are_held_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    house.say(session, {"type": "connect", "data": {"client_id": "e1", "user_id": "u1"}})
    _, by_path = house.connect("/ws/u1")
    publish(house, USER, Event("live"))
    assert (peer.take(), by_path.take()) == ([], [])
    slow.answer()
    assert [m["type"] for m in peer.take()] == ["connect", "notification"]
    assert [m["type"] for m in by_path.take()] == ["live"]


def test_on_another_node() -> None:
    one, two = stages(2)
    peer, answer, _ = registered(one)
    offset = durable(two, 1)
    assert [m["offset"] for m in peer.take()] == [offset]
    one.close(next(iter(one.peers)))
    missed = durable(one, 2)
    resume = {"epoch": answer["resume"]["epoch"], "offsets": {"user:u1": offset}}
    _, answer, more = registered(two, resume)
    assert answer["resume"]["recovered"] is True
    assert [m["offset"] for m in more] == [missed]


def test_a_gap_is_told() -> None:
    house = stage()
    peer, _, _ = registered(house)
    house.gateway.lost(USER, "e2", 7)
    gap = {"type": "stream_gap", "streams": ["user:u1"], "epoch": "e2", "offsets": {"user:u1": 7}}
    assert peer.take() == [gap]
    assert house.gateway.counters.streams_broken == 1
