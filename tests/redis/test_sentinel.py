"""A Redis whose place a replica takes: the way to whoever is master, and what nodes promise over a failover."""

import socket
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from service.core.cluster.backplane import Publication, StreamPositions
from service.redis.address import Address
from service.redis.faults import Unreachable
from service.redis.sentinel import SENTINEL_SECONDS, Sentinels
from service.redis.urls import read_url

from ..backplane.contract import ANN, LENGTH, PATIENT, event
from ..backplane.redis.test_plane import RedisNode, node
from ..backplane.redis.test_plane_adversity import back, publish_surely, ready
from ..backplane.redis_server import MASTER, Guarded, guarded_redis, redis_server, tcp_proxy
from .dialling import dialled


async def replaced(guarded: Guarded) -> None:
    """Have the sentinels put the replica in the place of the master, and wait until they have."""
    with trio.fail_after(PATIENT):
        while not guarded.fail_over():  # noqa: ASYNC110
            await trio.sleep(0.1)
        while not guarded.promoted():  # noqa: ASYNC110
            await trio.sleep(0.05)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is asked has the time to answer, though the machine stand still."""
    for name in ("SENTINEL_SECONDS", "MASTER_SECONDS"):
        monkeypatch.setattr(f"service.redis.sentinel.{name}", PATIENT)


def place(port: int) -> Address:
    return Address("127.0.0.1", port)


def have_followed(a: RedisNode, b: RedisNode, c: RedisNode, new: str, before: str) -> bool:
    """Whether all have found out about a new master, and that its epoch is another."""
    planes = [one.plane for one in (a, b, c)]
    [epoch, *others] = {plane.epoch for plane in planes}
    return {plane.commands.origin for plane in planes} == {new} and not others and epoch != before


class TestTheWay:
    """From the sentinels to the master."""

    async def test_the_first_sentinel_that_knows_a_true_master_is_believed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with guarded_redis(tmp_path) as true, redis_server(tmp_path / "other") as other:
            # One sentinel still names a Redis that follows another by now; one is dead; one hangs.
            other.command("REPLICAOF", "127.0.0.1", str(true.master.port))
            outdated = f"sentinel monitor {MASTER} 127.0.0.1 {other.port} 9"
            with (
                redis_server(tmp_path / "late", configuration=outdated) as late,
                redis_server(tmp_path / "dead") as dead,
                redis_server(tmp_path / "hung") as hung,
            ):
                dead.kill()
                hung.stop()
                places = [place(one.port) for one in (late, dead, hung, *true.sentinels)]
                way = Sentinels(places, MASTER, Address())
                for seconds in (0.5, 10 * PATIENT):  # the second time nobody waits for the one that hangs
                    monkeypatch.setattr("service.redis.sentinel.SENTINEL_SECONDS", seconds)
                    stream = await dialled(way)
                    assert way.origin(stream) == f"127.0.0.1 {true.master.port}"
                    await trio.aclose_forcefully(stream)
                hung.cont()

    async def test_many_that_hang_hold_nobody_up_for_ever(self, tmp_path: Path) -> None:
        with ExitStack() as stack:
            guarded = stack.enter_context(guarded_redis(tmp_path))
            hung = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(40)]
            silent = [place(one.getsockname()[1]) for one in hung]
            way = Sentinels([*silent, place(guarded.sentinels[0].port)], MASTER, Address())
            for _ in range(2):
                # One after the other they would take twice as long.
                await trio.aclose_forcefully(await dialled(way, 0.5 * len(hung) * SENTINEL_SECONDS))

    @pytest.mark.usefixtures("patient")
    async def test_why_there_is_no_master_is_told_without_passwords(self, tmp_path: Path) -> None:
        with guarded_redis(tmp_path) as guarded:
            [sentinel] = guarded.sentinels
            guarded.master.command("CONFIG", "SET", "requirepass", "s3cret")
            unknown = Sentinels([place(sentinel.port)], "another", Address())
            with pytest.raises(OSError, match=r"'another'.*No such master with that name"):
                await unknown.dial()
            for password in (None, "not-s3cret"):
                way = Sentinels([place(sentinel.port)], MASTER, Address(password=password))
                with pytest.raises(OSError, match=r"it answers '(NOAUTH|WRONGPASS)") as refused:
                    await way.dial()
                assert "s3cret" not in str(refused.value)
            stream = await Sentinels([place(sentinel.port)], MASTER, Address(password="s3cret")).dial()
            await trio.aclose_forcefully(stream)

    @pytest.mark.usefixtures("patient")
    async def test_sentinels_have_a_password_of_their_own(self, tmp_path: Path) -> None:
        with guarded_redis(tmp_path) as guarded:
            [sentinel] = guarded.sentinels
            sentinel.command("ACL", "SETUSER", "default", "on", ">pass")
            with pytest.raises(OSError, match="NOAUTH"):
                await read_url(guarded.url).dial()
            stream = await read_url(f"{guarded.url}?sentinel_password=pass").dial()
            await trio.aclose_forcefully(stream)


async def test_one_that_was_silent_once_is_waited_for_where_the_others_know_no_master(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it believed less than one that is quicker, and outdated."""
    outdated, slow = place(1), place(2)
    way = Sentinels([outdated, slow], MASTER, Address())
    stream, _ = trio.testing.memory_stream_pair()
    takes = 2 * SENTINEL_SECONDS

    async def ask_once(sentinel: Address, *_: object, seconds: float) -> list[object]:
        port = b"3"
        if sentinel == slow:
            port = b"4"
            with trio.fail_after(seconds):
                await trio.sleep(takes)
        return [[b"ip", b"127.0.0.1", b"port", port, b"config-epoch", port]]

    async def dial_if(master: Address, *_: object, seconds: float) -> trio.abc.Stream:
        if master.port == 3:
            raise Unreachable("it is no master")
        return stream

    monkeypatch.setattr("service.redis.sentinel.ask_once", ask_once)
    monkeypatch.setattr("service.redis.sentinel.dial_if", dial_if)
    with pytest.raises(OSError, match="it is no master"):
        await way.dial()
    takes = SENTINEL_SECONDS / 2  # it stood still for a moment
    assert await way.dial() is stream


