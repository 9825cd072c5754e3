"""Network: the connections of outgoing requests, to addresses that are allowed and to no others.

A host name is resolved once for each connection, its addresses are checked, and one of those that passed is connected
to. So a name that resolves differently a moment later (DNS rebinding) changes nothing. The certificate is checked
against the name, as always.

What is read between two writes, that is one answer, is bounded; so an endless body costs no memory. Knows httpcore's
ports, nothing of requests.
"""

import socket
import ssl
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import httpcore
import trio

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Judge = Callable[[Address], bool]
"""Whether a request may go to this address."""
HEAD_ROOM: Final = 16 << 10
"""Bytes that the head of an answer may have beside its body's limit."""
SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class NotAllowed(httpcore.ConnectError):
    """All addresses of this host are ones that nothing may be sent to."""


class TooLong(httpcore.ReadError):
    """The answer is longer than the limit."""


class ClosedUnanswered(httpcore.ReadError):
    """A connection that had been used before ended, and not one byte of this answer had come.

    The server closed it while it was idle, at the moment at which it was used again (RFC 9112, section 9.3.1). A new
    connection says nothing of that kind when it is closed: it is a server that doesn't answer."""


FAILURES: Final = (
    trio.TooSlowError,
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    ssl.SSLError,
    OSError,
)
"""What an exchange over a JudgedNetwork can end with."""


def reason(failure: Exception, timeout: float) -> str:
    """One of FAILURES in a few words that may be logged. `timeout`: the seconds that there were for the whole."""
    if isinstance(failure, trio.TooSlowError):
        return f"no whole answer within {timeout:g} s"
    if isinstance(failure, NotAllowed):
        return "the host has a private address, which is not allowed"
    if isinstance(failure, TooLong):
        return "the answer is too long"
    if isinstance(failure, httpcore.ProtocolError | httpcore.UnsupportedProtocol):
        return f"it does not speak HTTP ({type(failure).__name__})"
    return f"it cannot be reached ({type(failure).__name__})"


def anywhere(_: Address) -> bool:
    """A Judge that allows every address: where the operator has named the very server."""
    return True


def public_and(networks: Collection[Network]) -> Judge:
    """A Judge that allows public addresses, and those in `networks`.

    Private, loopback, link-local (cloud metadata among them), site-local, multicast and reserved ones are not public.
    An IPv4 address that is written as IPv6 (mapped, compatible, translated, 6to4, Teredo, NAT64) is judged as what it
    stands for.
    """

    def judge(address: Address) -> bool:
        plain = _plain(address)
        if any(plain in network for network in networks if network.version == plain.version):
            return True
        if isinstance(plain, IPv6Address) and (plain.is_site_local or any(plain in network for network in _NOT_PUBLIC)):
            return False  # older Pythons take them for global
        return plain.is_global and not plain.is_multicast

    return judge


_NAT64: Final = IPv6Network("64:ff9b::/96")
_NOT_PUBLIC: Final = tuple(map(IPv6Network, ("64:ff9b:1::/48", "3fff::/20", "5f00::/16")))
"""A network's own NAT64, documentation, and segment identifiers (RFC 8215, 9637, 9602)."""
_TRANSLATED: Final = IPv6Network("::ffff:0:0:0/96")
"""IPv4 of a host behind a stateless translator (RFC 7915)."""
_COMPATIBLE: Final = IPv6Network("::/96")


def _plain(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if (
        address in _NAT64 or address in _TRANSLATED or (address in _COMPATIBLE and int(address) > 1)
    ):  # `::` and `::1` are their own
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class JudgedNetwork(httpcore.AsyncNetworkBackend):
    """httpcore's way to the network, on trio. `limit`: bytes of an answer, head included."""

    def __init__(self, judge: Judge, limit: int) -> None:
        self._judge = judge
        self._limit = limit
        self._trio = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first judged address that answers. Raises NotAllowed, ConnectError or ConnectTimeout."""
        failure: Exception = NotAllowed("the host has no address that requests may be sent to")
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            for address in await _resolved(host, port):
                if not self._judge(address):
                    continue
                try:
                    stream = await self._trio.connect_tcp(str(address), port, None, local_address, socket_options)
                except httpcore.ConnectError as error:
                    failure = error
                else:
                    return BoundedStream(stream, self._limit)
            raise failure
        raise httpcore.ConnectTimeout(f"no connection within {timeout:g} s")

    async def sleep(self, seconds: float) -> None:
        """See httpcore."""
        await trio.sleep(seconds)


async def _resolved(host: str, port: int) -> list[Address]:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"the host's address is not known ({error})") from None
    return [ip_address(str(where[0]).partition("%")[0]) for *_, where in found]


class BoundedStream(httpcore.AsyncNetworkStream):
    """A stream of which no more than `limit` bytes are read between two writes."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._came = bytearray()
        self._used_up = False
        self._used_before = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See httpcore. Raises TooLong, and ClosedUnanswered where that is what the end of the connection means."""
        unanswered = self._used_before and not self._came
        try:
            data = await self._stream.read(max_bytes, timeout)
        except httpcore.ReadError as error:
            if unanswered:
                raise ClosedUnanswered(str(error)) from None
            raise
        if not data and unanswered:
            raise ClosedUnanswered("the connection was closed")
        self._came += data
        if len(self._came) > self._limit:
            raise TooLong(f"the answer is longer than {self._limit} bytes")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._came.clear()
        await self._stream.write(buffer, timeout)

    def take_answer(self) -> bytes:
        """The answer, when it is whole: what was read since the last write, which is forgotten."""
        came = bytes(self._came)
        self._came.clear()
        self._used_before = True
        return came

    def use_up(self) -> None:
        """Let httpcore close the connection instead of using it for another request."""
        self._used_up = True

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return BoundedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._limit)

    def get_extra_info(self, info: str) -> object:
        # An idle connection that can be read is one that the server has closed, to httpcore.
        return (info == "is_readable" and self._used_up) or self._stream.get_extra_info(info)
