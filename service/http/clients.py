"""Clients: who is there, by filters and in pages; kicking one; the workers.

Source: HTTP API reference, "Who is there".
"""

from typing import Final

from msgspec.structs import asdict

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.core.audit import Audit
from service.core.connections import presence
from service.core.connections.presence import FILTERS, Page, Presence
from service.core.ports import HttpAnswer

from .answers import json_answer, missing, when_answered
from .forms import Kicked
from .request import Answering, HttpHandler, HttpRequest, whole_number

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
_PAGING: Final = ("limit", "offset")


def clients_handlers(everybody: Presence, audit: Audit) -> dict[str, HttpHandler]:
    """The handlers of this module, by operation."""

    def listed(request: HttpRequest) -> Answering:
        request.check_query(*FILTERS, *_PAGING)
        limit = whole_number(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        offset = whole_number(request, "offset", 0, 0, 999_999_999)
        wanted = {name: request.query[name] for name in FILTERS if name in request.query}

        def answer(page: Page) -> HttpAnswer:
            end = offset + len(page.clients)
            return json_answer(
                200,
                {
                    "clients": page.clients,
                    "total": page.total,
                    "offset": offset,
                    "limit": limit,
                    "next_offset": end if page.clients and end < page.total else None,
                    **missing(page.missing),
                },
            )

        return when_answered(lambda done: everybody.clients(wanted, offset, limit, done), answer)

    def kick(request: HttpRequest) -> Answering:
        request.check_query()
        request.check_no_fields()
        client_id = request.parameters["client_id"]

        def answer(kicked: presence.Kicked) -> HttpAnswer:
            if kicked.connections:
                audit.on_act(
                    "kick", request.caller, request.head.address, client_id=client_id, connections=kicked.connections
                )
            if not kicked.connections:
                if kicked.missing is not None:
                    raise PeerFault(ErrorCode.UNAVAILABLE, "Not all nodes have answered; try again in a moment.")
                raise PeerFault(ErrorCode.NOT_FOUND, "No client of this id is connected.", field="client_id")
            return json_answer(200, Kicked(client_id, kicked.connections, **missing(kicked.missing)))

        return when_answered(lambda done: everybody.kick(client_id, done), answer)

    def workers(request: HttpRequest) -> Answering:
        request.check_query()

        def answer(found: presence.Workers) -> HttpAnswer:
            shown = [{**asdict(worker), "node": node} for node, worker in found.workers]
            return json_answer(200, {"workers": shown, **missing(found.missing)})

        return when_answered(everybody.workers, answer)

    return {"listClients": listed, "kickClient": kick, "listWorkers": workers}
