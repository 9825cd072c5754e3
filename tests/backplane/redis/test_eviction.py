"""A Redis that throws anything away when it is full (`allkeys-lru`): who came and who went stays true, whatever goes.

The pressure is real: other programs' keys fill it, and it chooses what goes. What lies untouched for longest goes
first, so that is what stands for whom nothing happens: users who are connected, and do nothing.
"""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import count

import pytest
import trio

from service.core.back_end_events import BackEndEvent
from tests.backplane.redis_server import RedisServer, redis_server

from ..login_contract import answer
from .test_events import Node, event, nodes
from .test_revocations import nodes as revoking
from .test_revocations import taken_back

USERS = 40
LONG = 3600.0
"""Seconds after which nobody becomes offline in a test."""
_fillers = count(1)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("redis")
    with redis_server(folder, maxmemory_policy="allkeys-lru", maxmemory_samples=64) as server:
        yield server


def used(redis: RedisServer) -> int:
    for line in redis.command("INFO", "memory").split(b"\r\n"):
        if line.startswith(b"used_memory:"):
            return int(line.partition(b":")[2])
    raise AssertionError("it doesn't say")


def evicted(redis: RedisServer) -> int:
    for line in redis.command("INFO", "stats").split(b"\r\n"):
        if line.startswith(b"evicted_keys:"):
            return int(line.partition(b":")[2])
    raise AssertionError("it doesn't say")


def press(redis: RedisServer, keys: int) -> None:
    """Have it throw away so many keys and more: those that nobody has touched for longest."""
    before = evicted(redis)
    redis.command("CONFIG", "SET", "maxmemory", str(used(redis) + 50_000))
    while evicted(redis) - before < keys:
        redis.command("SET", f"filler:{next(_fillers)}", "x" * 20_000)
    redis.command("CONFIG", "SET", "maxmemory", "0")


def soon(*made: Node) -> None:
    """From now on users are offline soon after they have left."""
    for node in made:
        node.log._offline_ms = 100


def crowd(node: Node, name: str) -> list[BackEndEvent]:
    """Registers USERS connections, of a user each, at a node."""
    came = [event("registered", f"{name}{number}", f"u{number}") for number in range(USERS)]
    node.here += came
    for one in came:
        node.log.append(one)
    return came


def leave(node: Node, name: str, numbers: range) -> None:
    for number in numbers:
        node.here = [one for one in node.here if one.connection != f"{name}{number}"]
        node.log.append(event("left", f"{name}{number}", f"u{number}"))


