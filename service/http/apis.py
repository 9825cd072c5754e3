"""The APIs of a node, made from its parts: the whole one, for `PORT`, and the one for the ports of WebSockets.

The second has only what monitoring needs, and clients that look for the gateway. Everything else there is answered by
426 Upgrade Required.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from portico.version import VERSION

from .access import CallerRates
from .answers import text_answer
from .api import AccessLog, Api, OnError
from .clients import clients_handlers
from .discovery import discovery_handlers
from .drains import drains_handlers
from .events import events_handlers, events_streams
from .health import health_handlers
from .logins import logins_handlers
from .notifications import notifications_handlers
from .openapi import openapi_handlers
from .pages import page_routes, pages_handlers
from .parts import Parts
from .requests import requests_handlers
from .revocations import revocations_handlers
from .streaming import FOR_PAGES, streaming_handlers
from .table import ROUTES, Route

_SENTENCE: Final = (
    "This port is for WebSockets: connect to it with an upgrade (ws://). By plain HTTP it answers GET of "
)


def whole_api(
    parts: Parts,
    on_error: OnError | None = None,
    *,
    rates: CallerRates | None = None,
    access_log: AccessLog | None = None,
) -> Api:
    """Every route, the page's files included. `on_error` is told of bugs; unless given they are logged. `rates`: how
    many requests callers may make; `access_log`: told of every answer."""
    handlers = {
        **discovery_handlers(parts.places, parts.access, parts.wall),
        **health_handlers(parts),
        **openapi_handlers(VERSION),
        **notifications_handlers(parts.publish, parts.counters, parts.audit, parts.quotas),
        **logins_handlers(parts.logins),
        **requests_handlers(parts.dispatcher, parts.client_requests),
        **clients_handlers(parts.presence, parts.audit),
        **events_handlers(parts.event_tail),
        **revocations_handlers(parts.revoking, parts.audit, parts.wall),
        **drains_handlers(parts.begin_drain, parts.node),
        **pages_handlers(parts.places, parts.wall),
        **streaming_handlers(parts),
    }
    routes = guarded(ROUTES, parts)
    if parts.page:
        routes += page_routes(parts.page_path)
    else:
        routes = [route for route in routes if route.operation not in FOR_PAGES]
    return Api(
        routes,
        handlers,
        parts.access,
        parts.counters,
        on_error,
        rates=rates,
        access_log=access_log,
        streams=events_streams(parts.event_tail),
    )


def guarded(routes: Iterable[Route], parts: Parts) -> list[Route]:
    """The routes, with what the settings want of their callers."""
    shut = () if parts.open_metrics else ("getMetrics",)
    return [replace(route, scope="metrics") if route.operation in shut else route for route in routes]


def port_api(
    parts: Parts,
    on_error: OnError | None = None,
    *,
    rates: CallerRates | None = None,
    access_log: AccessLog | None = None,
) -> Api:
    """The few routes of the ports for WebSockets, and 426 for everything else."""
    routes = [route for route in guarded(ROUTES, parts) if route.on_ports]
    handlers = {**discovery_handlers(parts.places, parts.access, parts.wall), **health_handlers(parts)}
    known = ", ".join(sorted(route.path for route in routes))
    upgrade = text_answer(426, f"{_SENTENCE}{known}.\n", [("upgrade", "websocket")])
    return Api(
        routes,
        handlers,
        parts.access,
        parts.counters,
        on_error,
        otherwise=upgrade,
        rates=rates,
        access_log=access_log,
    )
