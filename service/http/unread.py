"""A request that is answered before its body was read to the end, under an ASGI server.

The server closes the connection after such an answer (RFC 9112 section 9.3) and doesn't say so: the client's next
request on it goes nowhere, and what it still sends of the body makes it see a reset instead of the answer. So here the
answer says `connection: close`, and its end waits while the rest of the body is thrown away, for some bytes and
seconds. Before that, whoever reads the body meanwhile gets a moment for it: most bodies are small and on their way, and
the connection can be kept. HTTP/2 ends the stream, and not the connection.
"""

from collections.abc import Mapping
from typing import Any, Final

import trio

from service.asgi_types import Message, Receive, Send
from service.core.ports import BODY_DISCARDED

EARLY_SECONDS: Final = 0.05
"""How long an answer waits for the body to be whole."""
DISCARD_SECONDS: Final = 2.0
"""For how long the rest of a body is waited for, after the answer."""


class Unread:
    """A server's `receive` and `send` for one request over HTTP/1.1 that has a body. Cancelling either is as safe as
    the server's own."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._whole = trio.Event()

    async def receive(self) -> Message:
        """See ASGI."""
        message = await self._receive()
        if not message.get("more_body", False):  # so does a disconnect
            self._whole.set()
        return message

    async def send(self, message: Message) -> None:
        """See ASGI."""
        if not self._whole.is_set():
            message = await self._early(message)
        await self._send(message)

    async def _early(self, message: Message) -> Message:
        kind = message["type"]
        if kind == "http.response.start":
            with trio.move_on_after(EARLY_SECONDS):
                await self._whole.wait()
                return message
            return {**message, "headers": _closing(message.get("headers", ()))}
        if kind == "http.response.body" and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._discard()
            return {"type": kind, "body": b"", "more_body": False}
        return message

    async def _discard(self) -> None:
        size = 0
        with trio.move_on_after(DISCARD_SECONDS):
            while not self._whole.is_set() and size < BODY_DISCARDED:
                size += len((await self.receive()).get("body") or b"")


def has_body(scope: Mapping[str, Any]) -> bool:
    """Whether it is a request over HTTP/1.1 that has a body."""
    if scope.get("http_version", "1.1") >= "2":
        return False
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _closing(headers: Any) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() != b"connection"]
    return [*kept, (b"connection", b"close")]
