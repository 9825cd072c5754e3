"""A Redis Cluster: the contract over it, and what nodes promise when the primary that they share is another one."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from portico.wire.faults import PeerFault
from service.backplane.deployment import OverRedis
from service.backplane.redis.plane import SharedRules
from service.backplane.redis.revocations import RedisRevocations
from service.core.cluster.backplane import Publication, StreamPositions
from service.core.reply import Reply
from service.observe import make_log
from service.redis.cluster import Cluster, slot_of, tagged
from service.redis.urls import read_url

from ..backplane.contract import ANN, LENGTH, PATIENT, BackplaneContract, Client, Node, Scene, event
from ..backplane.login_contract import answer, login
from ..backplane.redis.test_plane import RedisNode, node, pass_time
from ..backplane.redis.test_plane_adversity import back, publish_surely, ready
from ..backplane.redis.test_revocations import Node as Revoked
from ..backplane.redis.test_revocations import surely, taken_back
from ..backplane.redis_server import RedisCluster, redis_cluster, redis_server
from .dialling import dialled

PREFIX = tagged("portico:")
SLOT = slot_of(PREFIX.encode())


def revocations_of(one: RedisNode) -> Revoked:
    """What a node knows of revocations, once its store runs."""
    return Revoked(RedisRevocations(one.plane.commands.send, one.plane.commands.ask, PREFIX))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is asked has the time to answer, though the machine stand still."""
    monkeypatch.setattr("service.redis.cluster.NODE_SECONDS", PATIENT)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """One that nobody breaks."""
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


class TestCluster(BackplaneContract):
    """Three nodes that share one."""

    @pytest.fixture
    async def scene(self, cluster: RedisCluster) -> AsyncIterator[Scene]:
        for primary in cluster.primaries:
            primary.command("FLUSHALL")
        async with AsyncExitStack() as stack:
            a, b, c = [await stack.enter_async_context(node(cluster.url, name)) for name in "abc"]
            for one in (a, b, c):
                await one.ready()
            yield Scene(a, b, c, pass_time)


def test_slots_are_those_of_redis(cluster: RedisCluster) -> None:
    for key in ("portico:", "a{b}c", "a{}c", "{a", "}{a}{b}", "{a}b{c}", "x{{y}}"):
        assert cluster.primaries[0].command("CLUSTER", "KEYSLOT", key) == b":%d\r\n" % slot_of(key.encode())


@pytest.mark.parametrize("prefix", ["portico:", "a:b:", "", ":", "{a}:", "x{a}", "{", "a{}b", "}{"])
def test_all_under_a_prefix_is_in_one_slot(prefix: str) -> None:
    slots = {slot_of(f"{tagged(prefix)}{rest}".encode()) for rest in ("", "a", "h:{user:ann}", "}", "{}")}
    assert len(slots) == 1
    assert tagged(tagged(prefix)) == tagged(prefix)


def test_names_begin_as_they_did() -> None:
    assert tagged("portico:") == "portico:{portico}:"
    assert tagged("shop:{eu}:") == "shop:{eu}:"


class TestTheWay:
    """From any node to the primary of the slot."""

    @pytest.mark.usefixtures("patient")
    async def test_every_slot_has_its_primary_whomever_one_asks(self, cluster: RedisCluster, tmp_path: Path) -> None:
        with redis_server(tmp_path / "other") as stranger:
            for slot in (0, 5461, 5462, 10_922, 10_923, 16_383):
                for one in cluster.primaries:
                    # The first that is asked is no cluster at all.
                    way = Cluster([*_at(stranger.url).nodes, *_at(one.url).nodes], slot)
                    stream = await way.dial()
                    assert way.origin(stream) == f"127.0.0.1 {cluster.serves(slot).port}"
                    await trio.aclose_forcefully(stream)

    async def test_nodes_that_the_url_doesn_t_name_are_remembered(self, tmp_path: Path) -> None:
        with redis_cluster(tmp_path) as broken:
            way = Cluster(_at(broken.primaries[0].url).nodes, 16_000)
            await trio.aclose_forcefully(await dialled(way))
            broken.primaries[0].stop()
            stream = await dialled(way)
            assert way.origin(stream) == f"127.0.0.1 {broken.primaries[2].port}"
            await trio.aclose_forcefully(stream)
            broken.primaries[0].cont()

    @pytest.mark.usefixtures("patient")
    async def test_why_there_is_no_way(self, tmp_path: Path) -> None:
        with redis_server(tmp_path / "alone", cluster_enabled="yes", requirepass="s3cret") as alone:
            for password, why in (("", "NOAUTH"), (":wrong-s3cret@", "WRONGPASS"), (":s3cret@", "cut off")):
                way = read_url(f"redis+cluster://{password}127.0.0.1:{alone.port}")
                with pytest.raises(OSError, match=why) as refused:
                    await way.dial()
                assert "s3cret" not in str(refused.value)


