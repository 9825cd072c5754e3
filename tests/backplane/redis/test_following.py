"""How a node follows streams where messages get lost, come twice, or come between two answers; over a real Redis."""

from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path

import pytest
import trio

from portico.wire.messages import Target
from service.backplane.redis.payloads import Arrival
from service.backplane.redis.reading import Kept, Moment
from service.core.cluster.backplane import Publication, Resume
from service.core.reply import Reply

from ..contract import ANN, PATIENT, ROOM, event
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

        monkeypatch.setattr(one.plane.following, "_want", delayed)


async def test_a_gap_is_read_before_anything_else_is_delivered(one: RedisNode, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await one.join(ANN)
    await one.publish(ANN, event(0), durable=True)
    following = one.plane.following
    arrived = following.arrived
    lost = 3

    def lossy(target: Target, arrival: Arrival, size: int) -> None:
        nonlocal lost
        if lost:
            lost -= 1
        else:
            arrived(target, arrival, size)

    monkeypatch.setattr(following, "arrived", lossy)
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
    arrived = following.arrived

    def twice(target: Target, arrival: Arrival, size: int) -> None:
        arrived(target, arrival, size)
        arrived(target, arrival, size)

    monkeypatch.setattr(following, "arrived", twice)
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
        one.connect(ANN, resume=Resume("another", {"user:ann": 1}))
        return moment

    monkeypatch.setattr(following._reader, "read", amid)
    await one.join(ANN, resume=client.resume(**{"user:ann": -1}))
    await one.publish(ANN, event(1), durable=True)
    await one.until(lambda: 1 in client.numbers)
    assert client.numbers == [0, 1]
    assert (one.lost_targets, following.lost) == ([], 0)
