"""Discovery: where a client that asks from here should connect to. Open to everybody; the core does the thinking."""

from typing import Final

from service.core.cluster import discovery
from service.core.cluster.discovery import Asked, Places
from service.core.ports import HttpAnswer, Wall

from .answers import json_answer
from .asking import Asking, Handler
from .forms import NoPlace

_NOBODY: Final = "No node takes WebSockets now: none is connected to Redis, or all are draining. Try again in a moment."


def websocket_info(places: Places, asked: Asked) -> HttpAnswer:
    """`GET /api/b-client/websocket-info`."""
    return _answer(discovery.websocket_info(places, asked))


def info(places: Places, asked: Asked) -> HttpAnswer:
    """`GET /api/b-client/info`."""
    return _answer(discovery.info(places, asked))


def _answer(found: dict[str, object] | None) -> HttpAnswer:
    if found is None:
        return json_answer(503, NoPlace(False, _NOBODY), [("retry-after", "1")])
    return json_answer(200, found)


def discovery_room(places: Places, wall: Wall) -> dict[str, Handler]:
    """The handlers of this room, by operation."""

    def asked(asking: Asking) -> Asked:
        return Asked(asking.origin.host, asking.origin.scheme, wall())

    async def get_websocket_info(asking: Asking) -> HttpAnswer:
        return websocket_info(places, asked(asking))

    async def get_info(asking: Asking) -> HttpAnswer:
        return info(places, asked(asking))

    return {"getWebSocketInfo": get_websocket_info, "getInfo": get_info}
