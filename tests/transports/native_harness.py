"""How the tests start the native transport: a Reactor in this process, on a loopback port."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from service.transports.native import Reactor
from service.transports.proxies import ProxyRules

from .contract import Options
from .harness import pressure_of
from .raw import Address
from .script import Counts, ScriptGate, plain_http


class NativeHarness:
    """A Harness; what the reactor logged is in `log`."""

    name = "native"
    native = True

    def __init__(self) -> None:
        self.log: list[tuple[str, dict[str, object]]] = []
        self.reactor: Reactor

    def note(self, event: str, /, **fields: object) -> None:
        """The reactor's log."""
        self.log.append((event, fields))

    def make(self, gate: ScriptGate, counts: Counts, options: Options, **settings: Any) -> Reactor:
        """A Reactor that doesn't run yet; `settings` are its own."""
        rate = options.max_messages_per_second
        self.pressure = pressure_of(options)
        settings = {
            "ping_interval": options.ping_interval,
            "pong_timeout": options.pong_timeout,
            "message_timeout": options.message_timeout,
            "max_messages_per_second": rate,
        } | settings
        settings.setdefault("resolve_origin", ProxyRules().resolve)
        return Reactor(
            gate,
            plain_http,
            counts,
            log=self.note,
            pressure=self.pressure,
            handshake_timeout=options.handshake_timeout,
            compression=options.compression,
            **settings,
        )

    @asynccontextmanager
    async def serve(
        self, gate: ScriptGate, counts: Counts, options: Options, **settings: Any
    ) -> AsyncIterator[Address]:
        """See the contract's Harness."""
        self.reactor = self.make(gate, counts, options, **settings)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.reactor.run)
            nursery.start_soon(self.pressure.run)
            addresses = await nursery.start(self.reactor.listen, "127.0.0.1", 0, "websocket")
            yield addresses[0]
            nursery.cancel_scope.cancel()