class TestFailover:
    """A master that dies, with a log or without."""

    async def test_publishing_goes_on_and_nothing_is_lost_in_silence(self, tmp_path: Path) -> None:
        with guarded_redis(tmp_path, sentinels=3, aof=True) as guarded:
            async with node(guarded.url, "a") as a, node(guarded.url, "b") as b:
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
                    guarded.master.kill()
                    await a.until_true(lambda: a.plane.trouble is not None)
                    await replaced(guarded)
                await ready(a, b)
                await publish_surely(b, Publication(ANN, event(total), "last", durable=True))
                await a.until(lambda: total in here.numbers)
                # The replica may have lacked the last ones: whoever is here is told so, and whoever comes back.
                assert here.numbers == sorted(set(here.numbers))
                assert a.lost_targets == [ANN]
                returned = await back(b, ANN, resume=left.resume())
                assert (returned.at.recovered, list(returned.at.lost)) == (False, ["user:ann"])
                assert returned.at.epoch != here.at.epoch
                # From here on all is as before.
                seen = returned.resume()
                returned.leave()
                await a.publish(ANN, event(total + 1), durable=True)
                again = await b.join(ANN, resume=seen)
                assert (again.at.recovered, again.numbers) == (True, [total + 1])

    async def test_a_master_that_restarts_with_its_log_has_lost_nothing(self, tmp_path: Path) -> None:
        with guarded_redis(tmp_path, aof=True) as guarded:
            async with node(guarded.url, "a") as a:
                await ready(a)
                client = await a.join(ANN)
                await a.publish(ANN, event(1), durable=True)
                away = client.resume()
                await a.publish(ANN, event(2), durable=True)
                guarded.master.kill()
                guarded.master.start()
                await publish_surely(a, Publication(ANN, event(3), "three", durable=True))
                await a.until(lambda: 3 in client.numbers)
                assert a.lost_targets == []
                returned = await back(a, ANN, resume=away)
                assert (returned.at.recovered, returned.numbers) == (True, [2, 3])

    async def test_a_promoted_replica_is_known_after_its_own_restart(self, tmp_path: Path) -> None:
        """Nobody was connected to it in between, and it doesn't remember that it was one."""
        with guarded_redis(tmp_path, aof=True) as guarded:
            async with node(guarded.url, "a") as a:
                await ready(a)
                client = await a.join(ANN)
                await a.publish(ANN, event(1), durable=True)
                away = client.resume()
            guarded.master.kill()
            await replaced(guarded)
            guarded.replica.kill()
            guarded.replica.start()
            assert b"master_replid2:0000000000" in guarded.replica.command("INFO", "replication")
            async with node(guarded.url, "b") as b:
                await ready(b)
                returned = await back(b, ANN, resume=away)
                assert (returned.at.recovered, list(returned.at.lost)) == (False, ["user:ann"])


