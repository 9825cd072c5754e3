"""PlainApp: what answers plain HTTP on a port for WebSockets, as a Quart-trio app: an ASGI server may have the port.

Every request is the PlainHttp's to answer, whatever its path and method; there are no routes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from quart import Response, request
from quart_trio import QuartTrio

from service.core.ports import PlainHttp

from .asking import Resolver
from .quart_headers import headers_of, peer_of


@dataclass(frozen=True, slots=True)
class Request:
    """A request as PlainHttp takes it (a Handshake that asks for no upgrade)."""

    path: str
    query: str
    headers: Mapping[str, str]
    address: str
    scheme: str
    host: str
    kind: str = "websocket"


def create_plain_app(plain: PlainHttp, *, resolver: Resolver) -> QuartTrio:
    """The app. `resolver` sees through trusted proxies."""
    app = QuartTrio(__name__, static_folder=None)

    async def answer() -> Response:
        scope = request.scope
        headers = headers_of(scope)
        origin = resolver(peer_of(scope), headers, "https" if request.scheme == "https" else "http")
        asked = Request(
            scope["path"],
            scope["query_string"].decode("latin1"),
            headers,
            origin.address,
            origin.scheme,
            origin.host,
        )
        found = plain(request.method, asked)
        return app.response_class(found.body, found.status, dict(found.headers))

    app.before_request(answer)
    return app
