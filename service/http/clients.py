"""Clients: who is there, by filters and in pages; kicking one; the workers. Source: HTTP API reference, "Clients"."""

from typing import Final

from msgspec.structs import asdict

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.core.connections import presence
from service.core.connections.presence import FILTERS
from service.core.gateway import Gateway
from service.core.ports import HttpAnswer

from .answers import json_answer, missing
from .asking import Asking, Handler
from .forms import Kicked
from .waiting import answer_of

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
_PAGING: Final = ("limit", "offset")


def _whole(asking: Asking, name: str, default: int, low: int, high: int) -> int:
    text = asking.query.get(name)
    if text is None:
        return default
    # A long run of digits is out of range whatever it says; int() would refuse it in its own way.
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not low <= int(text) <= high:
        raise PeerFault(ErrorCode.BAD_FIELD, f"The {name} must be a whole number from {low} to {high}.", field=name)
    return int(text)


def clients_room(gateway: Gateway) -> dict[str, Handler]:
    """The handlers of this room, by operation."""
    everybody = gateway.presence

    async def listed(asking: Asking) -> HttpAnswer:
        asking.check_query(*FILTERS, *_PAGING)
        limit = _whole(asking, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        offset = _whole(asking, "offset", 0, 0, 999_999_999)
        wanted = {name: asking.query[name] for name in FILTERS if name in asking.query}
        page: presence.Page = await answer_of(lambda done: everybody.clients(wanted, offset, limit, done))
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

    async def kick(asking: Asking) -> HttpAnswer:
        asking.check_query()
        client_id = asking.parameters["client_id"]
        kicked: presence.Kicked = await answer_of(lambda done: everybody.kick(client_id, done))
        if not kicked.connections:
            if kicked.missing is not None:
                raise PeerFault(ErrorCode.UNAVAILABLE, "Not all nodes have answered; try again in a moment.")
            raise PeerFault(ErrorCode.NOT_FOUND, "No client of this id is connected.", field="client_id")
        return json_answer(200, Kicked(client_id, kicked.connections, **missing(kicked.missing)))

    async def workers(asking: Asking) -> HttpAnswer:
        asking.check_query()
        found: presence.Workers = await answer_of(everybody.workers)
        shown = [{**asdict(worker), "node": node} for node, worker in found.workers]
        return json_answer(200, {"workers": shown, **missing(found.missing)})

    return {"listClients": listed, "kickClient": kick, "listWorkers": workers}
