"""Listening sockets of our own: which addresses a host stands for, bound and ready to accept.

Knows socket options and what goes wrong at binding; nothing of who connects.
"""

import errno
import os
import socket
import sys
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

import trio

Kind = Literal["http", "websocket", "worker", "redirect"]

BACKLOG: Final = 4096
"""Handshakes in a burst that the kernel keeps; the customary 100 overflows when clients come back."""


class Listener:
    """One listening socket, with what the reactor notes about it."""

    __slots__ = ("address", "fd", "kind", "paused_until", "sock", "stopped")

    def __init__(self, sock: socket.socket, kind: Kind) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            # Those that it accepts inherit it, which saves a system call for each.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.fd = sock.fileno()
        self.kind = kind
        host, port = sock.getsockname()[:2]
        self.address: tuple[str, int] = (host, port)
        # On the reactor's clock; 0 while it accepts.
        self.paused_until = 0.0
        self.stopped = trio.Event()

    def accept(self, limit: int) -> Iterator[tuple[int, str]]:
        """Take up to `limit` of those that wait: descriptor (non-blocking, no delay) and address.

        Raises OSError when descriptors or memory run out: the others stay in the queue.
        """
        for _ in range(limit):
            try:
                # `accept` would make a socket of the descriptor, for 5 µs and a system call; the number will do.
                fd, address = self.sock._accept()  # type: ignore[attr-defined]  # typeshed leaves it out
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # it hung up while it waited
            os.set_blocking(fd, False)
            yield fd, accepted_address(address)


def accepted_address(address: Any) -> str:
    """The text form of what `accept` gave: no port, no zone, IPv4 as IPv4 on a dual-stack socket."""
    if not isinstance(address, tuple) or not address:
        return ""
    host = str(address[0]).partition("%")[0]
    mapped = host.removeprefix("::ffff:")
    # Many connections come from few addresses: one string for all of them.
    return sys.intern(mapped if mapped.count(".") == 3 else host)


async def open_listeners(
    host: str | None, port: int, reuse_port: bool = False, *, listening: bool = True
) -> list[socket.socket]:
    """Bind every address that `host` stands for (None: all, IPv4 and IPv6), on one port.

    Port 0 takes any. `reuse_port`: shared with others that ask for the same. Not `listening`: bound only.
    Raises OSError, with a sentence and the errno. Cancelling is safe.
    """
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        # Told as what binding says of an address of another machine: HOST is what has to change.
        raise OSError(errno.EADDRNOTAVAIL, f"Cannot listen on {host!r}: it is no address or known name.") from error
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError:
                # The resolver names IPv6 on hosts that were built without it.
                if len(found) > 1:
                    continue
                raise
            sockets.append(sock)
            if port == 0 and len(sockets) > 1:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            _bind(sock, address, alone=len(found) == 1, reuse_port=reuse_port)
            if listening:
                sock.listen(BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        where = f"{host or 'any address'} port {port}"
        why = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"Cannot listen on {where}: {why}.") from error
    return sockets


def _bind(sock: socket.socket, address: Any, *, alone: bool, reuse_port: bool) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        # `::` by itself means both families; beside an IPv4 socket it must not claim that one's port.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if alone and address[0] == "::" else 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(address)


def why_it_cannot_listen(error: OSError, host: str, port: int, setting: str) -> str:
    """What `open_listeners` raised, as a sentence for the operator. `setting`: the variable that says the port."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return (
            f"cannot listen on {host}, which is no address of this machine: set HOST to one, such as 127.0.0.1, or "
            "0.0.0.0 for all."
        )
    if error.errno == errno.EADDRINUSE:
        remedy = f"stop what uses it, or set {setting} to another port"
    elif error.errno == errno.EACCES:
        remedy = f"set {setting} to a port above 1023, or let this user have the lower ones"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        remedy = "raise the limit of open files (ulimit -n)"
    else:
        remedy = f"set {setting} or HOST to what can be bound"
    return f"cannot listen on {host} port {port} ({reason}): {remedy}."


def silent_listener() -> socket.socket:
    """A socket that listens, since accepting from it would be an error otherwise, and that nobody can find."""
    silent = socket.socket(socket.AF_UNIX)
    try:
        with TemporaryDirectory(prefix="portico-") as folder:
            silent.bind(os.path.join(folder, "nobody"))
        silent.listen(1)
        silent.setblocking(False)
    except BaseException:
        silent.close()
        raise
    return silent
