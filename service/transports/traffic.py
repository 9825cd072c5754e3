"""What the kernel knows of a TCP connection: how many bytes its peer has taken, and how many came from it.

Writing says little of a slow peer: the kernel takes megabytes at once and then nothing for a minute, while the peer
reads all the time. The peer's acknowledgements tell. Asked for rarely (when a pong is due, or a backlog is looked at),
so the hot path counts nothing.

Source: Linux' tcp(7), TCP_INFO, the fields tcpi_bytes_acked and tcpi_bytes_received (since Linux 4.1).
"""

import socket
import struct
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, NamedTuple, Protocol

_SIZE: Final = 136
_FIELDS: Final = struct.Struct("=QQ")
_OFFSET: Final = 120
_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)


class Traffic(NamedTuple):
    """Payload of one connection since it was made, in bytes. `taken`: acknowledged by the peer."""

    taken: int
    received: int


class Asked(Protocol):
    """A socket, trio's or the standard library's."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


def traffic(sock: Asked) -> Traffic | None:
    """The traffic of a connection; None where the system can't say (not Linux, or no TCP)."""
    if _TCP_INFO is None:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _SIZE)
    except OSError:
        return None
    return Traffic(*_FIELDS.unpack_from(info, _OFFSET)) if len(info) == _SIZE else None


CONNECTION: Final[ContextVar[Callable[[], Traffic | None] | None]] = ContextVar("CONNECTION", default=None)
"""The traffic of the connection that a task serves, for those who are handed everything but the socket."""

PING_BYTES: Final = 128
"""More than a ping of ours takes, with TLS and HTTP/2 around it: its acknowledgement alone proves nothing."""


def shows_life(before: Traffic | None, now: Traffic | None) -> bool:
    """Whether the peer has sent anything, or taken anything but our ping, between the two. False where nobody knows."""
    if before is None or now is None:
        return False
    return now.received > before.received or now.taken - before.taken > PING_BYTES
