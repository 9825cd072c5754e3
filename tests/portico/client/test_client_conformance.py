"""The Python client loses nothing in silence, whatever the gateway does: a scripted one, which misbehaves.

What a durable event's absence must lead to: it comes later, in order and once, or the program gets `stream_gap` for its
stream. Each test is one way in which that was broken, or could be.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from portico import (
    BadMessage,
    Client,
    ClientError,
    Connected,
    Identity,
    LinkOptions,
    Lost,
    RegistrationRejected,
    Superseded,
)
from tests.portico.client.fake_gateway import QUICK, Events, Peer, fake_gateway

ANN = Identity(client_id="c1", user_id="ann")
BOB = Identity(client_id="c1", user_id="bob")
EPOCH = "e1"
PATIENT = 60.0
"""Seconds after which a test says that something hangs."""


def positions(identity: Identity, at: int = 0, **more: int) -> dict[str, int]:
    """An offset for each stream of an identity."""
    streams = {"all": at, f"client:{identity.client_id}": at}
    if identity.user_id is not None:
        streams[f"user:{identity.user_id}"] = at
    if identity.channel_id is not None:
        streams[f"channel:{identity.channel_id}"] = at
    return streams | {name.replace("_", ":"): offset for name, offset in more.items()}


def success(asked: dict[str, Any], offsets: dict[str, int] | None = None, **more: Any) -> dict[str, Any]:
    """The answer to a registration; without `offsets` the gateway does not know where the streams are."""
    resume = {"epoch": EPOCH if offsets is not None else "", "offsets": offsets or {}, "recovered": offsets is not None}
    answer = {"type": "registration_success", "client_id": asked["client_id"], "user_id": asked["user_id"]}
    return answer | {"heartbeat_interval": 25, "resume": resume | more}


def event(offset: int, stream: str = "user:ann") -> dict[str, Any]:
    return {"type": "e", "stream": stream, "offset": offset}


async def register(peer: Peer) -> dict[str, Any]:
    return await peer.next_of("c_client_register")


async def admit(peer: Peer, offsets: dict[str, int] | None = None, **more: Any) -> dict[str, Any]:
    """Accept the next registration, and return it."""
    asked = await register(peer)
    await peer.say(success(asked, offsets, **more))
    return asked


def client(url: str, **options: Any) -> Client:
    defaults: dict[str, Any] = {"identity": ANN, "backoff": QUICK, "on_event": Events()}
    return Client(url=url, **(defaults | options))


async def take(c: Client, count: int) -> list[dict[str, Any]]:
    with trio.fail_after(PATIENT):
        return [await anext(c) for _ in range(count)]


def offsets_of(pushes: list[dict[str, Any]]) -> list[object]:
    """Events by their offset, gaps by their streams."""
    return [push["offset"] if push["type"] == "e" else push["streams"] for push in pushes]


class Script:
    """A scripted gateway: one function a connection, the last one for all that follow; notes what was asked."""

    def __init__(self, *connections: Callable[[Peer], Awaitable[object]]) -> None:
        self._connections = connections

    async def __call__(self, peer: Peer) -> None:
        await self._connections[min(peer.number, len(self._connections) - 1)](peer)


# Positions that the client doesn't have


@pytest.mark.shows(
    "the program is told by `stream_gap` of which streams it can't be known", "with the next answer that names one"
)
async def test_registered_while_the_gateway_knew_no_position_then_cut() -> None:
    """Events 4 and 5 were pushed while it was away: they can't be asked for, so it has to be told."""

    async def first(peer: Peer) -> None:
        await admit(peer)
        await peer.drop()

    async def then(peer: Peer) -> None:
        assert "resume" not in await admit(peer, positions(ANN, 5))
        await peer.say(event(6))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 2)) == [["all", "client:c1", "user:ann"], 6]


