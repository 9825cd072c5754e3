"""Pushes: to whom, encoded how often, in which order, in slices, once per id."""

from collections import Counter
from typing import Any

import pytest
from msgspec import Raw

from portico.wire.codes import CloseCode
from portico.wire.faults import PeerFault
from portico.wire.messages import EVERYBODY, Event, Target
from service.backplane import memory
from service.backplane.memory import REMEMBER_SECONDS
from service.core.connections.session import Session
from service.core.push import delivery
from service.core.push.delivery import SLICE

from ...fakes import MemoryPeer, Stage, publish, stage, stages

WHO = {"client_id": "c", "user_id": "u", "node_id": "n", "domain_id": "d", "cluster_id": "k", "channel_id": "h"}


@pytest.mark.parametrize("kind", list(WHO))
def test_every_kind_of_target(kind: str) -> None:
    house = stage()
    _, hit = house.client(**WHO)
    _, miss = house.client(**{name: f"{value}2" for name, value in WHO.items()})
    receipt = publish(house, Target(kind, WHO[kind]), Event("e", Raw(b'{"a":1}')), "id-1")
    assert hit.take() == [{"type": "e", "a": 1}]
    assert miss.take() == []
    assert (receipt.id, receipt.stream, receipt.offset, receipt.matched, receipt.queued) == ("id-1", None, None, 1, 1)
    nobody = publish(house, Target(kind, "x"), Event("e"))
    assert (nobody.matched, nobody.queued) == (0, 0)
    assert nobody.id
    assert house.gateway.counters.pushes == {kind: 2}


