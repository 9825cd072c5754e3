"""Nodes that share a real Redis: the contract."""

import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
import trio

from service.backplane.redis.plane import RedisBackplane, SharedRules
from service.observe import make_log
from service.redis.address import Connector
from service.redis.cluster import Cluster, tagged
from service.redis.urls import read_url

from ..contract import LENGTH, PATIENT, TTL, BackplaneContract, Node, Scene
from ..redis_server import RedisServer, redis_server

_made = count()


class RedisNode(Node):
    """A node whose backplane is one over Redis."""

    plane: RedisBackplane

    async def ready(self) -> None:
        """Wait until it is joined to the others."""
        with trio.fail_after(PATIENT):
            while self.plane.trouble is not None:  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.01)

    async def until_true(self, holds: Callable[[], bool]) -> None:
        """Wait for something that nobody is told."""
        with trio.fail_after(PATIENT):
            while not holds():  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.01)


@asynccontextmanager
async def node(
    url: str,
    name: str,
    prefix: str = "portico:",
    length: int = LENGTH,
    ttl: float = TTL,
    lease: float = 10.0,
    said: io.StringIO | None = None,
    **settings: str,
) -> AsyncIterator[RedisNode]:
    """One node, joined to the others where Redis is there."""
    way: Connector = read_url(url)
    if sharded := isinstance(way, Cluster):
        prefix = tagged(prefix)
        way = way.under(prefix)
    plane = RedisBackplane(
        way,
        SharedRules(prefix=prefix, length=length, ttl=ttl, lease=lease, settings=settings),
        node=name,
        sharded=sharded,
        make_id=lambda: f"made-{next(_made)}",
        log=make_log("json", "critical") if said is None else make_log("json", "debug", said),
    )
    one = RedisNode(plane)
    async with trio.open_nursery() as nursery:
        await nursery.start(plane.run)
        yield one
        nursery.cancel_scope.cancel()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


async def pass_time(seconds: float) -> None:
    # Redis' clock is nobody's to turn.
    await trio.sleep(seconds + 0.05)


class TestRedis(BackplaneContract):
    """Three nodes that share one."""

    @pytest.fixture
    async def scene(self, redis: RedisServer) -> AsyncIterator[Scene]:
        async with AsyncExitStack() as stack:
            a, b, c = [await stack.enter_async_context(node(redis.url, name)) for name in "abc"]
            for one in (a, b, c):
                await one.ready()
            yield Scene(a, b, c, pass_time)
