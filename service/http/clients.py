"""Clients: who is there, by filters and in pages; kicking one; the workers. Source: HTTP API reference, "Clients"."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from service.core.actions import describe
from service.core.gateway import Gateway
from service.core.ports import HttpAnswer
from service.core.session import Session
from service.wire.codes import ErrorCode
from service.wire.faults import PeerFault
from service.wire.messages import ADDRESS_FIELDS, Target

from .answers import json_answer
from .asking import Asking, Handler
from .forms import Kicked

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
KICKED: Final = "kicked by the operator"

_TESTS: Final[dict[str, Callable[[Session], str | None]]] = {
    "client_id": lambda session: session.identity.client_id,
    "user_id": lambda session: session.identity.user_id,
    "node_id": lambda session: session.identity.node_id,
    "domain_id": lambda session: session.identity.domain_id,
    "cluster_id": lambda session: session.identity.cluster_id,
    "channel_id": lambda session: session.identity.channel_id,
    "username": lambda session: session.identity.username,
    "dialect": lambda session: session.handler.name,
    "transport": lambda session: session.peer.transport,
    "role": lambda session: "client" if session.worker is None else "worker",
}
FILTERS: Final = tuple(_TESTS)
_PAGING: Final = ("limit", "offset")


def _whole(asking: Asking, name: str, default: int, low: int, high: int) -> int:
    text = asking.query.get(name)
    if text is None:
        return default
    # A long run of digits is out of range whatever it says; int() would refuse it in its own way.
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not low <= int(text) <= high:
        raise PeerFault(ErrorCode.BAD_FIELD, f"The {name} must be a whole number from {low} to {high}.", field=name)
    return int(text)


def _selected(gateway: Gateway, wanted: dict[str, str]) -> Iterable[Session]:
    """The registered sessions that all filters hold for, oldest first. One address filter is looked up, not
    searched for; the others are tried on what remains."""
    sessions: Iterable[Session] = gateway.hub
    for kind in ADDRESS_FIELDS:
        if kind in wanted:
            sessions = gateway.hub.find(Target(kind, wanted[kind]))
            break
    tests = [(_TESTS[name], value) for name, value in wanted.items()]
    return (session for session in sessions if all(test(session) == value for test, value in tests))


def clients_room(gateway: Gateway) -> dict[str, Handler]:
    """The handlers of this room, by operation."""

    async def listed(asking: Asking) -> HttpAnswer:
        asking.check_query(*FILTERS, *_PAGING)
        limit = _whole(asking, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        offset = _whole(asking, "offset", 0, 0, 999_999_999)
        wanted = {name: asking.query[name] for name in FILTERS if name in asking.query}
        if wanted:
            found = list(_selected(gateway, wanted))
            total = len(found)
            page = found[offset : offset + limit]
        else:
            total = len(gateway.hub)
            page = list(islice(gateway.hub, offset, offset + limit))
        end = offset + len(page)
        return json_answer(
            200,
            {
                "clients": [describe(session) for session in page],
                "total": total,
                "offset": offset,
                "limit": limit,
                "next_offset": end if page and end < total else None,
            },
        )

    async def kick(asking: Asking) -> HttpAnswer:
        asking.check_query()
        client_id = asking.parameters["client_id"]
        sessions = [session for session in gateway.hub.find(Target("client_id", client_id)) if not session.over]
        if not sessions:
            raise PeerFault(ErrorCode.NOT_FOUND, "No client of this id is connected.", field="client_id")
        for session in sessions:
            gateway.kick(session, KICKED)
        return json_answer(200, Kicked(client_id, len(sessions)))

    async def workers(asking: Asking) -> HttpAnswer:
        asking.check_query()
        return json_answer(200, {"workers": gateway.dispatcher.workers()})

    return {"listClients": listed, "kickClient": kick, "listWorkers": workers}
