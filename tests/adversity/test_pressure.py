"""Readers that are served more than they can take at once: nobody is thrown out for being served."""

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio

from portico import Requester, Worker
from service.core.cluster.backplane import HISTORY_BYTES
from tests.backplane.redis_server import RedisServer, redis_server
from tests.certificates import Certificate, make_certificate
from tests.gateways import Running, gateway
from tests.transports.raw import CLOSE, PING, PONG, TEXT, RawClient, frame, upgrade

from .scene import address_of, memory, metric, serving_pid, sized

pytestmark = pytest.mark.live

MIB: Final = 1024 * 1024
DOORS: Final = ("native", "front door", "tls", "asgi")
WAIT: Final = 60
BATCH: Final = sized(250, 400)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


class Scene:
    """A gateway, and how clients come to the transport under test."""

    def __init__(self, running: Running, door: str, tls: ssl.SSLContext | None) -> None:
        self.running = running
        self.by_asgi = door == "asgi"
        self.address = address_of(running.websocket_url if door == "native" else running.base_url)
        self.tls = tls

    async def push(self, *items: dict[str, Any]) -> None:
        """One batch by HTTP."""
        verify: Any = True if self.tls is None else self.tls
        async with httpx.AsyncClient(base_url=self.running.base_url, verify=verify, trust_env=False) as http:
            answer = await http.post("/api/notifications", json=list(items), timeout=WAIT)
        assert answer.status_code in (200, 202), answer.text

    async def client(self, number: int, *, resume: object = None, receive_buffer: int | None = None) -> "Registered":
        """A C-Client that is registered; its user is `u<number>`."""
        raw = await RawClient.dial(self.address, receive_buffer=receive_buffer)
        if self.tls is not None:
            stream: Any = trio.SSLStream(raw.stream, self.tls, server_hostname="127.0.0.1")
            raw = RawClient(stream)
        if self.by_asgi:
            # What the reactor can't answer it hands over, with whatever follows on that connection.
            await raw.send(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await raw.answered()
        await raw.send(upgrade("/ws"))
        assert (await raw.answer()).status == 101
        message: dict[str, object] = {"type": "c_client_register", "client_id": f"c{number}", "user_id": f"u{number}"}
        if resume is not None:
            message["resume"] = resume
        await raw.send(frame(TEXT, json.dumps(message).encode()))
        answer = json.loads(await raw.message())
        assert answer["type"] == "registration_success", answer
        assert resume is None or answer["resume"]["recovered"], answer
        return Registered(raw, answer)


class Registered:
    """A client, and what it has heard."""

    def __init__(self, raw: RawClient, answer: dict[str, Any]) -> None:
        self.raw = raw
        self.position = {name: answer["resume"][name] for name in ("epoch", "offsets")}
        self.numbers: list[int] = []

    async def hear(self, count: int, *, rate: float | None = None) -> list[int]:
        """The numbers of the next events; at most `rate` bytes are read a second."""
        heard: list[int] = []
        begun, size = time.monotonic(), 0
        while len(heard) < count:
            received = await self.raw.frame()
            assert received is not None, f"cut after {len(heard)} of {count}"
            assert received.opcode != CLOSE, f"closed with {received.payload!r} after {len(heard)} of {count}"
            if received.opcode == PING:
                await self.raw.send(frame(PONG, received.payload))
                continue
            event = json.loads(received.payload)
            if "n" in event:
                heard.append(event["n"])
            size += len(received.payload)
            if rate is not None and (ahead := size / rate - (time.monotonic() - begun)) > 0:
                await trio.sleep(ahead)  # the link's speed
        return heard

    async def leave(self) -> None:
        await self.raw.aclose()


@contextmanager
def scene(
    folder: Path,
    door: str,
    certificate: Certificate,
    redis: RedisServer | None = None,
    *,
    forked: bool = True,
    **settings: object,
) -> Iterator[Scene]:
    """A gateway with the transport under test: a port of its own, Hypercorn's command, TLS, or ASGI within TLS."""
    more: dict[str, object] = dict(settings)
    if redis is not None:
        more["REDIS_URL"] = redis.url
    server = "hypercorn" if door == "front door" else "portico serve"
    made = certificate if door in ("tls", "asgi") else None
    with gateway(folder, server=server, settings=more, certificate=made, forked=forked) as running:
        yield Scene(running, door, None if made is None else made.trusted())


def events(target: dict[str, object], count: int, size: int, *, durable: bool = False) -> list[dict[str, Any]]:
    """Numbered events of about `size` bytes."""
    kind: dict[str, object] = {"durable": True} if durable else {}
    return [
        {"target": target, "type": "e", "data": {"n": number, "text": "x" * size}, **kind} for number in range(count)
    ]


@pytest.mark.parametrize("door", DOORS)
async def test_a_long_replay(tmp_path: Path, certificate: Certificate, door: str) -> None:
    with scene(tmp_path, door, certificate) as stage:
        client = await stage.client(1)
        await client.leave()
        missed = events({"user_id": "u1"}, 1000, 5000, durable=True)
        await stage.push(*missed[:500])
        await stage.push(*missed[500:])
        back = await stage.client(1, resume=client.position)
        with trio.fail_after(WAIT):
            assert await back.hear(1000) == list(range(1000))
        await back.leave()


@pytest.mark.parametrize("door", DOORS)
async def test_one_batch_to_everybody(tmp_path: Path, certificate: Certificate, door: str) -> None:
    with scene(tmp_path, door, certificate) as stage:
        clients = [await stage.client(number) for number in range(50)]
        async with trio.open_nursery() as nursery:

            async def hear(client: Registered) -> None:
                client.numbers = await client.hear(BATCH)

            for client in clients:
                nursery.start_soon(hear, client)
            await stage.push(*events({"all": True}, BATCH, 5000))
        assert all(client.numbers == list(range(BATCH)) for client in clients)
        for client in clients:
            await client.leave()


@pytest.mark.parametrize("door", DOORS)
async def test_one_batch_to_one_user_whose_link_is_slow(tmp_path: Path, certificate: Certificate, door: str) -> None:
    with scene(tmp_path, door, certificate) as stage:
        client = await stage.client(1, receive_buffer=65536)
        await stage.push(*events({"user_id": "u1"}, 1000, 5000))
        with trio.fail_after(WAIT):
            assert await client.hear(1000, rate=2 * MIB) == list(range(1000))
        await client.leave()


@pytest.mark.parametrize("door", DOORS)
async def test_big_events_over_redis(tmp_path: Path, certificate: Certificate, door: str) -> None:
    with redis_server(tmp_path / "redis") as redis, scene(tmp_path, door, certificate, redis) as stage:
        client = await stage.client(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.push, *events({"user_id": "u1"}, 40, 300_000))
            with trio.fail_after(WAIT):
                assert await client.hear(40) == list(range(40))
        await client.leave()


async def test_answers_that_are_due_at_once(tmp_path: Path) -> None:
    count, arrived, go = 12, 0, trio.Event()

    async def big(data: object) -> str:
        nonlocal arrived
        arrived += 1
        if arrived == count:
            go.set()
        await go.wait()
        return "x" * 700_000

    with gateway(tmp_path) as running:
        async with trio.open_nursery() as nursery:
            worker = Worker(running.base_url, commands={"big": big}, capacity=count)
            nursery.start_soon(worker.run)
            answers: list[int] = []
            async with Requester(running.base_url) as requester:

                async def ask() -> None:
                    answers.append(len(await requester.request("big", {}, timeout=WAIT)))

                with trio.fail_after(WAIT):
                    async with trio.open_nursery() as asking:
                        for _ in range(count):
                            asking.start_soon(ask)
            assert answers == [700_000] * count
            assert metric(running, "slow_connections_closed_total") == 0
            nursery.cancel_scope.cancel()


RESUMED: Final = sized(8, 50)
EVENTS: Final = sized(64, 1000)
EVENT_SIZE: Final = sized(25_000, 100_000)


@pytest.mark.parametrize("shared", [False, True], ids=["in memory", "over Redis"])
@pytest.mark.parametrize("door", ["native", "front door", "asgi"])
async def test_many_resume_over_slow_links_while_pushes_go_on(
    tmp_path: Path, certificate: Certificate, door: str, shared: bool
) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path / "redis")) if shared else None
        # Pushes go on, and what was missed has to be kept beside them.
        more = {"PORTICO_HISTORY_LENGTH": 5000}
        stage = stack.enter_context(scene(tmp_path, door, certificate, redis, forked=False, **more))
        gone = await stage.client(0)
        await gone.leave()
        missed = events({"all": True}, EVENTS, EVENT_SIZE, durable=True)
        for start in range(0, EVENTS, 40):
            await stage.push(*missed[start : start + 40])
        before = most = memory(serving_pid(stage.running))
        clients: list[Registered] = []
        live = 0
        replayed = trio.Event()

        async def resume(number: int) -> None:
            client = await stage.client(number, resume=gone.position, receive_buffer=65536)
            clients.append(client)
            client.numbers = await client.hear(EVENTS, rate=MIB)
            if sum(len(one.numbers) >= EVENTS for one in clients) == RESUMED:
                replayed.set()

        async def push_on() -> None:
            nonlocal live, most
            while not replayed.is_set():
                event = {"n": EVENTS + live}
                await stage.push({"target": {"all": True}, "type": "e", "data": event, "durable": True})
                live += 1
                most = max(most, memory(serving_pid(stage.running)))
                await trio.sleep(0.1)

        with trio.fail_after(WAIT + 5 * EVENTS * EVENT_SIZE / MIB):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(push_on)
                for number in range(RESUMED):
                    nursery.start_soon(resume, number)
            for client in clients:
                client.numbers += await client.hear(live)
        assert all(client.numbers == list(range(EVENTS + live)) for client in clients)
        # Of each at most what may wait for a peer that is taking it, its kernel's share aside, and some slack; and what
        # was read of the history, once for all.
        bound = RESUMED * MIB + 32 * MIB + (min(HISTORY_BYTES, 2 * EVENTS * EVENT_SIZE) if shared else 0)
        print(f"memory grew by {(most - before) / MIB:.0f} MiB of {bound / MIB:.0f}; {live} pushes went on")
        assert most - before < bound
        for client in clients:
            await client.leave()
