"""What endangers a deployment is said before it does harm; and a Redis that is full harms as little as can be."""

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.backplane.redis.checks import Checks, examine
from service.backplane.redis.names import Names
from service.redis.urls import read_url

from ..contract import ANN, BOB, event
from ..redis_server import MASTER, RedisServer, guarded_redis, redis_server
from .test_plane import RedisNode, node
from .test_plane_adversity import ready

RULES = ("~portico:*", "&portico:*", "&notifications:*", "+@all", "-@admin", "-@dangerous", "+info")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis", aof=True) as server:
        yield server


def as_user(redis: RedisServer, *rules: str) -> str:
    """The URL of a user with these rights."""
    answer = redis.command("ACL", "SETUSER", "gateway", "reset", "on", ">s3cret", *rules)
    assert answer == b"+OK\r\n", answer
    return f"redis://gateway:s3cret@127.0.0.1:{redis.port}/0"


LONG: Final = 30.0
"""Seconds of a lease that no machine stands still for."""


async def renewed(redis: RedisServer, *nodes: RedisNode) -> None:
    """Wait until the lease of each node has been seen renewed, and it is ready; its renewal is never refused. It is
    renewed as soon as there is something new to say of the node."""
    lasts: dict[str, list[int]] = {}
    for one in nodes:
        [state] = [state for state in one.plane.nodes() if state.node == one.plane.node]
        one.plane.announce(state._replace(load=state.load + 1))
        lasts[one.plane.node] = []

    def are_renewed() -> bool:
        for one in nodes:
            assert "OOM" not in str(one.plane.trouble)
        for name, seen in lasts.items():
            seen.append(int(redis.command("PTTL", f"portico:node:{name}")[1:]))
        # Left alone, it only falls.
        return all(any(later > earlier for earlier, later in pairwise(seen)) for seen in lasts.values())

    await nodes[0].until_true(are_renewed)
    await ready(*nodes)


async def said_of(url: str) -> str:
    return " ".join(await examine(read_url(url), Names("portico:")))


class TestRights:
    """What Redis's user may do."""

    async def test_the_rights_that_are_documented_are_enough(self, redis: RedisServer) -> None:
        url = as_user(redis, *RULES)
        assert await said_of(url) == ""
        async with node(url, "a") as a, node(url, "b") as b:
            await ready(a, b)
            client = await a.join(ANN)
            await b.publish(ANN, event(1), durable=True, id="one")
            assert client.numbers == [1]
            await a.until_true(lambda: a.plane.checks.most == 0 and a.plane.checks.used > 0)
            assert a.plane.trouble is None

    @pytest.mark.parametrize(
        ("rules", "names"),
        [
            (("-xadd", "-hset"), ["HSET", "XADD"]),
            (("-publish",), ["PUBLISH"]),
            (("resetchannels", "&portico:*"), ["SUBSCRIBE to &notifications:*"]),
            (("resetchannels", "&notifications:*"), ["PUBLISH", "SUBSCRIBE to &portico:@0:*"]),
            (("-info",), ["INFO"]),
        ],
    )
    @pytest.mark.shows(", and names what is missing in one sentence")
    async def test_what_is_missing_is_named_in_one_sentence(
        self, redis: RedisServer, rules: tuple[str, ...], names: list[str]
    ) -> None:
        url = as_user(redis, *RULES, *rules)
        [sentence, *_] = await examine(read_url(url), Names("portico:"))
        assert sentence == (
            f"Redis's user lacks rights: {', '.join(names)}; what it needs is in docs/how-to/deploy-split.md, under "
            "Redis's rights."
        )

    @pytest.mark.shows("the node is not ready", "looked at from the start")
    async def test_a_node_without_them_is_not_ready_and_says_why(self, redis: RedisServer) -> None:
        said = io.StringIO()
        url = as_user(redis, *RULES, "resetchannels", "&portico:*")
        async with node(url, "a", said=said) as a:
            await a.until_true(lambda: "&notifications:*" in str(a.plane.trouble))
            # It hears everything else; and when the right is given, it is well.
            as_user(redis, *RULES)
            await a.until_true(lambda: a.plane.trouble is None)
        assert "s3cret" not in said.getvalue()
        assert said.getvalue().count("lacks rights") == 1

    def test_the_rights_are_those_of_the_documentation(self) -> None:
        page = (Path(__file__).parents[3] / "docs/how-to/deploy-split.md").read_text()
        assert " ".join(RULES) in page


