"""The native transport: the contract, and what is its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from service.transports.native import Reactor
from service.transports.proxies import ProxyRules

from .contract import Options, TransportContract
from .raw import Address
from .script import Counts, ScriptGate, plain_http


class NativeHarness:
    """A Reactor in this process."""

    name = "native"
    native = True

    def __init__(self) -> None:
        self.log: list[tuple[str, dict[str, object]]] = []
        self.reactor: Reactor

    def _note(self, event: str, /, **fields: object) -> None:
        self.log.append((event, fields))

    @asynccontextmanager
    async def serve(self, gate: ScriptGate, counts: Counts, options: Options, **more: Any) -> AsyncIterator[Address]:
        settings: dict[str, Any] = {
            "outbound_limit": options.outbound_limit,
            "handshake_timeout": options.handshake_timeout,
            "ping_interval": 25.0,
            "pong_timeout": 10.0,
        }
        settings |= more
        self.reactor = Reactor(
            gate, plain_http, counts, resolve_origin=ProxyRules().resolve, log=self._note, **settings
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(self.reactor.run)
            addresses = await nursery.start(self.reactor.listen, "127.0.0.1", 0, "websocket")
            yield addresses[0]
            nursery.cancel_scope.cancel()


class TestNativeContract(TransportContract):
    @pytest.fixture
    def harness(self) -> NativeHarness:
        return NativeHarness()