async def test_switched_its_user_while_the_gateway_knew_no_position_then_cut() -> None:
    resumed: list[Any] = []

    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        await admit(peer)
        await peer.next_of("session_feedback")
        await peer.drop()

    async def then(peer: Peer) -> None:
        resumed.append((await admit(peer, positions(BOB, 9))).get("resume"))
        await peer.say(event(10, "user:bob"))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        await c.register(BOB)
        await c.session_feedback(success=True)
        # The streams that both have are resumed; of Bob's own nobody knows what was missed.
        assert offsets_of(await take(c, 2)) == [["user:bob"], 10]
    assert resumed == [{"epoch": EPOCH, "offsets": {"all": 3, "client:c1": 3}}]


async def test_the_gateway_tells_the_position_later_and_it_is_resumed_from() -> None:
    resumed: list[Any] = []

    async def first(peer: Peer) -> None:
        await admit(peer)
        for stream in positions(ANN):
            await peer.say({"type": "stream_gap", "streams": [stream], "epoch": EPOCH, "offsets": {stream: 5}})
        await peer.say(event(6))
        await peer.next_of("session_feedback")
        await peer.drop()

    async def then(peer: Peer) -> None:
        resumed.append((await admit(peer, positions(ANN, 6))).get("resume"))
        await peer.say(event(7))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 4)) == [["all"], ["client:c1"], ["user:ann"], 6]
        await c.session_feedback(success=True)
        assert offsets_of(await take(c, 1)) == [7]
    assert resumed == [{"epoch": EPOCH, "offsets": {"all": 5, "client:c1": 5, "user:ann": 6}}]


@pytest.mark.shows("or before the next event")
async def test_the_first_event_of_a_stream_whose_position_nobody_told() -> None:
    async def script(peer: Peer) -> None:
        await admit(peer)
        await peer.say(event(9))
        await peer.say(event(10))
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 3)) == [["user:ann"], 9, 10]


async def test_came_back_while_the_gateway_knew_no_position() -> None:
    """It is told that something may be lost, and asks again from where it was."""
    resumed: list[Any] = []

    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        await peer.drop()

    async def second(peer: Peer) -> None:
        resumed.append((await admit(peer, recovered=False, lost=list(positions(ANN)))).get("resume"))
        await peer.next_of("session_feedback")
        await peer.drop()

    async def third(peer: Peer) -> None:
        resumed.append((await admit(peer, positions(ANN, 3))).get("resume"))
        await peer.say(event(4))
        await peer.forever()

    async with fake_gateway(Script(first, second, third)) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 1)) == [["all", "client:c1", "user:ann"]]
        await c.session_feedback(success=True)
        assert offsets_of(await take(c, 1)) == [4]
    assert resumed == [{"epoch": EPOCH, "offsets": positions(ANN, 3)}] * 2


async def test_something_is_lost_and_the_gateway_doesn_t_say_of_which_stream() -> None:
    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        await peer.drop()

    async def then(peer: Peer) -> None:
        await admit(peer, positions(ANN, 8), recovered=False)
        await peer.say(event(9))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 2)) == [["all", "client:c1", "user:ann"], 9]


async def test_another_epoch_that_is_called_recovered() -> None:
    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 300))
        await peer.drop()

    async def then(peer: Peer) -> None:
        await admit(peer, positions(ANN, 2), epoch="e2")
        await peer.say(event(3))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 2)) == [["all", "client:c1", "user:ann"], 3]


async def test_one_stream_s_position_is_missing_from_the_answer() -> None:
    async def first(peer: Peer) -> None:
        await admit(peer, {"all": 1, "client:c1": 1})
        await peer.drop()

    async def then(peer: Peer) -> None:
        assert (await admit(peer, positions(ANN, 8)))["resume"]["offsets"] == {"all": 1, "client:c1": 1}
        await peer.say(event(9))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 2)) == [["user:ann"], 9]


# Cuts