async def test_what_others_publish_on_any_node_comes_once(cluster: RedisCluster) -> None:
    async with node(cluster.url, "a") as a, node(cluster.url, "b") as b:
        await ready(a, b)
        clients = [await one.join(ANN) for one in (a, b)]
        for one in cluster.primaries:
            one.command("PUBLISH", "notifications:ann", '{"type": "cart"}')
        for client, where in zip(clients, (a, b), strict=True):
            await where.until(lambda client=client: len(client.events) == 3)  # type: ignore[misc]
        # What is Portico's own stays in its shard.
        await a.publish(ANN, event(1), durable=True)
        assert [len(client.events) for client in clients] == [4, 4]
        channels = [one.command("PUBSUB", "SHARDCHANNELS") for one in cluster.primaries]
        assert [PREFIX.encode() in answer for answer in channels] == [
            one is cluster.serves(SLOT) for one in cluster.primaries
        ]
        ours = [PREFIX.encode() in one.command("PUBSUB", "CHANNELS") for one in cluster.primaries]
        assert not any(ours)


async def test_all_of_a_deployment_is_in_its_slot(cluster: RedisCluster) -> None:
    for primary in cluster.primaries:
        primary.command("FLUSHALL")
    publications: list[Publication] = []

    def publish(publication: Publication, reply: Reply[object]) -> None:
        publications.append(publication)
        deployment.backplane.publish(publication, reply)

    deployment = OverRedis(
        cluster.url,
        SharedRules(length=LENGTH, ttl=60.0),
        node="a",
        publish=publish,
        present=tuple,
        log=make_log("json", "critical"),
    )
    me = Node(deployment.backplane)
    mine = cluster.serves(SLOT)
    entry = '{"target": {"user_id": "ann"}, "type": "t", "data": {}, "durable": true}'
    mine.command("XADD", "portico:{portico}:ingress", "*", "json", "nonsense")
    mine.command("XADD", "portico:{portico}:ingress", "*", "json", entry)
    async with trio.open_nursery() as nursery:
        await nursery.start(deployment.run)
        nursery.start_soon(deployment.take_in)
        await me.join(ANN)
        await answer(deployment.login_store.start, login("s1"), 60.0)
        found = await answer(deployment.login_store.current, "u1")
        assert found.session_id == "s1"
        with trio.fail_after(PATIENT):
            while b":0\r\n" not in mine.command("XLEN", "portico:{portico}:ingress"):  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert [publication.target for publication in publications] == [ANN]
        keys = [one.command("DBSIZE") for one in cluster.primaries]
        assert [answer == b":0\r\n" for answer in keys] == [one is not mine for one in cluster.primaries]
        assert b"portico:{portico}:ingress:dead" in mine.command("KEYS", "*")
        nursery.cancel_scope.cancel()


LOW = next(f"p{n}:" for n in range(100) if slot_of(tagged(f"p{n}:").encode()) < 5000)
"""A prefix whose slot the first primary serves, which has the replica."""


