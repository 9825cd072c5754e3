"""The log of events over a real Redis: one `left` for each connection whatever becomes of a node, users over all nodes,
and an outbox that one node at a time delivers."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio

from service.backplane.redis.events import RedisEvents
from service.core.back_end_events import BackEndEvent
from service.observe import make_log
from service.redis.commands import Commands
from service.redis.faults import Unreachable
from service.redis.urls import read_url
from tests.backplane.redis_server import RedisServer, TcpProxy, guarded_redis, redis_server, tcp_proxy

LONG = 60.0
"""Seconds that are not over while a test runs, though the machine stand still."""
_prefixes = count(1)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def event(name: str, connection: str = "k1", user: str | None = "ann", **more: Any) -> BackEndEvent:
    body = json.dumps({"id": f"{connection}-{name}", "event": name, "user_id": user, "client_id": "c", **more})
    return BackEndEvent(f"{connection}-{name}", name, connection, user, "c", body.encode())


class Node:
    """One node's log, and what it has in hand of Redis."""

    def __init__(self, commands: Commands, prefix: str, name: str, **rules: Any) -> None:
        self.commands = commands
        self.prefix = prefix
        self.here: list[BackEndEvent] = []
        self.log = RedisEvents(
            commands.ask,
            prefix,
            **{"stream": 1000, "outbox": 1000, "offline_seconds": LONG, **rules},
            node=lambda: name,
            present=lambda: self.here,
        )
        self.log.begin(f"i-{name}")

    async def written(self) -> None:
        """Until all that was appended is in Redis."""
        while self.log.unwritten:  # noqa: ASYNC110 - what is awaited is a number
            await trio.sleep(0.01)

    async def told(self, count: int = 0) -> list[Any]:
        """The events in the stream, once there are so many."""
        with trio.fail_after(20):
            while True:
                answer = await self.commands.ask("XRANGE", f"{self.prefix}events", "-", "+")
                assert isinstance(answer, list)
                if len(answer) >= count:
                    return [json.loads(dict(zip(f[::2], f[1::2], strict=True))[b"json"]) for _, f in answer]
                await trio.sleep(0.02)

    async def names(self, count: int = 0) -> list[str]:
        return [one["event"] for one in await self.told(count)]


@asynccontextmanager
async def nodes(redis: RedisServer | TcpProxy, *names: str, **rules: Any) -> AsyncIterator[list[Node]]:
    prefix = f"t{next(_prefixes)}:"
    commands = Commands(read_url(redis.url), log=make_log("json", "error"))
    made = [Node(commands, prefix, name, **rules) for name in names]
    async with trio.open_nursery() as nursery:
        await nursery.start(commands.run)
        for one in made:
            nursery.start_soon(one.log.run)
        with trio.fail_after(60):
            yield made
        nursery.cancel_scope.cancel()


async def test_a_user_is_online_and_offline_over_all_nodes(redis: RedisServer) -> None:
    async with nodes(redis, "a", "b") as (a, b):
        a.log.append(event("registered", "k1"))
        await a.written()
        b.log.append(event("registered", "k2"))
        b.log.append(event("left", "k2"))
        await b.written()
        a.log.append(event("left", "k1"))
        await a.written()
        b.log.append(event("registered", "k3"))  # back in time
        await b.written()
        told = ["registered", "user_online", "registered", "left", "left", "registered"]
        assert await a.names() == told
        b.log._offline_ms = 200
        b.log.append(event("left", "k3"))
        assert await a.names(8) == [*told, "left", "user_offline"]
        offline = (await a.told())[-1]
        assert (offline["user_id"], set(offline)) == ("ann", {"id", "event", "timestamp", "node", "user_id"})


async def test_a_node_that_died_is_spoken_for_once_whoever_does(redis: RedisServer) -> None:
    async with nodes(redis, "dead", "b", "c", offline_seconds=0.2) as (dead, b, c):
        for number in range(250):
            dead.log.append(event("registered", f"k{number}", f"u{number}", channel_id="news"))
        dead.log.append(event("left", "k7", "u7"))  # this one it could still say
        await dead.written()
        async with trio.open_nursery() as nursery:
            for other in (b, c):
                nursery.start_soon(other.log.tell_left, "i-dead", "dead")
        lefts = [one for one in await b.told() if one["event"] == "left"]
        assert Counter(one["id"] for one in lefts) == Counter({one["id"]: 1 for one in lefts})
        assert len(lefts) == 250
        assert [one["reason"] for one in lefts if one["id"] == "k9-left"] == ["node_lost"]
        assert all(one.get("channel_id") == "news" for one in lefts if one["id"] != "k7-left")
        # Each of them was its user's last connection.
        told = Counter(await b.names(250 * 4))
        assert told == {"registered": 250, "user_online": 250, "left": 250, "user_offline": 250}


