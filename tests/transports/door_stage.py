"""A served app behind the front door, with everything that a test may want to look at."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from service.transports.connection_rules import ConnectionRules
from service.transports.door import Door

from .asgi_harness import Lines, make_app, serving
from .raw import Address
from .script import Counts, ScriptGate


class Stage:
    """A served app with everything a test may want to look at; `options` are the door's, or its rules'."""

    def __init__(self, **options: float) -> None:
        self.gate = ScriptGate()
        self.counts = Counts()
        self.lines = Lines()
        self.adopted: list[tuple[socket.socket, bytes, str, str]] = []
        rules = {name: options.pop(name) for name in ConnectionRules.__slots__ if name in options}
        self.door = Door(
            counts=self.counts,
            log=self.lines,
            rules=ConnectionRules(**rules),  # type: ignore[arg-type]  # floats all
            **options,  # type: ignore[arg-type]  # likewise
        )

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Address]:
        app = make_app(self.gate, self.counts, self.lines, h2c=self.door.rules.h2c)
        async with serving(app, self.door) as address:
            yield address


async def tasks_at_rest() -> int:
    """How many tasks there are while nobody is connected, the server's own last ones included."""
    await trio.testing.wait_all_tasks_blocked()
    return trio.lowlevel.current_statistics().tasks_living
