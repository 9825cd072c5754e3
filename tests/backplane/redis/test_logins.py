"""Login sessions in a real Redis: the contract, and what an outage does."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from portico.wire.faults import PeerFault
from service.backplane.redis.logins import RedisLoginStore
from service.core.cluster.backplane import PATIENCE
from service.core.reply import Reply

from ..login_contract import LoginContract, Scene, answer, login, said
from ..redis_server import RedisServer, redis_server
from .links import link


@asynccontextmanager
async def stores(redis: RedisServer, count: int) -> AsyncIterator[list[RedisLoginStore]]:
    """So many nodes' stores."""
    links = [link(redis.url) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for each in links:
            await nursery.start(each.run)
        yield [RedisLoginStore(each.send, "test:") for each in links]
        nursery.cancel_scope.cancel()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


def keys(redis: RedisServer) -> bytes:
    return redis.command("KEYS", "*")


class TestRedisLogins(LoginContract):
    """Two nodes that share a Redis."""

    @pytest.fixture
    async def scene(self, redis: RedisServer) -> AsyncIterator[Scene]:
        async def pass_time(seconds: float) -> None:
            # Redis' clock is nobody's to turn.
            await trio.sleep(seconds)

        async with stores(redis, 2) as (one, other):
            yield Scene(one, other, pass_time)


async def test_nothing_is_left_behind_and_nothing_is_outside_the_prefix(redis: RedisServer) -> None:
    async with stores(redis, 1) as (store,):
        await answer(store.start, login("s1"), 60.0)
        await answer(store.start, login("s2"), 0.001)
        await answer(store.report, "u1", "s2", said())
        names = keys(redis)
        assert names.count(b"test:login") == names.count(b"\r\n$") > 0
        await answer(store.end, "s1")
        await trio.sleep(0.01)
        assert [found.session_id for found in await answer(store.expired)] == ["s2"]
        assert keys(redis) == b"*0\r\n"


async def test_many_that_end_at_once_on_two_nodes_are_given_out_once(redis: RedisServer) -> None:
    async with stores(redis, 2) as (one, other):
        for number in range(250):
            one.start(login(f"s{number}"), 0.001, Reply(lambda _: None))
        await answer(one.get, "s0")
        await trio.sleep(0.01)
        claimed: list[str] = []

        async def claim(store: RedisLoginStore) -> None:
            while found := await answer(store.expired):
                claimed.extend(login.session_id for login in found)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(claim, one)
            nursery.start_soon(claim, other)
        assert len(claimed) == len(set(claimed)) == 250


async def test_a_login_of_anothers_costs_redis_what_none_does(redis: RedisServer) -> None:
    """Who reports on one that isn't her user's learns from no time whether it is there."""

    async def calls(session_id: str) -> dict[str, str]:
        redis.command("CONFIG", "RESETSTAT")
        assert await answer(store.report, "u2", session_id, said()) is None
        found = re.findall(r"cmdstat_(\w+):calls=(\d+)", redis.command("INFO", "commandstats").decode())
        return {name: count for name, count in found if name in ("hget", "zscore", "zrange", "rpush", "ltrim")}

    async with stores(redis, 1) as (store,):
        await answer(store.start, login("s1"), 60.0)
        assert await calls("s1") == await calls("s2") == {"zscore": "1"}


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_what_cannot_be_asked_is_refused_in_time(redis: RedisServer, how: str) -> None:
    async with stores(redis, 1) as (store,):
        await answer(store.start, login("s1"), 60.0)
        if how == "killed":
            redis.kill()
        else:
            redis.stop()
        asks = [
            lambda done: store.start(login("s2"), 60.0, done),
            lambda done: store.get("s1", done),
            lambda done: store.current("u1", done),
            lambda done: store.of_user("u1", done),
            lambda done: store.end("s1", done),
            lambda done: store.report("u1", None, said(), done),
            store.expired,
        ]
        began = trio.current_time()
        refused = 0
        async with trio.open_nursery() as nursery:

            async def expect_refusal(ask: object) -> None:
                nonlocal refused
                with pytest.raises(PeerFault) as caught:
                    await answer(ask)  # type: ignore[arg-type]
                assert caught.value.code == "unavailable"
                refused += 1

            for ask in asks:
                nursery.start_soon(expect_refusal, ask)
        assert refused == len(asks)
        assert trio.current_time() - began < PATIENCE + 10


async def test_after_a_restart_with_a_log_the_sessions_are_there(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", aof=True) as redis:
        async with stores(redis, 1) as (store,):
            await answer(store.start, login("s1"), 60.0)
            redis.kill()
            redis.start()
            with trio.fail_after(10):
                while True:
                    try:
                        assert (await answer(store.get, "s1")).session_id == "s1"
                        break
                    except PeerFault:
                        await trio.sleep(0.05)


async def test_what_another_program_wrote_hides_no_other_session(redis: RedisServer) -> None:
    async with stores(redis, 1) as (store,):
        await answer(store.start, login("good"), 0.001)
        await answer(store.start, login("bad"), 0.001)
        redis.command("HSET", "test:login:bad", "login", '{"session_id": 5}')
        assert [found.session_id for found in await answer(store.of_user, "u1")] == ["good"]
        with pytest.raises(PeerFault) as caught:
            await answer(store.get, "bad")
        assert caught.value.code == "internal"
        await trio.sleep(0.01)
        assert [found.session_id for found in await answer(store.expired)] == ["good"]
        assert keys(redis) == b"*0\r\n"


async def test_a_session_that_nobody_would_see_expire_is_none(redis: RedisServer) -> None:
    """A Redis that evicts may throw away the index by which sessions expire: what it doesn't know is over."""
    async with stores(redis, 1) as (store,):
        await answer(store.start, login("s1"), 60.0)
        redis.command("DEL", "test:logins")
        assert await answer(store.current, "u1") is None
        assert await answer(store.get, "s1") is None
        assert await answer(store.of_user, "u1") == []
        assert await answer(store.report, "u1", "s1", said()) is None
        # Who ends it is told of it all the same, and so are its user's clients.
        ended = await answer(store.end, "s1")
        assert ended.session_id == "s1"
        assert keys(redis) == b"*0\r\n"
