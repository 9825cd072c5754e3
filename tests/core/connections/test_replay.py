"""What a client missed goes out as fast as it takes it: by bytes, in order, with what is live behind it."""

from typing import Any

import pytest
from msgspec import Raw

from portico.wire.messages import EVERYBODY, Event, Target, encode
from service.core.connections import held
from service.core.connections.session import Session, State
from service.core.ports import BACKLOG

from ...fakes import MemoryPeer, Stage, publish, stage

ANN = {"client_id": "c1", "user_id": "u1"}
USER = Target("user_id", "u1")
SIZE = 20_000


def push(house: Stage, number: int, target: Target = USER, *, durable: bool = True, size: int = SIZE) -> None:
    """One numbered event of about `size` bytes."""
    data = Raw(encode({"n": number, "text": "x" * size}))
    publish(house, target, Event("e", data), durable=durable)


def join(house: Stage, *, reads: bool, resume: object = None) -> tuple[Session, MemoryPeer]:
    session, peer = house.connect("/ws")
    peer.reads = reads
    message: dict[str, object] = {"type": "c_client_register", **ANN}
    if resume is not None:
        message["resume"] = resume
    house.say(session, message)
    return session, peer


def missed(house: Stage, count: int) -> dict[str, Any]:
    """Where a client left off that has missed so many events."""
    session, peer = join(house, reads=True)
    position = peer.take()[0]["resume"]
    house.close(session)
    for number in range(count):
        push(house, number)
    return {"epoch": position["epoch"], "offsets": position["offsets"]}


def numbers(messages: list[Any]) -> list[int]:
    return [message["n"] for message in messages if message["type"] == "e"]


def test_never_much_more_than_a_backlog_waits() -> None:
    house = stage()
    session, peer = join(house, reads=False, resume=missed(house, 200))
    assert peer.take()[0]["type"] == "registration_success"
    assert session.state is State.JOINING
    sizes = [sum(len(frame.wire) for frame in peer.frames)]
    while session.state is State.JOINING:
        before = len(peer.frames)
        peer.make_room()
        sizes.append(sum(len(frame.wire) for frame in peer.frames[before:]))
    assert max(sizes) < BACKLOG + 2 * SIZE
    assert numbers(peer.messages) == list(range(200))
    assert session.state is State.REGISTERED
    assert session.held is None


def test_what_is_live_meanwhile_waits_in_its_place() -> None:
    house = stage()
    session, peer = join(house, reads=False, resume=missed(house, 100))
    push(house, 100)
    push(house, 101, EVERYBODY, durable=False)
    peer.make_room()
    push(house, 102)
    assert numbers(peer.messages) == list(range(len(numbers(peer.messages))))
    while session.state is State.JOINING:
        peer.make_room()
    push(house, 103)
    assert numbers(peer.messages) == list(range(104))


def test_what_waits_behind_a_replay_is_paced_too() -> None:
    house = stage()
    session, peer = join(house, reads=False, resume=missed(house, 20))
    for number in range(20, 120):
        push(house, number)
    while session.state is State.JOINING:
        before = len(peer.frames)
        peer.make_room()
        assert sum(len(frame.wire) for frame in peer.frames[before:]) < BACKLOG + 2 * SIZE
    assert numbers(peer.messages) == list(range(120))


def test_what_the_client_asks_meanwhile_is_answered_at_once() -> None:
    house = stage()
    session, peer = join(house, reads=False, resume=missed(house, 100))
    peer.take()
    house.say(session, {"type": "heartbeat"})
    assert [message["type"] for message in peer.take()] == ["heartbeat"]


def test_a_registration_amid_a_replay_is_answered_after_it() -> None:
    house = stage()
    session, peer = join(house, reads=False, resume=missed(house, 60))
    house.say(session, {"type": "c_client_register", **ANN, "channel_id": "ch"})
    push(house, 60)
    push(house, 61, Target("channel_id", "ch"))
    while session.state is State.JOINING:
        peer.make_room()
    messages = peer.messages
    assert numbers(messages) == list(range(62))
    first, second = [at for at, message in enumerate(messages) if message["type"] == "registration_success"]
    assert (first, second) == (0, 61)
    assert messages[second]["resume"]["offsets"]["user:u1"] < messages[second + 1]["offset"]


def test_one_that_goes_amid_a_replay_leaves_nothing() -> None:
    house = stage()
    session, peer = join(house, reads=False, resume=missed(house, 100))
    had = len(peer.frames)
    house.close(session)
    peer.make_room()
    assert len(peer.frames) == had
    assert session.held is None
    assert not house.gateway.sessions


def test_too_much_behind_a_replay_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MAX_HELD_BYTES", 10 * SIZE)
    house = stage()
    session, peer = join(house, reads=False, resume=missed(house, 100))
    for number in range(100, 120):
        push(house, number)
    assert peer.close_code == 4008
    assert session.over
