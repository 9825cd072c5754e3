"""Discovery: where a client that asks from here should connect to. Open to everybody; the core does the thinking."""

from typing import Final

from service.core.cluster import discovery
from service.core.cluster.discovery import Asked, Places
from service.core.ports import HttpAnswer, Wall

from .answers import json_answer
from .forms import NoPlace
from .request import Handler, Request

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


def discovery_handlers(places: Places, wall: Wall) -> dict[str, Handler]:
    """The handlers of this module, by operation."""

    def asked(request: Request) -> Asked:
        return Asked(request.head.host, request.head.scheme, wall())

    return {
        "getWebSocketInfo": lambda request: websocket_info(places, asked(request)),
        "getInfo": lambda request: info(places, asked(request)),
    }
