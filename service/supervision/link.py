"""The link between the supervisor and one of its processes: what each tells the other, one message a line.

The process says `started` when its ports are open, `ready` when it may be sent traffic, and `failed` with a sentence
if it cannot start. The supervisor says `drain` (everybody ends), `hand over` (another process has taken the place and
the sockets) or `stop` (at once). When the link ends, the supervisor is gone, and the process drains.

This module is the process's end. It knows nothing of what is drained or how.
"""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, Literal, cast

import msgspec
import trio

from .ports import Sockets, take

Order = Literal["drain", "hand over", "stop"]
_ORDERS: Final = ("drain", "hand over", "stop")
_CHUNK: Final = 4096


class Place(msgspec.Struct, frozen=True):
    """What a process is started with: its node's name, the descriptor of its link, and those of its sockets by kind."""

    name: str
    link: int
    sockets: dict[str, list[int]]


class Supervised:
    """The process's end of the link. Made from the text of a Place; ValueError if it is none."""

    def __init__(self, text: str) -> None:
        try:
            place = msgspec.json.decode(text, type=Place)
            os.set_inheritable(place.link, False)
            self.sockets: Sockets = take(place.sockets)
            self._link = socket.socket(fileno=place.link)
        except (msgspec.MsgspecError, OSError) as error:
            raise ValueError("this is for the supervisor only: use --workers") from error
        self._link.setblocking(False)
        self.name = place.name

    def say(self, *words: str) -> None:
        """Tell the supervisor. Never waits; what cannot be told is not worth more than that."""
        line = " ".join(" ".join(words).split())
        with suppress(OSError):
            self._link.send(line.encode() + b"\n")

    async def orders(self) -> AsyncIterator[Order]:
        """What the supervisor says; `drain` at last if it is gone. Cancelling is safe."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._link))
        async for line in lines(stream):
            if line in _ORDERS:
                yield cast("Order", line)
        yield "drain"


async def lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[str]:
    """The lines of a link until it ends, however it does. Cancelling is safe."""
    buffer = b""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await stream.receive_some(_CHUNK):
            *whole, buffer = (buffer + data).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
