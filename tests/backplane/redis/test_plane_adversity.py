"""What befalls Redis and the way to it, and what nodes promise all the same."""

import io
from pathlib import Path

import pytest
import trio

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import EVERYBODY, Target
from service.core.cluster.backplane import PATIENCE, Publication, Published, StreamPositions
from service.core.reply import Reply

from ..contract import ANN, BOB, LENGTH, PATIENT, ROOM, Client, event
from ..redis_server import RedisServer, redis_server, tcp_proxy
from .test_plane import RedisNode, node

MOMENT = 10.0
"""Beyond PATIENCE, on a busy machine."""


@pytest.fixture
def redis(tmp_path: Path) -> RedisServer:  # type: ignore[misc]
    with redis_server(tmp_path / "redis") as server:
        yield server


async def ready(*nodes: RedisNode) -> None:
    """Wait until all are joined to one another."""
    for one in nodes:
        await one.ready()


async def publish_surely(one: RedisNode, publication: Publication) -> tuple[Published, int]:
    """A push with an id, asked for again until it is accepted; and how often it was refused."""
    assert publication.id is not None
    refused = 0
    while True:
        try:
            [published] = await one.publish_all([publication])
        except PeerFault as fault:
            if fault.code is not ErrorCode.UNAVAILABLE:
                raise
            refused += 1
        else:
            return published, refused


async def back(one: RedisNode, *targets: Target, resume: StreamPositions) -> Client:
    """Somebody comes back, until it is told something of a Redis that is in reach."""
    with trio.fail_after(PATIENT):
        while True:
            client = await one.join(*targets, resume=resume)
            if client.at.offsets:
                return client
            client.leave()


