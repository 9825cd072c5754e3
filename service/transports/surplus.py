"""Surplus: what a connection over the limit gets of an ASGI app. Probes are answered, everything else is refused.

Knows ASGI and which paths are probes; not what makes a connection one too many, nor how long it may stay.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from service.asgi_types import Message, Scope, Send
from service.core.ports import NOSNIFF, Headers, HttpAnswer

from .http1 import PROBES


class ProbesOnly:
    """An ASGI app in front of another, whose probes alone it lets through. `full` gives the answer to the rest; None
    once there is room again. `https_headers`: what it has besides over TLS."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        full: Callable[[], HttpAnswer | None],
        https_headers: Headers = (),
    ) -> None:
        self._app = app
        self._full = full
        self._https_headers = https_headers

    async def __call__(self, scope: Scope, receive: Any, send: Send, *rest: Any) -> None:
        """Serve one scope."""
        last = scope.get("http_version", "1.1") < "2"

        async def send_last(message: Message) -> None:
            if last and message["type"].endswith("response.start"):
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        probes = scope["type"] == "http" and scope["path"] in PROBES
        answer = None if probes else self._full()
        if answer is None:
            await self._app(scope, receive, send_last if scope["type"] == "http" else send, *rest)
            return
        kind = "websocket.http" if scope["type"] == "websocket" else "http"
        told = self._https_headers if scope.get("scheme") in ("https", "wss") else ()
        all_headers = (NOSNIFF, *answer.headers, *told)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in all_headers]
        headers.append((b"content-length", b"%d" % len(answer.body)))
        await send_last({"type": f"{kind}.response.start", "status": answer.status, "headers": headers})
        await send_last({"type": f"{kind}.response.body", "body": answer.body})
