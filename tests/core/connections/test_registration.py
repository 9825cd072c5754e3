"""Registration: from when a client is told that it is registered it misses nothing; nothing overtakes or doubles; every
registration is answered, in order, with positions that are safe to keep."""

from collections.abc import Callable, Collection
from typing import Any

import pytest
from msgspec import Raw

from portico.wire.codes import CloseCode
from portico.wire.messages import EVERYBODY, Event, Target
from service.core.cluster.backplane import Joined, StreamPositions
from service.core.connections import held
from service.core.connections.session import State
from service.core.push import delivery
from service.core.reply import Reply

from ...fakes import Stage, publish, stage, stages, start_login

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
    assert answer["resume"]["offsets"]["user:u1"] == first, "it has no more until the replay has come"
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

        def slowly(targets: Collection[Target], resume: StreamPositions | None, reply: Reply[Joined]) -> None:
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


def test_what_is_held_behind_a_second_registration_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user name that was loaded late: the replay of the first has what came while both were waiting."""
    house = stage()
    start = durable(house, 0)
    missed = durable(house, 1)
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    resume = {"epoch": house.world.epoch, "offsets": {"user:u1": start}}
    house.say(session, {"type": "c_client_register", **ANN, "resume": resume})
    house.say(session, {"type": "c_client_register", **ANN, "username": "Ann"})
    read = durable(house, 2)
    slow.answer()
    later = durable(house, 3)
    messages = peer.take()
    assert [m.get("offset", m["type"]) for m in messages] == [
        "registration_success", missed, read, "registration_success", later,
    ]  # fmt: skip
    assert messages[3]["resume"]["offsets"]["user:u1"] == read, "whoever is cut now is not given it again either"


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
    session.close(CloseCode.KICKED, "out")
    publish(house, USER, Event("live"))
    slow.answer()
    assert (peer.frames, peer.close_code, peer.sent_after_close) == ([], 4010, 0)


def test_every_registration_is_answered_in_order_and_gets_what_it_was_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    first = durable(house, 1)
    missed = durable(house, 2)
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    resume = {"epoch": house.world.epoch, "offsets": {"user:u1": first}}
    house.say(session, {"type": "c_client_register", **ANN, "resume": resume})
    house.say(session, {"type": "c_client_register", "client_id": "", "user_id": "u9"})
    for user in ("u2", "u3"):
        house.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": user})
    publish(house, Target("user_id", "u3"), Event("live"))
    assert (peer.take(), session.identity.user_id) == ([], "u3")
    slow.waiting.reverse()  # whatever is answered first
    slow.answer()
    one, event, rejected, two, three, live = peer.take()
    assert (one["user_id"], one["resume"]["recovered"]) == ("u1", True)
    assert event["offset"] == missed
    assert (rejected["type"], rejected["user_id"]) == ("registration_rejected", "u9")
    assert [two["user_id"], three["user_id"], live["type"]] == ["u2", "u3", "live"]
    assert session.state is State.REGISTERED


def test_what_a_superseded_registration_is_owed_is_read_before_its_targets_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = stage()
    slow = SlowBackplane(house, monkeypatch)
    session, _ = house.connect("/ws")
    house.say(session, {"type": "c_client_register", **ANN})
    house.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u2"})
    assert slow.left == []
    slow.answer()
    assert set(slow.left) == {EVERYBODY, USER, Target("client_id", "c1"), Target("channel_id", "ch")}
    slow.left.clear()
    house.close(session)
    assert set(slow.left) == {EVERYBODY, Target("user_id", "u2"), Target("client_id", "c1")}


@pytest.mark.shows("the same in memory and with Redis")
def test_three_switches_in_memory_and_over_a_slow_backplane_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for slowly in (False, True):
        house = stage()
        for user in ("u1", "u2"):
            start_login(house, user)
        durable(house, 1)
        resume = {"epoch": house.world.epoch, "offsets": {"user:u1": 0, "all": 0}}
        slow = SlowBackplane(house, monkeypatch) if slowly else None
        session, peer = house.connect("/ws")
        house.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u1", "resume": resume})
        house.say(session, {"type": "heartbeat"})
        for user in ("u2", "u1"):
            house.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": user})
        if slow is not None:
            slow.answer()
        told.append([(m["type"], m.get("user_id")) for m in peer.take()])
    assert told[0] == told[1]
    assert [kind for kind, _ in told[0]] == [
        "registration_success",
        "auto_login",
        "e",
        "heartbeat",
        "registration_success",
        "auto_login",
        "registration_success",
        "auto_login",
    ]


@pytest.mark.shows(
    "the offsets of the answer are safe to keep: resuming from them misses nothing", "as often as it is cut"
)
def test_cut_between_the_answer_and_the_replay_nothing_is_lost() -> None:
    house = stage()
    _, answer, _ = registered(house)
    house.close(next(iter(house.peers)))
    offsets = [durable(house, number) for number in (1, 2, 3)]
    durable(house, 9, Target("user_id", "u9"))
    resume = {"epoch": answer["resume"]["epoch"], "offsets": answer["resume"]["offsets"]}
    for _ in range(3):
        # The client takes the answer's positions for its own, and is cut before anything else comes.
        _, answer, more = registered(house, resume)
        assert [m["offset"] for m in more] == offsets
        assert answer["resume"]["recovered"] is True
        resume["offsets"] = answer["resume"]["offsets"]
    # With the replay its position is that of the last event, and nothing comes twice.
    resume["offsets"] = {**answer["resume"]["offsets"], "user:u1": offsets[-1]}
    _, answer, more = registered(house, resume)
    assert (more, answer["resume"]["offsets"]["user:u1"] >= offsets[-1]) == ([], True)


def test_the_positions_of_a_switch_are_before_what_is_still_held(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    peer, _, _ = registered(house)
    session = next(iter(house.peers))
    slow = SlowBackplane(house, monkeypatch)
    house.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u2"})
    offsets = [durable(house, number, EVERYBODY) for number in (1, 2)]
    slow.answer()
    answer, *more = peer.take()
    assert [m["offset"] for m in more] == offsets
    # Had it been cut before these, it would resume from here.
    kept = answer["resume"]["offsets"]["all"]
    house.close(session)
    monkeypatch.undo()
    resume = {"epoch": house.world.epoch, "offsets": {"all": kept}}
    _, _, more = registered(house, resume, client_id="c1", user_id="u2")
    assert [m["offset"] for m in more] == offsets


def test_the_positions_of_a_switch_are_before_what_stands_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SLICE", 2)
    house = stage()
    for number in range(3):
        session, peer = house.client(client_id=f"c{number}", user_id="u1")
    offset = durable(house, 1, EVERYBODY)
    assert peer.take() == [], "it waits for its slice"
    (answer,) = house.ask(session, {"type": "c_client_register", "client_id": "c2", "user_id": "u2"})
    assert answer["resume"]["offsets"]["all"] < offset
    house.defer.run()
    assert [m["offset"] for m in peer.take()] == [offset]


def test_the_journal_says_registered_when_it_is_and_never_of_one_that_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = stage(max_connections_per_user=1)
    slow = SlowBackplane(house, monkeypatch)
    session, _ = house.connect("/ws")
    house.say(session, {"type": "c_client_register", **ANN})
    assert house.journal.of("registered") == []
    slow.answer()
    assert [entry[1] for entry in house.journal.of("registered")] == [session]
    refused, peer = house.connect("/ws")
    house.say(refused, {"type": "c_client_register", "client_id": "c2", "user_id": "u1"})
    assert (peer.close_code, len(house.journal.of("registered"))) == (1013, 1)


def test_a_refusal_comes_after_the_answers_that_are_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage(max_connections_per_user=1)
    house.client(client_id="x", user_id="u2")
    first = durable(house, 1)
    missed = durable(house, 2)
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    resume = {"epoch": house.world.epoch, "offsets": {"user:u1": first}}
    house.say(session, {"type": "c_client_register", **ANN, "resume": resume})
    house.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "u2"})
    assert (peer.take(), peer.close_code) == ([], None)
    slow.answer()
    success, event, rejected = peer.take()
    assert (success["type"], event["offset"], rejected["type"]) == (
        "registration_success",
        missed,
        "registration_rejected",
    )
    assert peer.close_code == 1013


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MAX_HELD", 3)
    house = stage()
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    house.say(session, {"type": "c_client_register", **ANN})
    for _ in range(5):
        publish(house, USER, Event("live"))
    assert (peer.frames, peer.close_code) == ([], 4008)
    slow.answer()
    assert peer.frames == []


def test_what_is_held_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MAX_HELD_BYTES", 1000)
    house = stage()
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    house.say(session, {"type": "c_client_register", **ANN})
    publish(house, USER, Event("live", Raw(b'{"a":"%b"}' % (b"x" * 5000))))
    assert peer.close_code is None, "one of any size is let through"
    publish(house, USER, Event("live"))
    assert peer.frames == []
    assert peer.closes[0][0] == 4008
    slow.answer()


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
    house.gateway.delivery.on_gap(USER, "e", 7)
    assert peer.take() == [{"type": "stream_gap", "streams": ["user:u1"], "epoch": "e", "offsets": {"user:u1": 7}}]
    assert house.gateway.counters.streams_broken == 1


@pytest.mark.shows("no gap from before it comes behind it, so nothing is given again")
@pytest.mark.parametrize("crowd", [False, True])
def test_a_gap_from_before_the_answer_leads_nobody_back(monkeypatch: pytest.MonkeyPatch, crowd: bool) -> None:
    """What comes after the gap is in the replay: whoever kept the gap's position would be given it again."""
    house = stage()
    if crowd:
        monkeypatch.setattr(delivery, "SLICE", 1)  # what is pushed stands in line
        house.client(client_id="c2", user_id="u1")
    start = durable(house, 0)
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    resume = {"epoch": house.world.epoch, "offsets": {"user:u1": start}}
    house.say(session, {"type": "c_client_register", **ANN, "resume": resume})
    house.gateway.delivery.on_gap(USER, house.world.epoch, start)
    missed = durable(house, 1)
    slow.answer()
    house.defer.run()
    house.gateway.delivery.on_gap(USER, house.world.epoch, missed)
    house.defer.run()
    answer, *more = peer.take()
    assert answer["resume"]["recovered"] is True
    assert [m.get("offset", m.get("offsets")) for m in more] == [missed, {"user:u1": missed}]


def test_a_gap_in_a_stream_that_flows_on_is_told_after_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    start = durable(house, 0)
    slow = SlowBackplane(house, monkeypatch)
    session, peer = house.connect("/ws")
    house.say(session, {"type": "c_client_register", **ANN})
    slow.answer()
    house.say(session, {"type": "c_client_register", **ANN, "username": "Ann"})
    house.gateway.delivery.on_gap(USER, house.world.epoch, start)
    slow.answer()
    assert [m["type"] for m in peer.take()] == ["registration_success", "registration_success", "stream_gap"]
