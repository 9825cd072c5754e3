"""The work of the rows about a deployment that shares a Redis, as the load does it.

Each takes an order and returns a result, as in `rows`. Whoever pushes here is throttled by what arrives: at most so
many pushes are under way, so that nothing is lost because a buffer ran over, and what does not arrive is an error.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle, islice
from typing import Any, Final

import msgspec

from . import links, usage
from .links import Link
from .rows import Order, Requester, Result, Worker, measured, trigger

_ARRIVE_SECONDS: Final = 30.0
_BATCH: Final = 500


# A push to clients on several nodes, and the same to as many on one


class _Side:
    """Clients that get one push at a time, wherever they are connected."""

    def __init__(self, everybody: Sequence[Link], push: Callable[[], Awaitable[object]], pids: Sequence[int]) -> None:
        self._everybody = everybody
        self._push = push
        self._pids = pids
        self._cpu = 0.0
        self._told = asyncio.Event()
        self._left = 0
        self._last = 0.0
        self.got = dict.fromkeys(everybody, 0)
        self.times: list[float] = []
        for link in everybody:
            link.on_text = self._on_text

    def _on_text(self, link: Link, frame: Any) -> None:
        self.got[link] += 1
        self._left -= 1
        if not self._left:
            self._last = time.perf_counter()
            self._told.set()

    def begin(self) -> None:
        """What was before doesn't count."""
        self.times.clear()
        self._cpu = sum(map(usage.cpu_seconds, self._pids))

    def result(self) -> Result:
        """Percentiles, and what a push cost all of its processes."""
        cpu = sum(map(usage.cpu_seconds, self._pids)) - self._cpu
        ordered = sorted(self.times)
        return {
            "samples": len(ordered),
            "p50_ms": 1000 * ordered[len(ordered) // 2],
            "p99_ms": 1000 * ordered[len(ordered) * 99 // 100],
            "max_ms": 1000 * ordered[-1],
            "cpu_ms": 1000 * cpu / len(ordered),
        }

    async def push(self) -> None:
        """From the publishing until the last client has it."""
        self._told.clear()
        self._left = len(self._everybody)
        start = time.perf_counter()
        await self._push()
        await asyncio.wait_for(self._told.wait(), _ARRIVE_SECONDS)
        self.times.append(self._last - start)


async def across(order: Order) -> Result:
    """One push at a time, to each side in turn: the sides share whatever else happens on the machine."""
    crowds: dict[str, list[Link]] = {}
    for name, side in order["sides"].items():
        everybody = crowds[name] = []
        for url in side["urls"]:
            everybody += await links.crowd(url, side["clients"], first=len(everybody))
    # Only now: while the crowds come, a connection that nobody uses would be closed.
    sides = {name: _Side(crowds[name], await trigger(side), side["pids"]) for name, side in order["sides"].items()}
    usage.Spinning()
    for number in range(order["warm_up_pushes"] + order["pushes"]):
        if number == order["warm_up_pushes"]:
            for side in sides.values():
                side.begin()
        for side in sides.values():
            await side.push()
            await asyncio.sleep(order["rest"])
    pushed = order["warm_up_pushes"] + order["pushes"]
    for name, side in sides.items():
        wrong = sum(got != pushed for got in side.got.values())
        if wrong:
            raise RuntimeError(f"{name}: {wrong} clients did not get each of {pushed} pushes once")
    return {name: side.result() for name, side in sides.items()}


# Pushes to one user each


class _Arrivals:
    """What the users of one node have got, and how many reads it came in."""

    def __init__(self, everybody: Sequence[Link]) -> None:
        self.got = 0
        self.reads = 0
        for link in everybody:
            link.on_text = self._on_text

    def _on_text(self, link: Link, frame: Any) -> None:
        self.got += 1
        self.reads += frame.last_in_buffer

    async def all(self, published: Callable[[], int]) -> None:
        """Wait until everything has come. RuntimeError if it doesn't, or if more comes."""
        end = time.monotonic() + _ARRIVE_SECONDS
        while self.got < published() and time.monotonic() < end:  # noqa: ASYNC110 - the last arrival sets no event
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)
        if self.got != published():
            raise RuntimeError(f"{published()} pushes were published, and {self.got} arrived")


async def _unicast(order: Order, arrivals: _Arrivals) -> Result:
    before, reads, got = _costs(order), arrivals.reads, arrivals.got
    result = await measured(order, lambda: arrivals.got, awake=True)
    # These include the warm-up: they say what a push costs elsewhere, and are no verdict.
    after, got = _costs(order), max(1, arrivals.got - got)
    return {
        **result,
        "reads_per_push": (arrivals.reads - reads) / got,
        "elsewhere_us": {name: 1e6 * (after[name] - before[name]) / got for name in after},
    }


def _costs(order: Order) -> dict[str, float]:
    """CPU seconds so far of what stands beside the node."""
    return {name: usage.cpu_seconds(pid) for name, pid in order["beside"].items()}


class _Redis(asyncio.Protocol):
    """A publisher on Redis, straight through a connection of its own."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.failed: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio's. Answers are numbers of nodes, unless something is wrong."""
        if b"-" in data or b":0\r" in data:
            self.failed = data[:200]


async def unicast_redis(order: Order) -> Result:
    """Users in turn, each push a PUBLISH of another program's on their ordinary channels, pipelined."""
    users: int = order["users"]
    arrivals = _Arrivals(await links.crowd(order["url"], users))
    _, redis = await asyncio.get_running_loop().create_connection(_Redis, "127.0.0.1", order["redis_port"])
    body: bytes = order["body"].encode()
    commands = [_publish(b"notifications:u%d" % number, body) for number in range(users)]
    piece: int = min(order["piece"], users)
    pieces = cycle([b"".join(commands[at : at + piece]) for at in range(0, users - piece + 1, piece)])
    published = 0
    going = True

    async def publish() -> None:
        nonlocal published
        while going:
            if published - arrivals.got + piece <= order["under_way"]:
                redis.transport.write(next(pieces))
                published += piece
            await asyncio.sleep(0)

    publishing = asyncio.create_task(publish())
    result = await _unicast(order, arrivals)
    going = False
    await publishing
    await arrivals.all(lambda: published)
    if redis.failed is not None:
        raise RuntimeError(f"Redis answered {redis.failed!r}")
    return result


def _publish(channel: bytes, body: bytes) -> bytes:
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(channel), channel, len(body), body)


