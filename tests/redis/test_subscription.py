"""The link to Redis, over a real Redis that is killed, frozen, cut off and overrun."""

import io
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from service.observe import make_log
from service.redis import link, subscription
from service.redis.address import Address, Connector
from service.redis.resp import Command, encode
from service.redis.subscription import Subscription
from service.redis.urls import read_url
from tests.backplane.redis_server import RedisServer, redis_server, tcp_proxy
from tests.certificates import make_certificate
from tests.gateways import free_ports

LIMIT = 60.0
CANARY = b"portico:n:test:canary"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


class Ear:
    """A Subscription, and what it told us."""

    def __init__(self, address: Connector, probe: Callable[[bytes, bytes], Awaitable[object]] | None = None) -> None:
        self.address = address
        self.heard: list[tuple[bytes, bytes]] = []
        self.gaps = 0
        self.reads = 0
        self.said = io.StringIO()
        self.link = Subscription(
            self,
            self,
            probe=probe or self.publish,
            canary=CANARY,
            log=make_log("json", "debug", self.said),
        )

    async def dial(self) -> trio.abc.Stream:
        return await self.address.dial()

    @property
    def database(self) -> int:
        return self.address.database

    def greeting(self, name: str) -> list[Command]:
        return self.address.greeting(name)

    def origin(self, stream: trio.abc.Stream) -> str:
        return self.address.origin(stream)

    async def moved(self, origin: str) -> str | None:
        return await self.address.moved(origin)

    async def handed_over(self, origin: str, run: bytes, info: bytes) -> bool:
        return await self.address.handed_over(origin, run, info)

    def on_message(self, channel: bytes, payload: bytes) -> None:
        self.heard.append((channel, payload))

    def on_read(self) -> None:
        self.reads += 1

    def on_gap(self) -> None:
        self.gaps += 1

    async def publish(self, channel: bytes, *payloads: bytes) -> None:
        """Over a connection of its own; returns when Redis has taken them."""
        commands = [*self.address.greeting("publisher"), *([b"PUBLISH", channel, payload] for payload in payloads)]
        async with await self.address.dial() as stream:
            await stream.send_all(b"".join(map(encode, commands)))
            answered = 0
            while answered < len(commands):
                data = await stream.receive_some(65_536)
                assert data, "Redis hung up on a publisher"
                answered += data.count(b"\n")

    async def wanted(self, *channels: bytes) -> None:
        """Want these, and wait until it is done."""
        done = trio.Event()
        self.link.want(channels, done.set)
        with trio.fail_after(LIMIT):
            await done.wait()

    async def until(self, condition: Callable[[], bool], limit: float = LIMIT) -> None:
        with trio.fail_after(limit):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event
                await trio.sleep(0.005)

    async def hears(self, channel: bytes, payload: bytes, limit: float = LIMIT) -> None:
        await self.publish(channel, payload)
        await self.until(lambda: (channel, payload) in self.heard, limit)


@asynccontextmanager
async def listening(ear: Ear, *, connected: bool = True) -> AsyncIterator[Ear]:
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: ear.link.run(task_status=task_status))
        if connected:
            await ear.until(lambda: ear.link.trouble is None)
        yield ear
        nursery.cancel_scope.cancel()


def at(port: int) -> Address:
    return Address("127.0.0.1", port)


def subscribed(redis: RedisServer) -> set[bytes]:
    """What Redis says is subscribed, but for the canary."""
    return set(redis.command("PUBSUB", "CHANNELS").split(b"\r\n")[2::2]) - {CANARY, b""}


async def test_messages_come_in_order_and_reads_are_marked(redis: RedisServer) -> None:
    async with listening(Ear(at(redis.port))) as ear:
        await ear.wanted(b"a", b"b\r\n")
        before = ear.reads
        many = [b"%d" % number for number in range(3000)]
        await ear.publish(b"a", *many)
        await ear.hears(b"b\r\n", b"")
        assert [payload for channel, payload in ear.heard if channel == b"a"] == many
        assert before < ear.reads
        assert ear.link.messages == 3001
        assert (ear.link.wanted, ear.link.subscribed, ear.gaps, ear.link.reconnects) == (3, 3, 0, 0)
        ear.link.unwant([b"b\r\n", b"never wanted", CANARY])
        await ear.until(lambda: subscribed(redis) == {b"a"})
        assert ear.link.subscribed == 2


