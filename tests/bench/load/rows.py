"""The work of each row, as the load does it.

Each takes an order (addresses, sizes, seconds, the server's process id) and returns what was done between two
readings of the clocks, with the warm-up left out. What the server does in that time is all the row's work.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from . import links, usage
from .links import Link

Order = dict[str, Any]
Result = dict[str, Any]
_PATIENCE: Final = 60.0
"""Seconds in which a server has to have done something at last."""


async def measured(order: Order, work: Callable[[], int], *, awake: bool = False) -> Result:
    """What `work` counts, and what it cost, in the order's seconds; its warm-up is left out.

    `awake`: the load never sleeps. For rows where the server writes to clients that only read. Where clients answer,
    one that never sleeps would answer each message by itself as soon as it is written, as no peer across a network
    does, and servers that handle together what comes together would be measured without that.

    Seconds in which nothing was done say nothing (the machine stood still); then as many more are looked at.
    """
    spinning = usage.Spinning() if awake else None
    await asyncio.sleep(order["warm_up"])
    start = usage.Reading.now(work(), order["server_pid"], spinning)
    while True:
        await asyncio.sleep(order["seconds"])
        end = usage.Reading.now(work(), order["server_pid"], spinning)
        if end.work > start.work or end.wall > start.wall + _PATIENCE:
            return end.since(start)


async def trigger(order: Order) -> Callable[[], Awaitable[object]]:
    """What makes the server push once to everybody: a publisher with a connection of its own."""
    how = order["trigger"]
    if how["kind"] == "http":
        caller = await links.http_caller(how["port"])
        return lambda: caller.post(how["path"], how["body"].encode(), how["headers"])
    link = await links.connect(how["url"], socketio=order["socketio"])
    body = how["body"].encode()

    async def say() -> None:
        link.send(body)

    return say


async def fanout(order: Order) -> Result:
    """Pushes to everybody by a few publishers, of whose pushes as many are under way at a time; counts deliveries.

    `reads` is how many reads they came in: a server may join what it has for one connection.
    """
    clients: int = order["clients"]
    everybody = await links.crowd(order["url"], clients, socketio=order["socketio"])
    got = 0
    size = 0
    reads = 0
    room = asyncio.Semaphore(order["in_flight"])

    def on_text(link: Link, frame: Any) -> None:
        nonlocal got, size, reads
        got += 1
        reads += frame.last_in_buffer
        if got % clients == 0:
            size = frame.payload_size
            room.release()

    for link in everybody:
        link.on_text = on_text

    async def publish(push: Callable[[], Awaitable[object]]) -> None:
        while True:
            await room.acquire()
            await push()

    publishers = [asyncio.create_task(publish(await trigger(order))) for _ in range(order["in_flight"])]
    result = await measured(order, lambda: got, awake=True)
    for publisher in publishers:
        if publisher.done():
            publisher.result()
        publisher.cancel()
    return {**result, "bytes": size, "got": got, "reads": reads}


async def heartbeat(order: Order) -> Result:
    """Round trips: each client says its heartbeat again as soon as it is answered."""
    payload: bytes = order["payload"].encode()
    everybody = await links.crowd(order["url"], order["clients"], socketio=order["socketio"])
    got = 0

    def on_text(link: Link, frame: Any) -> None:
        nonlocal got
        got += 1
        link.transport.send(links.TEXT, payload)

    for link in everybody:
        link.on_text = on_text
        link.send(payload)
    return await measured(order, lambda: got)


async def dispatch(order: Order) -> Result:
    """Requests through the gateway to workers and back; both ends are played here.

    What one read brought is answered in one write, as a busy peer's kernel would hand it over.
    """
    for number in range(order["workers"]):
        headers = order["worker_headers"]
        worker = await links.connect(order["worker_url"].format(number=number), headers=headers)
        worker.on_text = Worker(worker)
    await asyncio.sleep(0.2)
    requester = await links.connect(order["requester_url"])
    asking = Requester(requester, order["message_size"])
    requester.on_text = asking
    for _ in range(order["in_flight"]):
        asking.ask()
    asking.write()
    result = await measured(order, lambda: asking.answered)
    if asking.failed:
        raise RuntimeError(f"{asking.failed} requests failed, such as {asking.example!r}")
    return result


_ANSWER: Final = (
    b'{"type": "response", "msg_id": "%b", "timestamp": 1732000000.123, '
    b'"data": {"request_id": "%b", "success": true, "result": "Echo: hello", "error": null}}'
)


class Worker:
    """Answers every request at once, as a worker that has nothing to think about."""

    def __init__(self, link: Link) -> None:
        self._write = link.transport.underlying_transport.write
        self._out: list[bytes] = []

    def __call__(self, link: Link, frame: Any) -> None:
        payload = frame.get_payload_as_bytes()
        at = payload.find(b'"msg_id":') + 9
        at = payload.find(b'"', at) + 1
        name = payload[at : payload.find(b'"', at)]
        if b'"request"' in payload[:40]:
            self._out.append(links.masked(_ANSWER % (name, name)))
        if frame.last_in_buffer and self._out:
            self._write(b"".join(self._out))
            self._out.clear()


class Requester:
    """Asks anew as soon as it is answered."""

    def __init__(self, link: Link, size: int) -> None:
        self._write = link.transport.underlying_transport.write
        self._out: list[bytes] = []
        self._asked = 0
        self._padding = b"x" * (size - len(self._request(0, b"")))
        self.answered = 0
        self.failed = 0
        self.example = b""

    @staticmethod
    def _request(number: int, padding: bytes) -> bytes:
        return b'{"request_id": "r-%010d", "command": "echo", "data": {"message": "%b"}}' % (number, padding)

    def ask(self) -> None:
        """Put one more request down."""
        self._asked += 1
        self._out.append(links.masked(self._request(self._asked, self._padding)))

    def write(self) -> None:
        """Send what was put down."""
        self._write(b"".join(self._out))
        self._out.clear()

    def __call__(self, link: Link, frame: Any) -> None:
        payload = frame.get_payload_as_bytes()
        if b"Echo: hello" not in payload:
            self.failed += 1
            self.example = payload[:200]
        self.answered += 1
        self.ask()
        if frame.last_in_buffer:
            self.write()


class _Visitor(asyncio.Protocol):
    """Comes, registers, is answered, leaves, and comes again: as lean as can be, since the row costs the load most."""

    def __init__(self, come_again: Callable[[], None], request: bytes, turns: list[bytes]) -> None:
        self._come_again = come_again
        self._request = request
        self._turns = turns
        self._turn = 0
        self._buffer = b""
        self.done = False
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self.transport = transport
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        if self.done:
            self.transport.close()
            return
        data = self._buffer + data
        if self._turn == 0:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                raise RuntimeError(f"refused: {data[:200]!r}")
            data = data[end + 4 :]
            self._say()
        while len(data) >= 2:
            size, start = data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            if len(data) < start + size:
                break
            payload, data = data[start : start + size], data[start + size :]
            self._heard(payload)
        self._buffer = data

    def _say(self) -> None:
        if self._turn < len(self._turns):
            self.transport.write(links.masked(self._turns[self._turn]))
        self._turn += 1

    def _heard(self, payload: bytes) -> None:
        if payload.startswith(b"0{"):
            return  # engine.io's greeting
        if self._turn < len(self._turns):
            self._say()
            return
        self.done = True
        self.transport.write(b"\x88\x82\0\0\0\0\x03\xe8")

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        self._come_again()


async def connect(order: Order) -> Result:
    """Connect, register, be answered, close: counts those that got through it."""
    return await visits(order, None)


async def visits(order: Order, before: Callable[[], Awaitable[None]] | None) -> Result:
    """As `connect`; each does `before` first."""
    loop = asyncio.get_running_loop()
    registered = 0
    failed: list[str] = []
    socketio = order["socketio"]
    head = (
        f"GET {order['path']} HTTP/1.1\r\nHost: 127.0.0.1:{order['port']}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "User-Agent: portico-bench\r\n"
    ).encode()
    # One for each visit of each client, in turn: the first client's are the first, and every so manieth from there.
    tokens = _lines_of(order["tokens"]) if "tokens" in order else []
    going = True

    async def visitor(number: int) -> None:
        nonlocal registered
        turn = number
        while going:
            gone = asyncio.Event()
            bearer = b"Authorization: Bearer %b\r\n" % tokens[turn % len(tokens)] if tokens else b""
            turn += order["clients"]
            turns = [links.registration(number, socketio)]
            if socketio:
                turns.insert(0, b"40")
            try:
                if before is not None:
                    await before()
                _, visit = await loop.create_connection(
                    lambda: _Visitor(gone.set, head + bearer + b"\r\n", turns),  # noqa: B023 - called before the next turn of the loop
                    "127.0.0.1",
                    order["port"],
                )
                await asyncio.wait_for(gone.wait(), 10)
            except OSError as error:
                failed.append(str(error))
                continue
            if visit.done:
                registered += 1
            else:
                failed.append("cut off")

    visitors = [asyncio.create_task(visitor(number)) for number in range(order["clients"])]
    result = await measured(order, lambda: registered)
    going = False
    await asyncio.wait(visitors, timeout=10)
    return {**result, "failed": len(failed), "example": failed[:1]}


def _lines_of(path: str) -> list[bytes]:
    return Path(path).read_bytes().split()


async def memory(order: Order) -> Result:
    """Resident memory per registered, idle client, of the server and of what is beside it."""
    few, many = order["few"], order["many"]
    beside: dict[str, int] = order.get("beside", {})
    held = await links.crowd(order["url"], few, socketio=order["socketio"])
    await asyncio.sleep(order["warm_up"])
    before = usage.resident_bytes(order["server_pid"])
    beside_before = {name: usage.resident_bytes(pid) for name, pid in beside.items()}
    held += await links.crowd(order["url"], many - few, socketio=order["socketio"], first=few)
    await asyncio.sleep(order["warm_up"])
    after = usage.resident_bytes(order["server_pid"])
    grown = {name: usage.resident_bytes(pid) - beside_before[name] for name, pid in beside.items()}
    return {
        "bytes_per_client": (after - before) / (many - few),
        "beside": {name: size / (many - few) for name, size in grown.items()},
        "few": before,
        "many": after,
        "held": len(held),
    }


async def hold(order: Order) -> Result:
    """A crowd that is there, and takes what it gets, until standard input ends."""
    links.nice(order["disturber_nice"])
    held = await links.crowd(order["url"], order["clients"], channel="crowd", first=100_000)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    return {"held": len(held)}


async def flood(order: Order) -> Result:
    """Frames of 7 bytes, as many as the server takes, from a few clients, until standard input ends."""
    links.nice(order["disturber_nice"])
    payload = links.masked(b"x") * 1000
    flooding = await links.crowd(order["url"], order["clients"], first=200_000)
    print("ready", flush=True)
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    sent = 0
    while not over.done():
        for link in flooding:
            transport = link.transport.underlying_transport
            if transport.get_write_buffer_size() < 65536:
                transport.write(payload)
                sent += 1000
        await asyncio.sleep(0)
    return {"sent": sent, "left": sum(link.transport.is_disconnected for link in flooding)}


async def bystanders(order: Order) -> Result:
    """Round trips of clients that do nothing wrong: a heartbeat a millisecond or so, whoever's turn it is.

    Nobody waits for an answer to go on, so a server that stands still is seen in every round trip of that time.
    With a trigger, only what was sent while a push was on its way counts: until the witness, who registered
    last and so is told last, has it.
    """
    everybody = await links.crowd(order["url"], order["clients"], first=300_000, channel="bystanders")
    payload: bytes = order["payload"].encode()
    sent: dict[Link, deque[float]] = {link: deque() for link in everybody}
    times: list[tuple[float, float]] = []
    going = True

    def on_text(link: Link, frame: Any) -> None:
        at = sent[link].popleft()
        times.append((at, time.perf_counter() - at))

    for link in everybody:
        link.on_text = on_text

    async def keep_asking() -> None:
        while going:
            for link in everybody:
                sent[link].append(time.perf_counter())
                link.send(payload)
                await asyncio.sleep(order["pause"])
                if not going:
                    return

    asking = asyncio.create_task(keep_asking())
    await asyncio.sleep(order["warm_up"])
    windows = await (_pushes(order) if "trigger" in order else _a_while(order))
    going = False
    await asking
    await asyncio.sleep(0.5)
    counted = sorted(taken for at, taken in times if any(start <= at <= end for start, end in windows))
    unanswered = sum(map(len, sent.values()))
    if not counted:
        raise RuntimeError("no round trip fell into the time that counts")
    return {
        "p50_ms": 1000 * counted[len(counted) // 2],
        "p99_ms": 1000 * counted[len(counted) * 99 // 100],
        "max_ms": 1000 * counted[-1],
        "samples": len(counted),
        "unanswered": unanswered,
        "window_ms": 1000 * sum(end - start for start, end in windows) / len(windows),
    }


async def _a_while(order: Order) -> list[tuple[float, float]]:
    start = time.perf_counter()
    await asyncio.sleep(order["seconds"])
    return [(start, time.perf_counter())]


async def _pushes(order: Order) -> list[tuple[float, float]]:
    push = await trigger(order)
    witness = await links.connect(order["url"], registering=links.registration(400_000, False, "crowd"))
    told = asyncio.Event()
    witness.on_text = lambda link, frame: told.set()
    windows = []
    for _ in range(order["pushes"]):
        await asyncio.sleep(order["rest"])
        told.clear()
        start = time.perf_counter()
        await push()
        await asyncio.wait_for(told.wait(), 30)
        windows.append((start, time.perf_counter()))
    return windows


ROWS: Final[dict[str, Callable[[Order], Awaitable[Result]]]] = {
    row.__name__: row for row in (fanout, heartbeat, dispatch, connect, memory, hold, flood, bystanders)
}
