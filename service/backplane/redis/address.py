"""Where Redis is, read from its URL, and how a connection to it begins.

Knows URLs, sockets and TLS; nothing of what is said on the connection after its greeting. The password is in no repr
and in no error.
"""

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import trio

Command = Sequence[bytes]

DEFAULT_PORT: Final = 6379
UNACKNOWLEDGED: Final = 5_000
"""Milliseconds after which the kernel gives up a connection on which what was sent is not acknowledged."""
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
_VERIFY: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


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

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """What to speak TLS with, or None. OSError where one of its files cannot be read."""
        if self.tls_options is None:
            return None
        options = dict(self.tls_options)
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
        verify = _VERIFY[options.get("ssl_cert_reqs", "required")]
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
            user = [self.username.encode()] if self.username else []
            commands.append([b"AUTH", *user, self.password.encode()])
        if self.db:
            commands.append([b"SELECT", b"%d" % self.db])
        commands.append([b"CLIENT", b"SETNAME", name.encode()])
        return commands

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


def read_url(url: str) -> Address:
    """The address in a `redis://`, `rediss://` or `unix://` URL. ValueError, without the URL in it, if it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError:
        raise ValueError("The URL of Redis has no valid host and port.") from None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("A unix:// URL names the socket of Redis: unix:///run/redis/redis.sock.")
        return Address(
            path=unquote(parts.path), username=username, password=password, db=_database(query.get("db", ""))
        )
    if parts.scheme not in ("redis", "rediss"):
        raise ValueError("The URL of Redis starts with redis://, rediss:// or unix://.")
    if query.get("ssl_cert_reqs", "none") not in _VERIFY:
        raise ValueError("ssl_cert_reqs, in the URL of Redis, is none, optional or required.")
    tls_options = tuple((name, value) for name, value in query.items() if name.startswith("ssl_"))
    return Address(
        host=unquote(parts.hostname) if parts.hostname else "localhost",
        port=port,
        username=username,
        password=password,
        db=_database(query.get("db", parts.path.strip("/"))),
        tls_options=tls_options if parts.scheme == "rediss" else None,
    )


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("The URL of Redis ends in the number of a database, such as /0.")
    return int(text or 0)


def _watch(stream: trio.SocketStream) -> None:
    """Have the kernel notice that the other machine is gone."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in _KEEPALIVE:
        if hasattr(socket, name):
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)