async def arrives_or_is_told_lost(to: RedisNode, by: RedisNode, client: Client, number: int) -> int:
    """Publish a durable event, and wait until it has come. On a machine so busy that no primary answers the others for
    a second the cluster fails over once more, and what was accepted and not replicated is lost: then its client is told
    of a gap, and the next is published. Returns the number of the one that came."""
    lost = len(to.lost_targets)
    await publish_surely(by, Publication(ANN, event(number), f"id-{number}", durable=True))
    await to.until(lambda: number in client.numbers or len(to.lost_targets) > lost)
    if number in client.numbers:
        return number
    return await arrives_or_is_told_lost(to, by, client, number + 1)


class TestChange:
    """The primary becomes another one."""

    @pytest.mark.shows("nothing is lost, and nobody is told of a gap")
    async def test_a_slot_that_moves(self, tmp_path: Path) -> None:
        with redis_cluster(tmp_path, aof=True) as moving:
            async with node(moving.url, "a") as a, node(moving.url, "b") as b:
                await ready(a, b)
                client = await a.join(ANN)
                total, began = LENGTH - 5, trio.Event()
                here, there = (revocations_of(one) for one in (a, b))
                await surely(here.store, taken_back("before"))

                async def publish() -> None:
                    for n in range(total):
                        await publish_surely(b, Publication(ANN, event(n), f"id-{n}", durable=True))
                        if n == 10:
                            began.set()
                        if n % 50 == 0:
                            await surely(here.store, taken_back(f"amid-{n}"))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(publish)
                    await began.wait()
                    [target, *_] = [one for one in moving.primaries if one is not moving.serves(SLOT)]
                    await trio.to_thread.run_sync(moving.move, SLOT, target)
                await ready(a, b)
                await publish_surely(b, Publication(ANN, event(total), "last", durable=True))
                await a.until(lambda: total in client.numbers)
                # All of it was moved: nobody is told of a gap.
                assert client.numbers == list(range(total + 1))
                assert a.lost_targets == b.lost_targets == []
                assert a.plane.epoch == client.at.epoch
                assert b"*0" not in target.command("PUBSUB", "SHARDCHANNELS")
                # Nor is anything forgotten that was taken back.
                await surely(here.store, taken_back("after"))
                names = {"before", *(f"amid-{n}" for n in range(0, total, 50)), "after"}
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(there.store.run)
                    await there.until(lambda: {one.value for one in there.index} == names)
                    nursery.cancel_scope.cancel()

    async def test_a_primary_that_dies(self, tmp_path: Path) -> None:
        with redis_cluster(tmp_path, replica=True, aof=True) as failing:
            async with node(failing.url, "a", LOW) as a, node(failing.url, "b", LOW) as b:
                await ready(a, b)
                here = await a.join(ANN)
                left = await b.join(ANN)
                left.leave()
                total = LENGTH - 5

                async def publish() -> None:
                    for n in range(total):
                        await publish_surely(b, Publication(ANN, event(n), f"id-{n}", durable=True))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(publish)
                    await a.until(lambda: len(here.numbers) >= 10)
                    failing.primaries[0].kill()
                    await a.until_true(lambda: a.plane.trouble is not None)
                    failing.take_over()
                await ready(a, b)
                await publish_surely(b, Publication(ANN, event(total), "last", durable=True))
                await a.until(lambda: total in here.numbers)
                assert here.numbers == sorted(set(here.numbers))
                assert a.lost_targets == [ANN]
                returned = await back(b, ANN, resume=left.resume())
                assert (returned.at.recovered, list(returned.at.lost)) == (False, ["user:ann"])

    @pytest.mark.shows("nothing is lost, and nobody is told of a gap", "clients resume as if nothing had been")
    async def test_a_manual_failover_loses_nothing_and_nobody_is_told(self, tmp_path: Path) -> None:
        with redis_cluster(tmp_path, replica=True) as failing:
            async with node(failing.url, "a", LOW) as a, node(failing.url, "b", LOW) as b:
                await ready(a, b)
                client = await a.join(ANN)
                left = await b.join(ANN)
                left.leave()
                total, began = LENGTH - 5, trio.Event()

                async def publish() -> None:
                    for n in range(total):
                        await publish_surely(b, Publication(ANN, event(n), f"id-{n}", durable=True))
                        if n == 10:
                            began.set()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(publish)
                    await began.wait()
                    replica = failing.replica
                    assert replica is not None
                    assert replica.command("CLUSTER", "FAILOVER") == b"+OK\r\n"
                    await a.until_true(lambda: a.plane.commands.origin == f"127.0.0.1 {replica.port}")
                await ready(a, b)
                await publish_surely(b, Publication(ANN, event(total), "last", durable=True))
                await a.until(lambda: total in client.numbers)
                assert client.numbers == list(range(total + 1))
                assert a.lost_targets == b.lost_targets == []
                returned = await back(b, ANN, resume=left.resume())
                assert (returned.at.recovered, returned.numbers) == (True, list(range(total + 1)))

    @pytest.mark.shows(
        "what it carries out then is not delivered, nothing comes twice",
        "an event that was tried again under its `id` comes once",
    )
    async def test_a_frozen_primary_that_wakes_delivers_nothing_twice(self, tmp_path: Path) -> None:
        with redis_cluster(tmp_path, replica=True, aof=True) as failing:
            async with node(failing.url, "a", LOW) as a, node(failing.url, "b", LOW) as b:
                await ready(a, b)
                client = await a.join(ANN)
                for n in range(3):
                    await publish_surely(b, Publication(ANN, event(n), f"id-{n}", durable=True))
                failing.primaries[0].stop()

                async def publish() -> None:
                    for n in range(3, 6):
                        await publish_surely(b, Publication(ANN, event(n), f"id-{n}", durable=n % 2 == 1))

                async with trio.open_nursery() as nursery:
                    # What is sent now is in its buffers: it has it, and nobody knows. Its publisher tries again.
                    nursery.start_soon(publish)
                    await b.until_true(lambda: b.plane.trouble is not None)
                    failing.take_over()
                await ready(a, b)
                failing.primaries[0].cont()
                await a.until_true(lambda: b"role:slave" in failing.primaries[0].command("INFO", "replication"))
                last = await arrives_or_is_told_lost(a, b, client, 6)
                assert client.numbers == sorted(set(client.numbers))
                assert set(range(last + 1)) - set(client.numbers) <= {4} or ANN in a.lost_targets
                offsets = [one.offset for one in client.events if one.offset is not None]
                assert offsets == sorted(offsets)
                kept = await back(b, ANN, resume=StreamPositions(a.plane.epoch, {"user:ann": a.gaps[-1][2]}))
                assert kept.at.recovered

    @pytest.mark.shows("and a live one without an `id` in its order or not at all")
    async def test_nor_what_was_live_and_had_no_id(self, tmp_path: Path) -> None:
        """Its publisher was told that it may not have been made, and has gone on."""
        with redis_cluster(tmp_path, replica=True, aof=True) as failing:
            async with node(failing.url, "a", LOW) as a, node(failing.url, "b", LOW) as b:
                await ready(a, b)
                client = await a.join(ANN)
                await b.publish(ANN, event(0))
                failing.primaries[0].stop()
                with pytest.raises(PeerFault, match="may not have been made"):
                    await b.publish(ANN, event(1))
                failing.take_over()
                await ready(a, b)
                await a.until(lambda: a.lost_targets == [ANN])  # both are on the new one
                await b.publish(ANN, event(2))
                await a.until(lambda: 2 in client.numbers)
                failing.primaries[0].cont()
                await a.until_true(lambda: b"role:slave" in failing.primaries[0].command("INFO", "replication"))
                await b.publish(ANN, event(3))
                await a.until(lambda: 3 in client.numbers)
                assert client.numbers == [0, 2, 3]
                assert a.plane.following.outdated


def _at(url: str) -> Cluster:
    way = read_url(url.replace("redis://", "redis+cluster://"))
    assert isinstance(way, Cluster)
    return way
