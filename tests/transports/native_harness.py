"""How the tests start the native transport: a Reactor in this process, on a loopback port."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import trio

from service.transports.connection_rules import ConnectionRules
from service.transports.native import PortApis, Reactor, ReactorParts
from service.transports.proxies import ProxyRules

from .contract import Options
from .harness import pressure_of, rules_of
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
        """A Reactor that doesn't run yet; `settings` are its own: of its rules, of its parts, or its poller."""
        self.pressure = pressure_of(options)
        own_rules = {name: settings.pop(name) for name in ConnectionRules.__slots__ if name in settings}
        own_parts = {name: settings.pop(name) for name in ReactorParts.__slots__ if name in settings}
        parts = ReactorParts(
            gate=gate,
            apis=PortApis(websocket=plain_http),
            counts=counts,
            resolve_source=ProxyRules().resolve,
            pressure=self.pressure,
            log=self.note,
        )
        return Reactor(replace(parts, **own_parts), replace(rules_of(options), **own_rules), **settings)

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
