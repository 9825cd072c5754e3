"""Health: is the gateway there, may it be sent traffic, who is connected, and the numbers for Prometheus.

Open to everybody, so nothing here names a client or a user.
"""

from service.core.connections import presence
from service.core.ports import HttpAnswer

from .answers import json_answer, missing, when_answered
from .forms import ConnectedClients, Health, Probe, Status, Summary
from .metrics import metrics_answer
from .parts import Parts
from .request import Handler


def health_handlers(parts: Parts) -> dict[str, Handler]:
    """The handlers of this module, by operation."""

    def health() -> HttpAnswer:
        told = Health("ok", parts.node(), parts.places.environment, parts.presence.here().total, parts.wall())
        return json_answer(200, told)

    def readyz() -> HttpAnswer:
        reason = parts.ready()
        if reason is None:
            return json_answer(200, Probe("ok", None))
        return json_answer(503, Probe("unavailable", reason), [("retry-after", "1")])

    def status(found: presence.Status) -> HttpAnswer:
        totals, distinct = found.totals, found.distinct
        return json_answer(
            200,
            Status(
                "ok",
                totals.total,
                totals.registered,
                totals.workers,
                totals.by_dialect,
                totals.by_transport,
                found.by_node,
                parts.wall(),
                True,
                ConnectedClients(Summary(totals.total, distinct.clients, distinct.users, distinct.nodes)),
                **missing(found.missing),
            ),
        )

    return {
        "getHealth": lambda _: health(),
        "getLiveness": lambda _: json_answer(200, Probe("ok", None)),
        "getReadiness": lambda _: readyz(),
        "getStatus": lambda _: when_answered(parts.presence.status, status),
        "getMetrics": lambda _: metrics_answer(parts.counters, parts.connections(), parts.live()),
    }
