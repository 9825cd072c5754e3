"""How a node follows streams where messages get lost, come twice, or come between two answers; over a real Redis."""

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path

import pytest
import trio

from portico.wire.messages import EVERYBODY, Target
from service.backplane.redis import plane, reading
from service.backplane.redis.following import LONGEST
from service.backplane.redis.payloads import Arrival, event_of
from service.backplane.redis.reading import Kept, Moment
from service.core.cluster.backplane import PATIENCE, Joined, Publication, StreamPositions
from service.core.reply import Reply

from ..contract import ANN, BOB, PATIENT, ROOM, Client, event, number_of
from ..redis_server import RedisServer, redis_server
from .test_plane import RedisNode, node
from .test_plane_adversity import publish_surely


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def one(redis: RedisServer) -> AsyncIterator[RedisNode]:
    async with node(redis.url, "a") as a:
        await a.ready()
        yield a


class Delayed:
    """Subscriptions that are made at once, and told of when the test says so."""

    def __init__(self, one: RedisNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[Callable[[], None]] = []
        want = one.plane.subscription.want

        def delayed(channels: Collection[bytes], done: Callable[[], None]) -> None:
            want(channels)
            self.told.append(done)

        monkeypatch.setattr(one.plane.subscription, "want", delayed)


async def test_a_gap_is_read_before_anything_else_is_delivered(one: RedisNode, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await one.join(ANN)
    await one.publish(ANN, event(0), durable=True)
    following = one.plane.following
    arrived = following.on_push
    lost = 3

    def lossy(target: Target, arrival: Arrival, size: int) -> None:
        nonlocal lost
        if lost:
            lost -= 1
        else:
            arrived(target, arrival, size)

    monkeypatch.setattr(following, "on_push", lossy)
    for n in range(1, 5):
        one.plane.publish(Publication(ANN, event(n), durable=True), Reply(lambda _: None))
    one.plane.publish(Publication(ANN, event(5)), Reply(lambda _: None))
    one.plane.publish(Publication(ANN, event(6), durable=True), Reply(lambda _: None))
    await one.until(lambda: 6 in client.numbers)
    assert client.numbers == list(range(7))
    assert (following.gaps, following.replayed) == (1, 3)


async def test_a_message_that_comes_twice_is_delivered_once(one: RedisNode, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await one.join(ANN)
    following = one.plane.following
    arrived = following.on_push

    def twice(target: Target, arrival: Arrival, size: int) -> None:
        arrived(target, arrival, size)
        arrived(target, arrival, size)

    monkeypatch.setattr(following, "on_push", twice)
    for n in range(3):
        await one.publish(ANN, event(n), durable=True)
    assert client.numbers == [0, 1, 2]
    assert following.doubles == 3


async def test_what_comes_while_another_stream_is_found_out_about(
    one: RedisNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await one.join(ANN)
    delayed = Delayed(one, monkeypatch)
    back = one.connect(ANN, ROOM, resume=first.resume())
    fresh = one.connect(ANN, ROOM)
    receipt = await one.publish(ANN, event(1), durable=True)
    assert not back.told.is_set()
    for done in delayed.told:
        done()
    with trio.fail_after(PATIENT):
        await back.told.wait()
        await fresh.told.wait()
    assert (back.numbers, fresh.numbers, first.numbers) == ([1], [], [1])
    assert back.at.offsets["user:ann"] == fresh.at.offsets["user:ann"] == receipt.offset
    await one.publish(ANN, event(2), durable=True)
    assert (back.numbers, fresh.numbers, first.numbers) == ([1, 2], [2], [1, 2])


async def test_an_old_answer_does_not_stand_for_a_new_subscription(
    one: RedisNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await one.join(ANN)
    receipt = await one.publish(ANN, event(1), durable=True)
    delayed = Delayed(one, monkeypatch)
    gone = one.connect(ROOM)
    gone.leave()
    assert gone.answers == 1
    again = one.connect(ROOM)
    old, new = delayed.told
    old()
    # Whatever is due is read by the time that this is.
    await one.join(ANN, resume=first.resume(**{"user:ann": (receipt.offset or 0) - 1}))
    assert not again.told.is_set()
    new()
    with trio.fail_after(PATIENT):
        await again.told.wait()
    assert again.at.recovered
    assert (gone.answers, again.answers) == (1, 1)


@pytest.mark.shows("its answer is of the new epoch and names what is `lost`")
async def test_who_waits_while_an_epoch_ends_is_told_so_in_the_next(
    one: RedisNode, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer must not join the old epoch's position to the new one's name, nor give what came in the new one: the
    gap that it is told leads back to before that."""
    first = await one.join(ANN)
    await one.publish(ANN, event(0), durable=True)
    delayed = Delayed(one, monkeypatch)
    back = one.connect(ANN, ROOM, resume=first.resume())
    fresh = one.connect(ANN, ROOM)
    before = one.plane.epoch
    redis.command("FLUSHALL")
    receipt, _ = await publish_surely(one, Publication(ANN, event(1), "one", durable=True))
    await one.until(lambda: 1 in first.numbers)
    assert not back.told.is_set()
    for done in delayed.told:
        done()
    with trio.fail_after(PATIENT):
        await back.told.wait()
        await fresh.told.wait()
    assert back.at.epoch == one.plane.epoch != before
    assert (back.at.missed, "user:ann" in back.at.lost, back.at.recovered) == ({}, True, False)
    assert back.at.offsets["user:ann"] == fresh.at.offsets["user:ann"] == receipt.offset


@pytest.mark.parametrize("somebody", [False, True], ids=["nobody there", "somebody there"])
@pytest.mark.shows("what it missed is given to it", "it is answered once the node knows too")
async def test_who_knows_an_epoch_before_the_node_that_it_comes_to(
    one: RedisNode, redis: RedisServer, somebody: bool
) -> None:
    """It has learnt of the epoch by another node, and all that it missed is of that epoch: nothing is lost to it."""
    async with node(redis.url, "b") as other:
        await other.ready()
        there = [await other.join(ANN)] if somebody else []
        first = await one.join(ANN)
        await one.publish(ANN, event(0), durable=True)
        await one.until(lambda: all(client.numbers == [0] for client in [first, *there]))
        redis.command("FLUSHALL")
        had, _ = await publish_surely(one, Publication(ANN, event(1), "one", durable=True))
        await one.until(lambda: 1 in first.numbers)
        await one.publish(ANN, event(2), durable=True)
        back = await other.join(ANN, resume=StreamPositions(one.plane.epoch, {"user:ann": had.offset or 0}))
        assert (back.at.epoch, back.at.recovered, back.numbers) == (one.plane.epoch, True, [2])
        await one.publish(ANN, event(3), durable=True)
        await one.until(lambda: 3 in back.numbers and all(3 in client.numbers for client in there))
        assert back.numbers == [2, 3]
        # Nobody can name an epoch so that what is lost seems not to be.
        lost = await other.join(ANN, resume=StreamPositions("never-was", {"user:ann": had.offset or 0}))
        assert (lost.at.recovered, lost.at.lost, lost.numbers) == (False, ["user:ann"], [])


@pytest.mark.shows("each is answered, whatever the answer to another comes to")
async def test_an_answer_that_ends_another_that_waits_too_long_breaks_nothing(
    one: RedisNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a client's answer closes its older connection, which waits as well: the node was gone with it."""
    monkeypatch.setattr("service.backplane.redis.following.PATIENCE", 0.2)
    monkeypatch.setattr(one.plane.commands, "trouble", "nothing is read for the time being")
    answers: list[str] = []

    def first(_: Joined) -> None:
        answers.append("first")
        for target in (ANN, BOB):
            one.plane.leave([target])

    one.plane.join([ROOM], None, Reply(first))
    for target, name in ((ANN, "second"), (BOB, "third"), (EVERYBODY, "fourth")):
        one.plane.join([target], None, Reply(lambda _, name=name: answers.append(name)))  # type: ignore[misc]
    await one.until_true(lambda: len(answers) == 4)
    assert answers == ["first", "second", "third", "fourth"]


async def test_who_joins_again_in_the_answer_that_its_leaving_gives_hears_what_comes(
    one: RedisNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    delayed = Delayed(one, monkeypatch)
    again: list[Client] = []
    one.plane.join([ANN], None, Reply(lambda _: again.append(one.connect(ANN))))
    one.plane.leave([ANN])
    delayed.told[-1]()
    [client] = again
    with trio.fail_after(PATIENT):
        await client.told.wait()
    await one.publish(ANN, event(1), durable=True)
    assert client.numbers == [1]


async def test_what_is_held_since_a_reading_began_is_for_the_next(
    one: RedisNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that names an epoch which nobody knows, while the stream is read: no gap is told."""
    client = await one.join(ANN)
    await one.publish(ANN, event(0), durable=True)
    following = one.plane.following
    read = following._reader.read

    async def amid(what: Collection[Kept]) -> Moment | None:
        monkeypatch.setattr(following._reader, "read", read)
        moment = await read(what)
        one.connect(ANN, resume=StreamPositions("another", {"user:ann": 1}))
        return moment

    monkeypatch.setattr(following._reader, "read", amid)
    await one.join(ANN, resume=client.resume(**{"user:ann": -1}))
    await one.publish(ANN, event(1), durable=True)
    await one.until(lambda: 1 in client.numbers)
    assert client.numbers == [0, 1]
    assert (one.lost_targets, following.lost) == ([], 0)


class OnItsWay:
    """What arrives at a node: events may be lost on the way, or be kept back."""

    def __init__(self, one: RedisNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost: set[int] = set()
        self.kept_back: list[tuple[Target, Arrival, int]] = []
        self.keeping = False
        self.offsets: dict[int, int] = {}  # of what has come this far
        self.on_push = one.plane.following.on_push
        monkeypatch.setattr(one.plane.following, "on_push", self._take_push)

    def _take_push(self, target: Target, arrival: Arrival, size: int) -> None:
        number = number_of(event_of(arrival.push))
        self.offsets[number] = arrival.offset or 0
        if self.keeping:
            self.kept_back.append((target, arrival, size))
        elif number not in self.lost:
            self.on_push(target, arrival, size)


@pytest.mark.shows(
    "what it had by another node is not delivered to it once more", "it is answered as soon as the node has come as far"
)
async def test_a_link_that_is_cut_twice_before_the_history_was_read(
    one: RedisNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held is then from before and after the second cut, with a gap in between; and somebody comes who has had,
    by another node, the event that is missing there."""
    stays = await one.join(ANN)
    await one.publish(ANN, event(0), durable=True)
    way = OnItsWay(one, monkeypatch)
    way.lost = {2}
    following = one.plane.following
    with monkeypatch.context() as away:
        away.setattr(one.plane.commands, "trouble", "nothing is read for the time being")
        for n in range(1, 4):
            if n != 2:
                following.on_resubscribed()
            one.plane.publish(Publication(ANN, event(n), durable=True), Reply(lambda _: None))
            await one.until_true(lambda n=n: n in way.offsets)  # type: ignore[misc]
        comes = one.connect(ANN, resume=StreamPositions(one.plane.epoch, {"user:ann": way.offsets[2]}))
    with trio.fail_after(PATIENT):
        await comes.told.wait()
    await one.publish(ANN, event(4), durable=True)
    await one.until(lambda: 4 in stays.numbers)
    assert stays.numbers == [0, 1, 2, 3, 4]
    assert (comes.numbers, comes.at.recovered) == ([3, 4], True)
    assert one.lost_targets == []


@pytest.mark.shows("what it had by another node is not delivered to it once more")
async def test_what_is_held_while_somebody_who_has_had_it_is_answered(
    one: RedisNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays = await one.join(ANN)
    await one.publish(ANN, event(0), durable=True)
    way = OnItsWay(one, monkeypatch)
    way.keeping = True
    following = one.plane.following
    one.plane.publish(Publication(ANN, event(1), durable=True), Reply(lambda _: None))
    await one.until_true(lambda: len(way.kept_back) == 1)
    [(target, arrival, size)] = way.kept_back
    way.keeping = False
    read = following._reader.read

    async def amid(what: Collection[Kept]) -> Moment | None:
        monkeypatch.setattr(following._reader, "read", read)
        moment = await read(what)
        one.connect(ANN, resume=StreamPositions("another", {"user:ann": 1}))  # which nobody knows: what comes is held
        way.on_push(target, arrival, size)
        return moment

    monkeypatch.setattr(following._reader, "read", amid)
    comes = await one.join(ANN, resume=StreamPositions(one.plane.epoch, {"user:ann": arrival.offset or 0}))
    await one.publish(ANN, event(2), durable=True)
    await one.until(lambda: 2 in comes.numbers)
    assert (stays.numbers, comes.numbers) == ([0, 1, 2], [2])
    assert one.lost_targets == []


@pytest.mark.shows("nobody is told of a gap because of that")
async def test_a_node_that_stood_still_does_not_take_redis_for_silent(
    one: RedisNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await one.join(ANN)
    await one.publish(ANN, event(0), durable=True)
    for module in ("following", "reading"):
        monkeypatch.setattr(f"service.backplane.redis.{module}.PATIENCE", 1.0)
    monkeypatch.setattr(plane, "GRACE", 30.0)  # a busy machine has its own ideas of a moment
    back = one.connect(ANN, resume=client.resume(**{"user:ann": (client.events[0].offset or 0) - 1}))
    time.sleep(1.0 + plane.STOOD_STILL)  # noqa: ASYNC251 - nothing of the process runs, as when it is stopped
    with trio.fail_after(PATIENT):
        await back.told.wait()
    assert (back.at.recovered, back.numbers) == (True, [0])
    assert one.lost_targets == []


class Pieces:
    """A history that is read in pieces of a few events, and the reading may be stopped between two of them."""

    def __init__(self, one: RedisNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rounds = 0
        self.stop_before = 0
        self.stopped = trio.Event()
        self.go = trio.Event()
        monkeypatch.setattr(reading, "SMALLEST_PIECE", 200)
        monkeypatch.setattr(reading, "ROUND_BYTES", 200)
        reader = one.plane.following._reader
        read = reader.read

        async def watched(what: Collection[Kept]) -> Moment | None:
            self.rounds += bool(what)
            if self.rounds == self.stop_before:
                self.stopped.set()
                await self.go.wait()
            return await read(what)

        monkeypatch.setattr(reader, "read", watched)

    async def until_in_the_middle(self) -> None:
        """Some of the history was read, and more is to be."""
        with trio.fail_after(PATIENT):
            await self.stopped.wait()


async def test_nobody_waits_for_what_another_has_missed(one: RedisNode, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, room = await one.join(ANN), await one.join(ROOM)
    for client in (ann, room):
        client.leave()
    await one.publish_all([Publication(ANN, event(n), durable=True) for n in range(40)])
    await one.publish(ROOM, event(100), durable=True)
    pieces = Pieces(one, monkeypatch)
    pieces.stop_before = 3
    long = one.connect(ANN, resume=ann.resume())
    await pieces.until_in_the_middle()
    # One who missed as much is answered with the first; one who missed little elsewhere, before.
    same, short = one.connect(ANN, resume=ann.resume()), one.connect(ROOM, resume=room.resume())
    pieces.go.set()
    with trio.fail_after(PATIENT):
        await short.told.wait()
    assert not long.told.is_set()
    assert short.numbers == [100]
    with trio.fail_after(PATIENT):
        await long.told.wait()
        await same.told.wait()
    assert long.numbers == same.numbers == list(range(40))
    assert pieces.rounds < 20, "the history was read once"


async def test_a_join_waits_while_more_and_more_of_a_history_is_read(
    one: RedisNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await one.join(ANN)
    ann.leave()
    await one.publish_all([Publication(ANN, event(n), durable=True) for n in range(40)])
    pieces = Pieces(one, monkeypatch)
    following = one.plane.following
    look = following.look
    monkeypatch.setattr(following, "look", lambda now: None)  # the node's own ticker
    pieces.stop_before = 2
    client = one.connect(ANN, resume=ann.resume())
    born = trio.current_time()
    await pieces.until_in_the_middle()
    assert following._patient_until >= born + PATIENCE
    look(following._patient_until - 1e-9)
    assert not client.told.is_set(), "the first piece came just now"
    pieces.go.set()
    with trio.fail_after(PATIENT):
        await client.told.wait()
    assert (client.at.recovered, client.numbers) == (True, list(range(40)))


async def test_nobody_waits_for_ever_while_a_history_is_read(one: RedisNode, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = await one.join(ANN)
    ann.leave()
    await one.publish_all([Publication(ANN, event(n), durable=True) for n in range(40)])
    pieces = Pieces(one, monkeypatch)
    following = one.plane.following
    look = following.look
    monkeypatch.setattr(following, "look", lambda now: None)
    pieces.stop_before = 2
    client = one.connect(ANN, resume=ann.resume())
    await pieces.until_in_the_middle()
    monkeypatch.setattr(following, "_patient_until", trio.current_time() + 2 * LONGEST)
    look(trio.current_time() + LONGEST)
    assert (client.at.recovered, client.at.lost) == (False, ["user:ann"])
    pieces.go.set()


@pytest.mark.parametrize("room", [100_000, 0])
async def test_more_than_is_read_in_any_case_is_read_where_there_is_room(
    one: RedisNode, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    ann = await one.join(ANN)
    ann.leave()
    await one.publish_all([Publication(ANN, event(n), durable=True) for n in range(40)])
    monkeypatch.setattr(reading, "STREAM_BYTES", 1000)
    monkeypatch.setattr(one.plane.following._reader, "_history_bytes", room)
    Pieces(one, monkeypatch)
    client = await one.join(ANN, resume=ann.resume())
    if room:
        assert (client.at.recovered, client.numbers) == (True, list(range(40)))
    else:
        assert (client.at.recovered, client.at.lost, client.numbers) == (False, ["user:ann"], [])