async def test_resubscribed_within_two_seconds_the_tenth_time_as_the_first(redis: RedisServer) -> None:
    async with listening(Ear(at(redis.port))) as ear:
        await ear.wanted(b"a")
        for time_ in range(1, 11):
            redis.kill()
            await ear.until(lambda: ear.link.trouble is not None)
            redis.start()
            await ear.until(lambda expected=time_: ear.gaps == expected)  # type: ignore[misc]
            assert ear.link.trouble is None
            await ear.hears(b"a", b"%d" % time_)
        assert ear.link.reconnects == ear.gaps == 10


async def test_after_a_long_outage_it_is_back_as_soon(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(Ear(at(redis.port))) as ear:
        redis.kill()
        await ear.until(lambda: ear.link.trouble is not None)
        # As after an hour of failures.
        for _ in range(1000):
            ear.link._link._backoff.pause()
        redis.start()
        await ear.until(lambda: ear.gaps == 1)
        assert ear.said.getvalue().count("cannot connect to Redis") < 5


async def test_a_frozen_redis_is_trouble_and_not_a_lost_link_at_once(redis: RedisServer) -> None:
    async with listening(Ear(at(redis.port))) as ear:
        await ear.wanted(b"a")
        redis.stop()
        frozen = time.monotonic()
        await ear.until(lambda: ear.link.trouble is not None)
        assert time.monotonic() - frozen > 1
        assert "has not heard itself" in str(ear.link.trouble)
        redis.cont()
        await ear.until(lambda: ear.link.trouble is None)
        await ear.hears(b"a", b"still")
        assert ear.gaps == 0
        assert 0 < ear.link.canary_seconds < LIMIT


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"CANARY_EVERY": 0.1, "DEAF_AFTER": 0.3, "CLOSED_AFTER": 0.6}.items():
        monkeypatch.setattr(subscription, name, seconds)
    monkeypatch.setattr(link, "OPEN_SECONDS", 0.5)


@pytest.mark.usefixtures("impatient")
async def test_a_redis_that_stays_frozen_is_dialled_anew(redis: RedisServer) -> None:
    async with listening(Ear(at(redis.port))) as ear:
        await ear.wanted(b"a")
        gaps, said = ear.gaps, len(ear.said.getvalue())
        redis.stop()
        for why in ("did not hear itself", "did not answer within"):
            await ear.until(lambda why=why: why in ear.said.getvalue()[said:])  # type: ignore[misc]
        redis.cont()
        await ear.until(lambda: ear.gaps > gaps)
        await ear.hears(b"a", b"again")


