"""Revocations in a real Redis: two nodes, restarts, outages, and a Redis that has lost them."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from portico.wire.faults import PeerFault
from service.backplane.redis import revocations
from service.backplane.redis.revocations import RedisRevocations
from service.core.proof import Proof
from service.core.revocations import Revocation, RevocationIndex

from ..login_contract import answer
from ..redis_server import RedisServer, guarded_redis, redis_server, tcp_proxy
from .links import link
from .test_plane import node as plane_node

FAR = 4e9
PATIENT = 20.0


class Node:
    """What one node knows."""

    def __init__(self, store: RedisRevocations) -> None:
        self.store = store
        self.index = RevocationIndex()
        self.told = 0
        self._heard = trio.Event()
        store.attach(self)

    def on_revoked(self, revocations: list[Revocation]) -> None:
        for one in revocations:
            self.told += self.index.add(one)
        self._heard.set()
        self._heard = trio.Event()

    def known(self) -> list[Revocation]:
        return list(self.index)

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENT):
            while not condition():
                await self._heard.wait()


def taken_back(name: str, expires_at: float = FAR, at: float = 1.5) -> Revocation:
    return Revocation("user_id", name, None, at, expires_at)


@asynccontextmanager
async def nodes(redis: RedisServer, count: int, walls: Sequence[Callable[[], float]] = ()) -> AsyncIterator[list[Node]]:
    links = [link(redis.url) for _ in range(count)]
    made = [
        Node(RedisRevocations(each.send, each.ask, "test:", wall=wall))
        for each, wall in zip(links, walls or [time.time] * count, strict=True)
    ]
    async with trio.open_nursery() as nursery:
        for each in links:
            await nursery.start(each.run)
        for node in made:
            nursery.start_soon(node.store.run)
        for node in made:
            await node.until(lambda node=node: node.store.trouble is None)  # type: ignore[misc]  # bound at once
        yield made
        nursery.cancel_scope.cancel()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


async def test_every_node_hears_of_it_with_and_without_a_hint_and_a_new_one_reads_all(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "PAGE", 2)
    async with nodes(redis, 2) as (one, other):
        for name in ("ann", "bob", "cleo"):
            assert await answer(one.store.add, taken_back(name)) is None
        await other.until(lambda: len(other.index) == 3)
        monkeypatch.setattr(revocations, "INTERVAL", 1000.0)
        await answer(one.store.add, taken_back("dora"))
        other.store.look()
        await other.until(lambda: len(other.index) == 4)
        # What is changed is read again, and what is read again is told once.
        await answer(one.store.add, taken_back("ann", FAR + 1))
        other.store.look()
        await other.until(lambda: taken_back("ann", FAR + 1) in list(other.index))
        assert other.told == 5
    monkeypatch.undo()
    async with nodes(redis, 1) as (later,):
        await later.until(lambda: {one.value for one in later.index} == {"ann", "bob", "cleo", "dora"})


async def test_what_is_over_leaves_redis(redis: RedisServer) -> None:
    async with nodes(redis, 1) as (one,):
        await answer(one.store.add, taken_back("ann", 5.0))
        await answer(one.store.add, taken_back("bob"))
        assert redis.command("ZRANGE", "test:revocations:order", "0", "-1").count(b"user_id") == 1
        assert redis.command("HKEYS", "test:revocations").count(b"user_id") == 1


@pytest.mark.shows("it holds at every node for its `ttl`", "at one whose clock is behind for longer")
@pytest.mark.parametrize("ahead", [(0, 300), (-300, 0), (300, -300)])
async def test_none_is_over_too_soon_where_clocks_are_minutes_apart(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, ahead: tuple[float, float]
) -> None:
    """A revocation of a minute holds for a minute, by the clock of each node."""
    monkeypatch.setattr(revocations, "INTERVAL", 0.02)

    def clock(ahead: float) -> Callable[[], float]:
        return lambda: time.time() + ahead

    here, there = (clock(one) for one in ahead)
    async with nodes(redis, 2, (here, there)) as (one, other):
        at = here()
        await answer(one.store.add, taken_back("ann", at + 60, at))
        for node, wall in ((one, here), (other, there)):
            await node.until(lambda node=node: len(node.index) == 1)  # type: ignore[misc]  # bound at once
            [known] = node.index
            assert known.expires_at > wall() + 25  # not less than half a minute, however slow the machine is
        # A Redis that has lost it is told how long it still holds.
        redis.command("FLUSHALL")
        async with nodes(redis, 1, (there,)) as (later,):
            await later.until(lambda: len(later.index) == 1)
            assert next(iter(later.index)).expires_at > there() + 25


async def test_there_is_a_limit_over_all_nodes(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "LIMIT", 1)
    async with nodes(redis, 2) as (one, other):
        assert await answer(one.store.add, taken_back("ann")) is None
        with pytest.raises(PeerFault) as caught:
            await answer(other.store.add, taken_back("bob"))
        assert caught.value.code == "unavailable"
        assert await answer(other.store.add, taken_back("ann", FAR + 1)) is None


async def test_without_redis_what_is_known_holds_and_nothing_can_be_taken_back(redis: RedisServer) -> None:
    async with nodes(redis, 1) as (one,):
        await answer(one.store.add, taken_back("ann"))
        await one.until(lambda: len(one.index) == 1)
        redis.stop()
        with pytest.raises(PeerFault) as caught:
            await answer(one.store.add, taken_back("bob"))
        assert caught.value.code == "unavailable"
        assert len(one.index) == 1
        redis.cont()


async def test_a_redis_that_has_lost_them_is_given_them_back(redis: RedisServer) -> None:
    async with nodes(redis, 2) as (one, other):
        for name in ("ann", "bob"):
            await answer(one.store.add, taken_back(name))
        await other.until(lambda: len(other.index) == 2)
        redis.kill()
        redis.start(emptied=True)
        with trio.fail_after(PATIENT):
            while redis.command("HKEYS", "test:revocations").count(b"user_id") < 2:  # noqa: ASYNC110 — another process
                await trio.sleep(0.05)
        async with nodes(redis, 1) as (later,):
            await later.until(lambda: len(later.index) == 2)
        # Something of it gone is as good as all of it gone.
        redis.command("DEL", "test:revocations:order")
        with trio.fail_after(PATIENT):
            while redis.command("ZCARD", "test:revocations:order") != b":2\r\n":  # noqa: ASYNC110 — another process
                await trio.sleep(0.05)
        await answer(other.store.add, taken_back("cleo"))
        await one.until(lambda: len(one.index) == 3)


async def test_with_an_append_only_file_they_outlive_every_node(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", aof=True) as redis:
        async with nodes(redis, 1) as (one,):
            await answer(one.store.add, taken_back("ann"))
        redis.kill()
        redis.start()
        async with nodes(redis, 1) as (later,):
            await later.until(lambda: len(later.index) == 1)


async def test_what_another_program_wrote_hides_no_other(redis: RedisServer) -> None:
    async with nodes(redis, 1) as (one,):
        for name in ("bad", "newer", "good"):
            await answer(one.store.add, taken_back(name))
        redis.command("HSET", "test:revocations", "user_id:bad", '{"kind": 5}')
        # A newer version's, which says more than this one knows of: it holds.
        fields = msgspec.json.decode(msgspec.json.encode(taken_back("newer")))
        redis.command("HSET", "test:revocations", "user_id:newer", json.dumps([*fields, {"and": "more"}]))
        async with nodes(redis, 1) as (late,):
            await late.until(lambda: len(late.index) == 2)
            assert sorted(held.value for held in late.index) == ["good", "newer"]


PARTS = ("", ":order", ":ends", ":meta")
GONE = [(part,) for part in PARTS] + [(":order", ":ends"), (":order", ":meta"), ("", ":order"), ("", ":meta")]


async def test_what_redis_threw_away_stays_taken_back_also_where_no_node_lived(redis: RedisServer) -> None:
    """A Redis that evicts throws away a key as a whole; what is left tells who was meant."""
    for gone in GONE:
        redis.command("FLUSHALL")
        async with nodes(redis, 1) as (one,):
            await answer(one.store.add, taken_back("ann:of<shop"))
            await answer(one.store.add, Revocation("user_id", "bob", 1000.5, 1.5, FAR))
            await answer(one.store.add, Revocation("all", "", 500.5, 1.5, FAR))
        redis.command("DEL", *(f"test:revocations{part}" for part in gone))
        async with nodes(redis, 1) as (later,):
            await later.until(lambda: len(later.index) == 3)
            assert later.index.covers_user("ann:of<shop"), gone
            for proof in (Proof("bob", issued_at=1000.0), Proof("cleo", issued_at=500.0)):
                assert later.index.covers(proof), gone
            assert not later.index.covers_user("bob"), gone
            assert not later.index.covers(Proof("cleo", issued_at=4e9)), gone
            assert {one.expires_at for one in later.index} == {FAR}, gone


async def test_what_is_left_of_one_gives_way_to_what_a_node_knows(redis: RedisServer) -> None:
    async with nodes(redis, 1) as (one,):
        exact = Revocation("user_id", "bob", 1000.5, 1.5, FAR)
        await answer(one.store.add, exact)
        await one.until(lambda: list(one.index) == [exact])
        redis.command("DEL", "test:revocations")
        with trio.fail_after(PATIENT):
            # By its name alone it would be everything until now.
            while b"1000.5" not in redis.command("HGET", "test:revocations", "user_id<bob"):  # noqa: ASYNC110
                await trio.sleep(0.02)
        await one.until(lambda: list(one.index) == [exact])
        async with nodes(redis, 1) as (later,):
            await later.until(lambda: list(later.index) == [exact])


@asynccontextmanager
async def joined(url: str, name: str) -> AsyncIterator[Node]:
    """A node as a gateway is one, whose backplane sees that another Redis is in the place of the one there was."""
    async with plane_node(url, name, prefix="test:") as plane, trio.open_nursery() as nursery:
        commands = plane.plane.commands
        made = Node(RedisRevocations(commands.send, commands.ask, "test:"))
        nursery.start_soon(made.store.run)
        await made.until(lambda: made.store.trouble is None)
        yield made
        nursery.cancel_scope.cancel()


async def surely(store: RedisRevocations, revocation: Revocation) -> None:
    with trio.fail_after(PATIENT):
        while True:
            try:
                await answer(store.add, revocation)
            except PeerFault:
                await trio.sleep(0.05)  # while Redis is away nothing is taken back
            else:
                return


async def test_what_a_promoted_replica_never_had_is_given_back(tmp_path: Path) -> None:
    """Nor is what is taken back after it mistaken for what was before: both had the same number."""
    with guarded_redis(tmp_path, sentinels=0, aof=True) as pair:
        async with tcp_proxy(pair.master.port) as proxy, joined(proxy.url, "a") as a, joined(proxy.url, "b") as b:
            await answer(a.store.add, taken_back("before"))
            await b.until(lambda: len(b.index) == 1)
            with trio.fail_after(PATIENT):
                while b"before" not in pair.replica.command("HKEYS", "test:revocations"):  # noqa: ASYNC110
                    await trio.sleep(0.02)
            pair.replica.command("REPLICAOF", "NO", "ONE")
            await answer(a.store.add, taken_back("lost"))
            await answer(a.store.add, taken_back("before", FAR + 1, 2.5))  # for longer
            for node in (a, b):
                await node.until(lambda node=node: taken_back("before", FAR + 1, 2.5) in list(node.index))  # type: ignore[misc]  # bound at once
            pair.master.kill()
            proxy.target = pair.replica.port
            proxy.cut()
            await surely(a.store, taken_back("after"))
            await b.until(lambda: len(b.index) == 3)
            async with joined(proxy.url, "c") as c:
                for node in (a, b, c):
                    await node.until(
                        lambda node=node: (
                            {(one.value, one.expires_at) for one in node.index}  # type: ignore[misc]  # bound at once
                            == {("before", FAR + 1), ("lost", FAR), ("after", FAR)}
                        )
                    )