@pytest.mark.parametrize("replayed", [0, 1, 2])
async def test_cut_between_the_answer_and_the_replay_or_within_it(replayed: int) -> None:
    """The old gateway's answers had the position after the replay: taking it over would lose the replay."""
    resumed: list[Any] = []

    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        await peer.drop()

    async def second(peer: Peer) -> None:
        await admit(peer, positions(ANN, 6))
        for offset in range(4, 4 + replayed):
            await peer.say(event(offset))
        await peer.close(1012, "retry_within_ms=1")

    async def third(peer: Peer) -> None:
        resumed.append((await admit(peer, positions(ANN, 6)))["resume"]["offsets"]["user:ann"])
        for offset in range(4, 8):
            await peer.say(event(offset))
        await peer.forever()

    async with fake_gateway(Script(first, second, third)) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 4)) == [4, 5, 6, 7]
    assert resumed == [3 + replayed]


async def test_cut_before_the_answer() -> None:
    resumed: list[Any] = []

    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        await peer.drop()

    async def second(peer: Peer) -> None:
        await register(peer)
        await peer.drop()

    async def third(peer: Peer) -> None:
        resumed.append((await admit(peer, positions(ANN, 3)))["resume"]["offsets"]["user:ann"])
        await peer.say(event(4))
        await peer.forever()

    async with fake_gateway(Script(first, second, third)) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 1)) == [4]
    assert resumed == [3]


async def test_what_was_had_comes_again_and_is_passed_on_once() -> None:
    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        for offset in (4, 5, 4, 5, 6, 3):
            await peer.say(event(offset))
        await peer.drop()

    async def then(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        for offset in (4, 5, 6, 7):
            await peer.say(event(offset))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 4)) == [4, 5, 6, 7]


# A program that is slow


SLOW = LinkOptions(connect_timeout=1.0, close_timeout=0.1)
"""Short enough for a test to be slower than it, long enough for a busy machine to connect."""
LONGER = 1.5 * SLOW.connect_timeout


@pytest.mark.shows("replays and gaps wait for it", "as long as it takes")
async def test_a_gap_is_kept_for_a_program_that_is_slower_than_the_connect_timeout() -> None:
    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        await peer.say(event(4))
        await peer.close(4008, "reads too slowly")

    async def then(peer: Peer) -> None:
        await admit(peer, positions(ANN, 90), lost=["user:ann"], recovered=False)
        await peer.say(event(91))
        await peer.forever()

    events = Events()
    async with (
        fake_gateway(Script(first, then)) as gateway,
        client(gateway.url, buffer=1, options=SLOW, on_event=events) as c,
    ):
        await events.wait_for(Connected, 2)
        # The buffer is full with event 4; the gap waits for room, longer than a connection may take to stand.
        await trio.sleep(LONGER)
        assert offsets_of(await take(c, 3)) == [4, ["user:ann"], 91]
    assert len(events.of(Connected)) == 2


@pytest.mark.shows("replays and gaps wait for it")
async def test_a_replay_waits_for_a_program_that_is_slow() -> None:
    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        await peer.say(event(4))
        await peer.drop()

    async def then(peer: Peer) -> None:
        await admit(peer, positions(ANN, 4))
        for offset in range(5, 9):
            await peer.say(event(offset))
        await peer.forever()

    events = Events()
    async with (
        fake_gateway(Script(first, then)) as gateway,
        client(gateway.url, buffer=1, options=SLOW, on_event=events) as c,
    ):
        await events.wait_for(Connected, 2)
        await trio.sleep(LONGER)
        assert offsets_of(await take(c, 5)) == [4, 5, 6, 7, 8]
    assert len(events.of(Connected)) == 2


