"""Where one Redis is, and how a connection to it begins.

Knows sockets and TLS; nothing of what is said on the connection after its greeting. The password is in no repr and in
no error. `Connector` is what one server, sentinels and a cluster have in common; `urls` reads their URLs.
"""

import socket
import ssl
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Protocol

import trio

from .resp import Command

DEFAULT_PORT: Final = 6379
UNACKNOWLEDGED: Final = 5_000
"""Milliseconds after which the kernel gives up a connection on which what was sent is not acknowledged."""
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
VERIFY: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class Connector(Protocol):
    """How to get to the Redis that is to be used now; `str` of it says where that is, without user and password."""

    @property
    def database(self) -> int:
        """The number of the database that the greeting selects."""

    async def dial(self) -> trio.abc.Stream:
        """A new connection to it. Raises OSError or BrokenResourceError; the caller limits the time."""

    def greeting(self, name: str) -> list[Command]:
        """What a connection says first, each to be answered with OK; `name` is what CLIENT LIST shows."""

    def origin(self, stream: trio.abc.Stream) -> str:
        """What tells the server at the end of a connection from others that may take its place; empty where there are
        none, or the way does not say."""

    async def moved(self, origin: str) -> str | None:
        """Why another server than this one is to be used by now, as a clause, or None. Asked every second or so of a
        connection that stands; takes a second at most, and raises nothing."""

    async def handed_over(self, origin: str, run: bytes, info: bytes) -> bool:
        """Whether a server, whose INFO (server, replication) this is, has all that the one at `origin` accepted in that
        run; False where nobody can tell. Takes some two seconds at most, and raises nothing."""


@dataclass(frozen=True)
class Address:
    """One Redis. `path`: of its Unix socket, instead of host and port; `tls_options`: of a `rediss://` URL, else None
    (`ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`; `ssl_cert_reqs=none` for a certificate that nobody signed)."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls_options: tuple[tuple[str, str], ...] | None = None

    @property
    def database(self) -> int:
        """The number of its database."""
        return self.db

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """What to speak TLS with, or None. OSError where one of its files cannot be read."""
        if self.tls_options is None:
            return None
        options = dict(self.tls_options)
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
        verify = VERIFY[options.get("ssl_cert_reqs", "required")]
        # A certificate that isn't checked has no host name to check either.
        context.check_hostname = verify is ssl.CERT_REQUIRED and options.get("ssl_check_hostname") != "false"
        context.verify_mode = verify
        return context

    def __str__(self) -> str:
        """For people: no user, no password."""
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")

    def greeting(self, name: str) -> list[Command]:
        """What a connection says first, each to be answered with OK; `name` is what CLIENT LIST shows."""
        commands: list[Command] = []
        if self.password is not None:
            user = [self.username] if self.username else []
            commands.append(["AUTH", *user, self.password])
        if self.db:
            commands.append(["SELECT", self.db])
        commands.append(["CLIENT", "SETNAME", name])
        return commands

    def origin(self, stream: trio.abc.Stream) -> str:
        """Nobody else answers there, as far as its URL tells."""
        return ""

    async def moved(self, origin: str) -> str | None:
        """It stays where it is."""
        return None

    async def handed_over(self, origin: str, run: bytes, info: bytes) -> bool:
        """Nobody can tell."""
        return False

    async def dial(self) -> trio.abc.Stream:
        """A new connection, TLS handshake and all. Raises OSError or BrokenResourceError; has no time limit of its
        own. Cancelling is safe."""
        if self.path is not None:
            return await trio.open_unix_socket(self.path)
        tls = self.tls
        stream = await trio.open_tcp_stream(self.host, self.port)
        _watch(stream)
        if tls is None:
            return stream
        # https_compatible: Redis, too, ends without a TLS goodbye.
        secure = trio.SSLStream(stream, tls, server_hostname=self.host, https_compatible=True)
        try:
            await secure.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(secure)
            raise
        return secure


def peer(stream: trio.abc.Stream) -> str:
    """The other end of a TCP connection, as address and port."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    assert isinstance(stream, trio.SocketStream)
    host, port, *_ = stream.socket.getpeername()
    return f"{host} {port}"


def at_origin(like: Address, origin: str) -> Address | None:
    """The address that `peer` gave, of a server that is spoken to like another; None if it is none."""
    host, _, port = origin.rpartition(" ")
    return replace(like, host=host, port=int(port)) if host and port.isdigit() else None


def _watch(stream: trio.SocketStream) -> None:
    """Have the kernel notice that the other machine is gone."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in _KEEPALIVE:
        if hasattr(socket, name):
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)