class TestOrdinary:
    """What other programs publish."""

    async def test_a_notification_reaches_the_user_on_every_node(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a, node(redis.url, "b") as b:
            await ready(a, b)
            clients = [await a.join(ANN, EVERYBODY), await b.join(ANN)]
            other = await a.join(Target("user_id", "other"))
            for text in ('{"type": "cart", "n": 1e2}', ' {"x": [1]}', '{"type": 5}'):
                redis.command("PUBLISH", "notifications:ann", text)
            for client, one in zip(clients, (a, b), strict=True):
                await one.until(lambda client=client: len(client.events) == 3)  # type: ignore[misc]
                assert [(e.type, bytes(e.data)) for e in client.events] == [
                    ("cart", b'{"type": "cart", "n": 1e2}'),
                    ("notification", b' {"x": [1]}'),
                    ("notification", b'{"type": 5}'),
                ]
                assert [e.plain for e in client.events] == [bytes(e.data) for e in client.events]
            assert other.events == []

    async def test_what_is_no_object_is_dropped_and_counted(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(ANN)
            bad = ["", "null", "[1]", "{", '"x"', '{"a":NaN}', '{"a":1e999}']
            for text in bad:
                redis.command("PUBLISH", "notifications:ann", text)
            redis.command("PUBLISH", "notifications:ann", '{"n":1}')
            await a.until(lambda: bool(client.events))
            assert len(client.events) == 1
            assert a.plane.ordinary_dropped == len(bad)

    async def test_it_may_be_as_large_as_any_event_and_what_is_larger_is_dropped_by_name(
        self, redis: RedisServer
    ) -> None:
        said = io.StringIO()
        async with node(redis.url, "a", said=said) as a:
            await ready(a)
            client = await a.join(ANN)
            for size in (3 << 20, (8 << 20) - 9, 8 << 20, 1):
                redis.command("PUBLISH", "notifications:ann", '{"a":"' + "x" * size + '"}')
            await a.until(lambda: len(client.events) == 3)
            assert [len(bytes(e.data)) - 8 for e in client.events] == [3 << 20, (8 << 20) - 9, 1]
            assert a.plane.subscription.too_large == 1
            redis.command("PUBLISH", "notifications:ann", "[]")
            await a.until_true(lambda: a.plane.ordinary_dropped == 1)
        dropped = [line for line in said.getvalue().splitlines() if "dropped" in line]
        assert len(dropped) == 2
        assert all("notifications:ann" in line for line in dropped)

    async def test_nothing_on_our_channels_can_do_harm(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(ANN)
            bad = [
                "",
                "x",
                "\x01",
                "\x02",
                "\x02\x00\x00",
                "\x03",
                "\x03\x01",
                "\x04\x03",
                "\x05",
                "\x7f",
                "\x01\x15",
                "\x06",
                "\x06\x10",
                "\x07\x00",
            ]
            for channel in ("portico:@0:t:user_id:ann", f"portico:@0:n:{a.plane.node}", "portico:@0:nodes"):
                for text in bad:
                    redis.command("PUBLISH", channel, text)
            assert (await a.publish(ANN, event(1), durable=True)).matched == 1
            assert client.numbers == [1]
            assert a.plane.malformed == 3 * len(bad)


class TestOutOfReach:
    """Redis is away, or says nothing."""

    async def test_everything_is_answered_where_redis_never_was(self, tmp_path: Path) -> None:
        with redis_server(tmp_path / "redis") as server:
            server.kill()
            async with node(server.url, "a") as a:
                started = trio.current_time()
                client = a.connect(ANN, resume=StreamPositions("e", {"user:ann": 5}))
                plain = a.connect(ROOM)
                with pytest.raises(PeerFault) as refused:
                    await a.publish(ANN, event(1))
                assert refused.value.code is ErrorCode.UNAVAILABLE
                assert await a.tell_holders(ANN, "x", b"") == 0
                await client.told.wait()
                await plain.told.wait()
                assert trio.current_time() - started < 2 * PATIENCE + MOMENT
                assert (client.at.recovered, list(client.at.lost)) == (False, ["user:ann"])
                assert (plain.at.recovered, list(plain.at.lost), plain.at.offsets) == (False, [], {})
                assert a.plane.trouble is not None
                server.start()
                await ready(a)
                with trio.fail_after(PATIENT):
                    while not (await a.publish(ANN, event(2))).matched:
                        pass
                assert set(client.numbers) == {2}
                later = await a.join(ANN)
                assert later.at.recovered

    async def test_a_frozen_redis_is_noticed_and_nothing_comes_twice(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a, node(redis.url, "b") as b:
            await ready(a, b)
            client = await b.join(ANN)
            await a.publish(ANN, event(0), id="id-0", durable=True)
            redis.stop()
            started = trio.current_time()
            publications = [Publication(ANN, event(n), f"id-{n}", n % 2 == 0) for n in range(1, 5)]
            with pytest.raises(PeerFault) as refused:
                await a.publish_all(publications)
            assert refused.value.code is ErrorCode.UNAVAILABLE
            assert trio.current_time() - started < PATIENCE + MOMENT
            redis.cont()
            await ready(a, b)
            for publication in publications:
                await publish_surely(a, publication)
            await publish_surely(a, Publication(ANN, event(5), "id-5", True))
            await b.until(lambda: 5 in client.numbers)
            # Live ones may have come while nobody was listening, durable ones are read then; none comes twice.
            assert [n for n in client.numbers if n % 2 == 0] == [0, 2, 4]
            assert sorted(set(client.numbers)) == sorted(client.numbers)
            assert b.lost_targets == []

    async def test_a_full_outbox_refuses_at_once(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            redis.stop()
            answers: list[object] = []
            for n in range(a.plane.commands.max_commands + 10):
                a.plane.publish(Publication(ANN, event(n)), Reply(answers.append))
            refused = [answer for answer in answers if isinstance(answer, PeerFault)]
            assert len(refused) == len(answers) >= 10
            assert {fault.code for fault in refused} == {ErrorCode.UNAVAILABLE}
            redis.cont()
            with trio.fail_after(PATIENT):
                while len(answers) < a.plane.commands.max_commands + 10:  # noqa: ASYNC110 - nothing tells of it
                    await trio.sleep(0.01)
            assert a.plane.commands.pending_bytes < 10_000

    async def test_what_was_published_before_the_end_is_sent(self, redis: RedisServer) -> None:
        async with node(redis.url, "b") as b:
            async with node(redis.url, "a") as a:
                await ready(a, b)
                client = await b.join(ANN)
                for n in range(1000):
                    a.plane.publish(Publication(ANN, event(n)), Reply(lambda _: None))
            await b.until(lambda: len(client.numbers) == 1000)


class TestCutOff:
    """Connections break, and Redis ends and comes back."""

    async def test_who_was_cut_off_is_given_what_it_missed(self, redis: RedisServer) -> None:
        async with tcp_proxy(redis.port) as proxy, node(redis.url, "a") as a, node(proxy.url, "b") as b:
            await ready(a, b)
            client = await b.join(ANN, ROOM)
            for round_ in range(3):
                start = round_ * 10
                await a.publish(ANN, event(start), durable=True)
                await b.until(lambda start=start: start in client.numbers)  # type: ignore[misc]
                proxy.refusing = True
                proxy.cut()
                for n in range(start + 1, start + 9):
                    await a.publish(ANN, event(n), durable=True)
                proxy.refusing = False
                await a.publish(ANN, event(start + 9), durable=True)
                await b.until(lambda start=start: start + 9 in client.numbers)  # type: ignore[misc]
            assert client.numbers == list(range(30))
            assert b.lost_targets == []
            assert b.plane.following.resubscribed

    async def test_what_cannot_be_read_again_is_said_to_be_lost(self, redis: RedisServer) -> None:
        async with tcp_proxy(redis.port) as proxy, node(redis.url, "a") as a, node(proxy.url, "b") as b:
            await ready(a, b)
            client = await b.join(ANN, ROOM)
            await a.publish(ANN, event(0), durable=True)
            await b.until(lambda: bool(client.numbers))
            proxy.refusing = True
            proxy.cut()
            await a.publish_all([Publication(ANN, event(n), durable=True) for n in range(1, LENGTH + 5)])
            proxy.refusing = False
            await b.until(lambda: bool(b.lost_targets))
            await a.publish(ANN, event(100), durable=True)
            await b.until(lambda: 100 in client.numbers)
            assert client.numbers == [0, 100]
            assert b.lost_targets == [ANN]

    async def test_pushes_while_connections_are_killed(self, redis: RedisServer) -> None:
        """Every durable event comes once and in order, whatever becomes of the links; every push is answered."""
        async with node(redis.url, "a") as a, node(redis.url, "b") as b, node(redis.url, "c") as c:
            await ready(a, b, c)
            clients = [await one.join(ANN, ROOM) for one in (b, c)]
            total = LENGTH - 5
            for n in range(total):
                if n % 10 == 5:
                    redis.command("CLIENT", "KILL", "TYPE", "pubsub")
                if n % 10 == 8:
                    redis.command("CLIENT", "KILL", "TYPE", "normal")
                await publish_surely(a, Publication(ANN, event(n), f"id-{n}", durable=True))
            for client, one in zip(clients, (b, c), strict=True):
                await one.until(lambda client=client: total - 1 in client.numbers)  # type: ignore[misc]
                assert client.numbers == list(range(total))
                assert one.lost_targets == []

    async def test_killed_and_started_again_with_a_log(self, tmp_path: Path) -> None:
        with redis_server(tmp_path / "redis", aof=True) as redis:
            async with node(redis.url, "a") as a, node(redis.url, "b") as b:
                await ready(a, b)
                here = await a.join(ANN)
                left = await b.join(ANN)
                left.leave()
                total, receipts = LENGTH - 5, []
                refused = 0

                async def publish() -> None:
                    nonlocal refused
                    for n in range(total):
                        receipt, times = await publish_surely(b, Publication(ANN, event(n), f"id-{n}", durable=True))
                        receipts.append(receipt)
                        refused += times

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(publish)
                    await a.until(lambda: len(here.numbers) >= 10)
                    redis.kill()
                    await trio.sleep(0.3)
                    redis.start()
                await a.until(lambda: total - 1 in here.numbers)
                assert here.numbers == list(range(total))
                assert a.lost_targets == []
                assert [receipt.offset for receipt in receipts] == [one.offset for one in here.events]
                await ready(a, b)
                returned = await back(b, ANN, resume=left.resume())
                assert returned.at.recovered
                assert returned.numbers == list(range(total))

    async def test_killed_and_started_again_from_an_old_copy(self, tmp_path: Path) -> None:
        """What Redis has accepted since it last saved is gone, and nothing that is left shows it but its new run."""
        with redis_server(tmp_path / "redis") as redis:
            async with node(redis.url, "a") as a, node(redis.url, "b") as b:
                await ready(a, b)
                client = await a.join(ANN)
                await b.publish(ANN, event(1), durable=True)
                redis.command("SAVE")
                receipt = await b.publish(ANN, event(2), durable=True)
                away = client.resume(**{"user:ann": client.events[0].offset or 0})
                redis.kill()
                redis.start()
                await a.until(lambda: bool(a.lost_targets))
                assert a.lost_targets == [ANN]
                await ready(a, b)
                returned = await back(b, ANN, resume=away)
                assert (returned.at.recovered, returned.events) == (False, [])
                again, _ = await publish_surely(b, Publication(ANN, event(3), "three", durable=True))
                assert (again.offset or 0) > (receipt.offset or 0)
                await a.until(lambda: 3 in client.numbers)
                assert client.numbers == [1, 2, 3]

    @pytest.mark.parametrize("empty", ["restart", "flush"])
    async def test_a_redis_that_has_forgotten_everything(self, redis: RedisServer, empty: str) -> None:
        async with node(redis.url, "a") as a, node(redis.url, "b") as b:
            await ready(a, b)
            client = await a.join(ANN)
            await b.publish(ANN, event(1), durable=True)
            seen = client.resume()
            await b.publish(ANN, event(2), durable=True)
            client.leave()
            if empty == "restart":
                links = [(one, one.plane.commands.reconnects) for one in (a, b)]
                redis.kill()
                redis.start(emptied=True)
                for one, before in links:
                    await one.until_true(lambda one=one, before=before: one.plane.commands.reconnects > before)  # type: ignore[misc]
                await ready(a, b)
            else:
                redis.command("FLUSHALL")
            for one in (b, a):
                returned = await back(one, ANN, resume=seen)
                assert (returned.at.recovered, list(returned.at.lost), returned.events) == (False, ["user:ann"], [])
                assert returned.at.epoch != seen.epoch
                returned.leave()
            last = await a.join(ANN)
            receipt, _ = await publish_surely(b, Publication(ANN, event(3), "three", durable=True))
            await a.until(lambda: bool(last.events))
            assert (receipt.offset or 0) > seen.offsets["user:ann"]
            last.leave()
            again = await b.join(ANN, resume=StreamPositions(last.at.epoch, {"user:ann": (receipt.offset or 0) - 1}))
            assert again.at.recovered
            assert again.numbers == [3]

    @pytest.mark.shows("everybody is told once", "whichever node finds out first")
    @pytest.mark.parametrize("publisher_first", [True, False])
    async def test_a_redis_that_comes_back_with_nothing_is_told_once(
        self, redis: RedisServer, publisher_first: bool
    ) -> None:
        """Also where the publisher's node, which remembers what the Redis before had accepted, is the last to come."""
        async with tcp_proxy(redis.port) as first, tcp_proxy(redis.port) as second:
            ways = (second, first) if publisher_first else (first, second)
            async with node(ways[0].url, "a") as a, node(ways[1].url, "b") as b:
                await ready(a, b)
                client = await a.join(ANN)
                before = a.plane.epoch
                await b.publish(ANN, event(1), durable=True)
                await a.until(lambda: client.numbers == [1])
                for way in (first, second):
                    way.refusing = True
                    way.cut()
                redis.kill()
                redis.start(emptied=True)
                first.refusing = False
                early, late = (b, a) if publisher_first else (a, b)
                await early.until_true(lambda: early.plane.epoch != before and early.plane.trouble is None)
                if not publisher_first:
                    await a.until(lambda: bool(a.gaps))
                epoch = early.plane.epoch
                second.refusing = False
                await late.until_true(lambda: late.plane.epoch != before and late.plane.trouble is None)
                await publish_surely(b, Publication(ANN, event(2), "two", durable=True))
                await a.until(lambda: 2 in client.numbers)
                assert [told for _, told, _ in a.gaps] == [epoch]
                assert a.plane.epoch == b.plane.epoch == epoch

    async def test_scripts_that_redis_has_forgotten(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(ANN)
            redis.command("SCRIPT", "FLUSH")
            await a.publish_all([Publication(ANN, event(n), durable=True) for n in range(5)])
            assert client.numbers == list(range(5))

    async def test_a_message_that_redis_cuts_links_for(self, redis: RedisServer) -> None:
        """33 MB at once is more than Redis holds for a subscriber: every link is cut. Nobody is left deaf."""
        async with node(redis.url, "a") as a, node(redis.url, "b") as b:
            await ready(a, b)
            clients = [await one.join(ANN) for one in (a, b)]
            await a.publish(ANN, event(0), durable=True)
            redis.command("PUBLISH", "notifications:ann", "x" * 33_000_000)
            for n in range(1, 5):
                await publish_surely(a, Publication(ANN, event(n), f"id-{n}", durable=True))
            for client, one in zip(clients, (a, b), strict=True):
                await one.until(lambda client=client: 4 in client.numbers)  # type: ignore[misc]
                assert client.numbers == list(range(5))

    async def test_more_than_is_read_at_once_is_read_in_pieces(
        self, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.backplane.redis.reading.SMALLEST_PIECE", 200)
        monkeypatch.setattr("service.backplane.redis.reading.ROUND_BYTES", 200)
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(ANN)
            client.leave()
            await a.publish_all([Publication(ANN, event(n), durable=True) for n in range(40)])
            returned = await a.join(ANN, resume=client.resume())
            assert returned.numbers == list(range(40))


class TestRefusals:
    """Redis says no."""

    async def test_a_redis_without_memory(self, tmp_path: Path) -> None:
        with redis_server(tmp_path / "redis") as redis:
            async with node(redis.url, "a") as a:
                await ready(a)
                client = await a.join(ANN)
                redis.command("CONFIG", "SET", "maxmemory", "1")
                with pytest.raises(PeerFault) as refused:
                    await a.publish(ANN, event(1), durable=True)
                assert refused.value.code is ErrorCode.UNAVAILABLE
                assert "OOM" in refused.value.message
                redis.command("CONFIG", "SET", "maxmemory", "0")
                await a.publish(ANN, event(2), durable=True)
                assert client.numbers == [2]


class TestOddities:
    """What should not be, and must not matter."""

    async def test_a_clock_that_goes_back_begins_a_new_epoch(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(ANN, ROOM)
            # As if Redis had said a time from the future before: positions are moments, new offsets are below them.
            ahead = 3600 * 1_000_000
            a.plane.following.seen += ahead
            other = await a.join(
                BOB, resume=StreamPositions(client.at.epoch, {"user:b:o}b {ü": client.at.offsets["user:ann"]})
            )
            assert other.at.epoch != client.at.epoch
            assert other.at.lost == ["user:b:o}b {ü"]
            assert sorted(lost.kind for lost in a.lost_targets) == ["channel_id", "user_id"]
            await a.publish(ANN, event(1), durable=True)
            assert client.numbers == [1]

    async def test_keys_of_another_kind_spoil_only_their_own_stream(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            client = await a.join(ANN, ROOM)
            client.leave()
            await a.publish(ROOM, event(1), durable=True)
            redis.command("SET", "portico:m:{user:ann}", "x")
            returned = await a.join(ANN, ROOM, resume=client.resume())
            assert (list(returned.at.lost), returned.numbers) == (["user:ann"], [1])
            with pytest.raises(PeerFault):
                await a.publish(ANN, event(2), durable=True)
            assert (await a.publish(ANN, event(3))).matched == 1

    async def test_too_much_to_hold_back_is_lost_but_nothing_after_it(
        self, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.backplane.redis.following.MAX_HELD", 3)
        # The node begins to read what it missed only after everything has come.
        monkeypatch.setattr("service.backplane.redis.following.JITTER", 1e9)
        async with tcp_proxy(redis.port) as proxy, node(redis.url, "a") as a, node(proxy.url, "b") as b:
            await ready(a, b)
            client = await b.join(ANN)
            proxy.refusing = True
            proxy.cut()
            await a.publish(ANN, event(0), durable=True)
            proxy.refusing = False
            resubscribed = b.plane.following.resubscribed
            with trio.fail_after(PATIENT):
                while b.plane.following.resubscribed == resubscribed:  # noqa: ASYNC110 - nothing tells of it
                    await trio.sleep(0.01)
            await a.publish_all([Publication(ANN, event(n), durable=True) for n in range(1, 8)])
            await b.until(lambda: 7 in client.numbers)
            assert b.lost_targets == [ANN]
            assert client.numbers == list(range(1, 8))

    async def test_a_name_that_is_taken(self, redis: RedisServer) -> None:
        async with node(redis.url, "a") as a:
            await ready(a)
            async with node(redis.url, "a") as other:
                await ready(other)
                assert other.plane.node != "a"
                client = await other.join(ANN, resume=StreamPositions(other.plane.epoch, {"user:ann": 0}))
                assert (await other.publish(ANN, event(1))).matched == 1
                assert (await a.publish(ANN, event(2), durable=True)).matched == 1
                assert client.numbers == [1, 2]
                a.plane.tell(other.plane.node, "x", b"")
                await other.until(lambda: bool(other.messages))
                assert a.messages == []
