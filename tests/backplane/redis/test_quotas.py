"""Quotas of two nodes over a real Redis: what both know, and what they do while it is away."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from service.backplane.quota_settling import QuotaSettling
from service.backplane.redis.quotas import RedisQuotas
from service.core.connections.session import Session
from service.core.quotas import Quota, Quotas, Who
from service.observe import make_log
from tests.fakes import ManualClock, stage

from ..redis_server import RedisServer, redis_server
from .links import link

ANN = Who("192.0.2.1", "ann", "shop")
LOG = make_log("json", "critical")
QUOTAS = (Quota("messages", "user", 10), Quota("connections", "tenant", 3))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("quotas")) as server:
        yield server


class Node:
    """A node's quotas; `closed` are the sessions that it had to close."""

    def __init__(self, name: str, redis: RedisServer, prefix: str) -> None:
        self.clock = ManualClock()
        self.commands = link(redis.url)
        self.quotas = Quotas(QUOTAS, self.clock.now)
        self.closed: list[Session] = []
        settle = RedisQuotas(self.commands.ask, prefix, lambda: name).settle
        self.settling = QuotaSettling(self.quotas, settle, self.closed.append, LOG)


@asynccontextmanager
async def nodes(redis: RedisServer, prefix: str) -> AsyncIterator[tuple[Node, Node]]:
    one, other = Node("one", redis, prefix), Node("other", redis, prefix)
    async with trio.open_nursery() as nursery:
        for node in (one, other):
            nursery.start_soon(node.commands.run)
        with trio.fail_after(20):
            await settled(one)
            await settled(other)
            yield one, other
        nursery.cancel_scope.cancel()


async def settled(node: Node) -> None:
    """Until it has been told of something, and heard."""
    while True:
        node.quotas.take("messages", Who(user="somebody"))
        await node.settling.settle()
        if not node.quotas.alone:
            return
        await trio.sleep(0.02)


async def test_a_rate_is_everybody_s(redis: RedisServer) -> None:
    async with nodes(redis, "rate:") as (one, other):
        for _ in range(20):
            assert one.quotas.take("messages", ANN) == 0.0
        await one.settling.settle()
        assert other.quotas.take("messages", ANN) == 0.0
        await other.settling.settle()
        # Redis' clock has gone on by what all this took; ours stands still.
        while other.quotas.take("messages", ANN) == 0.0:
            await other.settling.settle()
        assert other.quotas.take("messages", ANN) > 0.0


async def test_connections_are_everybody_s(redis: RedisServer) -> None:
    async with nodes(redis, "open:") as (one, other):
        here = [stage().connect()[0] for _ in range(2)]
        there = [stage().connect()[0] for _ in range(2)]
        assert all(one.quotas.opened(session, ANN) for session in here)
        assert all(other.quotas.opened(session, ANN) for session in there)
        await one.settling.settle()
        await other.settling.settle()
        assert (one.closed, other.closed) == ([], there[1:]), "who came last goes, where that was found out"
        other.quotas.closed(there[1], ANN)
        await other.settling.settle()
        assert not other.quotas.has_room(ANN)
        one.quotas.closed(here[0], ANN)
        await one.settling.settle()
        # Every node says again now and then what it has, and hears what the others have.
        other.clock.move(5.1)
        await other.settling.settle()
        assert other.quotas.has_room(ANN)


async def test_without_redis_each_node_is_on_its_own_and_says_so(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as redis:
        async with nodes(redis, "away:") as (one, other):
            redis.kill()
            for _ in range(20):
                one.quotas.take("messages", ANN)
            await one.settling.settle()
            assert {metric.name: metric.value for metric in one.settling.metrics()}["quotas_alone"] == 1
            assert one.quotas.take("messages", ANN) > 0.0
            assert other.quotas.take("messages", ANN) == 0.0
            redis.start()
            await settled(one)
            await settled(other)
            assert {metric.name: metric.value for metric in one.settling.metrics()}["quotas_alone"] == 0