class Reader:
    """A back end that has read the stream all the time: of what it has read nothing is thrown away."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.read: set[str] = set()  # the ids
        self.events: list[dict[str, str]] = []
        self.names: Counter[str] = Counter()

    async def look(self) -> None:
        for one in await self._node.told():
            if one["id"] not in self.read:
                self.read.add(one["id"])
                self.events.append(one)
                self.names[one["event"]] += 1

    async def until(self, **counts: int) -> None:
        """Until so many of these were told, and a moment later it is not one more."""
        with trio.fail_after(20):
            while any(self.names[name] < count for name, count in counts.items()):
                await trio.sleep(0.02)
                await self.look()
        await trio.sleep(0.6)
        await self.look()
        assert {name: self.names[name] for name in counts} == counts


async def test_who_left_and_who_is_offline_is_told_once_whatever_was_thrown_away(redis: RedisServer) -> None:
    async with nodes(redis, "a", "b", offline_seconds=LONG) as (a, b):
        reader = Reader(a)
        crowd(a, "a")
        await a.written()
        crowd(b, "b")
        await b.written()
        await reader.look()
        # The clock by which Redis tells what was touched lately goes by seconds.
        await trio.sleep(2.1)
        press(redis, 4)
        leave(a, "a", range(USERS))
        await a.written()
        await reader.until(left=USERS, user_offline=0)
        press(redis, 4)
        soon(a, b)
        leave(b, "b", range(USERS))
        await b.written()
        await reader.until(registered=2 * USERS, user_online=USERS, left=2 * USERS, user_offline=USERS)


KEYS = ("events:here:i-a", "events:users", "events:offline", "events:at:i-a")


async def test_any_key_that_goes_is_noticed_by_nodes_that_say_nothing(redis: RedisServer) -> None:
    async with trio.open_nursery() as nursery:
        for gone in (*((key,) for key in KEYS), KEYS[:2], KEYS[1:3], KEYS):
            nursery.start_soon(goes, redis, gone)


async def whole(node: Node) -> bool:
    """Whether all is there that was, of everybody but the first."""
    ask, prefix = node.commands.ask, node.prefix
    here = await ask("HLEN", f"{prefix}events:here:i-a")
    counted = await ask("HGET", f"{prefix}events:users", f"uu{USERS - 1}")
    marker = await ask("ZSCORE", f"{prefix}events:offline", "")
    return here == USERS - 1 and bool(counted) and bool(marker)


async def goes(redis: RedisServer, gone: tuple[str, ...]) -> None:
    """These keys go while a user is about to be offline; what is told afterwards is what is told if none do."""
    async with nodes(redis, "a", "b", offline_seconds=LONG) as (a, b):
        ask, prefix = a.commands.ask, a.prefix
        crowd(a, "a")
        await a.written()
        leave(a, "a", range(1))
        await a.written()
        assert await ask("DEL", *(f"{prefix}{key}" for key in gone)) == len(gone)
        with trio.fail_after(20):
            while not await whole(a):  # noqa: ASYNC110 - another process
                await trio.sleep(0.02)
        soon(a, b)
        await ask("ZADD", f"{prefix}events:offline", "XX", 1, "u0")
        b.log.append(event("registered", "b1", "u1"))
        b.log.append(event("left", "b1", "u1"))
        b.log.append(event("registered", "b2", "u2"))
        await b.written()
        leave(a, "a", range(1, USERS))
        lost = "events:users" in gone and "events:offline" in gone  # nobody knows who was to be offline soon
        reader = Reader(a)
        await reader.until(left=USERS + 1, user_offline=USERS - 1 - lost, user_online=USERS)
        whose = Counter(one["user_id"] for one in reader.events if one["event"] == "user_offline")
        assert set(whose.values()) == {1}
        assert "u2" not in whose, "she is at the other node"


async def test_a_node_that_died_is_spoken_for_though_who_is_connected_was_thrown_away(redis: RedisServer) -> None:
    async with nodes(redis, "dead", "b", offline_seconds=1.0) as (dead, b):
        crowd(dead, "d")
        await dead.written()
        b.log.append(event("registered", "b1", "u1"))
        b.here = [event("registered", "b1", "u1")]
        await b.written()
        await b.commands.ask("DEL", f"{b.prefix}events:users")
        await b.log.tell_left("i-dead", "dead")
        await Reader(b).until(left=USERS, user_offline=USERS - 1)


async def test_what_was_taken_back_stays_so_however_full_redis_gets(redis: RedisServer) -> None:
    """It is asked for all the time, so other programs' keys go first."""
    async with revoking(redis, 2) as (one, other):
        for name in ("ann", "bob"):
            assert await answer(one.store.add, taken_back(name)) is None
        await trio.sleep(2.1)
        press(redis, 20)
        async with revoking(redis, 1) as (later,):
            for node in (one, other, later):
                await node.until(lambda node=node: {held.value for held in node.index} == {"ann", "bob"})  # type: ignore[misc]  # bound at once


async def test_what_waited_and_was_thrown_away_is_counted(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.backplane.redis.events.OWN_SECONDS", 0.5)
    async with nodes(redis, "a") as (a,):
        for number in range(5):
            a.log.append(event("message", f"k{number}"))
        await a.written()
        await a.log.own()
        assert a.log.waiting == 5
        await a.commands.ask("DEL", f"{a.prefix}events:outbox")
        await trio.sleep(0.6)
        await a.log.own()
        assert (a.log.dropped, a.log.waiting) == (5, 0)
        a.log.append(event("message", "k9"))
        await a.written()
        assert [json.loads(one.body)["id"] for one in await a.log.read("", 10)] == ["k9-message"]
        await trio.sleep(0.6)
        await a.log.own()
        assert (a.log.dropped, a.log.waiting) == (5, 1)