@pytest.mark.parametrize("oldest_first", [True, False])
@pytest.mark.parametrize("under_way", [True, False])
async def test_a_process_that_stood_still_does_not_take_itself_for_deaf(
    redis: RedisServer, oldest_first: bool, under_way: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By this trio draws the order of the tasks that are ready at once: the one that reads, and the one that looks.
    monkeypatch.setattr("trio._core._run._r.shuffle", lambda batch: None if oldest_first else batch.reverse())
    troubles: set[str | None] = set()

    def has_heard_itself_again() -> bool:
        troubles.add(ear.link.trouble)
        return ear.link._heard_at > woke

    async with listening(Ear(at(redis.port))) as ear:
        await ear.wanted(b"a")
        await ear.until(lambda: bool(ear.link._sent) is under_way)
        # As if nothing had run meanwhile.
        away = 10 * subscription.CLOSED_AFTER
        monkeypatch.setattr("trio._core._run.perf_counter", lambda: time.perf_counter() + away)
        woke = trio.current_time()
        await ear.until(has_heard_itself_again)
        assert (troubles, ear.gaps) == ({None}, 0)
        await ear.hears(b"a", b"still")


@pytest.mark.usefixtures("impatient")
async def test_a_link_that_is_healthy_and_deaf_is_dialled_anew(redis: RedisServer) -> None:
    deaf = True

    async def probe(channel: bytes, payload: bytes) -> None:
        # Redis takes it, and this link gets nothing of it.
        await ear.publish(b"elsewhere" if deaf else channel, payload)

    ear = Ear(at(redis.port), probe)
    async with listening(ear):
        await ear.until(lambda: ear.gaps >= 1)
        deaf = False
        await ear.until(lambda: ear.link.canary_seconds > 0 and ear.link.trouble is None)


@pytest.mark.usefixtures("impatient")
async def test_a_way_that_swallows_everything_is_found_out(redis: RedisServer) -> None:
    async with tcp_proxy(redis.port) as way, listening(Ear(at(way.port), Ear(at(redis.port)).publish)) as ear:
        way.stall()
        await ear.until(lambda: ear.link.trouble is not None)
        way.cut()
        way.resume()
        await ear.until(lambda: ear.gaps >= 1)


async def test_redis_ends_the_link(redis: RedisServer) -> None:
    async with listening(Ear(at(redis.port))) as ear:
        await ear.wanted(b"a")
        assert redis.command("CLIENT", "KILL", "TYPE", "pubsub") == b":1\r\n"
        await ear.until(lambda: ear.gaps == 1)
        await ear.hears(b"a", b"again")


async def test_overrun_is_a_gap(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", client_output_buffer_limit="pubsub 256kb 256kb 1") as redis:
        async with tcp_proxy(redis.port) as way, listening(Ear(at(way.port))) as ear:
            await ear.wanted(b"a")
            way.stall()
            publisher = Ear(at(redis.port))
            # More than the kernel's buffers hold on the way.
            for _ in range(30):
                await publisher.publish(b"a", b"x" * 1_000_000)
                if not subscribed(redis):
                    break
            else:
                pytest.fail("Redis never dropped the link")
            way.resume()
            await ear.until(lambda: ear.gaps == 1)
            await publisher.publish(b"a", b"after")
            await ear.until(lambda: (b"a", b"after") in ear.heard)


async def test_what_is_wanted_during_an_outage_is_subscribed_after_it(redis: RedisServer) -> None:
    async with tcp_proxy(redis.port) as way:
        way.refusing = True
        async with listening(Ear(at(way.port), Ear(at(redis.port)).publish), connected=False) as ear:
            done: list[str] = []
            ear.link.want([b"a", b"b"], lambda: done.append("a and b"))
            ear.link.want([b"c"], lambda: done.append("c"))
            ear.link.want([], lambda: done.append("nothing"))
            await ear.until(lambda: way.accepted > 2)
            ear.link.unwant([b"c"])
            assert done == ["nothing", "c"]
            assert ear.link.trouble is not None
            way.refusing = False
            await ear.until(lambda: len(done) == 3)
            assert subscribed(redis) == {b"a", b"b"}
            assert ear.gaps == 0
            # And while a link that was there is away, for one that is already held as well.
            way.refusing = True
            way.cut()
            await ear.until(lambda: ear.link.trouble is not None)
            ear.link.want([b"a", b"d"], lambda: done.append("a and d"))
            assert len(done) == 3
            way.refusing = False
            await ear.until(lambda: len(done) == 4)
            await ear.until(lambda: ear.gaps == 1)
            assert subscribed(redis) == {b"a", b"b", b"d"}


async def test_giving_up_during_an_outage_does_not_end_it() -> None:
    class OnceConnected(Ear):
        here, there = trio.testing.memory_stream_pair()

        async def dial(self) -> trio.abc.Stream:
            if not ended:
                return self.here
            raise OSError("nobody there")

    async def drop(channel: bytes, payload: bytes) -> None:
        pass

    ended = False
    ear = OnceConnected(at(1), drop)
    await ear.there.send_all(b"+OK\r\n")
    ear.link.want([b"a"])
    async with listening(ear, connected=False):
        await ear.until(lambda: ear.link._heard_at > 0)
        # All but one is subscribed when the link is lost.
        await ear.there.send_all(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(CANARY), CANARY))
        await ear.until(lambda: ear.link.subscribed == 1)
        ended = True
        await ear.there.aclose()
        await ear.until(lambda: "nobody there" in str(ear.link.trouble))
        ear.link.unwant([b"a"])
        assert ear.link.trouble is not None
        assert ear.gaps == 0
        # What comes and goes meanwhile leaves nothing behind.
        for number in range(100):
            ear.link.want([b"%d" % number])
            ear.link.unwant([b"%d" % number])
        assert not ear.link._unsettled
        assert not ear.link._waiters


async def test_thousands_of_channels(redis: RedisServer) -> None:
    async with tcp_proxy(redis.port) as way, listening(Ear(at(way.port))) as ear:
        channels = [b"channel:%d" % number for number in range(5000)]
        await ear.wanted(*channels)
        assert ear.link.subscribed == 5001
        way.cut()
        await ear.until(lambda: ear.gaps == 1)
        assert ear.link.subscribed == 5001
        await ear.hears(channels[-1], b"here")
        ear.link.unwant(channels)
        await ear.until(lambda: not subscribed(redis))
        assert (ear.link.wanted, ear.link.subscribed) == (1, 1)


async def test_wanting_and_unwanting_in_any_order_ends_in_what_is_wanted(redis: RedisServer) -> None:
    draw = random.Random(7)
    async with tcp_proxy(redis.port) as way, listening(Ear(at(way.port))) as ear:
        way.delay = 0.001
        names = [b"%d" % number for number in range(12)]
        wanted: set[bytes] = set()
        asked = done = 0

        def note() -> None:
            nonlocal done
            done += 1

        for turn in range(400):
            some = draw.sample(names, draw.randint(1, 4))
            if draw.random() < 0.5:
                ear.link.unwant(some)
                wanted -= set(some)
            else:
                ear.link.want(some, note)
                wanted |= set(some)
                asked += 1
            if turn % 100 == 99:
                way.cut()
            for _ in range(draw.randint(0, 5)):
                await trio.lowlevel.checkpoint()
            if draw.random() < 0.1:
                await trio.sleep(0.002)
        await ear.wanted(*wanted)
        await ear.until(lambda: subscribed(redis) == wanted and done == asked)
        await ear.until(lambda: ear.link.trouble is None)
        assert ear.link.subscribed == len(wanted) + 1
        for name in wanted:
            await ear.hears(name, b"final")


async def test_done_means_subscribed_even_just_after_giving_up(redis: RedisServer) -> None:
    async with listening(Ear(at(redis.port))) as ear:
        await ear.wanted(b"a")
        for number in range(50):
            ear.link.unwant([b"a"])
            for _ in range(number % 7):
                await trio.lowlevel.checkpoint()
            await ear.wanted(b"a")
            await ear.hears(b"a", b"%d" % number)


async def test_a_huge_message_is_passed_over(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", client_output_buffer_limit="pubsub 0 0 0") as redis:
        async with listening(Ear(at(redis.port))) as ear:
            await ear.wanted(b"a")
            await ear.publish(b"a", b"x" * 33_000_000)
            await ear.hears(b"a", b"after")
            assert ear.heard == [(b"a", b"after")]
            assert (ear.link.too_large, ear.gaps) == (1, 0)


async def test_what_is_not_redis_is_left_and_dialled_anew(redis: RedisServer) -> None:
    class Misled(Ear):
        dialled = 0

        async def dial(self) -> trio.abc.Stream:
            self.dialled += 1
            if self.dialled > 2:
                return await super().dial()
            here, there = trio.testing.memory_stream_pair()
            await there.send_all(b"+OK\r\n" * (self.dialled - 1) + b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return here

    async with listening(Misled(at(redis.port))) as ear:
        assert ear.said.getvalue().count("is not Redis") >= 1
        await ear.wanted(b"a")
        await ear.hears(b"a", b"fine")


async def test_a_wrong_password_is_told_without_it_and_tried_again(redis: RedisServer) -> None:
    redis.command("ACL", "SETUSER", "node", "on", ">right-one", "~*", "&*", "+@all")
    address = read_url(f"redis://node:s%40cret@127.0.0.1:{redis.port}/3")
    async with listening(Ear(address), connected=False) as ear:
        await ear.until(lambda: "WRONGPASS" in str(ear.link.trouble))
        assert "user or password" in str(ear.link.trouble)
        redis.command("ACL", "SETUSER", "node", ">s@cret")
        await ear.until(lambda: ear.link.trouble is None)
        await ear.wanted(b"a")
        await ear.hears(b"a", b"in")
        assert "s@cret" not in f"{address!r} {address} {ear.said.getvalue()}"


async def test_channels_that_redis_forbids_are_trouble(redis: RedisServer) -> None:
    redis.command("ACL", "SETUSER", "node", "on", ">pass", "~*", "resetchannels", "+@all")
    address = read_url(f"redis://node:pass@127.0.0.1:{redis.port}")
    async with listening(Ear(address), connected=False) as ear:
        await ear.until(lambda: "NOPERM" in str(ear.link.trouble))


async def test_what_a_callback_raises_is_logged_and_ends_nothing(redis: RedisServer) -> None:
    class Clumsy(Ear):
        def on_message(self, channel: bytes, payload: bytes) -> None:
            super().on_message(channel, payload)
            raise ValueError("clumsy")

        def on_read(self) -> None:
            raise KeyError("clumsy too")

    async with listening(Clumsy(at(redis.port))) as ear:
        await ear.wanted(b"a")
        await ear.publish(b"a", *[b"x"] * 1000)
        await ear.hears(b"a", b"y")
        assert ear.gaps == 0
        assert ear.link.callback_failures > 1000
        assert 1 < ear.said.getvalue().count("was not handled") < 20


async def test_a_flood_gives_way_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "_PASS_SECONDS", 60)
    here, there = trio.testing.memory_stream_pair()
    turns = 0
    since_turn: dict[int, int] = {}

    class Flooded(Ear):
        async def dial(self) -> trio.abc.Stream:
            return here

        def on_message(self, channel: bytes, payload: bytes) -> None:
            since_turn[turns] = since_turn.get(turns, 0) + 1
            super().on_message(channel, payload)

    async def drop(channel: bytes, payload: bytes) -> None:
        pass

    ear = Flooded(at(1), drop)
    await there.send_all(b"+OK\r\n")
    async with listening(ear, connected=False):
        await ear.until(lambda: ear.link._heard_at > 0)
        await there.send_all(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n" * 20_000)
        with trio.fail_after(LIMIT):
            while len(ear.heard) < 20_000:
                turns += 1
                await trio.lowlevel.checkpoint()
    # Trio may let us run twice in a row.
    assert max(since_turn.values()) <= 2 * 512


async def test_cancelling_leaves_no_connection(redis: RedisServer) -> None:
    for turns in range(0, 60, 3):
        ear = Ear(at(redis.port))
        with suppress(trio.Cancelled):
            async with listening(ear, connected=False):
                ear.link.want([b"a"])
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
    await ear.until(lambda: b"connected_clients:1\r" in redis.command("INFO", "clients"))


async def test_redis_on_a_unix_socket(tmp_path: Path) -> None:
    with redis_server(tmp_path, unixsocket="r.sock"):
        async with listening(Ear(read_url(f"unix://{tmp_path}/r.sock"))) as ear:
            await ear.wanted(b"a")
            await ear.hears(b"a", b"b")


async def test_redis_by_tls(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    [port] = free_ports(1)
    files: dict[str, Any] = {"tls_cert_file": certificate.file, "tls_key_file": certificate.key}
    with redis_server(tmp_path / "redis", aof=False, tls_port=port, tls_auth_clients="no", **files) as redis:
        ear = Ear(read_url(f"rediss://localhost:{port}/0?ssl_ca_certs={certificate.file}"))
        async with listening(ear):
            await ear.wanted(b"a")
            await ear.publish(b"a", *[b"x" * 1000] * 500)
            await ear.hears(b"a", b"last")
            redis.kill()
            await ear.until(lambda: ear.link.trouble is not None)
            redis.start()
            await ear.until(lambda: ear.gaps == 1)
        async with listening(Ear(read_url(f"rediss://localhost:{port}/0")), connected=False) as ear:
            await ear.until(lambda: "certificate" in str(ear.link.trouble))
