"""Starting the ASGI transport and the front door for tests: Hypercorn in this process, port 0."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from quart import request
from quart_trio import QuartTrio

from service.transports.asgi import register
from service.transports.connection_rules import ConnectionRules
from service.transports.door import Door, Log
from service.transports.front_door import install
from service.transports.http_server import serve_http
from service.transports.native import PortApis, Reactor, ReactorParts
from service.transports.pressure import Pressure
from service.transports.proxies import ProxyRules

from .harness import Options, pressure_of, rules_of
from .raw import Address
from .script import Counts, ScriptGate, plain_http


class Lines:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event: str, /, **fields: object) -> None:
        self.lines.append((event, fields))


def make_app(
    gate: ScriptGate,
    counts: Counts,
    log: Log,
    *,
    pressure: Pressure | None = None,
    rate: float = 0,
    trusted: tuple[str, ...] = (),
    h2c: bool = False,
) -> QuartTrio:
    """A Quart app with a page, a page that is slow in coming, and `gate` behind every WebSocket."""
    app = QuartTrio("harness")

    @app.get("/hello")
    async def hello() -> str:
        return f"hello {request.remote_addr} {request.scheme} {request.host}\n"

    @app.post("/length")
    async def length() -> str:
        return f"{len(await request.get_data())}\n"

    @app.get("/big")
    async def big() -> bytes:
        return b"x" * 30_000_000

    @app.get("/broken")
    async def broken() -> str:
        raise RuntimeError("a bug\x1b[31m of ours\r\nand a second line")

    register(
        app,
        gate,
        counts,
        pressure=pressure or pressure_of(Options()),
        resolve=ProxyRules(trusted).resolve,
        log=log,
        rules=ConnectionRules(max_messages_per_second=rate, h2c=h2c),
    )
    return app


@asynccontextmanager
async def serving(app: QuartTrio, door: Door, *, behind_door: bool = True) -> AsyncIterator[Address]:
    """The app, served until the block is left; its lifespan shutdown included."""
    if behind_door:
        assert install(app, door)
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[list[Address]]) -> None:
            await serve_http(app, door=door, shutdown=shutdown, host="127.0.0.1", task_status=task_status)

        (address,) = await nursery.start(serve)
        try:
            yield address
        finally:
            shutdown.set()


class AsgiHarness:
    """The ASGI transport behind the front door, which keeps what it could hand over."""

    name = "asgi"
    native = False

    def __init__(self, lines: Lines) -> None:
        self.lines = lines

    @asynccontextmanager
    async def serve(self, gate: ScriptGate, counts: Counts, options: Options) -> AsyncIterator[Address]:
        """See the contract's Harness."""
        door = Door(counts=counts, log=self.lines, rules=rules_of(options))
        rate = options.max_messages_per_second
        pressure = pressure_of(options)
        app = make_app(gate, counts, self.lines, pressure=pressure, rate=rate)
        async with trio.open_nursery() as nursery, serving(app, door) as address:
            nursery.start_soon(pressure.run)
            yield address
            nursery.cancel_scope.cancel()


class DoorHarness:
    """The front door with the native reactor behind it: Hypercorn's port, our own handling of WebSockets."""

    name = "door"
    # What is no upgrade, wrong ones included, is Hypercorn's to answer.
    native = False

    def __init__(self, lines: Lines) -> None:
        self.lines = lines

    @asynccontextmanager
    async def serve(self, gate: ScriptGate, counts: Counts, options: Options) -> AsyncIterator[Address]:
        """See the contract's Harness."""
        resolve = ProxyRules().resolve
        pressure = pressure_of(options)
        parts = ReactorParts(
            gate=gate,
            apis=PortApis(websocket=plain_http),
            counts=counts,
            resolve_source=resolve,
            pressure=pressure,
            log=self.lines,
        )
        reactor = Reactor(parts, rules_of(options))
        door = Door(counts=counts, log=self.lines, rules=rules_of(options), adopt=reactor.adopt)
        app = make_app(gate, counts, self.lines, pressure=pressure)
        async with trio.open_nursery() as nursery:
            await nursery.start(reactor.run)
            nursery.start_soon(pressure.run)
            async with serving(app, door) as address:
                yield address
            nursery.cancel_scope.cancel()
