"""The history in a real Redis: what is recovered is whole, or said not to be, whatever Redis has thrown away."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from portico.wire.messages import EVERYBODY, Target
from service.backplane.redis.payloads import Arrival, Push
from service.core.cluster.backplane import Publication, StreamPositions
from service.core.reply import Reply

from ..contract import ANN, BOB, LENGTH, PATIENT, ROOM, Client, event
from ..redis_server import RedisServer, redis_server, tcp_proxy
from ..shifted_clock import COMPILER, ShiftedClock
from .test_plane import RedisNode, node
from .test_plane_adversity import back, publish_surely, ready

HOUR = 3600 * 1_000_000


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


async def missed(one: RedisNode, count: int = 5) -> Client:
    """Somebody who left, and whose stream went on."""
    client = await one.join(ANN, ROOM)
    await one.publish(ANN, event(0), durable=True)
    client.leave()
    await one.publish_all([Publication(ANN, event(n), durable=True) for n in range(1, count + 1)])
    return client


class TestEviction:
    """A Redis that throws away what it has: absence is no proof."""

    @pytest.mark.parametrize("gone", ["m h", "m", "h"])
    @pytest.mark.shows("told with the answer")
    async def test_what_was_evicted_is_said_to_be_lost(self, redis: RedisServer, gone: str) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await missed(a)
            for key in gone.split():
                assert redis.command("DEL", f"portico:{key}:{{user:ann}}") == b":1\r\n"
            returned = await a.join(ANN, ROOM, resume=client.resume())
            assert (returned.at.recovered, list(returned.at.lost), returned.events) == (False, ["user:ann"], [])

    @pytest.mark.parametrize("gone", ["m h", "m", "h"])
    async def test_nor_does_what_was_published_afterwards_prove_anything(self, redis: RedisServer, gone: str) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await missed(a)
            for key in gone.split():
                redis.command("DEL", f"portico:{key}:{{user:ann}}")
            after = await a.publish(ANN, event(6), durable=True)
            returned = await a.join(ANN, resume=client.resume())
            assert (returned.at.recovered, returned.events) == (False, [])
            # From there on it is whole again.
            again = await a.join(ANN, resume=StreamPositions(client.at.epoch, {"user:ann": (after.offset or 0) - 1}))
            assert (again.at.recovered, again.numbers) == (True, [6])

    @pytest.mark.parametrize("gone", ["m h", "m", "h"])
    async def test_a_node_that_missed_some_of_it_is_told(self, redis: RedisServer, gone: str) -> None:
        async with tcp_proxy(redis.port) as proxy, node(redis.url, "a") as a, node(proxy.url, "b") as b:
            await ready(a, b)
            client = await b.join(ANN)
            await a.publish(ANN, event(0), durable=True)
            await b.until(lambda: client.numbers == [0])
            proxy.refusing = True
            proxy.cut()
            await a.publish(ANN, event(1), durable=True)
            for key in gone.split():
                redis.command("DEL", f"portico:{key}:{{user:ann}}")
            await a.publish(ANN, event(2), durable=True)
            proxy.refusing = False
            await b.until(lambda: bool(b.lost_targets))
            await a.publish(ANN, event(3), durable=True)
            await b.until(lambda: 3 in client.numbers)
            assert b.lost_targets == [ANN]

    @pytest.mark.shows("who resumes is told that it is whole", "also where other streams were thrown away")
    async def test_a_stream_in_which_nothing_was_published_is_whole(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(BOB, EVERYBODY)
            client.leave()
            await missed(a)
            redis.command("DEL", "portico:m:{user:ann}", "portico:h:{user:ann}")
            returned = await a.join(BOB, EVERYBODY, resume=client.resume())
            assert (returned.at.recovered, returned.events) == (True, [])

    @pytest.mark.parametrize("gone", ["portico:epoch", "portico:streams"])
    async def test_without_what_proves_anything_everything_is_in_doubt(self, redis: RedisServer, gone: str) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await missed(a)
            assert redis.command("DEL", gone) == b":1\r\n"
            returned = await back(a, ANN, ROOM, resume=client.resume())
            assert (returned.at.recovered, returned.events) == (False, [])
            receipt, _ = await publish_surely(a, Publication(ANN, event(9), "nine", durable=True))
            await a.until(lambda: returned.numbers == [9])
            again = await a.join(
                ANN, resume=StreamPositions(returned.at.epoch, {"user:ann": (receipt.offset or 0) - 1})
            )
            assert (again.at.recovered, again.numbers) == (True, [9])

    async def test_an_id_that_was_thrown_away_is_not_delivered_again(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a, node(redis.url, "b") as b:
            await ready(a, b)
            client = await a.join(ANN)
            for durable in (True, False):
                await b.publish(ANN, event(int(durable)), durable=durable, id=f"id-{durable}")
                assert redis.command("DEL", f"portico:i:id-{durable}") == b":1\r\n"
                await b.publish(ANN, event(int(durable)), durable=durable, id=f"id-{durable}")
            # One that came in between may not have had it.
            other = await a.join(ANN)
            redis.command("DEL", "portico:i:id-True")
            await b.publish(ANN, event(1), durable=True, id="id-True")
            assert (client.numbers, other.numbers) == ([1, 0, 1], [1])

    @pytest.mark.shows("who resumes has all of its events, or is told; never an empty replay")
    async def test_a_redis_that_evicts_by_itself(self, tmp_path: Path) -> None:
        """300 streams of which most are thrown away: each client has all of its events, or is told."""
        with redis_server(tmp_path / "redis", maxmemory_policy="volatile-lru", maxmemory_samples=10) as redis:
            async with node(redis.url, "a") as a:
                await ready(a)
                clients = []
                for n in range(300):
                    target = Target("user_id", f"u{n}")
                    clients.append((target, await a.join(target)))
                for _, client in clients:
                    client.leave()
                for target, _ in clients:
                    await a.publish_all([Publication(target, event(m, "x" * 300), durable=True) for m in range(5)])
                used = int(redis.command("INFO", "memory").split(b"used_memory:")[1].split(b"\r")[0])
                redis.command("CONFIG", "SET", "maxmemory", str(used - 200_000))
                for n in range(20):
                    await a.publish(BOB, event(n, "x" * 3000), durable=True)
                assert b"evicted_keys:0\r" not in redis.command("INFO", "stats")
                whole = 0
                for target, client in clients:
                    returned = await a.join(target, resume=client.resume())
                    assert returned.numbers == ([0, 1, 2, 3, 4] if returned.at.recovered else [])
                    whole += returned.at.recovered
                    returned.leave()
                assert 0 < whole < 300


class TestOver:
    """What its publisher let lapse is not lost, and does not stay."""

    @pytest.mark.shows("it is over, and not lost: the others are recovered")
    async def test_one_that_has_lapsed_does_not_lose_the_others(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(ANN)
            client.leave()
            await a.publish_all([Publication(ANN, event(n), durable=True) for n in range(3)])
            await a.publish(ANN, event(3), durable=True, ttl=0.1)
            await a.publish_all([Publication(ANN, event(n), durable=True) for n in range(4, 7)])
            await trio.sleep(0.15)
            returned = await a.join(ANN, resume=client.resume())
            assert (returned.at.recovered, returned.numbers) == (True, [0, 1, 2, 4, 5, 6])

    @pytest.mark.shows("its body is out of Redis within seconds")
    async def test_its_body_goes_from_redis_soon(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(ANN, BOB)
            client.leave()
            await a.publish(ANN, event(0), durable=True)
            for n in range(1, 4):
                await a.publish(ANN, event(n), durable=True, ttl=0.1)
                await a.publish(BOB, event(n), durable=True, ttl=0.1)
            with trio.fail_after(PATIENT):
                while (  # noqa: ASYNC110 - nothing tells of it
                    redis.command("XLEN", "portico:h:{user:ann}") != b":1\r\n"
                    or redis.command("XLEN", f"portico:h:{{user:{BOB.value}}}") != b":0\r\n"
                ):
                    await trio.sleep(0.05)
            returned = await a.join(ANN, BOB, resume=client.resume())
            assert (returned.at.recovered, returned.numbers) == (True, [0])

    async def test_a_stream_goes_when_all_of_it_is_too_old(self, redis: RedisServer) -> None:
        async with node(redis.url, "a", ttl=1.0) as a:
            await ready(a)
            client = await missed(a)
            with trio.fail_after(PATIENT):
                while redis.command("EXISTS", "portico:h:{user:ann}", "portico:m:{user:ann}") != b":0\r\n":  # noqa: ASYNC110
                    await trio.sleep(0.05)
            returned = await a.join(ANN, ROOM, resume=client.resume())
            assert "user:ann" in returned.at.lost
            with trio.fail_after(PATIENT):
                while a.plane.sweeper.bytes:  # noqa: ASYNC110 - nothing tells of it
                    await trio.sleep(0.05)
            assert a.plane.sweeper.streams == 0


class TestBytes:
    """How much of Redis the history takes is known."""

    async def test_they_are_counted_up_and_down(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            for n in range(LENGTH + 7):
                await a.publish(ANN, event(n, "x" * 1000), durable=True)
            await a.publish(BOB, event(0, "x" * 5000), durable=True)
            await a.publish(BOB, event(0, "x" * 100_000), durable=True, ttl=0.1)
            with trio.fail_after(PATIENT):
                while not 55_000 < a.plane.sweeper.bytes < 60_000:  # noqa: ASYNC110 - nothing tells of it
                    await trio.sleep(0.05)
            assert a.plane.sweeper.streams == 2


class TestRestored:
    """Redis is put back to an older state, while no node is there that would know."""

    @pytest.mark.shows("who has had some of what is gone is told when it resumes", "everybody else resumes as before")
    async def test_who_has_had_what_is_gone_is_told(self, tmp_path: Path) -> None:
        server = RedisServer(tmp_path / "redis", aof=True)
        server.start()
        try:
            async with node(server.url, "a") as a:
                await ready(a)
                before, after = await a.join(ANN), await a.join(ANN)
                await a.publish(ANN, event(0), durable=True)
                before.leave()
                left_off = before.resume()
                shutil.copytree(server.folder, tmp_path / "older")
                await a.publish_all([Publication(ANN, event(n), durable=True) for n in (1, 2)])
                await a.until(lambda: after.numbers == [0, 1, 2])
            server.kill()
            shutil.rmtree(server.folder)
            shutil.copytree(tmp_path / "older", server.folder)
            for restarts in range(2):
                server.start()
                async with node(server.url, "a") as a:
                    await ready(a)
                    await a.publish(ANN, event(3 + restarts), durable=True)
                    told = await a.join(
                        ANN, resume=StreamPositions(after.at.epoch, {"user:ann": after.events[1].offset or 0})
                    )
                    assert (told.at.recovered, told.at.lost, told.numbers) == (False, ["user:ann"], [])
                    whole = await a.join(ANN, resume=left_off)
                    assert (whole.at.recovered, whole.numbers) == (True, [3, 4][: restarts + 1])
                    again = await a.join(ANN, resume=told.resume())
                    assert (again.at.recovered, again.numbers) == (True, [])
                server.kill()
        finally:
            server.kill()

    @pytest.mark.shows("everybody is told of a gap", "as soon as one that knows has reached it")
    async def test_a_node_that_knows_is_heard_after_one_that_does_not(self, tmp_path: Path) -> None:
        """The other one has moved the clock on meanwhile, beyond all that the first has seen."""
        server = RedisServer(tmp_path / "redis", aof=True)
        server.start()
        try:
            async with tcp_proxy(server.port) as proxy, node(proxy.url, "a") as a, node(server.url, "b") as b:
                await ready(a, b)
                client, other = await a.join(ANN), await b.join(BOB)
                shutil.copytree(server.folder, tmp_path / "older")
                async with node(server.url, "c") as gone:
                    await ready(gone)
                    await gone.publish(ANN, event(1), durable=True)
                await a.until(lambda: client.numbers == [1])
                epoch, proxy.refusing = a.plane.epoch, True
                proxy.cut()
                server.kill()
                shutil.rmtree(server.folder)
                shutil.copytree(tmp_path / "older", server.folder)
                server.start()
                await b.until_true(lambda: b.plane.trouble is None)
                await b.join(BOB, resume=other.resume(**{f"user:{BOB.value}": 1}))
                proxy.refusing = False
                await a.until_true(lambda: a.plane.epoch != epoch)
                await a.until(lambda: bool(a.lost_targets))
        finally:
            server.kill()


class TestClock:
    """Offsets are moments, and Redis's clock is not to be trusted."""

    @pytest.mark.shows("nobody is told of a gap, nothing comes twice", "offsets go on growing")
    async def test_a_clock_that_was_ahead_and_is_put_right_loses_nothing(self, redis: RedisServer) -> None:
        """Nobody is told of a gap, nothing comes twice, and offsets go on growing."""
        async with node(redis.url, "a") as a, node(redis.url, "b") as b:
            await ready(a, b)
            clients = [await a.join(ANN, ROOM), await b.join(ANN, ROOM)]
            await b.publish(ANN, event(0), durable=True)
            # The clock jumps ahead: offsets are an hour from now. Then it is put right.
            right = b.plane.following.seen
            b.plane.following.seen += HOUR
            receipt = await b.publish(ANN, event(1), durable=True)
            b.plane.following.seen = right
            assert (receipt.offset or 0) > right + HOUR
            for n in range(2, 12):
                one = a if n % 2 else b
                await one.publish(ROOM if n % 3 else ANN, event(n), durable=True)
                # Whoever reads now sees how late it is.
                (await one.join(BOB, resume=StreamPositions(one.plane.epoch, {f"user:{BOB.value}": 1}))).leave()
            for client in clients:
                assert client.numbers == list(range(12))
            assert a.lost_targets == b.lost_targets == []
            clients[0].leave()
            await b.publish(ANN, event(12), durable=True)
            returned = await a.join(ANN, ROOM, resume=clients[0].resume())
            assert (returned.at.recovered, returned.numbers) == (True, [12])
            again = await a.join(ANN, ROOM, resume=returned.resume())
            assert (again.at.recovered, again.numbers) == (True, [])

    @pytest.mark.shows(
        "what was thrown away meanwhile is told to whoever resumes and missed it",
        "also where something was published since",
    )
    @pytest.mark.skipif(COMPILER is None, reason="needs a C compiler for a clock that can be put wrong")
    @pytest.mark.parametrize(("then", "later"), [(0.0, 100.0), (0.0, 40_000_000.0), (-259_200.0, 0.0)])
    async def test_one_that_was_ahead_by_more_than_the_history_lasts(
        self, tmp_path: Path, then: float, later: float
    ) -> None:
        """What is swept meanwhile is gone, and that is known afterwards."""
        clock = ShiftedClock(tmp_path / "clock")
        server = RedisServer(tmp_path / "redis")
        server.environment = clock.environment
        server.start()
        try:
            async with node(server.url, "a", ttl=60.0) as a:
                await ready(a)
                first = await a.join(ANN)
                clock.put(then)
                before = [await missed(a), await missed(a)]
                clock.put(later)
                await a.until_true(lambda: server.command("EXISTS", "portico:m:{user:ann}") == b":0\r\n")
                await a.until_true(lambda: server.command("ZCARD", "portico:streams") == b":1\r\n")
                clock.put(0)
                await ready(a)
                for client in before:
                    returned = await a.join(ANN, resume=client.resume())
                    assert (returned.at.recovered, returned.numbers) == (False, [])
                    returned.leave()
                    # Whatever is published afterwards proves nothing of what was before.
                    await a.publish(ANN, event(6), durable=True)
                after = await a.join(ANN, ROOM, resume=returned.resume())
                assert (after.at.recovered, after.numbers) == (True, [6])
                # Where nothing was, nothing is lost.
                late = await a.join(BOB, resume=after.resume(**{f"user:{BOB.value}": after.at.offsets["user:ann"]}))
                assert late.at.recovered
                assert first.numbers == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 6]
        finally:
            server.kill()

    @pytest.mark.shows(
        "an event with a `ttl` of its own is not over before its time",
        "what was thrown away all the same is told to whoever resumes and missed it",
    )
    @pytest.mark.skipif(COMPILER is None, reason="needs a C compiler for a clock that can be put wrong")
    async def test_one_that_was_ahead_lets_nothing_lapse_in_silence(self, tmp_path: Path) -> None:
        clock = ShiftedClock(tmp_path / "clock")
        server = RedisServer(tmp_path / "redis")
        server.environment = clock.environment
        server.start()
        try:
            async with node(server.url, "a") as a:
                await ready(a)
                client = await a.join(ANN)
                client.leave()
                await a.publish(ANN, event(0), durable=True)
                await a.publish(ANN, event(1), durable=True, ttl=60.0)
                clock.put(1800.0)
                assert not await a.plane.sweeper._sweep()
                returned = await a.join(ANN, resume=client.resume())
                assert (returned.at.recovered, returned.numbers) == (True, [0, 1])
                returned.leave()
                # Another node, which has never seen the right time, throws it away.
                async with node(server.url, "b") as b:
                    await ready(b)
                    await b.join(ANN)
                    await b.until_true(lambda: server.command("XLEN", "portico:h:{user:ann}") == b":1\r\n")
                clock.put(0)
                returned = await a.join(ANN, resume=client.resume())
                assert (returned.at.recovered, returned.numbers) == (False, [])
                last = await a.publish(ANN, event(2), durable=True)
                again = await a.join(ANN, resume=StreamPositions(a.plane.epoch, {"user:ann": (last.offset or 0) - 1}))
                assert (again.at.recovered, again.numbers) == (True, [2])
        finally:
            server.kill()


