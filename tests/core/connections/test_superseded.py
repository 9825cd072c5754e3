"""Registrations that come before the one before was answered, by a backplane that answers them in any order: a client
that keeps what the last answer says is led back nowhere, and is given nothing a second time."""

from collections.abc import Callable, Collection
from typing import Any

import pytest

from portico.wire.messages import Target
from service.core.cluster.backplane import Joined, StreamPositions
from service.core.push import delivery
from service.core.reply import Reply

from ...fakes import MemoryPeer, Stage, stage
from .test_registration import USER, durable, registered


class AnyOrder:
    """Wraps one node's backplane: each join is answered when the test says so, as things were when it was asked, or as
    they are now."""

    def __init__(self, house: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.house = house
        self.slow = True
        self.waiting: list[tuple[Callable[[], None], Callable[[], None]]] = []
        join = house.gateway.backplane.join

        def either(targets: Collection[Target], resume: StreamPositions | None, reply: Reply[Joined]) -> None:
            if not self.slow:
                join(targets, resume, reply)
                return
            then: list[Joined] = []
            join(targets, resume, Reply(then.append))
            self.waiting.append((lambda: reply(then[0]), lambda: join(targets, resume, reply)))

        monkeypatch.setattr(house.gateway.backplane, "join", either)

    def answer(self, number: int, *, as_then: bool) -> None:
        """The first ones are asked first."""
        self.waiting[number][0 if as_then else 1]()


def burst(house: Stage, *messages: dict[str, Any]) -> MemoryPeer:
    """Registrations in one segment, on a new connection."""
    session, peer = house.connect("/ws")
    for message in messages:
        house.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u1", **message})
    return peer


def missed(house: Stage, count: int) -> tuple[dict[str, Any], list[int]]:
    """Where a client of u1's left off, and the events that it has missed since."""
    first = durable(house, 0)
    resume = {"epoch": house.world.epoch, "offsets": {"user:u1": first, "all": first, "client:c1": first}}
    return resume, [durable(house, n) for n in range(1, count + 1)]


THEN: dict[str, list[dict[str, Any]]] = {
    "another name": [{"username": "ann"}],
    "another user and back": [{"user_id": "u2"}, {}],
}


@pytest.mark.parametrize("then", THEN.values(), ids=THEN.keys())
@pytest.mark.shows("nobody is led back behind it")
def test_the_last_answer_leads_nobody_back_behind_the_replay_of_the_first(
    monkeypatch: pytest.MonkeyPatch, then: list[dict[str, Any]]
) -> None:
    house = stage()
    resume, offsets = missed(house, 1)
    order = AnyOrder(house, monkeypatch)
    peer = burst(house, {"resume": resume}, *then)
    offsets += [durable(house, n) for n in (2, 3)]
    for number in range(1, 1 + len(then)):
        order.answer(number, as_then=True)  # it asked for nothing that had to be read
    assert peer.take() == []
    order.answer(0, as_then=False)
    messages = peer.take()
    assert [m["offset"] for m in messages if m["type"] == "e"] == offsets
    assert messages[-1]["type"] == "registration_success"
    # Cut right now, and resumed from here, it gets nothing that it has had.
    assert messages[-1]["resume"]["offsets"]["user:u1"] == offsets[-1]
    live = durable(house, 4)
    assert [m["offset"] for m in peer.take()] == [live]


@pytest.mark.shows("what the answers before have given is not given again", "also where both name where it left off")
def test_what_is_resumed_twice_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    resume, offsets = missed(house, 2)
    order = AnyOrder(house, monkeypatch)
    peer = burst(house, {"resume": resume}, {"username": "ann", "resume": resume})
    order.answer(0, as_then=False)
    offsets.append(durable(house, 3))
    order.answer(1, as_then=False)
    one, *events, two, last = peer.take()
    assert [m["offset"] for m in (*events, last)] == offsets
    assert one["resume"]["offsets"]["user:u1"] == resume["offsets"]["user:u1"]
    assert two["resume"]["offsets"]["user:u1"] == offsets[1]
    assert (one["resume"]["recovered"], two["resume"]["recovered"]) == (True, True)


def test_who_begins_with_the_present_and_then_resumes_is_given_all_that_it_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = stage()
    resume, offsets = missed(house, 2)
    order = AnyOrder(house, monkeypatch)
    peer = burst(house, {}, {"resume": resume})  # which it loaded late
    for number in (0, 1):
        order.answer(number, as_then=False)
    _, two, *events = peer.take()
    assert two["resume"]["offsets"]["user:u1"] == resume["offsets"]["user:u1"]
    assert [m["offset"] for m in events] == offsets


@pytest.mark.parametrize("crowd", [False, True], ids=["held", "in line"])
@pytest.mark.shows("the answer says that the position is not known; the gap tells it")
def test_cut_between_an_answer_and_the_gap_behind_it_nothing_is_lost_in_silence(
    monkeypatch: pytest.MonkeyPatch, crowd: bool
) -> None:
    """It registers under another name while its node finds out that an epoch is over: the answer is of the new one, and
    what it had of the old one says nothing there."""
    monkeypatch.setattr(delivery, "SLICE", 1 if crowd else 10)
    house = stage()
    order = AnyOrder(house, monkeypatch)
    order.slow = False
    peer, _, _ = registered(house, client_id="c1", user_id="u1")
    session = next(iter(house.peers))
    house.client(client_id="c2", user_id="u1")
    durable(house, 1)
    house.defer.run()
    order.slow = True
    house.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u1", "username": "ann"})
    house.gateway.delivery.on_gap(USER, house.world.epoch, durable(house, 2))
    peer.take()
    order.answer(0, as_then=False)
    answer = peer.take()[0]
    assert answer["resume"]["offsets"]["user:u1"] == -1
    order.slow = False
    house.close(session)
    _, back, _ = registered(
        house, {key: answer["resume"][key] for key in ("epoch", "offsets")}, client_id="c1", user_id="u1"
    )
    assert back["resume"]["lost"] == ["user:u1"]


@pytest.mark.shows("an epoch ends in between")
def test_an_answer_is_not_of_an_epoch_that_was_over_when_the_one_before_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client knows an epoch before its node, and waits for it; its second registration asks for nothing, and was
    answered before the node knew."""
    house = stage()
    resume, offsets = missed(house, 2)
    known, house.world.epoch = house.world.epoch, "before"
    order = AnyOrder(house, monkeypatch)
    peer = burst(house, {"resume": resume}, {"username": "ann"})
    order.answer(1, as_then=True)
    house.world.epoch = known
    # What the node says of it to all that were there before, as it finds out.
    house.gateway.delivery.on_gap(USER, known, resume["offsets"]["user:u1"])
    order.slow = False
    order.answer(0, as_then=False)
    one, *events, two = peer.take()
    assert (one["resume"]["epoch"], one["resume"]["recovered"]) == (known, True)
    assert [m["offset"] for m in events] == offsets
    assert (two["resume"]["epoch"], two["resume"]["recovered"]) == (known, True)
    assert two["resume"]["offsets"]["user:u1"] == offsets[-1]
    house.close(next(reversed(house.peers)))
    back = {key: two["resume"][key] for key in ("epoch", "offsets")}
    _, answer, more = registered(house, back, client_id="c1", user_id="u1")
    assert (answer["resume"]["recovered"], more) == (True, [])
