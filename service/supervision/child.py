"""Child: one process of the gateway, as the supervisor sees it.

Knows how one is started, what it said, and how it ended. Never decides anything: that is the supervisor's.
"""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import trio

from .link import Order, Place, lines
from .ports import Sockets
from .process import Process

_LAST_WORDS: Final = 1.0
"""Seconds in which what a process said before its end is still heard."""


class Child:
    """A process that was started. `started`, `settled` and `ended` are set in this order: its ports are open; it is
    `ready`, or has ended; it has ended, with `code`. `dismissed`: it was told to go. `failure`: why it could not
    start, in its words."""

    def __init__(self, name: str, options: Sequence[str], sockets: Sockets, redis_url: str | None) -> None:
        """Start it as node `name`, with the options of `portico serve`. Raises OSError."""
        self.name = name
        self.begun = trio.current_time()
        self.started = trio.Event()
        self.settled = trio.Event()
        self.ended = trio.Event()
        self.ready = False
        self.dismissed = False
        self.failure = ""
        self.code = 0
        ours, theirs = socket.socketpair()
        with theirs:
            numbers = {kind: [sock.fileno() for sock in several] for kind, several in sockets.items()}
            place = Place(name, theirs.fileno(), numbers)
            keep = [theirs.fileno(), *(number for several in numbers.values() for number in several)]
            environment = dict(os.environ)
            if redis_url is not None:
                environment["REDIS_URL"] = redis_url
            command = [sys.executable, "-m", "service", "serve", *options]
            command += ["--supervised", msgspec.json.encode(place).decode()]
            try:
                self._process = Process(command, environment=environment, keep=keep)
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self._link = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self.pid = self._process.pid

    async def watch(self, ended: Callable[["Child"], None]) -> None:
        """Listen to it until it ends; then call `ended`. Cancelling leaves it running, without a supervisor."""
        heard = trio.Event()
        async with self._link, trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, heard)
            self.code = await self._process.wait()
            with trio.move_on_after(_LAST_WORDS):
                await heard.wait()
            nursery.cancel_scope.cancel()
        self.settled.set()
        self.ended.set()
        ended(self)

    async def _listen(self, heard: trio.Event) -> None:
        async for line in lines(self._link):
            word, _, rest = line.partition(" ")
            if word == "started":
                self.started.set()
            elif word == "ready":
                self.ready = True
                self.settled.set()
            elif word == "failed":
                self.failure = rest
        heard.set()

    async def tell(self, order: Order) -> None:
        """Tell it to go. It may have gone."""
        self.dismissed = True
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            await self._link.send_all(order.encode() + b"\n")

    def kill(self) -> None:
        """End it as it is. What it was doing is lost."""
        if not self.ended.is_set():
            self._process.kill()
