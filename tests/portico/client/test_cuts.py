"""A connection that is cut at any place of a resume loses nothing: the Python client's, and that of a client that
follows the protocol page to the letter, at a real gateway, in memory and over Redis.
"""

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import open_websocket_url

from portico import Client, Connected, Identity
from tests.backplane.redis_server import redis_server
from tests.gateways import Running, gateway
from tests.portico.client.fake_gateway import QUICK, Events
from tests.portico.client.letter import LetterClient

pytestmark = pytest.mark.live

LIMIT = 60.0
MISSED = 5
ANSWER_AND_REPLAY = 1 + MISSED
_names = itertools.count()


@pytest.fixture(scope="module", params=["memory", "redis"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "memory":
        with gateway(folder) as running:
            yield running
        return
    with redis_server(folder / "redis") as redis, gateway(folder, settings={"REDIS_URL": redis.url}) as running:
        yield running


def somebody() -> dict[str, str]:
    """An identity that nobody has had."""
    name = f"u{next(_names)}"
    return {"client_id": f"c-{name}", "user_id": name}


async def push(running: Running, users: Sequence[str], numbers: range) -> None:
    """Push durable events to users, one after another."""
    async with httpx.AsyncClient(base_url=running.base_url, trust_env=False, timeout=LIMIT) as http:
        for n, user_id in itertools.product(numbers, users):
            body = {"target": {"user_id": user_id}, "type": "counted", "data": {"n": n}, "durable": True}
            answer = await http.post("/api/notifications", json=body)
            assert answer.status_code == 202, answer.text


async def talk(running: Running, client: LetterClient, messages: int) -> None:
    """Connect, register, hear so many messages, and be cut off."""
    with trio.fail_after(LIMIT):
        async with open_websocket_url(running.websocket_url, message_queue_size=0) as socket:
            await socket.send_message(json.dumps(client.first_message()))
            for _ in range(messages):
                client.on_message(json.loads(await socket.get_message()))


@pytest.mark.shows("all that was missed comes, in order and once", "as often as it is cut")
@pytest.mark.parametrize("heard", range(ANSWER_AND_REPLAY + 1))
async def test_a_client_to_the_letter_that_is_cut_off_loses_nothing(live: Running, heard: int) -> None:
    identity = somebody()
    client = LetterClient(**identity)
    await talk(live, client, 1)
    await push(live, [identity["user_id"]], range(MISSED))
    await talk(live, client, heard)
    await talk(live, client, min(heard, 1 + MISSED - len(client.handled)))  # and again, at the same place or the end
    await talk(live, client, 1 + MISSED - len(client.handled))
    await push(live, [identity["user_id"]], range(MISSED, MISSED + 1))
    await talk(live, client, 2)
    assert [message.get("n") if isinstance(message, dict) else message for message in client.handled] == list(
        range(MISSED + 1)
    )


@pytest.mark.shows("all that was missed comes, in order and once", "as often as it is cut")
@pytest.mark.parametrize("heard", range(ANSWER_AND_REPLAY + 1))
async def test_the_python_client_that_is_cut_off_loses_nothing(live: Running, heard: int) -> None:
    identity = somebody()
    events = Events()
    async with (
        cutting_proxy(int(live.websocket_url.rpartition(":")[2])) as proxy,
        Client(url=proxy.url, identity=Identity(**identity), backoff=QUICK, on_event=events) as client,
    ):
        proxy.let_through(0)
        proxy.cut()
        await push(live, [identity["user_id"]], range(MISSED))
        proxy.let_through(heard, connections=2)
        with trio.fail_after(LIMIT):
            assert [(await anext(client))["n"] for _ in range(MISSED)] == list(range(MISSED))
        await push(live, [identity["user_id"]], range(MISSED, MISSED + 1))
        with trio.fail_after(LIMIT):
            assert (await anext(client))["n"] == MISSED
    assert len(events.of(Connected)) >= 2


async def test_switches_that_follow_one_another_are_all_answered(live: Running) -> None:
    identities = [Identity(**somebody()) for _ in range(5)]
    agreed: list[Identity] = []
    async with Client(url=live.websocket_url, on_event=Events()) as client:

        async def switch(identity: Identity) -> None:
            await client.register(identity)
            agreed.append(identity)

        with trio.fail_after(LIMIT):
            async with trio.open_nursery() as nursery:
                for identity in identities:
                    nursery.start_soon(switch, identity)
        assert len(agreed) == len(identities)
        assert client.identity is not None
        assert client.registration["user_id"] == client.identity.user_id
        await push(live, [str(client.identity.user_id)], range(1))
        with trio.fail_after(LIMIT):
            assert (await anext(client))["n"] == 0


@pytest.mark.parametrize("cut_first", [True, False])
async def test_registered_while_redis_was_away(tmp_path: Path, cut_first: bool) -> None:
    """What is pushed once Redis is back reaches both clients, or they are told; whether they were cut off meanwhile
    (`cut_first`) or stayed."""
    letter, somebody_else = LetterClient(**somebody()), somebody()
    users = (letter.identity["user_id"], somebody_else["user_id"])
    got: list[Any] = []
    with (
        redis_server(tmp_path / "redis", aof=True) as redis,
        gateway(tmp_path, settings={"REDIS_URL": redis.url}) as running,
    ):
        async with (
            cutting_proxy(int(running.websocket_url.rpartition(":")[2])) as proxy,
            Client(url=proxy.url, identity=Identity(user_id="before"), backoff=QUICK, on_event=Events()) as client,
        ):
            redis.kill()
            await ready(running, 503)
            await client.register(Identity(**somebody_else))
            assert client.registration["resume"]["recovered"] is False
            async with opened(running, letter) as hear:
                await hear(lambda: bool(letter.offsets))
                if not cut_first:
                    redis.start()
                    await ready(running, 200)
                    await push(running, users, range(3))
                    await hear(lambda: letter.has_heard(2))
            if cut_first:
                proxy.let_through(0)
                proxy.cut()
                redis.start()
                await ready(running, 200)
                await push(running, users, range(3))
                async with opened(running, letter) as hear:
                    proxy.let_through(0, connections=0)
                    await hear(lambda: letter.has_heard(2) or letter.was_told_of_a_gap)
            await push(running, users, range(3, 5))
            async with opened(running, letter) as hear:
                await hear(lambda: letter.has_heard(4))
            with trio.fail_after(LIMIT):
                while not got or got[-1].get("n") != 4:
                    got.append(await anext(client))
    check(letter.handled, users[0])
    check([push["streams"] if push["type"] == "stream_gap" else push for push in got], users[1])


def check(handled: list[Any], user_id: str) -> None:
    """All five, in order, each once; or the user's stream is named before whatever comes instead."""
    numbers = [message["n"] for message in handled if isinstance(message, dict) and message["type"] == "counted"]
    told = [streams for streams in handled if isinstance(streams, list)]
    assert numbers == sorted(set(numbers))
    assert numbers[-2:] == [3, 4]
    assert numbers == list(range(5)) or any(f"user:{user_id}" in streams for streams in told), handled


async def ready(running: Running, status: int) -> None:
    """Wait until /readyz answers so."""
    async with httpx.AsyncClient(base_url=running.base_url, trust_env=False, timeout=LIMIT) as http:
        with trio.fail_after(LIMIT):
            while (await http.get("/readyz")).status_code != status:  # noqa: ASYNC110  (another process notices it)
                await trio.sleep(0.02)


@asynccontextmanager
async def opened(
    running: Running, client: LetterClient
) -> AsyncIterator[Callable[[Callable[[], bool]], Awaitable[None]]]:
    """A connection that stays: yields a function that hears messages until something is so."""
    async with open_websocket_url(running.websocket_url) as socket:
        await socket.send_message(json.dumps(client.first_message()))

        async def hear(until: Callable[[], bool]) -> None:
            with trio.fail_after(LIMIT):
                while not until():
                    client.on_message(json.loads(await socket.get_message()))

        yield hear


class CuttingProxy:
    """A way to a gateway that is cut behind some message of the gateway's."""

    def __init__(self, port: int, target: int) -> None:
        self.url = f"ws://127.0.0.1:{port}"
        self._target = target
        self._limits: Iterator[int | None] = itertools.repeat(None)
        self._open = trio.Event()
        self._open.set()
        self._nurseries: list[trio.Nursery] = []

    def let_through(self, messages: int, connections: int | None = None) -> None:
        """Cut the next connections behind so many messages; 0 with no number of connections: refuse all."""
        if connections is None:
            self._open = trio.Event()
            return
        self._limits = itertools.chain([messages] * connections, itertools.repeat(None))
        self._open.set()

    def cut(self) -> None:
        """Cut what there is."""
        for nursery in self._nurseries:
            nursery.cancel_scope.cancel()

    async def serve(self, client: trio.SocketStream) -> None:
        await self._open.wait()
        limit = next(self._limits)
        async with client, await trio.open_tcp_stream("127.0.0.1", self._target) as server:
            async with trio.open_nursery() as nursery:
                self._nurseries.append(nursery)
                nursery.start_soon(self._upwards, client, server, nursery)
                await self._downwards(server, client, limit)
                nursery.cancel_scope.cancel()
            self._nurseries.remove(nursery)
            await trio.aclose_forcefully(client)

    async def _upwards(self, client: trio.SocketStream, server: trio.SocketStream, nursery: trio.Nursery) -> None:
        try:
            async for data in client:
                await server.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        nursery.cancel_scope.cancel()

    async def _downwards(self, server: trio.SocketStream, client: trio.SocketStream, limit: int | None) -> None:
        try:
            head, seen = b"", 0
            async for data in server:
                head += data
                if b"\r\n\r\n" in head:
                    break
            upgrade, _, rest = head.partition(b"\r\n\r\n")
            await client.send_all(upgrade + b"\r\n\r\n")
            while limit is None or seen < limit:
                while (size := frame_size(rest)) is not None:
                    if limit is not None and seen >= limit:
                        return
                    await client.send_all(rest[:size])
                    seen += rest[0] == 0x81
                    rest = rest[size:]
                data = await server.receive_some()
                if not data:
                    return
                rest += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


def frame_size(data: bytes) -> int | None:
    """The length of the server's frame that `data` begins with (RFC 6455 section 5.2); None if it isn't whole."""
    if len(data) < 2:
        return None
    size, head = data[1], 2
    if size >= 126:
        head = 4 if size == 126 else 10
        if len(data) < head:
            return None
        size = int.from_bytes(data[2:head])
    return head + size if len(data) >= head + size else None


@asynccontextmanager
async def cutting_proxy(target: int) -> AsyncIterator[CuttingProxy]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        proxy = CuttingProxy(listeners[0].socket.getsockname()[1], target)
        nursery.start_soon(trio.serve_listeners, proxy.serve, listeners)
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()


def test_a_frame_s_size() -> None:
    assert frame_size(b"\x81") is None
    assert frame_size(b"\x81\x02a") is None
    assert frame_size(b"\x81\x02ab\x81") == 4
    assert frame_size(b"\x81\x7e\x00\x80" + b"x" * 128) == 132
    assert frame_size(b"\x81\x7f" + (65536).to_bytes(8) + b"x" * 65535) is None
