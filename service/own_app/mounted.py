"""Mounted: the operator's app behind the gateway's checks, and what it is told about the caller of a request.

Requests have passed the API: their host is known, their caller within its rate. A WebSocket is asked here what the
gateway asks of its own: host, origin, the limits of connections, among which it counts.
"""

from collections.abc import Callable

from service.asgi_types import Receive, Scope, Send
from service.core.connections.admission import AdmissionControl
from service.core.ports import Handshake, HttpAnswer, HttpHead

from .own_app import OwnApp
from .scopes import Asked, scope_for


class Mounted:
    """One app, for the servers. `trusts`: whether an address is a proxy's that is believed."""

    def __init__(self, app: OwnApp, admission: AdmissionControl, trusts: Callable[[str], bool]) -> None:
        self._app = app
        self._admission = admission
        self._trusts = trusts

    async def http(self, head: HttpHead, scope: Scope, receive: Receive, send: Send) -> tuple[int, int, int]:
        """Serve a request. Returns the status, and how many bytes of the body came, and were sent."""
        served = await self._app.serve(scope_for(scope, head, trusted=self._trusts(head.peer)), receive, send)
        return served.status, served.received, served.sent

    def takes(self, path: str) -> bool:
        """Whether a WebSocket at this path is the app's."""
        return self._app.takes_websockets and not self._admission.leads_somewhere(path)

    def admit(self, handshake: Handshake) -> HttpAnswer | None:
        """The answer that refuses a WebSocket, or None."""
        return self._admission.admit_other(handshake)

    async def serve(self, handshake: Asked, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket that was admitted."""
        limits = self._admission.limits
        try:
            if limits.opened(handshake.address) is not None:
                await send({"type": "websocket.close", "code": 1013})
                return
            await self._app.serve_websocket(
                scope_for(scope, handshake, trusted=self._trusts(handshake.peer)), receive, send
            )
        finally:
            limits.closed(handshake.address)
