"""TlsStream: a TLS session that began in the reactor, as a stream for Hypercorn, which goes on with it.

Trio's SSLStream begins sessions by itself and can't take one over. This one has only the methods that Hypercorn calls.
"""

import ssl
from typing import Final

import trio

from .patient import PatientStream
from .tls_session import TlsSession

_READ: Final = 64 * 1024
_CHUNK: Final = 256 * 1024


class TlsStream(trio.abc.Stream):
    """`received` is what was read and decrypted before, and is given first."""

    def __init__(self, transport: PatientStream, session: TlsSession, received: bytes) -> None:
        self.transport_stream = transport
        self._session = session
        self._received = received
        self._sending = trio.Lock()

    async def do_handshake(self) -> None:
        """It is over already. Safe to cancel."""
        await trio.lowlevel.checkpoint()

    def selected_alpn_protocol(self) -> str | None:
        """What was agreed on by ALPN."""
        return self._session.protocol

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As trio's. Safe to cancel."""
        if self._received:
            await trio.lowlevel.checkpoint()
        while not self._received and not self._session.closed:
            try:
                self._received = self._session.open()
            except ssl.SSLError as error:
                raise trio.BrokenResourceError from error
            if self._session.outgoing:
                await self._send_outgoing()
            if not self._received and not self._session.closed:
                data = await self.transport_stream.receive_some(_READ)
                if not data:
                    return b""
                self._session.feed(data)
        size = len(self._received) if max_bytes is None else max_bytes
        part, self._received = self._received[:size], self._received[size:]
        return part

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As trio's; one task at a time. Cancelling it leaves half of the data sent."""
        with memoryview(data) as view:
            for start in range(0, len(view), _CHUNK):
                with view[start : start + _CHUNK] as part:
                    try:
                        self._session.seal(part)
                    except ssl.SSLError as error:
                        raise trio.BrokenResourceError from error
                await self._send_outgoing()

    async def _send_outgoing(self) -> None:
        async with self._sending:  # what is encrypted first has to go out first
            if self._session.outgoing:
                await self.transport_stream.send_all(self._session.take_outgoing())

    async def wait_send_all_might_not_block(self) -> None:
        """As trio's. Safe to cancel."""
        await self.transport_stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Say goodbye and close. Cancelling it closes at once."""
        try:
            self._session.end()
            await self._send_outgoing()
        except trio.BrokenResourceError:
            pass
        finally:
            await self.transport_stream.aclose()
