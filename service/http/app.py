"""Rooms: the HTTP API as a Quart-trio app, made from the route table and the rooms' handlers.

The only module here that knows Quart, besides `plain_app` and `quart_body`. It promises that every answer is JSON (but
for Prometheus' text and the files of the page), errors of Quart and bugs of ours included, and that a route that isn't
open is guarded.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Final

import quart
from quart import Response
from quart.globals import request_ctx
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.core.cluster.discovery import Places
from service.core.gateway import Gateway
from service.core.ports import HttpAnswer, Wall
from service.version import VERSION

from .access import Access
from .answers import fault_answer
from .asking import Asking, Handler, Ready, Resolver
from .clients import clients_room
from .cors import cors_headers, preflight
from .discovery import discovery_room
from .health import HealthCheck, health_room
from .logins import logins_room
from .notifications import notifications_room
from .openapi import openapi_room
from .pages import PAGE_ROUTES, pages_room
from .quart_body import read_body
from .quart_headers import headers_of, peer_of
from .requests import requests_room
from .table import ROUTES, Route

Broke = Callable[[Exception], None]
"""Told of every bug that came up while a request was handled."""

_CODES: Final = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.NOT_FOUND, 413: ErrorCode.TOO_LARGE}
_log = logging.getLogger(__name__)


def create_http(
    gateway: Gateway,
    places: Places,
    *,
    resolver: Resolver,
    ready: Ready,
    wall: Wall = time.time,
    broke: Broke | None = None,
) -> QuartTrio:
    """The HTTP app of a gateway.

    `places` may still change, until the ports are bound. `resolver` sees through trusted proxies. `ready` says
    why this node should not be sent traffic. `broke` is told of bugs; unless given they are logged.
    """
    desk = _FrontDesk(gateway, resolver, broke)
    app = _App(__name__, static_folder=None)
    app.told = desk.broke
    app.config.update(
        # Bodies are bounded by their own routes: Quart would answer before it has read what it refuses.
        MAX_CONTENT_LENGTH=None,
        PROPAGATE_EXCEPTIONS=False,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    app.url_map.merge_slashes = False
    handlers: dict[str, Handler] = {
        **discovery_room(places, wall),
        **health_room(HealthCheck(gateway, places, ready, wall)),
        **openapi_room(VERSION),
        **notifications_room(gateway),
        **logins_room(gateway),
        **requests_room(gateway),
        **clients_room(gateway),
        **pages_room(places, wall),
    }
    methods: dict[str, list[str]] = {}
    for route in (*ROUTES, *PAGE_ROUTES):
        view = partial(desk.serve, route, handlers.pop(route.operation))
        app.add_url_rule(route.rule, route.operation, view, methods=[route.method])
        methods.setdefault(route.rule, []).append(route.method)
    if handlers:
        raise RuntimeError(f"these handlers have no route: {', '.join(handlers)}")
    for rule, allowed in methods.items():
        if "GET" in allowed:
            allowed.append("HEAD")
        app.add_url_rule(rule, f"options {rule}", partial(desk.options, allowed), methods=["OPTIONS"])
    app.register_error_handler(HTTPException, desk.refuse)
    return app


class _App(QuartTrio):
    """Quart, except that what it logs of a bug has nothing in it that a stranger wrote."""

    told: Broke

    def log_exception(
        self,
        exception_info: tuple[type, BaseException, TracebackType] | tuple[None, None, None],
    ) -> None:
        error = exception_info[1]
        if isinstance(error, Exception):
            self.told(error)


class _FrontDesk:
    """Between Quart and the rooms: requests in, answers out."""

    def __init__(self, gateway: Gateway, resolver: Resolver, broke: Broke | None) -> None:
        self._counters = gateway.counters
        self._origins = gateway.origins
        self._access = Access(gateway)
        self._resolver = resolver
        self._broke = broke

    async def serve(self, route: Route, handler: Handler, **parameters: str) -> Response:
        """One request on a route that there is."""
        asking = self._asking(parameters)
        answer = None if route.open else self._access.refuse(asking)
        if answer is None:
            try:
                answer = await handler(asking)
            except PeerFault as fault:
                self._counters.faults["http", fault.code.value] += 1
                answer = fault_answer(fault)
        return self._respond(asking, answer)

    async def options(self, methods: list[str], **parameters: str) -> Response:
        """OPTIONS on a path that there is."""
        asking = self._asking(parameters)
        return _response(preflight(self._origins, asking.headers.get("origin"), asking.origin.host, methods))

    async def refuse(self, error: HTTPException) -> Response:
        """Whatever Quart itself refuses, and 500 for what broke."""
        status = error.code or 500
        extra = [(name.lower(), value) for name, value in error.get_headers() if name.lower() == "allow"]
        if status == 404:
            sentence = "There is no such route; /openapi.json lists them."
        elif status == 405:
            sentence = f"This route does not take this method; it takes {dict(extra).get('allow', 'others')}."
        elif status < 500:
            sentence = "The request cannot be understood."
        else:
            sentence = "Something went wrong here."
        code = _CODES.get(status, ErrorCode.BAD_FIELD if status < 500 else ErrorCode.INTERNAL)
        self._counters.faults["http", code.value] += 1
        return self._respond(self._asking({}), fault_answer(PeerFault(code, sentence), status, extra))

    def broke(self, error: Exception) -> None:
        """A bug came up."""
        self._counters.internal_errors += 1
        if self._broke is not None:
            self._broke(error)
        else:
            _log.error("a bug came up while handling an HTTP request", exc_info=error)

    def _asking(self, parameters: Mapping[str, str]) -> Asking:
        request = request_ctx.request
        headers = headers_of(request.scope)
        peer = peer_of(request.scope)
        scheme = "https" if request.scheme == "https" else "http"
        return Asking(
            self._resolver(peer, headers, scheme),
            peer,
            headers,
            request.args.to_dict(),
            parameters,
            partial(read_body, request),
        )

    def _respond(self, asking: Asking, answer: HttpAnswer) -> Response:
        cors = cors_headers(self._origins, asking.headers.get("origin"), asking.origin.host)
        return _response(answer._replace(headers=(*answer.headers, *cors)))


def _response(answer: HttpAnswer) -> Response:
    return quart.current_app.response_class(answer.body, answer.status, dict(answer.headers))