def count_encodings(house: Stage, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    calls: Counter[str] = Counter()
    for handler in house.gateway.handlers.values():

        def push(event: Event, handler: Any = handler, encode: Any = handler.push) -> Any:
            calls[handler.name] += 1
            return encode(event)

        monkeypatch.setattr(handler, "push", push)
    return calls


@pytest.mark.parametrize("count", [1, 5, SLICE])
def test_to_all_in_one_encoding_per_dialect(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    for number in range(count):
        house.client(client_id=f"c{number}")
        house.connect("/ws/u")
        house.worker(f"w{number}")
        house.connect("/requester")
        house.connect("/")
    calls = count_encodings(house, monkeypatch)
    publish(house, EVERYBODY, Event("e"))
    house.defer.run()
    assert calls == {"c_client": 1, "user": 1, "envelope": 1}
    got = Counter(
        session.handler.name
        for session, peer in house.peers.items()
        if peer.frames and b'"e"' in peer.frames[-1].payload
    )
    assert got == {"c_client": count, "user": count, "envelope": count}
    assert house.gateway.counters.push_deliveries == 3 * count


def crowd(house: Stage, count: int) -> list[tuple[Session, MemoryPeer]]:
    return [house.client(client_id=f"c{number}", channel_id="ch") for number in range(count)]


def test_slices_of_a_thousand_in_order_per_target(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    people = crowd(house, 2 * SLICE + 1)
    calls = count_encodings(house, monkeypatch)
    channel = Target("channel_id", "ch")
    push = house.gateway.delivery
    first = publish(house, channel, Event("first"))
    assert (first.matched, first.queued) == (2 * SLICE + 1, 2 * SLICE + 1)
    assert not any(peer.take() for _, peer in people), "the caller is not kept waiting"
    publish(house, channel, Event("second"))
    assert push.waiting == 4 * SLICE + 2
    # Another target is not held up, and one that has come meanwhile gets only what came after.
    publish(house, Target("client_id", "c0"), Event("aside"))
    assert [message["type"] for message in people[0][1].take()] == ["aside"]
    late, late_peer = house.client(client_id="late", channel_id="ch")
    publish(house, channel, Event("third"))
    sizes: list[int] = []
    before = 0
    while house.defer.step():
        now = house.gateway.counters.push_deliveries
        sizes.append(now - before - (1 if not sizes else 0))
        before = now
    assert max(sizes) <= SLICE
    assert sum(sizes) == 3 * (2 * SLICE + 1) + 1
    assert all([m["type"] for m in peer.take()] == ["first", "second", "third"] for _, peer in people)
    assert [message["type"] for message in late_peer.take()] == ["third"]
    assert calls == {"c_client": 4}
    assert push.waiting == 0
    assert late in house.gateway.sessions


def test_those_that_left_meanwhile_are_passed_over() -> None:
    house = stage()
    people = crowd(house, SLICE + 10)
    publish(house, EVERYBODY, Event("e"))
    for session, _ in people[:5]:
        house.close(session)
    people[5][0].close(CloseCode.KICKED, "kicked")
    house.defer.run()
    assert sum(len(peer.take()) for _, peer in people) == SLICE + 4
    assert people[5][1].sent_after_close == 0


def test_too_much_waiting_is_refused_and_not_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MAX_WAITING_SENDS", 2 * SLICE)
    house = stage()
    people = crowd(house, SLICE + 1)
    publish(house, EVERYBODY, Event("e"))
    with pytest.raises(PeerFault) as caught:
        publish(house, EVERYBODY, Event("f"), "id")
    assert caught.value.code == "unavailable"
    house.defer.run()
    assert all(len(peer.take()) == 1 for _, peer in people)
    publish(house, EVERYBODY, Event("f"), "id")
    house.defer.run()
    assert all([m["type"] for m in peer.take()] == ["f"] for _, peer in people)


def test_the_same_id_within_five_minutes_is_delivered_once() -> None:
    house = stage()
    _, peer = house.client(client_id="c")
    first = publish(house, EVERYBODY, Event("e"), "id")
    house.client(client_id="d")
    house.clock.move(REMEMBER_SECONDS - 1)
    house.world.forget_old()
    assert publish(house, EVERYBODY, Event("other"), "id") == first._replace(repeated=True)
    assert publish(house, EVERYBODY, Event("e"), "id-2").matched == 2
    assert [message["type"] for message in peer.take()] == ["e", "e"]
    assert house.world.repeated == 1
    house.clock.move(2)
    again = publish(house, EVERYBODY, Event("e"), "id")
    assert again.matched == 2
    assert len(peer.take()) == 1


def test_only_named_pushes_are_remembered_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_REMEMBERED", 3)
    house = stage()
    publish(house, EVERYBODY, Event("e"), "kept")
    for _ in range(10):
        publish(house, EVERYBODY, Event("e"))
    publish(house, EVERYBODY, Event("e"), "kept")
    assert house.world.repeated == 1
    for number in range(3):
        publish(house, EVERYBODY, Event("e"), str(number))
    assert list(house.world.known) == ["0", "1", "2"]
    house.clock.move(REMEMBER_SECONDS + 1)
    house.world.forget_old()
    assert not house.world.known


def test_skip_leaves_out_one() -> None:
    house = stage()
    session, peer = house.client(client_id="c")
    _, other = house.client(client_id="d")
    assert house.gateway.delivery.deliver(EVERYBODY, Event("e"), skip=session) == (1, 1)
    assert (len(peer.take()), len(other.take())) == (0, 1)


@pytest.mark.shows("it gets nothing more of it", "from the next slice on")
def test_who_left_a_target_gets_nothing_more_of_what_was_sliced_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SLICE", 2)
    house = stage()
    target = Target("channel_id", "ch")
    people = [house.client(client_id=f"c{n}", channel_id="ch") for n in range(5)]
    publish(house, target, Event("e"))
    session, _ = people[-1]
    (answer,) = house.ask(session, {"type": "c_client_register", "client_id": "c4", "channel_id": "other"})
    assert answer["type"] == "registration_success"
    house.defer.run()
    assert [len(peer.take()) for _, peer in people] == [1, 1, 1, 1, 0]


def full(house: Stage, monkeypatch: pytest.MonkeyPatch) -> list[MemoryPeer]:
    """Five clients of one user at a node that is full: no further push finds room in the line of slices."""
    monkeypatch.setattr(delivery, "SLICE", 2)
    people = [house.client(client_id=f"{house.gateway.backplane.node}-{n}", user_id="u1")[1] for n in range(5)]
    monkeypatch.setattr(delivery, "MAX_WAITING_SENDS", 12)
    return people


@pytest.mark.shows("its clients are told by `stream_gap`, in their place", "5,000,000 sends wait at most")
def test_a_node_that_is_full_tells_a_gap_of_durable_events_that_others_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert delivery.MAX_WAITING_SENDS == 5_000_000
    one, two = stages(2)
    people = full(two, monkeypatch)
    user = Target("user_id", "u1")
    offsets = [publish(one, user, Event("e"), durable=True).offset for _ in range(6)]
    assert two.gateway.counters.pushes_dropped == 4
    for number in range(3):
        publish(one, user, Event(f"live-{number}"))
    two.defer.run()
    later = publish(one, user, Event("e"), durable=True).offset
    two.defer.run()
    gap = {
        "type": "stream_gap",
        "streams": ["user:u1"],
        "epoch": one.world.epoch,
        "offsets": {"user:u1": offsets[-1]},
    }
    for peer in people:
        came = peer.take()
        assert [message.get("offset", message) for message in came] == [*offsets[:2], gap, later]
    assert two.gateway.counters.streams_broken == 1
    assert two.gateway.delivery.waiting == 0
    # At the node that was asked it is refused, and nothing is kept.
    full(one, monkeypatch)
    monkeypatch.setattr(delivery, "MAX_WAITING_SENDS", 5)
    publish(one, user, Event("e"))
    with pytest.raises(PeerFault):
        publish(one, user, Event("e"), durable=True)


def test_a_gap_is_told_however_full_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    people = full(house, monkeypatch)
    for _ in range(2):
        publish(house, Target("user_id", "u1"), Event("e"))
    house.gateway.delivery.on_gap(Target("user_id", "u1"), "e", 5)
    house.defer.run()
    for peer in people:
        assert [message["type"] for message in peer.take()] == ["e", "e", "stream_gap"]