async def test_a_slow_program_s_switch_is_not_taken_for_an_unanswered_one() -> None:
    """The answer is there, behind pushes that the program has no time for."""

    async def script(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        for offset in range(4, 8):
            await peer.say(event(offset))
        await admit(peer, positions(BOB, 3))
        await peer.forever()

    events = Events()
    async with (
        fake_gateway(script) as gateway,
        client(gateway.url, buffer=1, options=SLOW, on_event=events) as c,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(c.register, BOB)
        await trio.sleep(LONGER)
        assert offsets_of(await take(c, 4)) == [4, 5, 6, 7]
    assert not events.of(Lost)


async def test_a_program_that_switches_with_its_buffer_full_is_not_locked_out() -> None:
    """The answer is behind pushes that only this program reads, and it waits for the answer."""

    async def script(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        for offset in range(4, 12):
            await peer.say(event(offset))
        await admit(peer, positions(BOB, 11))
        await peer.say(event(12, "user:bob"))
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url, buffer=1) as c:
        assert offsets_of(await take(c, 1)) == [4]
        with trio.fail_after(PATIENT):
            await c.register(BOB)
        assert offsets_of(await take(c, 8)) == list(range(5, 13))


async def test_a_program_that_switches_with_its_buffer_full_and_its_link_lost_is_not_locked_out() -> None:
    lost = trio.Event()

    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        for offset in range(4, 8):
            await peer.say(event(offset))
        await peer.drop()
        lost.set()

    async def then(peer: Peer) -> None:
        asked = await admit(peer, positions(BOB, 11))
        assert asked["user_id"] == "bob"
        await peer.say(event(12, "user:bob"))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url, buffer=1) as c:
        assert offsets_of(await take(c, 1)) == [4]
        await lost.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        with trio.fail_after(PATIENT):
            await c.register(BOB)
        assert offsets_of(await take(c, 4)) == [5, 6, 7, 12]


# Registrations


@pytest.mark.shows("the old identity is resumed from where it was", "on the same connection")
async def test_a_pending_switch_that_the_new_link_rejects_leaves_the_old_positions() -> None:
    resumed: list[Any] = []

    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 10))
        await register(peer)
        await peer.drop()

    async def then(peer: Peer) -> None:
        asked = await register(peer)
        resumed.append((asked["user_id"], asked.get("resume")))
        rejected = {"type": "registration_rejected", "reason": "bad_field", "message": "no"}
        await peer.say(rejected | {name: asked[name] for name in ("client_id", "user_id", "username", "node_id")})
        asked = await admit(peer, positions(ANN, 14))
        resumed.append((asked["user_id"], asked.get("resume")))
        for offset in range(11, 15):
            await peer.say(event(offset))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        with trio.fail_after(PATIENT), pytest.raises(RegistrationRejected):
            await c.register(BOB)
        assert offsets_of(await take(c, 4)) == [11, 12, 13, 14]
        assert c.identity == ANN
    place = {"epoch": EPOCH, "offsets": positions(ANN, 10)}
    assert resumed == [("bob", place), ("ann", place)]


async def switch(c: Client, identity: Identity, told: list[object]) -> None:
    """Register, and note what came of it."""
    try:
        await c.register(identity)
        told.append(identity.user_id)
    except ClientError as error:
        told.append(type(error))


