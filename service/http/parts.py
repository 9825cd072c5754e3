"""Parts: what the HTTP API is made over, taken out of the gateway in one place.

The handlers get the parts that they need and never see the gateway. `apis` makes a node's two APIs from them: the whole
one, for `PORT`, and the one for the ports of WebSockets, which has a few of the routes.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from service.core.audit import Audit
from service.core.cluster.discovery import Places
from service.core.connections.authentication import WayIn
from service.core.connections.presence import Presence
from service.core.connections.revoking import Revoking
from service.core.counters import Counters, Metric
from service.core.dialects.client_requests import ClientRequests
from service.core.dispatch.dispatcher import Dispatcher
from service.core.event_tail import EventTail
from service.core.gateway import Gateway
from service.core.ports import Wall
from service.core.push.logins import Logins
from service.core.quotas import Quotas

from .access import Access
from .drains import BeginDrain
from .forms import AdviceView
from .notifications import Publish

Ready = Callable[[], str | None]
"""None if this node may be sent traffic, else why not, as a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one node. `places` may still change, until the ports are bound; `node` is the node's name now;
    `connections` counts them by dialect and transport; `live` are the numbers that say how everything else is now."""

    publish: Publish
    logins: Logins
    presence: Presence
    dispatcher: Dispatcher
    client_requests: ClientRequests
    event_tail: EventTail
    revoking: Revoking
    audit: Audit
    access: Access
    counters: Counters
    places: Places
    ready: Ready
    wall: Wall
    node: Callable[[], str]
    connections: Callable[[], Mapping[tuple[str, str], int]]
    live: Callable[[], Iterable[Metric]]
    begin_drain: BeginDrain
    quotas: Quotas | None = None
    advice: Callable[[], AdviceView | None] = lambda: None
    """Which mode this node advises now."""
    several: Callable[[], bool] = lambda: False
    """Whether this process shares its ports with others, so that each asking may meet another one."""
    anybody: bool = False
    """Whether in production anybody may connect as any user."""
    open_metrics: bool = True
    page: bool = True
    page_path: str = "/"
    """Where the page is; an app of the operator's own has `/`."""
    way_in_for_pages: WayIn = "open"
    client_way_in_for_pages: WayIn = "open"
    chat_model: str | None = None
    """The model that answers `chat` unless a request names another, where this process knows it."""
    own_echo: str | None = None
    """The command by which every node that takes WebSockets echoes for the page."""
    chat_hint: str | None = None
    """What to set so that `chat` is answered, where there is more to say than usual."""


def parts_of(
    gateway: Gateway,
    places: Places,
    ready: Ready,
    begin_drain: BeginDrain,
    *,
    wall: Wall = time.time,
    quotas: Quotas | None = None,
) -> Parts:
    """The parts of this gateway. `quotas`: of pushes."""
    return Parts(
        publish=gateway.backplane.publish,
        logins=gateway.logins,
        presence=gateway.presence,
        dispatcher=gateway.dispatcher,
        client_requests=gateway.client_requests,
        event_tail=gateway.event_tail,
        revoking=gateway.revoking,
        audit=gateway.audit,
        access=Access(
            gateway.api_keys,
            gateway.admission_control.origins,
            production=gateway.rules.production,
            hosts=gateway.admission_control.hosts,
            refusals=gateway.refusals,
            on_refused=gateway.on_key_refused,
            hsts=gateway.rules.hsts,
        ),
        counters=gateway.counters,
        places=places,
        ready=ready,
        wall=wall,
        anybody=gateway.rules.production and gateway.rules.authentication == "off",
        open_metrics=gateway.rules.open_metrics,
        page=gateway.rules.page,
        way_in_for_pages=gateway.authentication.way_in_for_pages,
        client_way_in_for_pages=gateway.authentication.client_way_in_for_pages,
        node=lambda: gateway.backplane.node,
        connections=lambda: Counter((session.handler.name, session.peer.transport) for session in gateway.sessions),
        live=lambda: live_metrics(gateway, ready),
        begin_drain=begin_drain,
        quotas=quotas if quotas is not None and quotas.has("pushes") else None,
    )


def live_metrics(gateway: Gateway, ready: Ready) -> Iterable[Metric]:
    """How the parts of the gateway are now, and what they have counted by themselves."""
    cluster, dispatcher = gateway.cluster_messages, gateway.dispatcher
    yield Metric("registered", "Connections that have said who they are.", len(gateway.hub))
    yield Metric("workers", "Workers connected.", len(dispatcher.worker_statuses()))
    yield Metric("requests_queued", "Requests that wait for a worker.", dispatcher.queue_length)
    yield Metric("requests_queued_bytes", "Bytes of the requests that wait for a worker.", dispatcher.queue_bytes)
    yield Metric("requests_outstanding", "Requests at workers and clients.", dispatcher.outstanding)
    yield Metric("requests_sent_on", "Requests of this node that are at others.", gateway.remote.sent)
    yield Metric("requests_taken_in", "Requests of other nodes that are here.", len(gateway.remote.guests))
    yield Metric("logins", "Active login sessions.", len(gateway.logins))
    yield Metric("revocations", "Revocations that hold.", len(gateway.revoking.index))
    yield Metric("push_sends_waiting", "Sends of large pushes that stand in line.", gateway.delivery.waiting)
    yield Metric("draining", "1 while connections are told to go.", int(gateway.admission_control.draining))
    yield Metric("ready", "1 if this node may be sent traffic.", int(ready() is None))
    yield Metric(
        "user_limit_refused",
        "Connections refused because their user had as many as allowed.",
        gateway.registration.takeover.refused,
        counts=True,
    )
    yield Metric(
        "returns_refused",
        "Registrations refused because their client was replaced or kicked again and again.",
        gateway.registration.returns.refused,
        counts=True,
    )
    yield Metric(
        "surveys_incomplete",
        "Questions to other nodes that not all of them answered in time.",
        cluster.survey.incomplete,
        counts=True,
    )
    yield Metric(
        "node_messages_unknown", "Messages of other nodes of a kind unknown here.", cluster.unknown, counts=True
    )