class TestWithoutSentinels:
    """What stands behind one address may change, too."""

    async def test_a_promoted_replica_begins_a_new_epoch(self, tmp_path: Path) -> None:
        with guarded_redis(tmp_path, sentinels=0, aof=True) as pair:
            async with tcp_proxy(pair.master.port) as proxy, node(proxy.url, "a") as a:
                await ready(a)
                client = await a.join(ANN)
                await a.publish(ANN, event(1), durable=True)
                pair.master.kill()
                pair.replica.command("REPLICAOF", "NO", "ONE")
                proxy.target = pair.replica.port
                proxy.cut()
                await a.until(lambda: bool(a.lost_targets))
                assert a.lost_targets == [ANN]
                await ready(a)
                await publish_surely(a, Publication(ANN, event(2), "two", durable=True))
                await a.until(lambda: client.numbers == [1, 2])

    async def test_a_link_to_what_has_become_a_replica_is_given_up(self, tmp_path: Path) -> None:
        with redis_server(tmp_path / "one") as one, redis_server(tmp_path / "two") as two:
            async with tcp_proxy(one.port) as proxy, node(proxy.url, "a") as a:
                await ready(a)
                client = await a.join(ANN)
                # What follows another goes on answering whoever was connected.
                one.command("REPLICAOF", "127.0.0.1", str(two.port))
                proxy.target = two.port
                with trio.fail_after(PATIENT):
                    n = 0
                    while not (a.plane.commands.reconnects and a.plane.subscription.reconnects):
                        n += 1
                        await publish_surely(a, Publication(ANN, event(n), f"id-{n}", durable=True))
                await ready(a)
                await publish_surely(a, Publication(ANN, event(0), "last", durable=True))
                await a.until(lambda: 0 in client.numbers)
                assert a.lost_targets == [ANN]


class TestAHealthyMasterThatIsReplaced:
    """The sentinels put another in its place while it lives, and it learns of that ten seconds later."""

    @pytest.mark.shows("nodes follow; who may miss something is told")
    async def test_nodes_follow_and_whoever_may_miss_something_is_told(self, tmp_path: Path) -> None:
        with guarded_redis(tmp_path, sentinels=3, aof=True) as guarded:
            coming = partial(node, guarded.url, length=100_000)
            async with coming("a") as a, coming("b") as b:
                await ready(a, b)
                here = await a.join(ANN)
                new = f"127.0.0.1 {guarded.replica.port}"
                await publish_surely(b, Publication(ANN, event(0), "id-0", durable=True))
                await replaced(guarded)
                # Somebody who comes now is at the new one.
                async with coming("c") as c:
                    await ready(c)
                    late = await c.join(ANN)
                    accepted: dict[int, tuple[bool, int]] = {}  # by the new one for certain, at which offset
                    heard = 0
                    with trio.fail_after(PATIENT):
                        # A node's subscription comes over after its commands do: until then it hears nothing that is
                        # published at the new one, and the gap that it tells at the end covers that.
                        while heard < 2:
                            n = len(accepted) + 1
                            over = b.plane.commands.origin == new
                            one = Publication(ANN, event(n), f"id-{n}", durable=True)
                            published, _ = await publish_surely(b, one)
                            assert published.offset is not None
                            accepted[n] = over, published.offset
                            heard = published.matched if have_followed(a, b, c, new, here.at.epoch) else 0
                    for at, client in ((a, here), (c, late)):
                        assert client.numbers[-1] == len(accepted)
                        assert client.numbers == sorted(set(client.numbers))
                        # What the new one accepted is covered by a gap that was told further on; what only the old
                        # one did, by any of this epoch.
                        told = max((offset for _, epoch, offset in at.gaps if epoch == at.plane.epoch), default=-1)
                        missing = [
                            n
                            for n, (over, offset) in accepted.items()
                            if n not in client.numbers and (told < offset if over else told < 0)
                        ]
                        assert not missing, "lost in silence"
                    # Whoever resumes from what it was told by a gap has all of it.
                    target, epoch, told = a.gaps[-1]
                    assert (target, epoch) == (ANN, a.plane.epoch)
                    again = await c.join(ANN, resume=StreamPositions(epoch, {"user:ann": told}))
                    assert again.at.recovered
                    later = [n for n, (over, offset) in accepted.items() if over and offset > told]
                    assert [n for n in again.numbers if n in later] == later

    @pytest.mark.shows("within seconds, not the ten until the old master learns of it")
    async def test_that_takes_a_second_or_two_and_not_ten(self, tmp_path: Path) -> None:
        with guarded_redis(tmp_path, sentinels=1) as guarded:
            async with node(guarded.url, "a") as a:
                await ready(a)
                await replaced(guarded)
                with trio.fail_after(PATIENT):
                    await a.until_true(lambda: a.plane.commands.origin == f"127.0.0.1 {guarded.replica.port}")
                # The one that was replaced still takes itself for a master.
                assert b"role:master" in guarded.master.command("INFO", "replication")