@pytest.mark.shows(
    "every call of `register` ends, the last one as the client that it asked for", "when a later one is answered"
)
@pytest.mark.parametrize("answered", [(0, 1, 2), (1, 2), (0, 2), (2,)])
async def test_answers_are_matched_by_what_they_say(answered: tuple[int, ...]) -> None:
    """A gateway that swallows answers to registrations that are superseded: the last one is never left waiting."""
    names = ("bob", "cleo", "dora")

    async def script(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        asked = [await register(peer) for _ in names]
        for n in answered:
            await peer.say(success(asked[n], positions(Identity("c1", names[n]), 7)))
        await peer.say({"type": "done"})
        await peer.forever()

    told: list[object] = []
    async with fake_gateway(script) as gateway, client(gateway.url) as c, trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(switch, c, replace(ANN, user_id=name), told)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert [push["type"] for push in await take(c, 1)] == ["done"]
        assert c.identity == replace(ANN, user_id="dora")
        assert c.registration["user_id"] == "dora"
    expected = [name if n in answered else Superseded for n, name in enumerate(names)]
    assert sorted(map(str, told)) == sorted(map(str, expected))


async def test_answers_of_one_user_are_told_apart_by_their_streams() -> None:
    channels = [replace(ANN, channel_id=f"ch{n}") for n in range(2)]

    async def script(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        asked = [await register(peer) for _ in channels]
        await peer.say(success(asked[1], positions(channels[1], 7)))
        await peer.say({"type": "done"})
        await peer.forever()

    told: list[object] = []
    async with fake_gateway(script) as gateway, client(gateway.url) as c, trio.open_nursery() as nursery:
        for identity in channels:
            nursery.start_soon(switch, c, identity, told)
            await trio.testing.wait_all_tasks_blocked(0.01)
        await take(c, 1)
        assert c.identity == channels[1]
    assert sorted(map(str, told)) == sorted([str(Superseded), "ann"])


async def test_a_rejection_is_matched_by_what_it_says() -> None:
    async def script(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        bob, cleo = await register(peer), await register(peer)
        rejected = {"type": "registration_rejected", "reason": "bad_field", "message": "no"}
        await peer.say(rejected | {name: cleo[name] for name in ("client_id", "user_id", "username", "node_id")})
        await peer.say(success(bob, positions(BOB, 3)))
        await peer.say({"type": "done"})
        await peer.forever()

    told: list[object] = []
    async with fake_gateway(script) as gateway, client(gateway.url) as c, trio.open_nursery() as nursery:
        nursery.start_soon(switch, c, BOB, told)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.start_soon(switch, c, replace(ANN, user_id="cleo"), told)
        await take(c, 1)
        assert c.identity == BOB
    assert sorted(map(str, told)) == sorted(["bob", str(RegistrationRejected)])


@pytest.mark.shows("else `connect_timeout` and a new connection")
async def test_a_switch_that_is_never_answered_is_made_on_another_link() -> None:
    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        await register(peer)
        await peer.say(event(4))
        await peer.forever()

    async def then(peer: Peer) -> None:
        asked = await admit(peer, positions(BOB, 3))
        assert asked["user_id"] == "bob"
        await peer.forever()

    events = Events()
    async with (
        fake_gateway(Script(first, then)) as gateway,
        client(gateway.url, options=SLOW, on_event=events) as c,
    ):
        with trio.fail_after(PATIENT):
            await c.register(BOB)
        assert offsets_of(await take(c, 1)) == [4]
    assert "did not answer the registration" in str(events.of(Lost)[0])


async def test_an_answer_to_what_was_not_asked_changes_nothing() -> None:
    async def script(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        await peer.say(success({"client_id": "c9", "user_id": "eve"}, {"user:eve": 1}))
        await peer.say({"type": "registration_rejected", "reason": "bad_field", "message": "no"})
        await peer.say(event(4))
        await peer.forever()

    events = Events()
    async with fake_gateway(script) as gateway, client(gateway.url, on_event=events) as c:
        assert offsets_of(await take(c, 1)) == [4]
        assert c.identity == ANN
        assert c.registration["user_id"] == "ann"
    assert len(events.of(BadMessage)) == 2


async def test_what_cannot_be_sent_is_not_registered_on_the_next_link_either() -> None:
    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        await peer.next_of("session_feedback")
        await peer.drop()

    async def then(peer: Peer) -> None:
        assert (await admit(peer, positions(ANN, 3)))["user_id"] == "ann"
        await peer.say(event(4))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        with pytest.raises(ClientError, match="JSON"):
            await c.register(Identity(user_id=object()))  # type: ignore[arg-type]  # misuse
        await c.session_feedback(success=True)
        assert offsets_of(await take(c, 1)) == [4]


async def test_streams_that_both_users_have_are_not_missed_by_a_switch() -> None:
    """The gateway answers with the position of the moment; what it has in hand for the old streams follows."""
    resumed: list[Any] = []

    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        await admit(peer, positions(BOB, 9))
        await peer.drop()

    async def then(peer: Peer) -> None:
        resumed.append((await admit(peer, positions(BOB, 9)))["resume"]["offsets"])
        await peer.say(event(4, "all"))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        await c.register(BOB)
        assert offsets_of(await take(c, 1)) == [4]
    assert resumed == [{"all": 3, "client:c1": 3, "user:bob": 9}]


# Gaps


@pytest.mark.shows("the next resume is from there, and whole")
async def test_a_gap_s_epoch_and_position_are_taken_over() -> None:
    resumed: list[Any] = []

    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 300))
        for stream in positions(ANN):
            await peer.say({"type": "stream_gap", "streams": [stream], "epoch": "e2", "offsets": {stream: 2}})
        await peer.say(event(3))
        await peer.next_of("session_feedback")
        await peer.drop()

    async def then(peer: Peer) -> None:
        resumed.append((await admit(peer, positions(ANN, 3), epoch="e2"))["resume"])
        await peer.say(event(4))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 4)) == [["all"], ["client:c1"], ["user:ann"], 3]
        await c.session_feedback(success=True)
        assert offsets_of(await take(c, 1)) == [4]
    assert resumed == [{"epoch": "e2", "offsets": {"all": 2, "client:c1": 2, "user:ann": 3}}]