async def unicast_api(order: Order) -> Result:
    """Batches over the API node's HTTP, each event for another user, a few calls at a time."""
    users: int = order["users"]
    arrivals = _Arrivals(await links.crowd(order["url"], users))
    how, data = order["trigger"], order["data"]
    everything = [{"target": {"user_id": f"u{number}"}, "type": "price", "data": data} for number in range(users)]
    bodies = cycle([(body, len(json.loads(body))) for body in _batches(everything)])
    published = 0
    going = True

    async def call() -> None:
        nonlocal published
        caller = await links.http_caller(how["port"])
        while going:
            body, events = next(bodies)
            await caller.post(how["path"], body, how["headers"])
            published += events

    calls = [asyncio.create_task(call()) for _ in range(order["in_flight"])]
    result = await _unicast(order, arrivals)
    going = False
    await asyncio.gather(*calls)
    await arrivals.all(lambda: published)
    return result


# Clients that come back


class _Message(msgspec.Struct):
    type: str
    offset: int | None = None
    n: int | None = None
    resume: Any = None


_message = msgspec.json.Decoder(_Message)


class _Resumer:
    """A client that says where it left off, and keeps account of what it then gets."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stream = f"user:u{number}"
        self.epoch = ""
        self.offset = 0
        self.recovered = False
        self.events: list[int] = []

    def first(self) -> bytes:
        """Its registration."""
        message: dict[str, Any] = json.loads(links.registration(self.number, False, f"ch{self.number % 100}"))
        if self.epoch:
            message["resume"] = {"epoch": self.epoch, "offsets": {self.stream: self.offset}}
        return json.dumps(message).encode()

    def registered(self, payload: bytes) -> None:
        """The answer to it."""
        message = _message.decode(payload)
        if message.type != "registration_success":
            raise RuntimeError(f"a registration was answered: {payload[:200]!r}")
        self.recovered = bool(self.epoch) and message.resume["recovered"]
        self.epoch = message.resume["epoch"]
        self.offset = message.resume["offsets"][self.stream]

    def heard(self, payload: bytes) -> bool:
        """What came after; True if it is one of the events."""
        message = _message.decode(payload)
        if message.n is None:
            return False
        self.events.append(message.n)
        return True


class _ResumingLink(Link):
    """Its connection: whatever comes after the answer counts from the first byte on."""

    def __init__(self, of: _Resumer, count: Callable[[], None]) -> None:
        super().__init__(False)
        self.registering = of.first()
        self._of = of
        self._count = count
        self.on_text = self._on_text

    def _getting_ready(self, payload: bytes) -> None:
        self._of.registered(payload)
        super()._getting_ready(payload)

    def _on_text(self, link: Link, frame: Any) -> None:
        if self._of.heard(frame.get_payload_as_bytes()):
            self._count()


async def resume(order: Order) -> Result:
    """A crowd registers, its node goes, events happen for each, the node is back: how long until everybody has them?

    Says "gone" on standard output when the node may end, and "ready" when it is to start again and be up; a line on
    standard input says that this was done, and then the node's process id.
    """
    clients, missed = order["clients"], order["missed"]
    everybody = [_Resumer(number) for number in range(clients)]
    got = 0

    def count() -> None:
        nonlocal got
        got += 1
        if got == clients * missed:
            everything.set()

    everything = asyncio.Event()

    async def come() -> list[Link]:
        held: list[Link] = []
        waiting = iter(everybody)

        async def one_after_another() -> None:
            for each in waiting:
                link = await links.connect(
                    order["url"],
                    make=lambda: _ResumingLink(each, count),  # noqa: B023 - called before the next turn of the loop
                    source=f"127.0.0.{2 + each.number // 5000 % 200}",
                )
                held.append(link)

        await asyncio.gather(*(one_after_another() for _ in range(64)))
        return held

    await come()
    await _say("gone")
    before, redis = _costs(order), order["beside"]["Redis"]
    size = usage.resident_bytes(redis)
    caller = await links.http_caller(order["trigger"]["port"])
    for body in _missed(clients, missed):
        await caller.post(order["trigger"]["path"], body, order["trigger"]["headers"])
    after = _costs(order)
    kept = clients * missed
    kept_bytes = (usage.resident_bytes(redis) - size) / kept
    if got:
        raise RuntimeError(f"{got} events came before anybody was back")
    node = int(await _say("ready"))
    server = usage.cpu_seconds(node)
    start = time.perf_counter()
    held = await come()
    registered = time.perf_counter()
    with suppress(TimeoutError):
        await asyncio.wait_for(everything.wait(), _ARRIVE_SECONDS)
    end = time.perf_counter()
    server = usage.cpu_seconds(node) - server
    await asyncio.sleep(0.5)  # for what comes a second time
    wanted = list(range(missed))
    return {
        "clients": len(held),
        "seconds": end - start,
        "registered_seconds": registered - start,
        "lost": sum(len(set(wanted) - set(each.events)) for each in everybody),
        "doubled": sum(len(each.events) - len(set(each.events)) for each in everybody),
        "disordered": sum(each.events != sorted(each.events) for each in everybody),
        "unrecovered": sum(not each.recovered for each in everybody),
        "server_cpu": server,
        "publishing_us": {name: 1e6 * (after[name] - before[name]) / kept for name in after},
        "kept_bytes": kept_bytes,
    }


async def _say(word: str) -> str:
    print(word, flush=True)
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def _missed(clients: int, missed: int) -> Iterator[bytes]:
    """Durable events, for everybody in turn."""
    return _batches(
        {"target": {"user_id": f"u{client}"}, "type": "counted", "data": {"n": number}, "durable": True}
        for number in range(missed)
        for client in range(clients)
    )


def _batches(events: Iterable[object]) -> Iterator[bytes]:
    """The bodies of calls that publish these."""
    rest = iter(events)
    while batch := list(islice(rest, _BATCH)):
        yield json.dumps(batch).encode()


# Requests to workers of several nodes


class _CountedWorker(Worker):
    """A worker that answers at once, and counts."""

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self.asked = 0

    def __call__(self, link: Link, frame: Any) -> None:
        self.asked += b'"request"' in frame.get_payload_as_bytes()[:40]
        super().__call__(link, frame)


async def dispatch_nodes(order: Order) -> Result:
    """Requests at all nodes in turn, to workers of all nodes: how many each worker gets, how many a second, and how
    many for a second of CPU of all processes. Lasts until there were `least` requests, at most `longest` seconds."""
    workers = []
    for number, url in enumerate(order["worker_urls"]):
        link = await links.connect(url, headers=order["headers"])
        link.on_text = worker = _CountedWorker(link)
        workers.append(worker)
        data = {"client_id": f"w{number}", "role": "worker", "capacity": 64, "weight": order["weights"][number]}
        link.send(json.dumps({"type": "connect", "data": data}).encode())
    await asyncio.sleep(order["settle"])
    asking = []
    for number, url in enumerate(order["requester_urls"][: order["in_flight"]]):
        link = await links.connect(url, headers=order["headers"])
        link.on_text = one = Requester(link, order["message_size"])
        asking.append(one)
        for _ in range(len(range(number, order["in_flight"], len(order["requester_urls"])))):
            one.ask()
        one.write()
    await asyncio.sleep(order["warm_up"])
    before = [worker.asked for worker in workers]
    cpu = sum(map(usage.cpu_seconds, order["pids"]))
    start = time.perf_counter()
    await asyncio.sleep(order["seconds"])
    # Where chance decides, a few hundred requests say nothing of shares.
    while sum(worker.asked for worker in workers) - sum(before) < order["least"]:
        if time.perf_counter() - start > order["longest"]:
            break
        await asyncio.sleep(0.1)
    took = time.perf_counter() - start
    spread = [worker.asked - had for worker, had in zip(workers, before, strict=True)]
    cpu = sum(map(usage.cpu_seconds, order["pids"])) - cpu
    failed = [one.example for one in asking if one.failed]
    if failed:
        raise RuntimeError(f"requests failed, such as {failed[0]!r}")
    total = sum(spread)
    return {"spread": spread, "rate": total / took, "per_cpu_second": total / max(cpu, 0.01)}


ROWS: Final[dict[str, Callable[[Order], Awaitable[Result]]]] = {
    row.__name__: row for row in (across, unicast_redis, unicast_api, resume, dispatch_nodes)
}
