"""PatientStream: a plain connection that is given up when its peer takes nothing, and not before.

A deadline for a send says little: the kernel takes megabytes at once, and then nothing for a minute from a peer that
reads 20 KB a second all the time. So while a send waits for room, the peer's acknowledgements are looked at: any byte
that it took within the time is life. Knows trio's sockets and nothing of what is sent. Below TLS it is what the TLS
stream writes to.
"""

import trio

from .traffic import traffic


class TakesNothing(trio.BrokenResourceError):
    """The peer took nothing for the whole of the time that it had."""


class PatientStream(trio.abc.HalfCloseableStream):
    """As the stream that it wraps, whose first bytes `head` were read before: it gives them again, once.

    `patience`: seconds in which the peer must take something while a send waits.
    """

    def __init__(self, stream: trio.SocketStream, patience: float, head: bytes = b"") -> None:
        self._stream = stream
        self._patience = patience
        self._head = head
        self.socket = stream.socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As trio's. Safe to cancel."""
        if self._head:
            await trio.lowlevel.checkpoint()
            size = len(self._head) if max_bytes is None else max_bytes
            head, self._head = self._head[:size], self._head[size:]
            return head
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As trio's; one task at a time. Raises TakesNothing. Cancelling it leaves half of the data sent."""
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                with view[sent:] as rest:
                    sent += await self._send_some(rest)

    async def _send_some(self, data: memoryview) -> int:
        before = traffic(self.socket)
        while True:
            with trio.move_on_after(self._patience):
                try:
                    return await self.socket.send(data)
                except OSError as error:
                    raise trio.BrokenResourceError from error
            now = traffic(self.socket)
            if before is None or now is None or now.taken == before.taken:
                raise TakesNothing
            before = now

    async def wait_send_all_might_not_block(self) -> None:
        """As trio's. Safe to cancel."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """As trio's. Safe to cancel."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """As trio's. Safe to cancel."""
        await self._stream.aclose()
