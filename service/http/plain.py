"""Plain HTTP on the ports for WebSockets: discovery, health and metrics as everywhere, and 426 for the rest.

There is no Quart on these ports; the reactor asks for one whole answer at a time, and leaves the body out where
it answers HEAD.
"""

import time
from collections.abc import Callable
from typing import Final

from service.core.cluster.discovery import Asked, Places
from service.core.gateway import Gateway
from service.core.ports import Handshake, HttpAnswer, PlainHttp, Wall

from . import discovery
from .answers import text_answer
from .asking import Ready
from .cors import cors_headers, preflight
from .health import HealthCheck

_METHODS: Final = ("GET", "HEAD")
_SENTENCE: Final = (
    "This port is for WebSockets: connect to it with an upgrade (ws://). By plain HTTP it answers GET of "
)


def plain_http(gateway: Gateway, places: Places, ready: Ready, *, wall: Wall = time.time) -> PlainHttp:
    """What answers plain HTTP on a port for WebSockets. `places` may still change, until the ports are bound."""
    doctor = HealthCheck(gateway, places, ready, wall)

    def asked(handshake: Handshake) -> Asked:
        return Asked(handshake.host, handshake.scheme, wall())

    rooms: dict[str, Callable[[Handshake], HttpAnswer]] = {
        "/api/b-client/websocket-info": lambda handshake: discovery.websocket_info(places, asked(handshake)),
        "/api/b-client/info": lambda handshake: discovery.info(places, asked(handshake)),
        "/api/health": lambda _: doctor.health(),
        "/api/c-client/status": lambda _: doctor.status_now(),
        "/livez": lambda _: doctor.livez(),
        "/readyz": lambda _: doctor.readyz(),
        "/metrics": lambda _: doctor.metrics(),
    }
    upgrade = text_answer(426, _SENTENCE + ", ".join(sorted(rooms)) + ".\n", [("upgrade", "websocket")])

    def answer(method: str, handshake: Handshake) -> HttpAnswer:
        origin = handshake.headers.get("origin")
        room = rooms.get(handshake.path)
        if room is not None and method == "OPTIONS":
            return preflight(gateway.origins, origin, handshake.host, _METHODS)
        found = room(handshake) if room is not None and method in _METHODS else upgrade
        cors = cors_headers(gateway.origins, origin, handshake.host)
        return found._replace(headers=(*found.headers, *cors))

    return answer