class TestPositions:
    """A client that stays is told where it is, or gets what came."""

    @pytest.mark.shows("it gets what was published, or `stream_gap`", "with the first reading afterwards")
    async def test_who_registers_during_an_outage_and_stays_misses_nothing_in_silence(self, redis: RedisServer) -> None:
        async with tcp_proxy(redis.port) as proxy, node(redis.url, "a") as a, node(proxy.url, "b") as b:
            await ready(a, b)
            await a.publish(ANN, event(0), durable=True)
            await b.join(BOB)
            proxy.refusing = True
            proxy.cut()
            client = await b.join(ANN)
            assert not client.at.recovered
            for n in range(1, 11):
                await a.publish(ANN, event(n), durable=True)
            proxy.refusing = False
            await ready(b)
            await a.publish(ANN, event(11), durable=True)
            await b.until(lambda: 11 in client.numbers)
            assert client.numbers == list(range(1, 12)) or ANN in b.lost_targets
            # And the position that it was told when it registered is one to come back from.
            assert list(client.at.offsets) == ["user:ann"]
            again = await a.join(ANN, resume=StreamPositions(client.at.epoch, dict(client.at.offsets)))
            assert (again.at.recovered, again.numbers[-11:]) == (True, list(range(1, 12)))

    async def test_what_a_gap_tells_is_a_position_from_which_nothing_is_missed(self, redis: RedisServer) -> None:
        """Also where the first that the new history has is what showed that the old one is gone."""
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(ANN)
            await a.publish(ANN, event(0), durable=True)
            await a.until(lambda: client.numbers == [0])
            redis.command("FLUSHALL")
            await a.publish(ANN, event(1), durable=True)
            await a.until(lambda: client.numbers == [0, 1])
            [(_, epoch, offset)] = a.gaps
            returned = await a.join(ANN, resume=StreamPositions(epoch, {"user:ann": offset}))
            assert (returned.at.recovered, returned.numbers) == (True, [1])

    @pytest.mark.shows("nobody else is told of a gap, and it is known which events it has had")
    async def test_who_comes_to_a_node_that_is_behind_and_hears_nothing(
        self, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is answered before the node has what the client has had by another one: that comes to the others later."""
        async with tcp_proxy(redis.port) as proxy, node(redis.url, "a") as a, node(proxy.url, "b") as b:
            await ready(a, b)
            stays = await b.join(ANN)
            await a.publish(ANN, event(0), durable=True)
            await b.until(lambda: stays.numbers == [0])
            leaves = await a.join(ANN)
            proxy.stall()
            a.plane.publish(Publication(ANN, event(1), durable=True), Reply(lambda _: None))
            await a.until(lambda: leaves.numbers == [1])
            monkeypatch.setattr("service.backplane.redis.following.PATIENCE", 0.2)
            comes = await b.join(ANN, resume=leaves.resume())
            had = leaves.events[0].offset
            assert (comes.at.recovered, comes.at.offsets, comes.at.ahead) == (
                False,
                {"user:ann": had},
                {"user:ann": had},
            )
            proxy.resume()
            await ready(b)
            await a.publish(ANN, event(2), durable=True)
            await b.until(lambda: 2 in comes.numbers)
            assert (stays.numbers, b.lost_targets) == ([0, 1, 2], [])

    @pytest.mark.shows("what it had by another node is not delivered to it once more")
    async def test_who_is_the_first_at_a_node_that_is_behind_is_known_to_be_ahead(
        self, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The node takes its word for where the stream is; if it leaves and joins again, that is forgotten there."""
        monkeypatch.setattr("service.backplane.redis.following.PATIENCE", 0.2)
        async with tcp_proxy(redis.port) as proxy, node(redis.url, "a") as a, node(proxy.url, "b") as b:
            await ready(a, b)
            await b.join(BOB)  # so it has seen something
            leaves = await a.join(ANN)
            proxy.stall()
            a.plane.publish(Publication(ANN, event(1), durable=True), Reply(lambda _: None))
            await a.until(lambda: leaves.numbers == [1])
            comes = await b.join(ANN, resume=leaves.resume())
            had = leaves.events[0].offset
            assert (comes.at.offsets, comes.at.ahead) == ({"user:ann": had}, {"user:ann": had})
            comes.leave()
            again = await b.join(ANN)
            assert again.at.offsets["user:ann"] < (had or 0)
            proxy.resume()
            await ready(b)
            # So what it had comes once more to this node: who had it is told by `ahead`.
            await b.until(lambda: again.numbers == [1])

    async def test_a_client_that_says_nonsense_during_an_outage_mutes_nobody(self, redis: RedisServer) -> None:
        async with tcp_proxy(redis.port) as proxy, node(redis.url, "a") as a, node(proxy.url, "b") as b:
            await ready(a, b)
            client = await b.join(ANN)
            await a.publish(ANN, event(0), durable=True)
            await b.until(lambda: client.numbers == [0])
            proxy.refusing = True
            proxy.cut()
            for epoch in (b.plane.epoch, "another"):
                await b.join(ANN, resume=StreamPositions(epoch, {"user:ann": 1 << 60}))
            await a.publish(ANN, event(1), durable=True)
            proxy.refusing = False
            await ready(b)
            await a.publish(ANN, event(2), durable=True)
            await b.until(lambda: 2 in client.numbers)
            assert client.numbers == [0, 1, 2] or ANN in b.lost_targets

    async def test_what_a_client_has_had_of_an_epoch_that_its_node_does_not_know_yet_comes_once(
        self, redis: RedisServer
    ) -> None:
        async with tcp_proxy(redis.port) as proxy, node(redis.url, "a") as a, node(proxy.url, "b") as b:
            await ready(a, b)
            await b.join(ANN)
            proxy.refusing = True
            proxy.cut()
            redis.command("FLUSHALL")
            first, _ = await publish_surely(a, Publication(ANN, event(1), "one", durable=True))
            moved = await b.join(ANN, resume=StreamPositions(a.plane.epoch, {"user:ann": first.offset or 0}))
            b.connect(ANN, resume=StreamPositions(a.plane.epoch, {"user:ann": 1}))  # which has had less
            b.connect(ANN, resume=StreamPositions("nonsense", {"user:ann": 1}))
            followed = b.plane.following._followed[ANN]
            # It hears what the client has had by the other node, and does not know the epoch yet.
            push = Push("a", 1, "tick", b'{"n":1}')
            arrival = Arrival(push, first.offset, (first.offset or 0) - 1, a.plane.epoch.encode())
            b.plane.following.on_push(ANN, arrival, 10)
            assert followed.held
            proxy.refusing = False
            await ready(b)
            await publish_surely(a, Publication(ANN, event(2), "two", durable=True))
            await b.until(lambda: 2 in moved.numbers)
            assert moved.numbers == [2]
            assert ANN in b.lost_targets

    @pytest.mark.shows("or `stream_gap`")
    async def test_one_that_never_reached_redis_says_so_afterwards(self, redis: RedisServer) -> None:
        async with tcp_proxy(redis.port) as proxy, node(redis.url, "a") as a:
            proxy.refusing = True
            async with node(proxy.url, "b") as b:
                await ready(a)
                client = await b.join(ANN)
                assert (client.at.recovered, dict(client.at.offsets)) == (False, {})
                await a.publish(ANN, event(1), durable=True)
                proxy.refusing = False
                await ready(b)
                await b.until(lambda: bool(b.gaps))
                [(target, epoch, offset)] = b.gaps
                assert (target, epoch) == (ANN, a.plane.epoch)
                await a.publish(ANN, event(2), durable=True)
                await b.until(lambda: client.numbers == [2])
                returned = await a.join(ANN, resume=StreamPositions(epoch, {"user:ann": offset}))
                assert (returned.at.recovered, returned.numbers) == (True, [2])

    @pytest.mark.shows("resuming from the epoch and the position in it is whole", "as long as the history keeps it")
    async def test_from_what_a_gap_tells_one_can_come_back(self, redis: RedisServer) -> None:
        async with tcp_proxy(redis.port) as proxy, node(redis.url, "a") as a, node(proxy.url, "b") as b:
            await ready(a, b)
            await b.join(ANN)
            proxy.refusing = True
            proxy.cut()
            redis.command("FLUSHALL")
            await publish_surely(a, Publication(ANN, event(1), "one", durable=True))
            proxy.refusing = False
            await b.until(lambda: bool(b.gaps))
            _, epoch, offset = b.gaps[-1]
            await ready(a, b)
            await publish_surely(a, Publication(ANN, event(2), "two", durable=True))
            returned = await back(b, ANN, resume=StreamPositions(epoch, {"user:ann": offset}))
            assert (returned.at.recovered, returned.numbers) == (True, [2])


class TestEpochs:
    """A push names its epoch."""

    async def test_one_of_an_epoch_that_is_over_is_not_delivered(
        self, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(ANN)
            on_push = a.plane.following.on_push
            kept: list[tuple[Target, Arrival, int]] = []

            def keep(target: Target, arrival: Arrival, size: int) -> None:
                kept.append((target, arrival, size))
                on_push(target, arrival, size)

            monkeypatch.setattr(a.plane.following, "on_push", keep)
            await a.publish(ANN, event(0), durable=True)
            redis.command("FLUSHALL")
            last, _ = await publish_surely(a, Publication(ANN, event(1), "one", durable=True))
            await a.until(lambda: 1 in client.numbers)
            # As a Redis that was frozen does when it wakes: it carries out what was sent to it long ago.
            target, arrival, size = kept[0]
            late = arrival._replace(offset=(last.offset or 0) + 5, previous=last.offset or 0)
            on_push(target, late, size)
            await a.publish(ANN, event(2), durable=True)
            await a.until(lambda: 2 in client.numbers)
            assert client.numbers == [0, 1, 2]

    async def test_a_live_one_is_late_only_where_a_newer_one_of_its_publisher_came(
        self, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(ANN)
            arrived = a.plane.following.on_push
            kept: list[tuple[Target, Arrival, int]] = []
            with monkeypatch.context() as patched:
                patched.setattr(a.plane.following, "on_push", lambda *all_of_it: kept.append(all_of_it))
                for n in range(4):
                    a.plane.publish(Publication(ANN, event(n)), Reply(lambda answer: None))
                await a.until_true(lambda: len(kept) == 4)
            arrived(*kept[0])
            redis.command("FLUSHALL")
            await a.publish_all([Publication(BOB, event(0), durable=True)])  # which finds out that the epoch is over
            assert kept[1][1].epoch != a.plane.epoch.encode()
            # One that waited in its node comes in its order, and is as good as any.
            arrived(*kept[2])
            # It may be held until the new epoch's history was read.
            await a.until(lambda: client.numbers == [0, 2])
            # One that a Redis had in hand while it was frozen, for example: the publisher has gone on.
            arrived(*kept[1])
            await a.until_true(lambda: a.plane.following.outdated == 1)
            assert client.numbers == [0, 2]
            # What others publish has its own order.
            another = Push("b", 1, "tick", b'{"n":7}')
            arrived(ANN, kept[1][1]._replace(push=another), 10)
            await a.until(lambda: client.numbers == [0, 2, 7])

    async def test_a_push_is_accepted_in_the_epoch_that_it_names_or_sent_again(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a, node(redis.url, "b") as b:
            await ready(a, b)
            client = await a.join(ANN)
            await b.publish(ANN, event(0), durable=True)
            redis.command("FLUSHALL")
            # Nobody had to look first: the push itself finds out that the epoch is over.
            receipt = await b.publish(ANN, event(1), durable=True)
            await a.until(lambda: 1 in client.numbers)
            assert client.numbers == [0, 1]
            assert b.plane.epoch
            with trio.fail_after(PATIENT):
                while a.plane.epoch != b.plane.epoch:  # noqa: ASYNC110 - nothing tells of it
                    await trio.sleep(0.01)
            again = await a.join(ANN, resume=StreamPositions(a.plane.epoch, {"user:ann": (receipt.offset or 0) - 1}))
            assert (again.at.recovered, again.numbers) == (True, [1])
