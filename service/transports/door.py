"""What the rooms behind the front door share: its options, and text that is safe in a log line.

Knows neither Hypercorn nor trio.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, Protocol

from portico.wire.safe_text import safe_text
from service.core.ports import AcceptedConnections, TransportCounts, Unlimited

from .connection_rules import ConnectionRules

Adopt = Callable[[socket.socket, bytes, Literal["http", "websocket"], str], None]
"""(connected non-blocking socket, what was already read from it, kind, address of the peer): take it for good."""

EXTENSION: Final = "portico.websocket"
"""In a WebSocket's ASGI scope: `limit(size)` sets how many bytes the next messages may have (0: no limit);
`count(call)` has `call(size)` called for each frame that is no whole message: control frames, fragments but the last;
`keeps(call)` has `call(size)` called with the bytes that are kept of a message that is not whole yet, whenever that
changes; `throw_away()` has these thrown away, and nothing more taken. `taken()` gives how many bytes the peer has
taken, and `oversized()` how a message began that was over the limit; both None where that isn't known, or wasn't so."""

_ERROR_LIMIT: Final = 800
"""Characters of an error's text that a log line has."""


def _never() -> bool:
    return False


class Log(Protocol):
    """Where to say what an operator should know: an event and its fields, whatever is untrusted escaped."""

    def __call__(self, event: str, /, **fields: object) -> object: ...


@dataclass(frozen=True, kw_only=True)
class Door:
    """The options of one app's door. All times are in seconds.

    `rules`: what each connection is held to; the native transport has the same ones. The bounds on messages and bytes a
    second among them are kept by the ASGI transport.
    `adopt`: who takes WebSocket upgrades over (None: Hypercorn keeps them and the ASGI transport serves them);
    `adopts_http`: and plain HTTP, and so every plain socket at once. `accept`: who accepts on listening sockets that
    are for plain HTTP, where Hypercorn's worker brings them.
    `send_timeout`: within this a client must take something of what waits for it, or it is cut.
    `linger`: how long what a client still sends is read and thrown away after our last byte, so that it
    sees that byte and not a reset.
    `max_head`: bytes that a request head may have; a longer one is answered by 431.
    `tls`: where the gateway speaks TLS with a certificate of its own, has it read again, and says why.
    `draining`: whether the gateway drains, so that each answer over HTTP/1.1 says that its connection ends.
    `accepted_connections`: where those that are no WebSockets count, each for what `address_of` makes of its peer.
    """

    counts: TransportCounts
    log: Log
    rules: ConnectionRules = field(default_factory=ConnectionRules)
    adopt: Adopt | None = None
    adopts_http: bool = False
    accept: Callable[[list[socket.socket]], None] | None = None
    send_timeout: float = 5.0
    linger: float = 1.0
    max_head: int = 8192
    tls: Callable[[str], None] | None = None
    draining: Callable[[], bool] = _never
    accepted_connections: AcceptedConnections = field(default_factory=Unlimited)
    address_of: Callable[[str], str | None] = str


def describe(error: BaseException) -> str:
    """An exception as one safe line: type, text and where it was raised; a group as its first member."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return safe_text(f"{type(error).__name__}: {error} ({_place(error.__traceback__)})", _ERROR_LIMIT)


def _place(traceback: TracebackType | None) -> str:
    if traceback is None:
        return "nowhere"
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return f"{code.co_filename}:{traceback.tb_lineno} in {code.co_name}"