class TestDangers:
    """A Redis that may lose what it has accepted."""

    async def test_a_redis_as_it_should_be_is_not_warned_of(self, redis: RedisServer) -> None:
        assert await said_of(redis.url) == ""

    @pytest.mark.parametrize(
        ("setting", "value", "words"),
        [
            ("maxmemory-policy", "volatile-lru", "maxmemory-policy is volatile-lru"),
            ("maxmemory-policy", "allkeys-lru", "and revocations, which then hold only"),
            ("appendonly", "no", "no append-only file"),
            ("maxmemory", "1", "nearly full"),
        ],
    )
    async def test_a_danger_is_named(self, redis: RedisServer, setting: str, value: str, words: str) -> None:
        redis.command("CONFIG", "SET", setting, value)
        assert words in await said_of(redis.url)

    async def test_keys_that_are_thrown_away_are_counted_and_said_each_time(self, redis: RedisServer) -> None:
        checks = Checks(read_url(redis.url), Names("portico:"))
        await checks.look()
        redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        for _ in range(2):
            before = checks.evicted
            redis.command("SET", "x", "y")
            redis.command("CONFIG", "SET", "maxmemory", "1")
            await checks.look()
            assert checks.evicted > before
            assert any("evicted_keys grows" in warning for warning in checks.warnings)
            redis.command("CONFIG", "SET", "maxmemory", "0")
            await checks.look()
            assert not any("evicted_keys grows" in warning for warning in checks.warnings)

    async def test_a_master_that_may_be_replaced_wants_replicas(self, tmp_path: Path) -> None:
        with guarded_redis(tmp_path, aof=True) as guarded:
            assert MASTER in guarded.url
            assert "min-replicas-to-write" in await said_of(guarded.url)
            guarded.master.command("CONFIG", "SET", "min-replicas-to-write", "1")
            assert "min-replicas-to-write" not in await said_of(guarded.url)

    async def test_that_redis_is_away_is_said(self, redis: RedisServer) -> None:
        url = redis.url
        redis.kill()
        assert "cannot be used" in await said_of(url)


class TestFull:
    """A Redis that refuses to write."""

    @pytest.mark.shows("nodes stay ready, live pushes work, durable ones get 503", "as long as it is full")
    async def test_nodes_stay_ready_and_live_pushes_work(self, redis: RedisServer) -> None:
        async with node(redis.url, "a", lease=LONG) as a, node(redis.url, "b", lease=LONG) as b:
            await ready(a, b)
            client = await a.join(ANN)
            await a.publish(ANN, event(0), durable=True)
            redis.command("CONFIG", "SET", "maxmemory", "1")
            for round_ in range(3):
                await renewed(redis, a, b)
                for _ in range(10):
                    await b.publish(ANN, event(1))
                assert client.numbers == [0] + [1] * 10 * (round_ + 1)
            assert {state.node for state in a.plane.nodes()} == {"a", "b"}
            for fresh in (ANN, BOB):
                with pytest.raises(PeerFault) as refused:
                    await b.publish(fresh, event(2), durable=True)
                assert refused.value.code is ErrorCode.UNAVAILABLE
                assert "OOM" in refused.value.message
            # Nodes come and go, and connections are made anew.
            redis.command("CLIENT", "KILL", "TYPE", "normal")
            async with node(redis.url, "c", lease=LONG) as c:
                await ready(a, b, c)
                await renewed(redis, a, b, c)
                other = await c.join(ANN)
                await b.until_true(lambda: "c" in {state.node for state in b.plane.nodes()})
                assert (await b.publish(ANN, event(3))).matched == 2
                assert other.numbers == [3]
            redis.command("CONFIG", "SET", "maxmemory", "0")
            await b.publish(ANN, event(4), durable=True)
            assert client.numbers[-2:] == [3, 4]
            assert a.lost_targets == b.lost_targets == []

    @pytest.mark.shows("and nothing of them was done")
    async def test_what_was_refused_has_left_nothing_behind(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(ANN, BOB)
            client.leave()
            await a.publish(ANN, event(0), durable=True)
            redis.command("CONFIG", "SET", "maxmemory", "1")
            for target in (ANN, BOB):
                for publication_id in (None, "one"):
                    with pytest.raises(PeerFault):
                        await a.publish(target, event(1), durable=True, id=publication_id)
            redis.command("CONFIG", "SET", "maxmemory", "0")
            returned = await a.join(ANN, BOB, resume=client.resume())
            assert (returned.at.recovered, returned.numbers) == (True, [0])
            assert (await a.publish(ANN, event(2), durable=True, id="one")).repeated is False