@pytest.mark.shows("also where it is cut between two gaps")
async def test_a_cut_between_the_gaps_of_a_new_epoch() -> None:
    """Positions of the old epoch mean nothing in the new one: what was not named yet can't be resumed, and is told."""
    resumed: list[Any] = []

    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 300))
        gap = {"type": "stream_gap", "streams": ["user:ann"], "epoch": "e2", "offsets": {"user:ann": 2}}
        await peer.say(gap)
        await peer.drop()

    async def then(peer: Peer) -> None:
        resumed.append((await admit(peer, positions(ANN, 2), epoch="e2"))["resume"])
        await peer.say(event(3))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 3)) == [["user:ann"], ["all", "client:c1"], 3]
    assert resumed == [{"epoch": "e2", "offsets": {"user:ann": 2}}]


async def test_a_gap_of_an_older_gateway_that_names_no_position() -> None:
    """Its offsets may begin anew: what comes next is no repetition."""

    async def script(peer: Peer) -> None:
        await admit(peer, positions(ANN, 300))
        await peer.say({"type": "stream_gap", "streams": ["user:ann"]})
        await peer.say(event(1))
        await peer.say(event(1))
        await peer.say(event(2))
        await peer.forever()

    async with fake_gateway(script) as gateway, client(gateway.url) as c:
        assert offsets_of(await take(c, 3)) == [["user:ann"], 1, 2]


@pytest.mark.parametrize(
    "nonsense",
    [
        {"streams": "user:ann"},
        {"streams": [5, None]},
        {"streams": ["user:eve"], "epoch": EPOCH, "offsets": {"user:eve": 1}},
        {"streams": [], "epoch": EPOCH, "offsets": {"user:ann": "5"}},
        {"streams": [], "epoch": 5, "offsets": []},
        {},
    ],
)
async def test_a_gap_that_is_nonsense_is_passed_on_and_changes_no_position(nonsense: dict[str, Any]) -> None:
    resumed: list[Any] = []

    async def first(peer: Peer) -> None:
        await admit(peer, positions(ANN, 3))
        await peer.say({"type": "stream_gap"} | nonsense)
        await peer.drop()

    async def then(peer: Peer) -> None:
        resumed.append((await admit(peer, positions(ANN, 3)))["resume"])
        await peer.say(event(4))
        await peer.forever()

    async with fake_gateway(Script(first, then)) as gateway, client(gateway.url) as c:
        pushes = await take(c, 2)
    assert pushes[0] == {"type": "stream_gap"} | nonsense
    assert pushes[1]["offset"] == 4
    assert resumed == [{"epoch": EPOCH, "offsets": positions(ANN, 3)}]