async def test_one_that_was_buried_comes_back_with_all_its_clients(redis: RedisServer) -> None:
    async with nodes(redis, "a", "b") as (a, b):
        a.here = [event("registered", "k1")]
        a.log.append(a.here[0])
        await a.written()
        await b.log.tell_left("i-a", "a")
        a.log.begin("i-a-again")
        await a.written()
        a.log.append(event("left", "k1"))
        assert await a.names(5) == ["registered", "user_online", "left", "registered", "left"]


async def test_a_redis_that_lost_everything_is_told_who_is_here(redis: RedisServer) -> None:
    async with nodes(redis, "a", offline_seconds=0.2) as (a,):
        a.here = [event("registered", "k1")]
        a.log.append(a.here[0])
        await a.written()
        await a.commands.ask("FLUSHALL")
        a.log.append(event("message", "k1"))
        a.log.append(event("left", "k1"))
        await a.written()
        assert (await a.names(3)) == ["message", "left", "user_offline"]


async def test_what_was_appended_twice_for_want_of_an_answer_counts_once(redis: RedisServer) -> None:
    async with nodes(redis, "a") as (a,):
        asked = a.log._ask
        lost = 0

        async def lose(*words: Any) -> object:
            nonlocal lost
            answer = await asked(*words)
            if words[0] in ("EVALSHA", "EVAL") and b"message" in words and lost < 3:
                lost += 1
                raise Unreachable("the answer was lost")
            return answer

        a.log._ask = lose
        for number in range(3):
            a.log.append(event("message", f"k{number}"))
        await a.written()
        assert await a.names() == ["message"] * 3


async def test_the_outbox_has_one_owner_and_another_takes_over(redis: RedisServer, monkeypatch: Any) -> None:
    monkeypatch.setattr("service.backplane.redis.events.OWN_SECONDS", LONG)
    async with nodes(redis, "a", "b", outbox=3) as (a, b):
        for number in range(5):
            a.log.append(event("message", f"k{number}", f"u{number}"))
        await a.written()
        assert a.log.dropped == 2
        await a.log.own()
        assert a.log.owned
        assert not await b.log._own()
        entries = await a.log.read("", 10)
        assert [entry.id for entry in entries] == ["k2-message", "k3-message", "k4-message"]
        assert [entry.order for entry in entries] == ["uu2", "uu3", "uu4"]
        await a.log.settle([entries[0].key])
        await a.log.bury(entries[1], "it was refused")
        monkeypatch.setattr("service.backplane.redis.events.OWN_SECONDS", 0.5)
        assert await a.log._own()
        await b.log.own()  # `a` doesn't keep it
        assert not a.log.owned
        assert [entry.id for entry in await b.log.read("", 10)] == ["k4-message"]
        dead = await b.commands.ask("XLEN", f"{b.prefix}events:dead")
        assert dead == 1


async def test_a_node_that_ends_speaks_for_itself(redis: RedisServer) -> None:
    async with nodes(redis, "a") as (a,):
        a.log.append(event("registered", "k1"))
        await a.log.finish()
        assert (await a.names())[-1] == "left"
        assert (await a.told())[-1]["reason"] == "the node ended"


async def test_what_a_promoted_replica_never_had_is_counted_and_the_rest_is_in_order(tmp_path: Path) -> None:
    with guarded_redis(tmp_path, sentinels=0, aof=True) as pair:
        async with tcp_proxy(pair.master.port) as proxy, nodes(proxy, "a") as (a,):
            for number in range(3):
                a.log.append(event("message", f"k{number}"))
            await a.written()
            key = f"{a.prefix}events:outbox"
            while pair.replica.command("XLEN", key) != b":3\r\n":  # noqa: ASYNC110 - another process
                await trio.sleep(0.02)
            pair.replica.command("REPLICAOF", "NO", "ONE")
            for number in (3, 4):
                a.log.append(event("message", f"k{number}"))
            await a.written()
            pair.master.kill()
            proxy.target = pair.replica.port
            proxy.cut()
            for number in (5, 6):
                a.log.append(event("message", f"k{number}"))
            await a.written()
            assert [one["id"] for one in await a.told(5)] == [f"k{n}-message" for n in (0, 1, 2, 5, 6)]
            assert [one.id for one in await a.log.read("", 10)] == [f"k{n}-message" for n in (0, 1, 2, 5, 6)]
            assert a.log.dropped == 2
