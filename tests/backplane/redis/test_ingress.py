"""The ingress stream of a real Redis: what other programs add is published once, and only then acknowledged."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.backplane.redis import ingress
from service.backplane.redis.ingress import Ingress
from service.core.cluster.backplane import Publication
from service.core.push.publications import publication_of
from service.core.reply import Reply
from service.observe import make_log

from ..redis_server import RedisServer, redis_server
from .links import link

LEASE = 0.3
STREAM = "test:ingress"
PATIENT = 60.0


class Backplane:
    """What publications go to: accepts them, unless told otherwise. `publications` are all that it was given."""

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self.outcome: Callable[[Publication], object] = lambda publication: None
        self.holding: list[Callable[[object], None]] | None = None
        self._stirred = trio.Event()

    def publish(self, publication: Publication, done: Reply[object]) -> None:
        """Publish."""
        self.publications.append(publication)
        self._stirred.set()
        if self.holding is None:
            done(self.outcome(publication))
        else:
            self.holding.append(done)

    def hold(self) -> list[Callable[[object], None]]:
        """Answer nothing from now on; gives what to answer with."""
        self.holding = []
        return self.holding

    async def saw(self, count: int) -> list[Publication]:
        """The publications, once there are so many."""
        with trio.fail_after(PATIENT):
            while len(self.publications) < count:
                self._stirred = trio.Event()
                await self._stirred.wait()
        return self.publications

    @property
    def types(self) -> list[str]:
        """The types of all events."""
        return [publication.event.type for publication in self.publications]


class Node:
    """One that reads."""

    def __init__(self, redis: RedisServer, name: str, lease: float = LEASE) -> None:
        self.name = name
        self.backplane = Backplane()
        self.link = link(redis.url)
        self.ingress = Ingress(
            self.link.ask,
            self.backplane.publish,
            publication_of,
            node=lambda: self.name,
            prefix="test:",
            lease=lease,
            log=make_log("json", "critical"),
        )
        self.scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Until it is killed."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.link.run)
                nursery.start_soon(self.ingress.run)
                task_status.started()


@asynccontextmanager
async def reading(*nodes: Node) -> AsyncIterator[None]:
    """These nodes read."""
    async with trio.open_nursery() as nursery:
        for node in nodes:
            await nursery.start(node.run)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


def add(redis: RedisServer, **event: Any) -> str:
    """Add an entry, for u1 unless it says otherwise; gives its id."""
    made = {"target": {"user_id": "u1"}, "type": "e", **event}
    return added(redis, "json", json.dumps(made))


def added(redis: RedisServer, *fields: str) -> str:
    """Add an entry of these fields."""
    answer = redis.command("XADD", STREAM, "*", *fields)
    assert answer.startswith(b"$"), answer
    return answer.split(b"\r\n")[1].decode()


def number(answer: bytes) -> int:
    """An answer that is a number."""
    assert answer.startswith(b":"), answer
    return int(answer[1:])


def length(redis: RedisServer, stream: str = STREAM) -> int:
    """How many entries a stream has."""
    return number(redis.command("XLEN", stream))


def pending(redis: RedisServer) -> int:
    """How many entries are in some node's hands."""
    answer = redis.command("XPENDING", STREAM, ingress.GROUP)
    assert answer.startswith(b"*4"), answer
    return int(answer.split(b"\r\n")[1][1:])


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that only Redis knows."""
    with trio.fail_after(PATIENT):
        while not holds():  # noqa: ASYNC110 - Redis doesn't say when
            await trio.sleep(0.01)


async def test_what_is_added_is_published_with_all_that_it_says_and_then_gone(redis: RedisServer) -> None:
    before = add(redis, type="before")
    node = Node(redis, "n1")
    async with reading(node):
        first, *_ = await node.backplane.saw(1)
        after = add(redis, type="after", data={"n": 1}, id="own", durable=True, ttl=60)
        added(redis, "trace", "t1", "json", '{"target": {"all": true}, "type": "third"}', "more", "")
        _, second, third = await node.backplane.saw(3)
        await until(lambda: length(redis) == pending(redis) == 0)
        await until(lambda: node.ingress.trouble is None)
    assert (first.event.type, first.id, first.durable) == ("before", f"ingress-{before}", False)
    assert (second.target.value, bytes(second.event.data), second.id) == ("u1", b'{"n": 1}', "own")
    assert (second.durable, second.ttl) == (True, 60)
    assert third.target.kind == "all"
    assert after > before
    assert node.ingress.accepted == 3


async def test_an_entry_is_acknowledged_only_when_it_was_accepted(redis: RedisServer) -> None:
    node = Node(redis, "n1")
    holding = node.backplane.hold()
    async with reading(node):
        add(redis)
        await node.backplane.saw(1)
        assert (length(redis), pending(redis)) == (1, 1)
        holding[0](None)
        await until(lambda: length(redis) == pending(redis) == 0)


async def test_what_cannot_be_published_now_is_tried_again_and_holds_up_what_follows(redis: RedisServer) -> None:
    node = Node(redis, "n1", lease=60)
    node.backplane.outcome = lambda _: PeerFault(ErrorCode.UNAVAILABLE, "Not now.")
    async with reading(node):
        add(redis, type="first")
        await node.backplane.saw(2)
        add(redis, type="second")
        await until(lambda: node.ingress.trouble is not None)
        assert (length(redis), pending(redis)) == (2, 1)
        node.backplane.outcome = lambda _: None
        await until(lambda: length(redis) == pending(redis) == 0)
        await until(lambda: node.ingress.trouble is None)
    assert node.backplane.types == ["first"] * (len(node.backplane.types) - 1) + ["second"]
    assert len({publication.id for publication in node.backplane.publications}) == 2
    assert node.ingress.postponed >= 2


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (("data", "{}"), "missing_field"),
        (("json", "{}", "json", "{}"), "missing_field"),
        (("json", "no"), "bad_json"),
        (("json", "[]"), "not_an_object"),
        (("json", '{"type": "e"}'), "missing_field"),
        (("json", '{"target": {"user_id": "u1", "all": true}, "type": "e"}'), "bad_field"),
        (("json", '{"target": {"user_id": "u1"}, "type": "e", "data": [1]}'), "bad_field"),
    ],
)
async def test_what_can_never_be_published_is_put_aside(redis: RedisServer, fields: tuple[str, ...], code: str) -> None:
    node = Node(redis, "n1")
    async with reading(node):
        entry = added(redis, *fields)
        add(redis, type="good")
        await node.backplane.saw(1)
        await until(lambda: length(redis) == pending(redis) == 0)
    assert node.backplane.types == ["good"]
    assert (node.ingress.accepted, node.ingress.dead) == (1, 1)
    dead = redis.command("XRANGE", f"{STREAM}:dead", "-", "+")
    assert entry.encode() in dead
    assert f"\r\n{code}\r\n".encode() in dead


async def test_what_the_backplane_refuses_for_good_is_put_aside(redis: RedisServer) -> None:
    node = Node(redis, "n1")
    node.backplane.outcome = lambda _: PeerFault(ErrorCode.TOO_LARGE, "Too large.")
    async with reading(node):
        add(redis)
        await until(lambda: length(redis, f"{STREAM}:dead") == 1)
        await until(lambda: length(redis) == pending(redis) == 0)


async def test_what_is_put_aside_is_bounded(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "DEAD_KEPT", 3)
    monkeypatch.setattr(ingress, "SHOWN", 5)
    monkeypatch.setattr(ingress, "MAX_ENTRY", 100)
    node = Node(redis, "n1")
    for _ in range(10):
        added(redis, "json", "x" * 101)
    async with reading(node):
        await until(lambda: node.ingress.dead == 10 and length(redis) == 0)
    assert length(redis, f"{STREAM}:dead") == 3
    assert b"\r\ntoo_large\r\n" in (dead := redis.command("XRANGE", f"{STREAM}:dead", "-", "+"))
    assert b"\r\nxxxxx\r\n" in dead


async def test_another_node_takes_over_what_one_that_died_had_in_hand(redis: RedisServer) -> None:
    one, other = Node(redis, "n1"), Node(redis, "n2")
    one.backplane.hold()
    async with trio.open_nursery() as nursery:
        await nursery.start(one.run)
        entry = add(redis)
        await one.backplane.saw(1)
        one.scope.cancel()
        await nursery.start(other.run)
        await other.backplane.saw(1)
        await until(lambda: length(redis) == pending(redis) == 0)
        nursery.cancel_scope.cancel()
    # It may have been published by the one that died: with the same id, so once.
    assert [publication.id for node in (one, other) for publication in node.backplane.publications] == [
        f"ingress-{entry}"
    ] * 2
    assert other.ingress.taken_over == 1


async def test_a_node_that_hangs_settles_nothing_twice(redis: RedisServer) -> None:
    one, other = Node(redis, "n1", lease=60), Node(redis, "n2", lease=60)
    holding = one.backplane.hold()
    async with trio.open_nursery() as nursery:
        await nursery.start(one.run)
        entry = add(redis)
        await one.backplane.saw(1)
        # As if it had been in hand for ten minutes.
        redis.command("XCLAIM", STREAM, ingress.GROUP, "n1", "0", entry, "IDLE", "600000", "JUSTID")
        await nursery.start(other.run)
        await other.backplane.saw(1)
        await until(lambda: length(redis) == pending(redis) == 0)
        one.backplane.holding = None
        holding[0](None)
        for kind in "abcd":
            add(redis, type=kind)
        await until(lambda: length(redis) == pending(redis) == 0)
        nursery.cancel_scope.cancel()
    assert sorted(one.backplane.types + other.backplane.types) == ["a", "b", "c", "d", "e", "e"]
    assert (one.ingress.trouble, other.ingress.trouble) == (None, None)


async def test_a_node_of_the_same_name_goes_on_where_the_last_one_was(redis: RedisServer) -> None:
    first, second = Node(redis, "n1", lease=60), Node(redis, "n1", lease=60)
    first.backplane.hold()
    async with reading(first):
        add(redis)
        await first.backplane.saw(1)
    async with reading(second):
        await second.backplane.saw(1)
        await until(lambda: length(redis) == pending(redis) == 0)


async def test_each_entry_goes_to_one_node(redis: RedisServer) -> None:
    nodes = [Node(redis, f"n{number}", lease=60) for number in range(3)]
    async with reading(*nodes):
        for number in range(300):
            add(redis, type=str(number))
        await until(lambda: length(redis) == pending(redis) == 0)
    assert sorted(int(kind) for node in nodes for kind in node.backplane.types) == list(range(300))


@pytest.mark.parametrize("what", [("FLUSHALL",), ("DEL", STREAM), ("XGROUP", "DESTROY", STREAM, ingress.GROUP)])
async def test_reading_goes_on_after_somebody_deleted_stream_or_group(
    redis: RedisServer, what: tuple[str, ...]
) -> None:
    node = Node(redis, "n1")
    async with reading(node):
        add(redis)
        await node.backplane.saw(1)
        await until(lambda: length(redis) == 0)
        redis.command(*what)
        add(redis, type="after")
        await until(lambda: "after" in node.backplane.types)
        await until(lambda: length(redis) == pending(redis) == 0)


async def test_an_entry_that_was_trimmed_in_hand_holds_nothing_up(redis: RedisServer) -> None:
    node = Node(redis, "n1")
    node.backplane.outcome = lambda _: PeerFault(ErrorCode.UNAVAILABLE, "Not now.")
    async with reading(node):
        add(redis)
        await node.backplane.saw(1)
        redis.command("XTRIM", STREAM, "MAXLEN", "0")
        add(redis, type="after")
        node.backplane.outcome = lambda _: None
        await until(lambda: "after" in node.backplane.types)
        await until(lambda: length(redis) == pending(redis) == 0)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_after_an_outage_reading_goes_on(tmp_path: Path, how: str) -> None:
    with redis_server(tmp_path / "redis", aof=True) as redis:
        node = Node(redis, "n1")
        holding = node.backplane.hold()
        async with reading(node):
            entry = add(redis)
            await node.backplane.saw(1)
            if how == "killed":
                redis.kill()
            else:
                redis.stop()
            # Accepted, but that cannot be said: it is published again, under the same id.
            node.backplane.holding = None
            holding[0](None)
            await until(lambda: node.ingress.trouble is not None)
            if how == "killed":
                redis.start()
            else:
                redis.cont()
            add(redis, type="after")
            await until(lambda: "after" in node.backplane.types)
            await until(lambda: length(redis) == pending(redis) == 0)
            await until(lambda: node.ingress.trouble is None)
        assert {publication.id for publication in node.backplane.publications if publication.event.type == "e"} == {
            f"ingress-{entry}"
        }


async def test_a_stream_that_is_none_is_said_and_waited_for(redis: RedisServer) -> None:
    redis.command("SET", STREAM, "x")
    node = Node(redis, "n1")
    async with reading(node):
        await until(lambda: node.ingress.trouble is not None)
        assert "WRONGTYPE" in str(node.ingress.trouble)
        redis.command("DEL", STREAM)
        add(redis)
        await node.backplane.saw(1)


async def test_consumers_that_are_long_gone_are_forgotten(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Node(redis, "long-gone")
    async with reading(one):
        add(redis)
        await one.backplane.saw(1)
        await until(lambda: length(redis) == 0)
    assert b"long-gone" in redis.command("XINFO", "CONSUMERS", STREAM, ingress.GROUP)
    other = Node(redis, "n2")
    async with reading(other):
        await until(lambda: b"n2" in redis.command("XINFO", "CONSUMERS", STREAM, ingress.GROUP))
        assert b"long-gone" in redis.command("XINFO", "CONSUMERS", STREAM, ingress.GROUP)
        monkeypatch.setattr(ingress, "FORGOTTEN_AFTER", 2000)
        await until(lambda: b"long-gone" not in redis.command("XINFO", "CONSUMERS", STREAM, ingress.GROUP))
        assert b"n2" in redis.command("XINFO", "CONSUMERS", STREAM, ingress.GROUP)
