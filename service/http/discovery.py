"""Discovery: where a client that asks from here should connect to. Open to everybody; the core does the thinking."""

from service.core.cluster import discovery
from service.core.cluster.discovery import Asked, Places
from service.core.ports import HttpAnswer, Wall

from .access import Access
from .answers import json_answer
from .forms import NoPlace
from .request import HttpHandler, HttpRequest


def websocket_info(places: Places, asked: Asked) -> HttpAnswer:
    """`GET /api/b-client/websocket-info`."""
    return _answer(discovery.websocket_info(places, asked))


def info(places: Places, asked: Asked, *, stranger: bool) -> HttpAnswer:
    """`GET /api/b-client/info`."""
    return _answer(discovery.info(places, asked, stranger=stranger))


def _answer(found: dict[str, object] | str) -> HttpAnswer:
    if isinstance(found, str):
        return json_answer(503, NoPlace(False, found), [("retry-after", "1")])
    return json_answer(200, found)


def discovery_handlers(places: Places, access: Access, wall: Wall) -> dict[str, HttpHandler]:
    """The handlers of this module, by operation."""

    def asked(request: HttpRequest) -> Asked:
        return Asked(request.head.host, request.head.scheme, wall(), request.head.prefix)

    return {
        "getWebSocketInfo": lambda request: websocket_info(places, asked(request)),
        "getInfo": lambda request: info(places, asked(request), stranger=access.is_stranger(request.head)),
    }
